"""tito kits: list the kits, or serve a virtual one to other programs."""

import argparse
import json
from pathlib import Path

from tito.kits.open import VIRTUAL, list_kits, serve

HELP = "List the kits, or keep a virtual one running for other programs."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="[serve]", title="instead of the list")
    s = actions.add_parser("serve", help="keep a virtual kit running until Ctrl-C")
    s.add_argument("spec", choices=VIRTUAL)
    s.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the kit's port")
    s.add_argument("--firmware", type=Path, metavar="IMAGE", help="MicroPython UF2 image for pico")
    # Also accepted here; without a default, which would override that of the verb.
    for option in ("--json", "--debug"):
        s.add_argument(option, action="store_true", default=argparse.SUPPRESS)
    s.set_defaults(run=run_serve)


def run(args: argparse.Namespace) -> dict:
    rows = list_kits()
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}}  {'ready' if row.usable else '-':5}  {row.what}: {row.note}")
    return {"kits": [vars(row) for row in rows]}


def run_serve(args: argparse.Namespace) -> dict:
    def announce(port: str) -> None:
        print(json.dumps({"kit": args.spec, "port": port}) if args.json else port, flush=True)

    serve(args.spec, args.link, args.firmware, announce)
    return {"kit": args.spec, "ended": True}
