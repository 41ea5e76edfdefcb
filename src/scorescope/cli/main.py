"""The entry point: every error of the user's becomes one line and exit code 2, every interruption a way to go on."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from scorescope.cli import attribute, audit, data, denoising, explore, listing, model, studies
from scorescope.cli.options import with_groups
from scorescope.foundation import UserError, launch
from scorescope.foundation.files import is_out_of_memory, is_out_of_space

INTERRUPTED, TERMINATED = 130, 143
ALONE_BY_MISTAKE = (
    "accelerate launch started one process, as it does on CPUs without --mpirun_hostfile; for several:"
    " torchrun --nproc-per-node K -m scorescope …"
)
# Commands that several processes cannot share: the first one carries them out, and the others leave.
ALONE = (["data"], ["explore"], ["list"], ["model"])
# Commands that keep what they have done.
RESUMED = (["attribute"], ["audit"], ["demo"], ["explain"], ["reproduce"], ["train"])

app = typer.Typer(
    name="scorescope",
    help="Does this diffusion model memorize or generalize, and by which mechanism?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# A command is a row here; none of their modules imports anything heavy before it is called.
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": studies.demo,
    "explain": studies.explain,
    "explore": explore.explore,
    "audit": audit.audit,
    "attribute": attribute.attribute,
    "reproduce": studies.reproduce,
    "train": studies.train,
    "sample": denoising.sample,
    "denoise": denoising.denoise,
    "restore": denoising.restore,
    "list": listing.show,
}
for name, command in COMMANDS.items():
    app.command(name)(with_groups(command))
app.add_typer(data.app, name="data")
app.add_typer(model.app, name="model")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 for wrong input, 130 when interrupted, 1 for a bug.

    ``--debug``, anywhere, shows the traceback. Under a launcher all processes run the command together, the first one
    writes and prints, and a failure is told once.
    """
    arguments = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in arguments
    try:
        silent = launch.is_silent()
    except UserError as error:
        print(f"scorescope: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    if launch.is_alone_by_mistake():
        print(f"scorescope: {ALONE_BY_MISTAKE}", file=sys.stderr)
    silenced = contextlib.redirect_stdout(io.StringIO()) if silent else contextlib.nullcontext()
    with silenced, launch.ended_in_order():
        code = _run([word for word in arguments if word != "--debug"], debug, not silent)
    launch.leave(code)


def _run(arguments: list[str], debug: bool, first: bool) -> int:
    """Carry out a command in this process, and say in one line what ended it early; its exit code."""
    try:
        return launch.recorded(lambda: _called(arguments, first)) or 0
    except KeyboardInterrupt:
        code, line = INTERRUPTED, _interrupted(arguments)
    except launch.Terminated:
        code, line = TERMINATED, _told_to_end(arguments)
    except Exception as error:
        if not launch.was_interrupted():
            return _failed(error, arguments, debug, first)
        code, line = INTERRUPTED, _interrupted(arguments)
    if first:
        print(f"scorescope: {line}", file=sys.stderr)
    return code


def _failed(error: Exception, arguments: list[str], debug: bool, first: bool) -> int:
    """Say what went wrong, if this process is the one to say it; the exit code."""
    sentence = _sentence(error)
    if launch.may_speak(first_hand=sentence is not None):
        if debug or sentence is None:
            traceback.print_exception(error)
        line = sentence or " ".join(f"{type(error).__name__}: {error}".split())
        print(f"scorescope: {line if first and sentence else launch.own_name() + line}", file=sys.stderr)
    elif first:
        print(f"scorescope: {_told_to_end(arguments)}", file=sys.stderr)
    return 1 if sentence is None else 2


def _interrupted(arguments: list[str]) -> str:
    return f"interrupted; the same command {_next(arguments)}"


def _told_to_end(arguments: list[str]) -> str:
    by = "ended by the launcher" if launch.is_launched() else "terminated"
    return f"{by}; the same command {_next(arguments)}"


def _next(arguments: list[str]) -> str:
    """What an interrupted command does when it is given again."""
    return "goes on where it was" if arguments[:1] in RESUMED else "starts again; nothing half-written is left"


def _called(arguments: list[str], first: bool) -> int:
    """Join the other processes, if there are any, and carry out a command; its exit code."""
    launch.join()
    if arguments[:1] not in ALONE:
        code = app(arguments, standalone_mode=False)
    elif first:
        from scorescope.foundation.processes import working_alone

        with working_alone():
            code = app(arguments, standalone_mode=False)
    else:
        code = 0
    if code == INTERRUPTED:  # the parser's own way of saying that it was
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str | None:
    """The one line for an error that is the user's to mend; None for a bug."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if is_out_of_space(error):
        return "the disk is full: free some space and run the same command again"
    if is_out_of_memory(error):
        return "this takes more memory than there is: ask for fewer or smaller images, a smaller network or batch"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        name = str(error.filename)
        shown = name if len(name) <= 120 else f"{name[:100]}… ({len(name)} characters)"
        return f"{shown} cannot be used: {error.strerror}"
    if hasattr(error, "format_message"):  # the parser's own complaint about a command line
        return f"{error.format_message().rstrip('.')}; see scorescope --help"
    return None
