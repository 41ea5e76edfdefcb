"""Which of the things in a file are weights, and which of the weights are averages.

A training script saves the network's weights, often an average of them over the last steps, an optimizer, settings and
counters, in whatever dictionary or list it likes. Here they are told apart, by name, by structure and by position:

- under one name or another: ``{"model": …, "ema": …}``, ``{"net_model": …, "ema_model": …}``, ``{"state_dict": …}``;
- in one dictionary under prefixes: ``ema_model.…`` beside ``online_model.…``, ``ema.…`` beside ``model.…``;
- by position: ``[weights, optimizer, epoch, step, averages]``;
- without names: ``shadow_params``, the averages of all parameters in the order of the network, which the names and shapes
  beside them give back;
- as a whole module, which records its parameters and those of its children.

What is no weight stays a record that nobody executes (see `restricted_unpickler`), for readers that look for settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Call, attributes_of, entries_of, members_of
from scorescope.foundation.inert.stored_tensor import is_tensor

RAW_NAMES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net_model",
    "network",
    "net",
    "unet",
    "params",
    "weights",
    "score_model",
    "denoiser",
    "generator",
    "module",
)
AVERAGED_WORDS = frozenset({"ema", "averaged", "average", "avg", "shadow", "swa"})
SHADOWS = "shadow_params"
# What averaging classes keep beside their weights, as tensors without a dimension.
_COUNTERS = frozenset({"initted", "step", "num_updates", "decay", "n_averaged"})
_KINDS = ("parameters", "buffers", "modules")
DEEPEST, DEEPEST_MODULE, MOST_MODULES = 6, 64, 50_000

T = TypeVar("T")


class OptimizerFileError(UserError):
    """The file holds an optimizer's state and no weights."""


@dataclass(frozen=True)
class WeightSet:
    """Tensors (records of them, or what was read) by name.

    Attributes:
        tensors: by name.
        where: how it was found, as phrases.
    """

    tensors: Mapping[str, Any]
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightSets:
    """The weights in a file.

    Attributes:
        raw: those of the last step, or those of which the file does not say what they are; None if there are averages only.
        averaged: averages of them; None if the file has none, or does not say that it has.
        nameless: averages of all parameters, in their order, that found no names; they are not used.
        beside: what else is in the file, by name.
    """

    raw: WeightSet | None
    averaged: WeightSet | None = None
    nameless: tuple[Any, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)


def is_averaged_name(name: object) -> bool:
    """Whether a word of the name says that it is an average: ``ema``, ``model_ema1``, ``ema_model``, ``netEMA``."""
    words = re.split(r"[^a-zA-Z]+|(?<=[a-z])(?=[A-Z])", str(name))
    return any(word.lower() in AVERAGED_WORDS for word in words)


def weight_sets(value: Any) -> WeightSets:
    """The weights in what a file holds.

    Args:
        value: records of the restricted unpickler.

    Raises:
        OptimizerFileError: there is an optimizer and nothing else.
        UserError: there are no weights in it.
    """
    found = _Search().sets(value, DEEPEST)
    if found is None:
        raise _no_weights(value)
    return found


def flat_sets(tensors: Mapping[str, T]) -> WeightSets:
    """The sets in one dictionary of tensors, told apart by the beginnings of their names."""
    tensors = {name: tensor for name, tensor in tensors.items() if name not in _COUNTERS}
    shadows = {name: tensor for name, tensor in tensors.items() if re.search(rf"(^|\.){SHADOWS}\.\d+$", name)}
    if shadows:
        rest = {name: tensor for name, tensor in tensors.items() if name not in shadows}
        order = sorted(shadows, key=lambda name: int(name.rpartition(".")[2]))
        return WeightSets(WeightSet(rest) if rest else None, nameless=tuple(shadows[name] for name in order))
    groups: dict[str, dict[str, T]] = {}
    for name, tensor in tensors.items():
        first, _, rest_of_name = name.partition(".")
        if rest_of_name:
            groups.setdefault(first, {})[rest_of_name] = tensor
    averaged = next((first for first in groups if is_averaged_name(first)), None)
    if averaged is None:
        return WeightSets(WeightSet(tensors))
    inner = flat_sets(groups[averaged])
    own = inner.averaged or inner.raw
    assert own is not None
    alike = (first for first, group in groups.items() if first != averaged and own.tensors.keys() <= group.keys())
    raw = next(alike, None)
    where = (f"its entries {averaged!r}", *own.where)
    others: WeightSet | None
    if raw is not None:
        others = WeightSet({name: groups[raw][name] for name in own.tensors}, (f"its entries {raw!r}",))
    elif inner.averaged is not None:
        others = inner.raw
    elif len(own.tensors) >= len(tensors) // 2:
        others = None
    else:  # a few parameters that happen to be called so are no set of their own
        return WeightSets(WeightSet(tensors))
    return WeightSets(others, WeightSet(own.tensors, where))


def by_order(names: Mapping[str, tuple[int, ...]], shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...] | None:
    """The names that tensors without names belong to, from their order and shapes.

    The averages leave out what is not trained (buffers, frozen parameters), so they are a subsequence of all names. The
    first way to find them in it and the last must agree.

    Args:
        names: all names with their shapes, in the network's order.
        shapes: of the nameless tensors, in their order.

    Returns:
        As many names as there are shapes; None if they fit nowhere or in several ways.
    """

    def earliest(listed: list[tuple[str, tuple[int, ...]]], wanted: list[tuple[int, ...]]) -> list[str] | None:
        found = []
        place = 0
        for shape in wanted:
            while place < len(listed) and listed[place][1] != shape:
                place += 1
            if place == len(listed):
                return None
            found.append(listed[place][0])
            place += 1
        return found

    listed = list(names.items())
    first, last = earliest(listed, list(shapes)), earliest(listed[::-1], list(shapes)[::-1])
    if first is None or last is None or first != last[::-1]:
        return None
    return tuple(first)


def is_optimizer(value: Any) -> bool:
    """Whether a record is the state of an optimizer."""
    entries = entries_of(value)
    return entries is not None and "param_groups" in entries


class _Search:
    """A walk through records, each of which is looked at once: files may share and nest them at will."""

    def __init__(self) -> None:
        self.known: dict[int, WeightSets | None] = {}
        self.modules = MOST_MODULES

    def sets(self, value: Any, depth: int) -> WeightSets | None:
        """The sets in a record and below it; None if there are none."""
        if id(value) not in self.known:
            self.known[id(value)] = None  # for records that contain themselves
            self.known[id(value)] = self._look(value, depth)
        return self.known[id(value)]

    def _look(self, value: Any, depth: int) -> WeightSets | None:
        if depth == 0:
            return None
        if isinstance(value, list | tuple):
            return self._by_position(value, depth)
        module, met = module_tensors(value, self.modules)
        self.modules -= met
        if module:
            return flat_sets(module)
        entries = entries_of(value)
        if not entries or is_optimizer(value):
            return None
        shadows = entries.get(SHADOWS)
        if isinstance(shadows, list | tuple) and shadows and all(map(is_tensor, shadows)):
            return WeightSets(None, nameless=tuple(shadows))
        named = self._named(entries, depth)
        if named is not None:
            return named
        tensors = {str(name): record for name, record in entries.items() if is_tensor(record)}
        if tensors and 2 * len(tensors) >= len(entries):
            beside = {str(name): record for name, record in entries.items() if not is_tensor(record)}
            found = flat_sets(tensors)
            return WeightSets(found.raw, found.averaged, found.nameless, beside)
        inside = [(name, self.sets(part, depth - 1)) for name, part in entries.items() if not is_tensor(part)]
        holding = [(name, found) for name, found in inside if found is not None]
        if len(holding) != 1:
            return None
        name, found = holding[0]
        return _within(found, entries, name)

    def _named(self, entries: dict[Any, Any], depth: int) -> WeightSets | None:
        """Sets under names that say what they are."""
        averages = (name for name in entries if is_averaged_name(name))
        averaged_name, averaged = self._first(entries, averages, depth)
        raw_name, raw = self._first(entries, (name for name in RAW_NAMES if name in entries), depth)
        if averaged is None:
            return None if raw is None else _within(raw, entries, raw_name)
        own = averaged.averaged or averaged.raw
        where = _entry(entries, averaged_name)
        beside = {**averaged.beside, **_others(entries, (averaged_name, raw_name))}
        raw_set = None if raw is None else (raw.raw or raw.averaged)
        if raw_set is not None:
            raw_set = WeightSet(raw_set.tensors, (f"its entry {raw_name!r}", *raw_set.where))
        elif averaged.averaged is not None:
            raw_set = averaged.raw
        if own is None:
            return WeightSets(raw_set, None, averaged.nameless, beside)
        return WeightSets(raw_set, WeightSet(own.tensors, (where, *own.where)), (), beside)

    def _first(self, entries: dict[Any, Any], names: Iterator[Any], depth: int) -> tuple[Any, WeightSets | None]:
        """The first of these names under which there are weights, and those."""
        for name in names:
            if not is_tensor(entries[name]) and (found := self.sets(entries[name], depth - 1)) is not None:
                return name, found
        return None, None

    def _by_position(self, parts: Sequence[Any], depth: int) -> WeightSets | None:
        """A list: its first dictionary of tensors, and its last one if that has the same names, taken for averages."""
        holding = [
            (place, found)
            for place, part in enumerate(parts[:20])
            if entries_of(part) is not None and (found := self.sets(part, depth - 1)) is not None
        ]
        if not holding:
            return None
        (place, first), (end, last) = holding[0], holding[-1]
        if first.raw is None:
            return None
        where = f"entry {place} of its list"
        raw = WeightSet(first.raw.tensors, (where, *first.raw.where))
        if end == place or last.raw is None or not _alike(first.raw.tensors, last.raw.tensors):
            return WeightSets(raw, first.averaged)
        return WeightSets(raw, WeightSet(last.raw.tensors, (f"entry {end} of its list", *last.raw.where)))


def _within(found: WeightSets, entries: dict[Any, Any], name: Any) -> WeightSets:
    """What was found under `name`, with what stands beside it."""
    where = _entry(entries, name)

    def at(weights: WeightSet | None) -> WeightSet | None:
        return None if weights is None else WeightSet(weights.tensors, (where, *weights.where))

    return WeightSets(at(found.raw), at(found.averaged), found.nameless, {**found.beside, **_others(entries, (name,))})


def _entry(entries: dict[Any, Any], name: Any) -> str:
    others = list(_others(entries, (name,)))
    return f"its entry {name!r}" + (f" (not {', '.join(others[:4])})" if others else "")


def _others(entries: dict[Any, Any], names: tuple[Any, ...]) -> dict[str, Any]:
    return {str(name)[:40]: part for name, part in entries.items() if name not in names}


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets have the same names, but for what wrappers put before them."""
    return len(one) == len(other) and all(
        a.endswith(b) or b.endswith(a) for a, b in zip(sorted(one), sorted(other), strict=True)
    )


def module_tensors(record: Any, most: int = MOST_MODULES) -> tuple[dict[str, Any], int]:
    """The parameters and persistent buffers of a whole module that was pickled, by name, and how many modules were met.

    There are none if `record` is no module, or has more than `most` modules in it.
    """
    if not isinstance(record, Call):
        return {}, 0
    found: dict[str, Any] = {}
    waiting, met = [("", record)], 1
    while waiting:
        prefix, module = waiting.pop()
        attributes = attributes_of(module)
        if attributes is None or met > most or prefix.count(".") > DEEPEST_MODULE:
            return {}, met
        parameters, buffers, modules = (entries_of(attributes.get(f"_{kind}")) for kind in _KINDS)
        if parameters is None or modules is None:
            return {}, met
        left_out = members_of(attributes.get("_non_persistent_buffers_set"))
        for name, tensor in [*parameters.items(), *(buffers or {}).items()]:
            if is_tensor(tensor) and name not in left_out:
                found[f"{prefix}{name}"] = tensor
        children = [(f"{prefix}{str(name)[:80]}.", child) for name, child in modules.items() if child is not None]
        met += len(children)
        waiting += reversed(children)
    return found, met


def _no_weights(value: Any) -> UserError:
    entries = entries_of(value)
    if is_optimizer(value):
        return OptimizerFileError("it holds the state of an optimizer (moments of the weights) and no weights")
    if isinstance(value, Call) and entries is None:
        return UserError(
            f"it holds an object of the class {str(value.function)[:80]}, and no weights that could be found in it: save"
            " torch.save(network.state_dict(), PATH)"
        )
    if not entries:
        return UserError("it holds no state dictionary: save one with torch.save(network.state_dict(), PATH)")
    held = ", ".join(_words(entries))
    return UserError(
        f"it holds {held}, and no state dictionary under {', '.join(RAW_NAMES[:5])} or ema: save one with"
        " torch.save(network.state_dict(), PATH)"
    )


def _words(entries: dict[Any, Any]) -> Iterator[str]:
    for name in list(entries)[:5]:
        yield str(name)[:30] if isinstance(name, str | int) else "…"
