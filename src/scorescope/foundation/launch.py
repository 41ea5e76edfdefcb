"""One job of several processes: join the process group that a launcher prepared, and leave it, with one voice.

``torchrun`` and ``accelerate launch`` start the same command several times and say in the environment who is who; so
does ``mpirun``, which accelerate uses on CPUs. Tensors on the CPU travel by gloo, those on a GPU by NCCL.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from scorescope.foundation.errors import UserError
from scorescope.foundation.lifeline import Address, LifeLine, Member

# A process may train for days while the others wait; one that dies is noticed at once, whatever this is.
PATIENCE = datetime.timedelta(days=7)
MEETING = datetime.timedelta(minutes=10)
ENDED_BY_LAUNCHER = "ended by the launcher; the same command goes on where it was"
# An address kept for documentation: the way to it is the way to any other host.
ANYWHERE = "192.0.2.1"
SIOCGIFADDR = 0x8915  # of <linux/sockios.h>
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_MPI = {
    "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    "RANK": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"),
    "LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
}


class Abandoned(BaseException):
    """Raised in the main thread when the job has ended elsewhere; not an error of this process."""


class Terminated(BaseException):
    """Raised in the main thread of a process on its own that is told to end, so that it tidies up as after Ctrl-C."""


@dataclass(frozen=True)
class Ending:
    """How a process ends.

    Attributes:
        code: exit code.
        line: what it prints, if it is the one to speak.
        own: whether the failure was its own.
    """

    code: int
    line: str | None = None
    own: bool = True


def is_launched() -> bool:
    """Whether this is one of several processes that ``torchrun`` or ``accelerate launch`` started."""
    return _number("WORLD_SIZE", 1) > 1


def is_alone_by_mistake() -> bool:
    """Whether ``accelerate launch --cpu`` was asked for several processes: without an MPI host file it starts one."""
    return not is_launched() and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ


def is_silent() -> bool:
    """Whether another process of the same launch does the printing."""
    return is_launched() and _number("RANK", 0) > 0


class Job:
    """This process's part in a job; made by `meet`.

    Args:
        lifeline: None for a process on its own.
        store: where the processes met, PyTorch's.
    """

    def __init__(self, lifeline: LifeLine | None = None, store: Any = None) -> None:
        self.lifeline = lifeline
        self._store = store

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.lifeline is None or self.lifeline.rank == 0

    def join(self) -> None:
        """Join the process group. Raises UserError if it does not come about."""
        if self.lifeline is None:
            return
        import torch
        import torch.distributed as dist

        local, locals_ = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)
        devices = torch.cuda.device_count()
        if devices:
            torch.cuda.set_device(local % devices)
        # NCCL wants a device for every process; gloo takes tensors of a shared one as well.
        backend = "cpu:gloo,cuda:nccl" if 0 < locals_ <= devices else "gloo"
        _choose_interface()
        rank, count = self.lifeline.rank, len(self.lifeline.members)
        try:
            dist.init_process_group(backend, store=self._store, rank=rank, world_size=count, timeout=PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise UserError(_unreached(error)) from error

    def leave(self, code: int, said: str | None, *, maybe_another: bool = False) -> Ending:
        """End this process's part.

        Args:
            code: exit code.
            said: what went wrong, in one line; None if nothing did.
            maybe_another: whether the cause may be another process that failed, as with a broken connection.

        Returns:
            What to print, and how to exit; the failure of another process overrules.
        """
        if self.lifeline is None:
            return Ending(code, said)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if said is None:
            import torch.distributed as dist

            self.lifeline.close()
            if dist.is_initialized():
                dist.destroy_process_group()
            return Ending(code)
        loss = self.lifeline.news() if maybe_another else None
        loss = loss or self.lifeline.report(said, code)
        self.lifeline.close()
        own = loss.rank == self.lifeline.rank
        line = said if own or said == loss.said else self.lifeline.words(loss)
        _record(self.lifeline.words(loss))
        return Ending(code if own else loss.code, line if self.lifeline.speaks(loss) else None, own)

    def exit(self, code: int) -> None:
        """Leave the interpreter; a job that failed does not wait for threads that are still computing."""
        if self.lifeline is not None and self.lifeline.loss is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)


def meet() -> Job:
    """Find the other processes, if a launcher started several; every one of them calls this once, and then `Job.join`.

    Raises UserError if the others cannot be reached.
    """
    if not is_launched():
        return Job()
    from torch.distributed.rendezvous import rendezvous

    _adopt_mpi()
    try:
        store, rank, count = next(rendezvous("env://", timeout=MEETING))
        own = Member(rank, socket.gethostname(), _number("GROUP_RANK", 0), os.getpid())
        store.set(f"scorescope/member/{rank}", json.dumps(asdict(own)))
        members = [Member(**json.loads(store.get(f"scorescope/member/{other}"))) for other in range(count)]
        lifeline = LifeLine(members, rank)
        signal.signal(signal.SIGTERM, _abandon)
        if rank == 0:
            store.set("scorescope/lifeline", json.dumps(asdict(lifeline.listen())))
        else:
            lifeline.connect(os.environ["MASTER_ADDR"], Address(**json.loads(store.get("scorescope/lifeline"))))
        return Job(lifeline, store)
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(_unreached(error)) from error


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Raise `Terminated` in the block at the first SIGTERM or SIGHUP; a launched process has its own way, see `meet`."""
    if is_launched() or threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored, as by nohup, stays ignored.
    heeded = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in heeded:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)


def _unreached(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"the processes of this job do not reach one another ({reason}): see docs/scaling.md"


def _choose_interface() -> None:
    """Between hosts, have gloo use the network that leads to process 0.

    By default it takes the address that the host's own name stands for, which on Debian is 127.0.1.1.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or _number("GROUP_WORLD_SIZE", 1) == 1:
        return
    for towards in (os.environ["MASTER_ADDR"], ANYWHERE):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))  # sends nothing, but has the system choose an address
            address = probe.getsockname()[0]
            if not address.startswith("127."):
                for name in _interfaces(address):
                    os.environ["GLOO_SOCKET_IFNAME"] = name
                return


def _interfaces(address: str) -> list[str]:
    """Names of the network interfaces that have an IPv4 address; none where the system does not say (only Linux does)."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    found.append(name)
    return found


def _record(line: str) -> None:
    """Have torchrun's own report, which comes last on the terminal, say the same."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        message = {"message": line, "extraInfo": {"py_callstack": line, "timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):
            Path(file).write_text(json.dumps({"message": message}), encoding="utf-8")


def _terminate(signum: int, frame: FrameType | None) -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise Terminated


def _abandon(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Abandoned


def _number(name: str, default: int) -> int:
    """A launcher's number from the environment, MPI's where it has its own name for it. Raises UserError for other text."""
    for candidate in (name, *_MPI.get(name, ())):
        text = os.environ.get(candidate)
        if text is not None:
            if not text.isdecimal():
                raise UserError(
                    f"the environment variable {candidate} is {text!r}: a launcher sets a number, else unset it"
                )
            return int(text)
    return default


def _adopt_mpi() -> None:
    """PyTorch and accelerate read torchrun's names."""
    for name in _MPI:
        os.environ.setdefault(name, str(_number(name, 0)))
