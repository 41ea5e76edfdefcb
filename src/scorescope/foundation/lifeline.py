"""Who died: every process of a job holds a connection to process 0, and the system closes it when a process ends.

Collectives alone cannot tell. A process that waits for one learns at most that some connection broke, after hours if a
machine lost its network, and on a GPU nothing at all. Here the end of any process, with its last words or without, is
known to all others at once; they are interrupted where they are, and end as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Seconds: for others to fail with the same words; for news to arrive; for a process to wind up before it is cut off.
SAME_WORDS, NEWS, WIND_UP = 1.0, 3.0, 15.0
CONNECT = 60.0
# Bytes of one message.
LONGEST = 2**20


@dataclass(frozen=True)
class Member:
    """One process of a job.

    Attributes:
        rank: which, from 0.
        host: name of its machine.
        node: which of the launcher's nodes it belongs to, from 0.
        pid: its process id there.
    """

    rank: int
    host: str
    node: int
    pid: int


@dataclass(frozen=True)
class Loss:
    """The first process of a job that failed.

    Attributes:
        rank: which.
        said: why, in its own words; empty if it was killed.
        code: exit code.
    """

    rank: int
    said: str
    code: int


@dataclass(frozen=True)
class Address:
    """Where process 0 listens, and the word that members say there first."""

    port: int
    token: str


class LifeLine:
    """The connection between one process and process 0, watched by a thread.

    Args:
        members: all processes of the job, by rank.
        rank: this one.

    Attributes:
        loss: the first process that failed, as soon as it is known.
    """

    def __init__(self, members: Sequence[Member], rank: int) -> None:
        self.members = list(members)
        self.rank = rank
        self.loss: Loss | None = None
        self._known, self._concluding, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._lines: dict[int, socket.socket] = {}
        self._server: socket.socket | None = None
        self._token = ""

    def listen(self) -> Address:
        """Process 0: wait for the others, in a thread."""
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual, backlog=len(self.members))
        self._token = secrets.token_hex(16)
        self._watch(self._serve)
        return Address(self._server.getsockname()[1], self._token)

    def connect(self, host: str, address: Address) -> None:
        """The other processes: connect to process 0. Raises OSError if it cannot be reached."""
        line = socket.create_connection((host, address.port), timeout=CONNECT)
        line.settimeout(None)
        _keep_alive(line)
        self._lines[0] = line
        self._send(0, {"token": address.token, "rank": self.rank})
        self._watch(self._follow)

    def news(self, wait: float = NEWS) -> Loss | None:
        """The first process that failed, if it becomes known within so many seconds; this one is no longer interrupted."""
        self._concluding.set()
        self._known.wait(wait)
        return self.loss

    def report(self, said: str, code: int) -> Loss:
        """Tell all that this process has failed; returns the first that did, which may be another."""
        self._concluding.set()
        own = Loss(self.rank, said, code)
        if self.rank == 0:
            self._lose(own)
        else:
            self._send(0, {"failed": said, "code": code})
        return self.news() or own

    def close(self) -> None:
        """This process has ended well, or has said all that it has to say."""
        self._concluding.set()
        self._ended.set()
        for rank in list(self._lines):
            self._send(rank, {"end": True})

    def speaks(self, loss: Loss) -> bool:
        """Whether this is the process that tells the terminal of its node."""
        node = self.members[self.rank].node
        able = [m.rank for m in self.members if m.node == node and (loss.said or m.rank != loss.rank)]
        return self.rank == min(able)

    def words(self, loss: Loss) -> str:
        """One line that names the process that failed."""
        member = self.members[loss.rank]
        several = len({m.node for m in self.members}) > 1
        where = f"host {member.host}, node {member.node}" if several else f"host {member.host}"
        name = f"process {loss.rank} of {len(self.members)} ({where}, pid {member.pid})"
        if loss.said:
            return f"{name}: {loss.said}"
        return f"{name} died without a word (killed, out of memory, or its host is gone); all others ended"

    def _watch(self, task: Callable[[], None]) -> None:
        threading.Thread(target=task, name="life line", daemon=True).start()

    def _serve(self) -> None:
        """Process 0's thread: read what the others say until they end; an end without a word is a death."""
        assert self._server is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ, None)
            while not self._ended.is_set():
                for key, _ in selector.select(timeout=1.0):
                    if key.data is None:
                        line, _ = self._server.accept()
                        _keep_alive(line)
                        selector.register(line, selectors.EVENT_READ, _Speech(line))
                    elif not self._hear(key.data):
                        selector.unregister(key.fileobj)
                        key.data.line.close()

    def _hear(self, speech: _Speech) -> bool:
        """Take in what a member says; whether it may say more."""
        said = speech.read()
        if said is None:
            if speech.rank is not None:
                self._lines.pop(speech.rank, None)
                self._lose(Loss(speech.rank, "", 1))
            return False
        for message in said:
            if speech.rank is None:
                if message.get("token") != self._token:
                    return False
                speech.rank = int(message["rank"])
                self._lines[speech.rank] = speech.line
            elif "failed" in message:
                self._lose(Loss(speech.rank, message["failed"], message["code"]))
            elif "end" in message:
                self._lines.pop(speech.rank, None)
                return False
        return True

    def _lose(self, loss: Loss) -> None:
        """Process 0: a member failed; the first that does ends the job."""
        if self.loss is None:
            for rank in list(self._lines):
                self._send(rank, asdict(loss))
            self._learn(loss)

    def _follow(self) -> None:
        """The thread of any other process: wait for process 0 to name one that failed, or to end."""
        speech = _Speech(self._lines[0])
        while not self._ended.is_set():
            said = speech.read()
            if said is None:
                self._learn(Loss(0, "", 1))
                return
            for message in said:
                if "end" in message:
                    return
                self._learn(Loss(**message))

    def _learn(self, loss: Loss) -> None:
        if self.loss is None:
            self.loss = loss
            self._known.set()
            if threading.current_thread() is not threading.main_thread():
                threading.Thread(target=self._end_main, args=(loss,), name="end of the job", daemon=True).start()

    def _end_main(self, loss: Loss) -> None:
        """Interrupt the main thread, and if it cannot be (inside a kernel on a device, say) end the process without it."""
        if loss.said:
            self._concluding.wait(SAME_WORDS)  # a refusal usually comes to all processes, each with its own words
        if not self._concluding.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if not self._ended.wait(WIND_UP):
            if self.speaks(loss):
                print(f"scorescope: {self.words(loss)}", file=sys.stderr, flush=True)
            os._exit(loss.code)

    def _send(self, rank: int, message: dict[str, Any]) -> None:
        # Who is no longer there needs no telling.
        with self._sending, contextlib.suppress(OSError, KeyError):
            self._lines[rank].sendall(json.dumps(message).encode() + b"\n")


class _Speech:
    """Messages from one connection, one JSON object a line."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.rank: int | None = None
        self._rest = b""

    def read(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived, waiting for some; None at the end."""
        try:
            data = self.line.recv(65536)
            *lines, self._rest = (self._rest + data).split(b"\n")
            messages = [json.loads(line) for line in lines]
        except (OSError, ValueError):  # ValueError: a stranger, who does not speak JSON
            return None
        understood = all(isinstance(message, dict) for message in messages) and len(self._rest) < LONGEST
        return messages if data and understood else None


def _keep_alive(line: socket.socket) -> None:
    """Have the system notice within a minute that a machine is gone, which closes nothing."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
