"""tito kits and doctor: what is plugged in here, and what works."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from tito.doctor import doctor
from tito.kits.open import VIRTUAL, list_kits, serve


def add_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("kits", "List the kits, or keep a virtual one running for other programs.")
    p.set_defaults(run=kits)
    actions = p.add_subparsers(dest="action", metavar="[serve]", title="instead of the list")
    s = actions.add_parser("serve", help="keep a virtual kit running until Ctrl-C")
    s.add_argument("spec", choices=VIRTUAL)
    s.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the kit's port")
    s.add_argument("--firmware", type=Path, metavar="IMAGE", help="MicroPython UF2 for pico")
    # The verb's own --json and --debug, here too, without a default that would undo them.
    for option in ("--json", "--debug"):
        s.add_argument(option, action="store_true", default=argparse.SUPPRESS)
    s.set_defaults(run=keep)
    p = add("doctor", "Check that everything that TinyTorch needs is here and works.")
    p.set_defaults(run=examine)


def kits(args: argparse.Namespace) -> dict:
    rows = list_kits()
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}}  {'ready' if row.usable else '-':5}  {row.what}: {row.note}")
    return {"kits": [vars(row) for row in rows]}


def keep(args: argparse.Namespace) -> dict:
    def announce(port: str) -> None:
        print(json.dumps({"kit": args.spec, "port": port}) if args.json else port, flush=True)

    serve(args.spec, args.link, args.firmware, announce)
    return {"kit": args.spec, "ended": True}


def examine(args: argparse.Namespace) -> dict:
    checks = doctor()
    width = max(len(check.what) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else '!!'}  {check.what:{width}}  {check.sentence}")
    return {"checks": [check._asdict() for check in checks], "ok": all(c.ok for c in checks)}
