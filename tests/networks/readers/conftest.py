"""One thread for the many tiny networks of these tests, and a watch that nothing is executed while a file is read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from tests.networks.readers.foreign import Foreign

FORBIDDEN = {
    "code.__new__",
    "compile",
    "ctypes.dlopen",
    "exec",
    "import",
    "marshal.loads",
    "os.exec",
    "os.posix_spawn",
    "os.remove",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}


class ExecutedError(BaseException):
    """Something was executed; no reader catches it."""


class _Watch:
    """An audit hook, which Python never lets go, switched on and off."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in FORBIDDEN:
            self.seen.append(f"{event} {arguments[:1]}")
            raise ExecutedError(self.seen[-1])


@pytest.fixture(scope="session")
def watch() -> _Watch:
    """The hook, installed once."""
    hook = _Watch()
    sys.addaudithook(hook)
    return hook


@pytest.fixture
def executing_nothing(watch: _Watch) -> Callable[[], AbstractContextManager[None]]:
    """A block in which any import, compilation, execution, process or connection fails the test.

    What other tests left to the garbage collector, temporary folders for one, is removed after it and not within.
    """

    @contextmanager
    def block() -> Iterator[None]:
        gc.disable()
        watch.seen.clear()
        watch.on = True
        try:
            yield
        finally:
            watch.on = False
            gc.enable()
        assert not watch.seen

    return block


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """Checkpoints of other projects."""
    return Foreign(tmp_path_factory.mktemp("foreign"))
