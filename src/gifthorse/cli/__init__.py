"""The command line: parse, call one library function, print.

Exit codes: 0 done, 2 wrong use, 3 some cells failed, 4 invalid board or refused model, 130 Ctrl-C.
"""

from __future__ import annotations

import sys

from ..errors import GifthorseError


def main() -> None:
    """Run the command line; a user's mistake gives one line, never a traceback."""
    from .app import app

    try:
        code = app(standalone_mode=False)
    except GifthorseError as error:
        _stop(str(error), error.exit_code)
    except (KeyboardInterrupt, EOFError):
        _stop("stopped; what was finished is kept, the same command goes on from there", 130)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        _stop(f"{error.filename or 'disk'}: {error.strerror or error}; check space and permissions", 2)
    except Exception as error:
        show = getattr(error, "format_message", None)
        if show is None:
            if type(error).__name__ == "Abort":
                _stop("stopped; what was finished is kept, the same command goes on from there", 130)
            raise
        _stop(show(), getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


def _stop(message: str, code: int) -> None:
    sys.stderr.write("gifthorse: " + " ".join(message.split()) + "\n")
    sys.exit(code)
