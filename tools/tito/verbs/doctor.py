"""tito doctor: print the checks of what TinyTorch needs."""

import argparse

from tito.doctor import doctor

HELP = "Check that everything TinyTorch needs is installed and works."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Doctor takes no arguments of its own."""


def run(args: argparse.Namespace) -> dict:
    checks = doctor()
    width = max(len(check.what) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else '!!'}  {check.what:{width}}  {check.sentence}")
    return {"checks": [check._asdict() for check in checks], "ok": all(c.ok for c in checks)}
