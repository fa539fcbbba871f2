"""The command `tito`: words in, one exit status out."""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence

from tito import demo, inference, station, training
from tito.errors import Fault


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tito",
        description="Train on this laptop, quantize, stream the model to a kit and run it there.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="end stdout with one JSON object")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=help, description=help, parents=[common])

    for group in (demo, training, inference, station):
        group.add_verbs(add)
    return top


def main(words: "Sequence[str] | None" = None) -> int:
    args = parser().parse_args(words)
    result: dict = {}
    status = 0
    try:
        result = args.run(args)
    except KeyboardInterrupt:
        # What a kit already holds is safe: a model takes effect only when it is verified.
        status, message = 1, "Interrupted: the kit's last good model is still in place."
    except Fault as error:
        status, message = error.status, str(error)
    except (ValueError, OSError, MemoryError) as error:
        status, message = 1, str(error) or type(error).__name__
    except Exception as error:
        status = 1
        message = f"TinyTorch failed ({type(error).__name__}: {error}): run it again with --debug."
    if status:
        if args.debug:
            traceback.print_exc()
        print(f"tito {args.verb}: {' '.join(message.split())}", file=sys.stderr)
        result = {"error": message}
    if args.json:
        sys.stdout.flush()
        print(json.dumps(result))
    return status


if __name__ == "__main__":
    sys.exit(main())
