"""The command `tito`: reads the command line, runs a verb, returns an exit status.

Verbs are imported inside `main`, so that Ctrl-C during the imports ends in a sentence as well.
"""

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from tito.errors import TitoError, UsageError, reason

# In the order of `tito --help`. Each is a module of tito.verbs with HELP, one sentence;
# add_arguments(parser); and run(args), which returns what --json prints.
VERBS = (
    "demo", "record", "data", "train", "quantize", "deploy", "run", "evaluate", "profile",
    "monitor", "plan", "bench", "kits", "doctor",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Reports wrong use in one sentence, as all other errors are reported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`).")


def parser() -> Parser:
    top = Parser(
        prog="tito",
        description="Train on this laptop, quantize, send the model to a kit and run it there.",
        epilog="`tito VERB --help` describes a verb. Start with `tito demo gesture`.",
    )
    common = Parser(add_help=False)
    common.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")

    for name in VERBS:
        verb = import_module(f"tito.verbs.{name}")
        subparser = verbs.add_parser(name, help=verb.HELP, description=verb.HELP, parents=[common])
        subparser.set_defaults(run=verb.run)
        verb.add_arguments(subparser)
    return top


def explain(error: BaseException) -> tuple[int, str]:
    """The exit status for an error, and its sentence."""
    if isinstance(error, KeyboardInterrupt):
        # What a kit already holds is safe: a model takes effect only when it is verified.
        return 1, "Interrupted: the kit's last good model is still in place."
    if isinstance(error, TitoError):
        return error.status, str(error)
    if isinstance(error, OSError):
        return 2 if isinstance(error, FileNotFoundError) else 1, reason(error).rstrip(".") + "."
    if isinstance(error, (ValueError, ArithmeticError)) and str(error):
        return 1, str(error)
    if isinstance(error, MemoryError):
        return 1, "This computer has too little memory: use less data."
    return 1, f"TinyTorch failed ({type(error).__name__}: {error}): run it again with --debug."


def main(words: "Sequence[str] | None" = None) -> int:
    words = sys.argv[1:] if words is None else words
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # also in a pipe
    prog, status = "tito", 0
    result: dict = {}
    pressed = []

    def interrupt(number: int, frame: object) -> NoReturn:
        pressed.append(number)
        raise KeyboardInterrupt

    def ignored(exception: Any) -> None:
        """Ctrl-C in a callback, as Python's importer has them, is ignored by Python: repeat it."""
        if issubclass(exception.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            hook(exception)

    hook = sys.unraisablehook
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = ignored
    try:
        args = parser().parse_args(words)
        prog = f"tito {args.verb}"
        result = args.run(args)
    except (KeyboardInterrupt, Exception) as error:
        if pressed:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command is ending
        # A library may turn Ctrl-C into another error, as numpy does while it is imported.
        status, message = explain(KeyboardInterrupt() if pressed else error)
        if "--debug" in words:
            traceback.print_exc()
        print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
        result = {"error": message}
    try:
        if "--json" in words:
            print(json.dumps(result))
        sys.stdout.flush()
    except OSError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.unraisablehook = hook
    if pressed:
        # Python ends itself by the signal if Ctrl-C came in an exec(), as namedtuple uses it.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
