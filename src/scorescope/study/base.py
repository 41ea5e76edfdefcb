"""A study: one experiment with its settings in three sizes, found by name, run in a workspace."""

from __future__ import annotations

import json
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import pydantic

from scorescope.foundation import Registry, UserError
from scorescope.foundation.limits import LARGEST_SEED
from scorescope.foundation.names import check_setting, unknown_name

if TYPE_CHECKING:
    from scorescope.study.results import Results
    from scorescope.study.workspace import Workspace

C = TypeVar("C", bound=pydantic.BaseModel)
S = TypeVar("S", bound="type[Study[Any]]")
PRESETS = ("tiny", "small", "paper")


class Study(ABC, Generic[C]):
    """One experiment.

    A subclass, of ``Study[ItsConfig]``, sets the attributes and writes `run`; the decorator `study` makes it known by name.

    Attributes:
        name: in the registry, as "paper/figure".
        title: its subject, in a few words.
        question: what it asks, in one sentence; may be empty.
        paper: where the question comes from, in words; may be empty.
        Config: its settings, a pydantic model with ``extra="forbid"``.
        presets: ``tiny`` (seconds, for tests), ``small`` (minutes on two cores) and ``paper``: settings that
            differ from the defaults.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    Config: ClassVar[type[pydantic.BaseModel]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    @abstractmethod
    def run(self, config: C, workspace: Workspace) -> Results:
        """Measure with settings `config`, and return what was found.

        Long parts go through ``workspace.computed``, so that an interrupted run does not repeat them.
        """

    @classmethod
    def configure(cls, preset: str = "small", overrides: Sequence[str] = (), **settings: Any) -> C:
        """Settings of a preset, with some of them replaced.

        Args:
            preset: one of the study's presets.
            overrides: "key=value" each, as a command line gives them; "training.steps=100" reaches into a group, and
                "sizes=1,10,100" or "sizes=[1, 10, 100]" is a list.
            settings: values by key that are replaced before `overrides` are.

        Raises:
            UserError: unknown preset or key, with the nearest known one; a value that the setting does not allow.
        """
        if preset not in cls.presets:
            raise UserError(unknown_name(f"preset of {cls.name}", preset, list(cls.presets)))
        values = _merged(_merged(_group_defaults(cls.Config), cls.presets[preset]), settings)
        for override in overrides:
            known = setting_names(cls.Config)
            key, text = check_setting(override, list(known))
            values = _merged(values, _nested(key, _parsed(key, text, known[key])))
        try:
            config = typing.cast("C", cls.Config.model_validate(values))
        except pydantic.ValidationError as error:
            raise UserError(_one_line(error, cls)) from error
        _check_sizes(config.model_dump(), cls.name)
        return config


studies: Registry[type[Study[Any]]] = Registry("study", "studies")
"""All studies by name."""


def study(cls: S) -> S:
    """Class decorator: make a study known by its name.

    Raises:
        ValueError: a missing preset, or settings that would take unknown keys without a word.
    """
    missing = [preset for preset in PRESETS if preset not in cls.presets]
    if missing:
        raise ValueError(f"the study {cls.name!r} lacks the preset {missing[0]!r}")
    if cls.Config.model_config.get("extra") != "forbid":
        raise ValueError(f'the Config of {cls.name!r} must have model_config = ConfigDict(extra="forbid")')
    studies.add(cls.name, cls)
    return cls


def setting_names(config: type[pydantic.BaseModel], prefix: str = "") -> dict[str, Any]:
    """All settings of a config by dotted name, with their types; groups are followed into."""
    found: dict[str, Any] = {}
    for name, field in config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel):
            found.update(setting_names(field.annotation, f"{prefix}{name}."))
        else:
            found[prefix + name] = field.annotation
    return found


def _group_defaults(config: type[pydantic.BaseModel]) -> dict[str, Any]:
    """What a config's own defaults say of its groups, so that setting one key of a group leaves the others as they are."""
    defaults = {name: field.default for name, field in config.model_fields.items()}
    groups = {name: value for name, value in defaults.items() if isinstance(value, pydantic.BaseModel)}
    return {name: value.model_dump(exclude_unset=True) for name, value in groups.items()}


def _parsed(key: str, text: str, annotation: Any) -> Any:
    """A value as pydantic takes it: lists and objects from JSON or commas, everything else as text."""
    if text == "null":
        return None
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"setting {key}={text} is not valid JSON ({error})") from error
    kinds = (annotation, *typing.get_args(annotation))
    if any(typing.get_origin(kind) in (list, tuple, set) or kind in (list, tuple) for kind in kinds):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _check_sizes(value: Any, study: str, name: str = "") -> None:
    """Raise UserError for a whole number that no library takes, however deep in the settings."""
    if isinstance(value, int) and abs(value) > LARGEST_SEED:
        raise UserError(f"setting {name}={value:.3g} of {study}: whole numbers go up to {LARGEST_SEED}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_sizes(item, study, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            _check_sizes(item, study, name)


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return typing.cast("dict[str, Any]", value)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, group by group."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _one_line(error: pydantic.ValidationError, study: type[Study[Any]]) -> str:
    """The first problem of a config in one line: which setting, what it was, what is allowed."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return unknown_name(f"setting of {study.name}", key, list(setting_names(study.Config)))
    if problem["type"] == "missing":
        return f"{study.name} needs the setting {key}: give it as {key}=VALUE"
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"setting {key}={problem['input']} of {study.name}: {reason}" if key else f"{study.name}: {reason}"
