"""One job of several processes: join the process group that a launcher prepared, and leave it with as few words as one.

``torchrun`` and ``accelerate launch`` start the same command several times and say in the environment who is who; so
does ``mpirun``, which accelerate uses on CPUs. Tensors on the CPU travel by gloo, those on a GPU by NCCL.

Who watches whom is the launcher's business: torchrun's agent on each host ends its processes when one of them fails, and
its report names that one. PyTorch's `record` tells it why.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

from scorescope.foundation.errors import UserError

T = TypeVar("T")
# A process may train for days while the others wait.
PATIENCE = datetime.timedelta(days=7)
# Seconds until a process that may not be the first to fail speaks: by then the launcher has ended it, if it is not.
GRACE = 5.0
# An address kept for documentation: the way to it is the way to any other host.
ANYWHERE = "192.0.2.1"
SIOCGIFADDR = 0x8915  # of <linux/sockios.h>
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_MPI = {
    "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    "RANK": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"),
    "LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
}


_interrupted = False


class Terminated(BaseException):
    """Raised in the main thread of a process that is told to end, so that it tidies up as after Ctrl-C."""


def is_launched() -> bool:
    """Whether this is one of several processes that ``torchrun`` or ``accelerate launch`` started."""
    return _number("WORLD_SIZE", 1) > 1


def is_alone_by_mistake() -> bool:
    """Whether ``accelerate launch --cpu`` was asked for several processes: without an MPI host file it starts one."""
    return not is_launched() and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_PORT" in os.environ


def is_silent() -> bool:
    """Whether another process of the same launch does the printing."""
    return is_launched() and _number("RANK", 0) > 0


def join() -> None:
    """Join the process group, once, if a launcher started several processes. Raises UserError if it does not come about."""
    if not is_launched():
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    for name in _MPI:  # PyTorch and accelerate read torchrun's names
        os.environ.setdefault(name, str(_number(name, 0)))
    local, locals_ = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)
    devices = torch.cuda.device_count()
    if devices:
        torch.cuda.set_device(local % devices)
    # NCCL wants a device for every process; gloo takes tensors of a shared one as well.
    backend = "cpu:gloo,cuda:nccl" if 0 < locals_ <= devices else "gloo"
    _choose_interface()
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the processes of this job do not reach one another ({reason}): see docs/scaling.md"
        ) from error


def recorded(task: Callable[[], T]) -> T | None:
    """What ``task()`` returns; if it fails in a job, the launcher learns why, and says it in its report."""
    if not is_launched():
        return task()
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(task)()


def may_speak(*, first_hand: bool) -> bool:
    """Whether this process is one to say how it ended; in a job it waits, as the launcher ends who is not the first to fail.

    Args:
        first_hand: whether the cause is surely its own, and not maybe a connection that another process has dropped.
    """
    if not is_launched() or (first_hand and not is_silent()):
        return True
    try:
        time.sleep(GRACE)
    except Terminated:
        return False
    return True


def own_name() -> str:
    """In a job, "process 1 of 4 (host alpha, pid 3742): "; nothing for a process on its own."""
    if not is_launched():
        return ""
    where = f"host {socket.gethostname()}, pid {os.getpid()}"
    return f"process {_number('RANK', 0)} of {_number('WORLD_SIZE', 1)} ({where}): "


def leave(code: int) -> None:
    """Leave the interpreter; a process of a job that failed does not wait for threads that are still computing."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized() and code == 0:
        dist.destroy_process_group()
    if is_launched() and code != 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Raise `Terminated` in the block at the first SIGTERM or SIGHUP, and note a Ctrl-C for `was_interrupted`."""
    global _interrupted
    _interrupted = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored, as by nohup, stays ignored.
    heeded = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    noted = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for number in heeded:
        signal.signal(number, _terminate)
    if noted:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
        if noted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed, whatever came of it: a module that is being imported may turn it into an error of its own."""
    return _interrupted


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise Terminated


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
