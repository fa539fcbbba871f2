"""How a command fails: one sentence, one exit status, no traceback."""


class TitoError(Exception):
    """A command failed (exit status 1). The message says what was wrong and what to do."""

    status = 1


class UsageError(TitoError):
    """The command was used wrongly (exit status 2)."""

    status = 2


def reason(error: OSError) -> str:
    """The system's message without its number: "FILE: No space left on device"."""
    if not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
