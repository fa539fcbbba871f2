"""tito doctor: is everything here that TinyTorch needs?"""

import argparse

from tito.doctor import doctor

HELP = "Check that everything that TinyTorch needs is here and works."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace) -> dict:
    checks = doctor()
    width = max(len(check.what) for check in checks)
    for check in checks:
        print(f"{'ok' if check.ok else '!!'}  {check.what:{width}}  {check.sentence}")
    return {"checks": [check._asdict() for check in checks], "ok": all(c.ok for c in checks)}
