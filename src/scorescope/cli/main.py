"""The entry point: every error of the user's becomes one line and exit code 2, every interruption a way to go on."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from scorescope.cli import data, denoising, listing, studies
from scorescope.cli.options import with_groups
from scorescope.foundation import UserError, launch
from scorescope.foundation.files import is_out_of_space
from scorescope.foundation.launch import Abandoned, Job, Terminated

INTERRUPTED, TERMINATED = 130, 143
ALONE_BY_MISTAKE = (
    "accelerate launch started one process, as it does on CPUs without --mpirun_hostfile; for several:"
    " torchrun --nproc-per-node K -m scorescope …"
)
# Commands that several processes cannot share: the first one carries them out, and the others leave.
ALONE = (["data"], ["list"])
# Commands that keep what they have done.
RESUMED = (["demo"], ["explain"], ["reproduce"], ["train"])

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


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 2 for wrong input, 130 when interrupted, 1 for a bug.

    ``--debug``, anywhere, shows the traceback. Under a launcher all processes run the command together; the first one
    writes and prints, and a failure of any ends all with one line.
    """
    arguments = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in arguments
    try:
        if launch.is_alone_by_mistake():
            print(f"scorescope: {ALONE_BY_MISTAKE}", file=sys.stderr)
        job = launch.meet()
    except UserError as error:
        print(f"scorescope: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except Abandoned:
        print(f"scorescope: {launch.ENDED_BY_LAUNCHER}", file=sys.stderr)
        sys.exit(TERMINATED)
    silenced = contextlib.nullcontext() if job.first else contextlib.redirect_stdout(io.StringIO())
    with silenced, launch.ended_in_order():
        code = _run(job, [word for word in arguments if word != "--debug"], debug)
    job.exit(code)


def _run(job: Job, arguments: list[str], debug: bool) -> int:
    try:
        job.join()
        code = _called(arguments, job.first)
    except KeyboardInterrupt:
        ending = job.leave(INTERRUPTED, f"interrupted; the same command {_next(arguments)}")
    except Terminated:
        ending = job.leave(TERMINATED, f"terminated; the same command {_next(arguments)}")
    except Abandoned:
        ending = job.leave(TERMINATED, launch.ENDED_BY_LAUNCHER, maybe_another=True)
    except Exception as error:
        said = _sentence(error)
        if said is not None:
            ending = job.leave(2, said)
        else:
            bug = " ".join(f"{type(error).__name__}: {error}".split())
            ending = job.leave(1, bug, maybe_another=True)
        if debug or (said is None and ending.own):
            traceback.print_exception(error)
    else:
        ending = job.leave(code, None)
    if ending.line:
        print(f"scorescope: {ending.line}", file=sys.stderr)
    return ending.code


def _next(arguments: list[str]) -> str:
    """What an interrupted command does when it is given again."""
    return "goes on where it was" if arguments[:1] in RESUMED else "starts again; nothing half-written is left"


def _called(arguments: list[str], first: bool) -> int:
    """Carry out a command, as the first process or another; its exit code."""
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
    if hasattr(error, "format_message"):  # the parser's own complaint about a command line
        return f"{error.format_message().rstrip('.')}; see scorescope --help"
    return None
