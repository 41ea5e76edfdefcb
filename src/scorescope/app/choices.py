"""Which denoiser a command is about: a registered name, or a network in a checkpoint. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorescope.foundation import UserError
from scorescope.foundation.catalogue import check_listed, listed
from scorescope.networks.readers.words import arguments_from, check_there

NETWORK = "network:"
PROBLEMS = ("inpainting", "missing-pixels", "super-resolution", "compressive-sensing")


@dataclass(frozen=True)
class ModelChoice:
    """What the options about a model said.

    Attributes:
        path: the checkpoint, of any kind.
        architecture: name of its architecture, for state dictionaries; None to read it off the parameters' names.
        arguments: what cannot be read off a state dictionary, by name.
        class_label: the class that all images are to be of; None for no class.
    """

    path: Path
    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    class_label: int | None = None

    @classmethod
    def of(
        cls,
        path: Path,
        arch: str | None = None,
        arch_arg: Sequence[str] | None = None,
        class_label: int | None = None,
        weights: str | None = None,
    ) -> ModelChoice:
        """From the words of a command line.

        Raises UserError if nothing is at the path, for an unknown architecture, and for an argument that is not NAME=VALUE.
        """
        check_there(path)
        if arch is not None and arch not in listed("formats"):
            check_listed("networks", "network", arch)
        said = {"weights": weights} if weights is not None else {}
        return cls(path, arch, arguments_from(arch_arg or []) | said, class_label)


def word_for(choice: str | ModelChoice) -> str:
    """What a picture or a sentence calls a denoiser."""
    return choice if isinstance(choice, str) else choice.path.name


def chosen_denoiser(
    denoiser: str | None,
    model: Path | None,
    arch: str | None,
    arch_arg: Sequence[str] | None,
    class_label: int | None,
    weights: str | None = None,
    plugins: Sequence[Path] = (),
) -> str | ModelChoice:
    """A registered name or a network, from the options that name one of them.

    Raises UserError if neither or both are named, for a name that is unknown and may not be a plugin's, and if something is
    said of a network where there is none.
    """
    if (denoiser is None) == (model is None):
        raise UserError("give one of --denoiser NAME (see scorescope list denoisers) and --model PATH")
    if denoiser is not None and denoiser.startswith(NETWORK):
        model, denoiser = Path(denoiser.removeprefix(NETWORK)), None
    if model is not None:
        return ModelChoice.of(model, arch, arch_arg, class_label, weights)
    if arch is not None or arch_arg or class_label is not None or weights is not None:
        raise UserError(
            f"--arch, --arch-arg, --weights and --class-label are about a network, and {denoiser} is none: leave them out"
        )
    if not plugins:
        check_listed("denoisers", "denoiser", str(denoiser))
    return str(denoiser)


def check_problem(problem: str) -> None:
    """Raise UserError for a problem that is none of `PROBLEMS`."""
    if problem not in PROBLEMS:
        raise UserError(f"there is no problem {problem!r}: choose of {', '.join(PROBLEMS)}")
