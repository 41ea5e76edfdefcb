"""Pickles as plain data: a small interpreter of the format that builds inert records and never calls anything.

A pickle is a program for a stack machine. Two of its instructions are the danger: ``GLOBAL`` imports any name and
``REDUCE`` calls it. Python's own unpickler can be told which names to allow, but still calls what is allowed with
arguments chosen by the file, sets attributes, hashes nested keys, and reserves the memory that a file merely claims to
need. This interpreter is both simpler to trust and safer: it knows the forty instructions that checkpoints are made of,
a global becomes a `Known` (two strings, never the thing that they name), a call becomes a `Call` (which global, which
arguments), and bytes stay views of the file. What a record means is decided afterwards, by code that looks for a tensor
or a module where it expects one, by the name that the record carries. Nothing is ever imported, called or compared on the
file's behalf.

So whatever stands beside the weights of a checkpoint (NumPy scalars, paths, counters, configuration objects of classes
that nobody has installed) does no harm: it stays a record, and nobody looks at it. Two things are refused all the same.
Names that no checkpoint of anybody holds and that attacks are made of (`FORBIDDEN`), so that whoever was handed such a file
learns it; and, where a file has to be of one form, names outside of that form's own list.

Time and memory are bounded by the file's size and by `Budget`: every instruction costs one unit, a string or a count
beyond the end of the file is refused before anything is read, and no key is hashed but strings and small integers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scorescope.foundation import UserError

LONGEST_STRING = 4 << 20
LONGEST_INTEGER = 1 << 10
LARGEST_KEY = 1 << 31
LONGEST_NAME_SHOWN = 80


class Budget:
    """How many instructions may still be executed; one budget serves a file and all pickles inside it.

    Args:
        instructions: a published network of 300 million parameters needs about 100,000, with optimizer and averages 400,000.
    """

    def __init__(self, instructions: int = 4_000_000) -> None:
        self.allowed = self.left = instructions

    def spend(self) -> None:
        """Count one instruction. Raises UserError when none is left."""
        self.left -= 1
        if self.left < 0:
            raise UserError(
                f"it needs more than {self.allowed:,} pickle instructions, ten times what a large checkpoint takes:"
                " save the network's state dict alone"
            )


# Modules whose functions act on the machine, and built-in functions that run or fetch code: what attacks are made of.
_MODULES = """_pickle _posixsubprocess _thread asyncio bdb cloudpickle code codeop commands ctypes dill ftplib http imp
importlib inspect joblib marshal multiprocessing nt os pdb pickle pip pkgutil posix profile pty pydoc requests runpy shutil
signal smtplib socket subprocess sys tempfile threading timeit torch.hub torch.load torch.serialization trace urllib
webbrowser"""
_BUILTINS = """__build_class__ __import__ apply breakpoint compile delattr dir eval exec execfile exit file globals help input
locals memoryview open print quit raw_input reload setattr vars"""
FORBIDDEN_MODULES = frozenset(_MODULES.split())
FORBIDDEN_BUILTINS = frozenset(_BUILTINS.split())


@dataclass(frozen=True, slots=True)
class Known:
    """The name of a global: two strings, never the thing that they name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Call:
    """What the file would have called, with which arguments, and what it would have put into the result.

    Attributes:
        function: the global.
        arguments: positional arguments.
        state: what was to become the object's attributes; None if nothing was.
        entries: what was to be set by key, for dictionaries of a special class.
        items: what was to be appended, for lists of a special class.
    """

    function: Known
    arguments: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)


UNNAMED = Known("", "the result of a call")


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class OddKey:
    """A key that is neither a string nor a small integer: kept apart from all others, never hashed nor compared."""

    value: Any


@dataclass(frozen=True, eq=False, slots=True)
class Persistent:
    """A reference to something outside the pickle: in PyTorch's files, a tensor's storage."""

    identifier: Any


@dataclass(frozen=True, slots=True)
class Pickle:
    """What one pickle holds.

    Attributes:
        value: None, bool, int, float, str, memoryview, list, tuple, dict, set and the records of this module.
        end: the position after it.
        references: every `Persistent` in it, in order.
    """

    value: Any
    end: int
    references: list[Persistent]


def read_pickle(data: memoryview, start: int, known: frozenset[str] | None, budget: Budget) -> Pickle:
    """Interpret one pickle.

    Args:
        data: the bytes; what comes after the pickle is left alone.
        start: where it begins.
        known: full names ("collections.OrderedDict") of the only globals that may occur; None for any but the forbidden.
        budget: instructions that may be executed.

    Raises:
        UserError: a global that may not occur, an instruction that checkpoints do not use, or a damaged pickle.
    """
    machine = _Machine(data, start, known, budget)
    return Pickle(machine.run(), machine.position, machine.references)


def entries_of(value: Any) -> dict[Any, Any] | None:
    """The entries of a dictionary, plain or of a special class; None if `value` is no dictionary."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Call) and str(value.function) in DICTIONARIES:
        # a counter is made of its entries, the others get them afterwards
        made_of = value.arguments[0] if value.arguments else None
        return made_of if isinstance(made_of, dict) else value.entries
    return None


def members_of(value: Any) -> set[Any]:
    """The strings and small integers in a set, however it was written; empty if `value` is no set."""
    if isinstance(value, Call) and str(value.function) in ("builtins.set", "__builtin__.set"):
        listed = value.arguments[0] if value.arguments else ()
        return {part for part in listed if isinstance(part, str | int)} if isinstance(listed, list | tuple) else set()
    return value if isinstance(value, set) else set()


def attributes_of(value: Any) -> dict[Any, Any] | None:
    """The attributes of an object, whatever its class, or the entries of a dictionary; None if `value` has neither."""
    entries = entries_of(value)
    if entries is None and isinstance(value, Call):
        # the state is the dictionary of attributes, or that and the values of slots
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        return entries_of(state) or (value.entries or None)
    return entries


DICTIONARIES = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.Counter",
        "builtins.dict",
        "__builtin__.dict",
        "dnnlib.util.EasyDict",
        "dnnlib.EasyDict",
    }
)


def is_forbidden(module: str, name: str) -> bool:
    """Whether a global is one that attacks are made of and checkpoints are not."""
    if module in ("builtins", "__builtin__"):
        return name.partition(".")[0] in FORBIDDEN_BUILTINS
    first = module.partition(".")[0]
    return module in FORBIDDEN_MODULES or first in FORBIDDEN_MODULES or f"{module}.{name}" in FORBIDDEN_MODULES


class _Mark:
    """Where a group of arguments begins on the stack."""


_MARK = _Mark()


class _Machine:
    """The stack, the memo, and one method an instruction."""

    def __init__(self, data: memoryview, start: int, known: frozenset[str] | None, budget: Budget) -> None:
        self.data = data
        self.position = start
        self.known = known
        self.budget = budget
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.references: list[Persistent] = []

    def run(self) -> Any:
        while True:
            self.budget.spend()
            code = self.take(1)[0]
            if code == _STOP:
                value = self.pop()
                if self.stack:
                    raise self.damaged("it ends with objects left over")
                return value
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise self.damaged(f"instruction 0x{code:02x} is not one that checkpoints use")
            instruction(self)

    def damaged(self, what: str) -> UserError:
        return UserError(
            f"its pickle is damaged or was not written by torch.save ({what}, byte {self.position:,}):"
            " copy or download it again"
        )

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise UserError(
                f"it is cut short: {count:,} bytes are announced at byte {self.position:,},"
                f" {len(self.data) - self.position:,} are there: copy or download it again"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.damaged("an instruction finds nothing to work on")
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(value := self.pop())
        return value

    def pop_group(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                group = self.stack[place + 1 :]
                del self.stack[place:]
                return group
        raise self.damaged("a group has no beginning")

    def text(self, count: int) -> None:
        if count > LONGEST_STRING:
            raise self.damaged(f"a string of {count:,} bytes")
        try:
            self.stack.append(str(self.take(count), "utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise self.damaged("a string is not UTF-8") from error

    def old_text(self, count: int) -> None:
        """A short string of Python 2, where bytes and text are one: text, as names and keys are."""
        self.stack.append(str(self.take(count), "latin-1"))

    def line(self) -> str:
        window = bytes(self.data[self.position : self.position + 512])
        length = window.find(b"\n")
        if length < 0:
            raise self.damaged("a name has no end")
        try:
            name = str(self.take(length + 1)[:-1], "utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a name is not UTF-8") from error
        return name

    def integer(self, count: int) -> None:
        if count > LONGEST_INTEGER:
            raise self.damaged(f"an integer of {count:,} bytes")
        self.stack.append(int.from_bytes(self.take(count), "little", signed=True))

    def name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.damaged("a name is not a string")
        if f"{module}.{name}" not in self.known if self.known is not None else is_forbidden(module, name):
            raise UserError(refused_name(f"{module}.{name}"))
        self.stack.append(Known(module, name))

    def global_line(self) -> None:
        module = self.line()
        self.name(module, self.line())

    def global_stack(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not (isinstance(function, Known | Call) and isinstance(arguments, tuple)):
            raise self.damaged("something that is no function is called")
        self.stack.append(Call(function if isinstance(function, Known) else UNNAMED, arguments))

    def call_by_name(self) -> None:
        named = self.pop()
        self.call()
        if entries_of(named) is None:
            raise self.damaged("arguments are named by what is no dictionary")

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, Call) or target.state is not None:
            raise self.damaged("attributes are set on something that has none")
        target.state = state

    def append(self, values: list[Any]) -> None:
        target = self.top()
        into = target.items if isinstance(target, Call) else target
        if not isinstance(into, list):
            raise self.damaged("something is appended to what is no list")
        into.extend(values)

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        entries = target.entries if isinstance(target, Call) else target
        if not isinstance(entries, dict) or len(flat) % 2:
            raise self.damaged("an entry is set in what is no dictionary")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            entries[self.key(key)] = value

    def add_items(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise self.damaged("something is added to what is no set")
        target.update(self.key(value) for value in values)

    def key(self, value: Any) -> Any:
        # Hashing a tuple of tuples of tuples, each shared, takes exponential time; colliding integers quadratic time.
        if isinstance(value, str) or (isinstance(value, int) and abs(value) < LARGEST_KEY):
            return value
        return OddKey(value)

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise self.damaged("it refers to an object that it has not made")
        self.stack.append(self.memo[place])

    def pair(self) -> list[Any]:
        value = self.pop()
        return [self.pop(), value]

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(reversed([self.pop() for _ in range(count)])))

    def protocol(self) -> None:
        if (version := self.number("<B")) > 5:
            raise self.damaged(f"protocol {version}")

    def frame(self) -> None:
        if (length := self.number("<Q")) > len(self.data) - self.position:
            self.take(length)

    def refer(self) -> None:
        self.references.append(reference := Persistent(self.pop()))
        self.stack.append(reference)

    def push(self, value: Any) -> None:
        self.stack.append(value)


_STOP = ord(".")
_INSTRUCTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    ord("J"): lambda m: m.push(m.number("<i")),
    0x8A: lambda m: m.integer(m.number("<B")),
    0x8B: lambda m: m.integer(m.number("<I")),
    ord("G"): lambda m: m.push(m.number(">d")),
    0x8C: lambda m: m.text(m.number("<B")),
    ord("X"): lambda m: m.text(m.number("<I")),
    ord("U"): lambda m: m.old_text(m.number("<B")),
    ord("T"): lambda m: m.push(m.take(m.number("<I"))),
    0x8D: lambda m: m.text(m.number("<Q")),
    ord("C"): lambda m: m.push(m.take(m.number("<B"))),
    ord("B"): lambda m: m.push(m.take(m.number("<I"))),
    0x8E: lambda m: m.push(m.take(m.number("<Q"))),
    0x96: lambda m: m.push(m.take(m.number("<Q"))),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord(")"): lambda m: m.push(()),
    0x8F: lambda m: m.push(set()),
    0x91: lambda m: m.push({m.key(value) for value in m.pop_group()}),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_group()),
    ord("s"): lambda m: m.set_items(m.pair()),
    ord("u"): lambda m: m.set_items(m.pop_group()),
    0x90: lambda m: m.add_items(m.pop_group()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("t"): lambda m: m.push(tuple(m.pop_group())),
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
    ord("c"): _Machine.global_line,
    0x93: _Machine.global_stack,
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    0x92: _Machine.call_by_name,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.refer,
}


def refused_name(name: str) -> str:
    """The sentence for a global that is not known, with the name made fit to print."""
    shown = "".join(character if character.isprintable() else "?" for character in name[:LONGEST_NAME_SHOWN])
    return (
        f"it asks for {shown}, which no checkpoint of a network needs; nothing in it was run: use it only if you trust its"
        " author, and then save the network's state dict alone, with safetensors or torch.save"
    )
