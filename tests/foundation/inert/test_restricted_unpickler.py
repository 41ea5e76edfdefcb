"""Pickles become plain data, and nothing that a file asks for is imported, called or believed."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import fractions
import functools
import math
import pathlib
import pickle
import struct
import sys
from typing import Any

import numpy as np
import pytest

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import (
    Budget,
    Call,
    OddKey,
    Persistent,
    attributes_of,
    entries_of,
    is_forbidden,
    read_pickle,
)

KNOWN = frozenset({"collections.OrderedDict"})


def read(data: bytes, known: frozenset[str] = KNOWN, budget: Budget | None = None) -> Any:
    return read_pickle(memoryview(data), 0, known, budget or Budget()).value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        255,
        65535,
        -1,
        2**31 - 1,
        -(2**40),
        1.5,
        math.inf,
        "",
        "σ",
        "x" * 300,
        [],
        [1, [2, (3,)]],
        (),
        (1, 2, 3, 4),
        {},
        {"a": {"b": [1, 2]}, 3: None},
    ],
    ids=repr,
)
def test_plain_values_are_read_as_python_reads_them(value, protocol):
    found = read(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is type(value)


def test_sets_bytes_and_shared_objects():
    shared = ["x"]
    found = read(pickle.dumps({"set": {"a", "b"}, "bytes": b"\x00\x01", "one": shared, "two": shared}, 4))
    assert found["set"] == {"a", "b"}
    assert bytes(found["bytes"]) == b"\x00\x01"
    assert found["one"] is found["two"]


def test_a_known_global_becomes_two_strings_and_a_call_a_record():
    found = read(pickle.dumps(collections.OrderedDict(a=1), 4))
    assert isinstance(found, Call)
    assert str(found.function) == "collections.OrderedDict"
    assert entries_of(found) == {"a": 1}


def test_references_are_kept_in_order():
    data = b"\x80\x02" + b"K\x01Q" + b"K\x02Q" + b"\x86."
    found = read_pickle(memoryview(data), 0, KNOWN, Budget())
    assert [reference.identifier for reference in found.references] == [1, 2]
    assert all(isinstance(part, Persistent) for part in found.value)
    assert found.end == len(data)


class Asks:
    """Pickled as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [(eval, ("1+1",), "builtins.eval"), (exec, ("x=1",), "builtins.exec"), (sys.exit, (3,), "sys.exit")],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_any_other_global_is_refused_by_name(function, arguments, name, protocol):
    with pytest.raises(UserError, match="nothing in it was run") as caught:
        read(pickle.dumps({"ema": [Asks(function, *arguments)]}, protocol))
    assert name in str(caught.value) or name.replace("builtins", "__builtin__") in str(caught.value)


class Colour(enum.Enum):
    """A setting of a class of one's own."""

    RED = 1


EXTRAS = {
    "a NumPy number": np.float64(3.2),
    "a path": pathlib.PurePosixPath("/data/images"),
    "a counter": collections.Counter({"cat": 3, ("a", 1): 2, 1.5: 1, None: 1}),
    "a default dictionary": collections.defaultdict(list, {"loss": [1.0]}),
    "a deque": collections.deque([1, 2], maxlen=3),
    "settings": argparse.Namespace(lr=1e-3, data=pathlib.PurePosixPath("x")),
    "a date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    "an array": np.arange(3.0),
    "an enumeration": Colour.RED,
    "a fraction": fractions.Fraction(1, 3),
    "a frozen set": frozenset({1, "a", (2, 3)}),
    "a function": math.sqrt,
    "a partial": functools.partial(int, base=2),
    "a huge integer": 1 << 4000,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", EXTRAS)
def test_what_stands_beside_weights_is_kept_as_a_record(name, protocol):
    data = pickle.dumps({"before": 1, "extra": EXTRAS[name], "after": [2]}, protocol)
    found = read_pickle(memoryview(data), 0, None, Budget()).value
    assert found["before"] == 1
    assert found["after"] == [2]


def test_attributes_and_entries_of_records_are_read():
    data = pickle.dumps([EXTRAS["settings"], EXTRAS["a counter"], EXTRAS["a default dictionary"]], 2)
    settings, counter, lists = read_pickle(memoryview(data), 0, None, Budget()).value
    assert (attributes_of(settings) or {})["lr"] == 1e-3
    assert (entries_of(counter) or {})["cat"] == 3
    assert (entries_of(lists) or {})["loss"] == [1.0]


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "__builtin__.execfile", "os.system", "posix.popen", "subprocess.Popen", "torch.load", "runpy.run_path",
     "builtins.__import__", "importlib.import_module", "torch.hub.load", "urllib.request.urlopen", "sys.setprofile"],
)  # fmt: skip
def test_names_that_attacks_are_made_of_are_refused_wherever_they_stand(name):
    module, _, attribute = name.rpartition(".")
    assert is_forbidden(module, attribute)
    data = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    with pytest.raises(UserError, match="nothing in it was run"):
        read_pickle(memoryview(data), 0, None, Budget())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut short"),
        (b"\x80\x04", "cut short"),
        (b"\x80\x04N", "cut short"),
        (b"\x80\x04B" + struct.pack("<I", 2**31) + b".", "cut short"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b".", "cut short"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"N.", "cut short"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".", "string of"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\x80\x04NN.", "left over"),
        (b"\x80\x04.", "nothing to work on"),
        (b"\x80\x04(.", "nothing to work on"),
        (b"\x80\x04h\x05.", "has not made"),
        (b"\x80\x04t.", "no beginning"),
        (b"\x80\x04NNR.", "no function"),
        (b"\x80\x04NNb.", "has none"),
        (b"\x80\x04NNa.", "no list"),
        (b"\x80\x04NNNs.", "no dictionary"),
        (b"\x80\x04}(Nu.", "no dictionary"),
        (b"\x80\x04\x8b" + struct.pack("<I", 2**31) + b".", "integer of"),
        (b"\x80\x04NNN\x92.", "no function"),
        (b"\x80\x04NN\x93.", "not a string"),
        (b"\x80\x04\x8c\x01\xff.", "not UTF-8"),
        (b"\x80\x04cos\nsystem\n(S'x'\ntR.", "os.system"),
        (b"\x80\x04cos", "no end"),
        (b"\x80\x04\x82\x01.", "0x82"),  # EXT1: a name from a registry
        (b"\x80\x04(ios\nsystem\n.", "0x69"),  # INST: calls at once
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "cut short"),  # BYTEARRAY8: Python reserves what is claimed
        (b"\x80\x04N2.", "0x32"),  # DUP
        (b"\x80\x04Pevil\n.", "0x50"),  # PERSID
        (b"not a pickle", "0x6e"),
    ],
)
def test_damaged_and_hostile_pickles_are_refused_in_one_line(data, said):
    with pytest.raises(UserError, match=said) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_a_name_of_a_file_is_printed_harmlessly():
    with pytest.raises(UserError) as caught:
        read(b"\x80\x04\x8c\x05\x1b[31m\x8c\x02\ros\x93.")
    assert str(caught.value).isprintable()


def test_instructions_are_counted_over_all_pickles_of_a_file():
    budget = Budget(10)
    assert read(b"\x80\x04].", budget=budget) == []
    assert budget.left == 7
    with pytest.raises(UserError, match="more than 10 pickle instructions"):
        read(b"\x80\x04" + b"]" * 20, budget=budget)


def test_shared_tuples_cost_no_more_than_they_are_long():
    # Each of 200 levels holds the one below twice: whoever hashes, prints or compares it needs 2^200 steps.
    levels = b"".join(b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86\x94" for level in range(200))
    tower = b")\x94" + levels
    assert len(read(b"\x80\x04](" + tower + b"e.")) == 201
    for use in (tower + b"NR.", b"(" + tower + b"NNb."):
        with pytest.raises(UserError):
            read(b"\x80\x04" + use)
    for use in (b"}(" + tower + b"Nu.", b"\x8f(" + tower + b"\x90."):  # kept, but never hashed
        kept = list(read(b"\x80\x04" + use))
        assert all(isinstance(key, OddKey) and len(repr(key)) < 200 for key in kept)


def test_a_high_memo_place_reserves_nothing():
    assert read(b"\x80\x04]r\xff\xff\xff\xff.") == []
