"""The command line: parse, call one library function, print.

Exit codes: 0 done, 2 wrong use, 3 some cells failed, 4 invalid board or refused model, 130 Ctrl-C, 143 ended
from outside (SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from ..errors import GifthorseError

STOPPED = "stopped; what was finished is kept, the same command goes on from there"


class _Terminated(KeyboardInterrupt):
    """The process was asked to end."""


def main() -> None:
    """Run the command line; a user's mistake gives one line, never a traceback."""
    try:
        _prepare()
        code = _run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except GifthorseError as error:
        _stop(str(error), error.exit_code)
    except KeyboardInterrupt as error:
        _stop(str(error) or STOPPED, 143 if isinstance(error, _Terminated) else 130)
    except BrokenPipeError:  # as in `| head`: the reader has what it wanted
        _leave(0)
    except OSError as error:
        _stop(f"{error.filename or 'output'}: {error.strerror or error}; check space and permissions", 2)
    except MemoryError as error:
        _stop(f"out of memory ({error}); use a smaller suite or fewer --workers", 2)
    sys.exit(code)


def _prepare() -> None:
    """Any text can be printed, whatever the terminal's encoding, and SIGTERM ends as tidily as Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with contextlib.suppress(ValueError):  # not in the main thread: then signals are not ours
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _run() -> int:
    """The verb's exit code; what the parser raises becomes a line.

    The parser's own ``main`` is passed by: it turns Ctrl-C and a closed pipe into silent exits.
    """
    import typer

    from .app import app

    command = typer.main.get_command(app)
    try:
        with command.make_context("gifthorse", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, EOFError):
        raise KeyboardInterrupt from None
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(message() + "\n")
            return 2
        _stop(message(), getattr(error, "exit_code", 2))
    return 0


def _stop(message: str, code: int) -> NoReturn:
    """One line on stderr, and the end."""
    with contextlib.suppress(ValueError):  # a second Ctrl-C must not cut the first one's tidying up
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.write("gifthorse: " + " ".join(message.split()) + "\n")
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit; what stdout could not take is dropped rather than complained about a second time."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
