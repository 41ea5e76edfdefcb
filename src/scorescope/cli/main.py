"""The entry point: every error of the user's becomes one line and exit code 2, every interruption a way to go on."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import typer

from scorescope.cli import data, listing, run
from scorescope.foundation import UserError
from scorescope.foundation.files import is_out_of_space

INTERRUPTED = 130

app = typer.Typer(
    name="scorescope",
    help="Does this diffusion model memorize or generalize, and by which mechanism?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(run.demo)
app.command("explain")(run.explain)
app.command("reproduce")(run.reproduce)
app.command("train")(run.train)
app.command("sample")(run.sample)
app.command("denoise")(run.denoise)
app.command("list")(listing.show)
app.add_typer(data.app, name="data")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 for wrong input, 130 when interrupted, 1 for a bug.

    ``--debug``, anywhere, shows the traceback.
    """
    arguments = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in arguments
    sys.exit(_run([word for word in arguments if word != "--debug"], debug))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        code = app(arguments, standalone_mode=False)
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = _sentence(error)
        if message is None:
            raise
        print(f"scorescope: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("scorescope: interrupted; the same command goes on where it was", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str | None:
    """The one line for an error that is the user's to mend; None for a bug."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if is_out_of_space(error):
        return "the disk is full: free some space and run the same command again, it goes on where it was"
    if hasattr(error, "format_message"):  # the parser's own complaint about a command line
        return f"{error.format_message().rstrip('.')}; see scorescope --help"
    return None
