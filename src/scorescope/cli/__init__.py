"""The ``scorescope`` command: parses words, calls `scorescope.app`, turns errors into one line and an exit code."""

from scorescope.cli.main import main

__all__ = ["main"]
