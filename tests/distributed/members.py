"""Three processes on a life line, one of them on another node, and what happens to them: ``python members.py SCENARIO``.

Prints, as JSON, for each its exit code and the line that it says.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

from scorescope.foundation import lifeline as module
from scorescope.foundation.launch import Abandoned, Job, _abandon
from scorescope.foundation.lifeline import Address, LifeLine, Member

MEMBERS = [Member(0, "alpha", 0, 1000), Member(1, "alpha", 0, 1001), Member(2, "beta", 1, 1002)]


def act(scenario: str, rank: int, address: Address) -> str:
    """What a process does once all are connected; its last words."""
    if scenario == f"{rank} is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if scenario == f"{rank} fails" or scenario == "all fail":
        return "the disk is full"
    if scenario == f"{rank} is stuck":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if scenario.endswith("is stuck") and rank == 2:
        return "the disk is full"
    if scenario == "strangers call" and rank == 1:
        for words in (b"GET / HTTP/1.0\r\n\r\n", b'{"token": "guess", "rank": 0}\n{"failed": "ha", "code": 0}\n', b""):
            with socket.create_connection(("127.0.0.1", address.port)) as line:
                line.sendall(words)
        time.sleep(0.3)
        return "the disk is full"
    time.sleep(20)
    return "nobody said that the job has ended"


def take_part(scenario: str, rank: int, addresses: list[tuple[int, int]], report: int) -> None:
    lifeline = LifeLine(MEMBERS, rank)
    signal.signal(signal.SIGTERM, _abandon)
    if rank == 0:
        address = lifeline.listen()
        for _, end in addresses:
            os.write(end, json.dumps(vars(address)).encode())
    else:
        address = Address(**json.loads(os.read(addresses[rank][0], 1000)))
        lifeline.connect("127.0.0.1", address)
    job = Job(lifeline)
    try:
        time.sleep(0.3)
        ending = job.leave(2, act(scenario, rank, address))
    except Abandoned:
        ending = job.leave(143, "ended by the launcher", maybe_another=True)
    os.write(report, json.dumps({"rank": rank, "line": ending.line}).encode() + b"\n")
    job.exit(ending.code)


def main() -> None:
    module.WIND_UP = 1.0
    addresses = [os.pipe() for _ in MEMBERS]
    reading, writing = os.pipe()
    children = []
    for member in MEMBERS:
        child = os.fork()
        if not child:
            take_part(sys.argv[1], member.rank, addresses, writing)
        children.append(child)
    os.close(writing)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    with os.fdopen(reading) as reports:
        lines = {record["rank"]: record["line"] for record in map(json.loads, reports)}
    print(json.dumps([{"code": code, "line": lines.get(rank)} for rank, code in enumerate(codes)]))


if __name__ == "__main__":
    main()
