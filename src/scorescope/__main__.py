"""Where the ``scorescope`` command and ``python -m scorescope`` begin: from here on Ctrl-C is answered in one line."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """Load the command line and run it; an interruption of the loading ends at once, as nothing has begun."""
    # Loading modules makes a million objects and no garbage: looking for it as often as usual is a tenth of the start.
    gc.set_threshold(10_000, 20, 50)
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    from scorescope.cli.main import main as command

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command()
    except KeyboardInterrupt:
        _leave(signal.SIGINT, None)


def _leave(signum: int, frame: FrameType | None) -> None:
    # An exception would end in whatever module is being loaded, and some of them turn it into another one.
    print("scorescope: interrupted before anything began; the same command starts again", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
