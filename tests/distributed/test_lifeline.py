"""The end of any process, with last words or without, ends all the others, and one of each node says whose it was."""

import json
import subprocess
import sys
import time

import pytest
from tests.distributed.launching import here

DEAD = "died without a word"
FULL = "the disk is full"


def happens(scenario):
    """Exit codes and lines of the three processes, what else they printed, and the seconds until all had ended."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, here("members.py"), scenario], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    return [one["code"] for one in found], [one["line"] for one in found], done.stderr, time.monotonic() - started


def test_a_killed_process_is_named_on_every_node():
    codes, lines, _, seconds = happens("1 is killed")
    assert codes == [1, -9, 1]
    assert lines[0].startswith(f"process 1 of 3 (host alpha, node 0, pid 1001) {DEAD}")
    assert lines[2] == lines[0]
    assert seconds < 15


def test_process_0_is_named_by_the_others_on_its_node_and_beyond():
    codes, lines, _, _ = happens("0 is killed")
    assert codes == [-9, 1, 1]
    assert lines[1].startswith(f"process 0 of 3 (host alpha, node 0, pid 1000) {DEAD}")
    assert lines[2] == lines[1]


def test_last_words_are_passed_on_with_the_name():
    codes, lines, _, _ = happens("1 fails")
    assert codes == [2, 2, 2]
    assert lines == [f"process 1 of 3 (host alpha, node 0, pid 1001): {FULL}", None, lines[0]]


def test_what_happens_to_all_is_said_once_a_node_and_without_a_name():
    codes, lines, _, _ = happens("all fail")
    assert codes == [2, 2, 2]
    assert lines == [FULL, None, FULL]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_cannot_be_interrupted_is_cut_off(rank):
    codes, lines, printed, seconds = happens(f"{rank} is stuck")
    assert codes == [2, 2, 2]
    named = f"process 2 of 3 (host beta, node 1, pid 1002): {FULL}"
    assert (f"scorescope: {named}\n" == printed) == (
        rank == 0
    )  # the one that speaks was cut off, and speaks all the same
    assert lines == [None if rank == 0 else named, None, FULL]
    assert seconds < 15


def test_strangers_are_not_listened_to():
    codes, lines, _, _ = happens("strangers call")
    assert codes == [2, 2, 2]
    assert lines[0].endswith(f"pid 1001): {FULL}")
