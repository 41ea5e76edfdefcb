"""What the names of image files say: their order, their classes, which of several splits they are of, EDM's ``dataset.json``.

If every image lies in a folder, and there are several folders, each folder is a class, named by its path below what all of
them share. Two things look like classes and are none: folders called ``train`` and ``test``, of which one is chosen, and
folders of five digits, in which EDM's and StyleGAN's tools put a thousand images each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from scorescope.data.sources.base import Labels, check_class
from scorescope.foundation import UserError

EDM_LABELS = "dataset.json"
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_DIGITS = re.compile(r"(\d+)")
_SHARD = re.compile(r"\d{5}")
_FORM = '{"labels": [["name", class], ...]} with whole numbers'


class Classes(NamedTuple):
    """Classes of images, and what was assumed.

    Attributes:
        labels: int64 (N,), or None if the names say nothing.
        names: of the classes; empty if they have none.
        note: in a sentence; may be empty.
    """

    labels: Labels | None = None
    names: tuple[str, ...] = ()
    note: str = ""


class Chosen(NamedTuple):
    """The files of one split, and what was left aside, in a sentence; empty if nothing was."""

    names: list[str]
    note: str


def natural(name: str) -> tuple[Any, ...]:
    """A sorting key that puts ``2.png`` before ``10.png``, folder by folder."""
    return tuple(
        tuple(
            (int(piece), piece) if piece.isdigit() and piece.isascii() else (-1, piece) for piece in _DIGITS.split(part)
        )
        for part in name.split("/")
    )


def in_order(names: Sequence[str]) -> Chosen:
    """Names in natural order, and a note if that is not the order of their letters."""
    plain = sorted(names)
    ordered = sorted(plain, key=natural)
    return Chosen(ordered, "" if ordered == plain else "files are in the order of the numbers in their names")


def of_split(where: str, names: Sequence[str], split: str) -> Chosen:
    """The files of one split, where folders are called as several splits are, such as ``train`` and ``test``.

    Raises UserError if there are such folders and none is that split.
    """
    folder_of: dict[str, str] = {}
    for name in names:
        folder_of[name] = next(
            (folder for folder in PurePosixPath(name).parent.parts if folder.lower() in _SPLIT_OF), ""
        )
    found = {folder: _SPLIT_OF[folder.lower()] for folder in folder_of.values() if folder}
    if len(set(found.values())) < 2:
        return Chosen(list(names), "")
    wanted = _SPLIT_OF.get(split.lower(), split)
    kept = [name for name in names if found.get(folder_of[name]) == wanted]
    splits = ", ".join(sorted(set(found)))
    if not kept:
        raise UserError(f"{where} has the folders {splits} and none for {split!r}: pass --split with one of them")
    taken = ", ".join(sorted({folder_of[name] for name in kept}))
    note = f"of the folders {splits} only {taken} was taken, {len(kept)} of {len(names)} images (--split chooses)"
    return Chosen(kept, note)


def classes_from_folders(names: Sequence[str]) -> Classes:
    """Classes from the folders that files lie in, numbered in natural order."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    distinct = sorted(set(folders), key=lambda folder: natural("/".join(folder)))
    shared = _shared(distinct)
    if len(distinct) < 2 or any(len(folder) == shared for folder in distinct):
        return Classes()
    if all(len(folder) == shared + 1 and _SHARD.fullmatch(folder[-1]) for folder in distinct):
        said = f"folders of five digits ({distinct[0][-1]}, …) were taken to be parts of one set and not classes"
        return Classes(note=f"{said}: --labels gives classes")
    number = {folder: index for index, folder in enumerate(distinct)}
    labels = np.array([number[folder] for folder in folders], dtype=np.int64)
    return Classes(labels, tuple("/".join(folder[shared:]) for folder in distinct))


def edm_file(where: str, members: Sequence[str]) -> str | None:
    """Where the ``dataset.json`` among the members lies, at the top or below; None if there is none.

    Raises UserError if there are several.
    """
    found = [name for name in members if PurePosixPath(name).name == EDM_LABELS]
    if len(found) > 1:
        raise UserError(f"{where} holds {len(found)} files {EDM_LABELS}, such as {found[0]}: import each folder alone")
    return found[0] if found else None


def edm_classes(where: str, names: Sequence[str], labels_file: str, text: str | bytes) -> Classes:
    """Classes from EDM's ``dataset.json``, whose names count from its own folder.

    Raises UserError if it is not of that form, names an image twice with other classes, or leaves one out.
    """
    where = f"{where}: {labels_file}"
    top = PurePosixPath(labels_file).parent
    classes: dict[str, Any] = {}
    try:
        pairs = json.loads(text)["labels"]
        if pairs is None:
            return Classes()
        for name, label in pairs:
            path = str(top / name)
            if path in classes and repr(classes[path]) != repr(label):  # NaN differs from itself
                raise UserError(f"{where} gives {name} the classes {classes[path]} and {label}: mend it")
            classes[path] = label
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{where} is not of the form {_FORM}: mend it, or take it out to have classes from folders"
        ) from error
    missing = [name for name in names if name not in classes]
    if missing:
        raise UserError(f"{where} has no label for {len(missing)} of {len(names)} images, as {missing[0]}")
    for index, name in enumerate(names):
        label = classes[name]
        if not isinstance(label, int) or isinstance(label, bool):
            raise UserError(f"{where}: {name} has the class {str(label)[:40]}; it must be of the form {_FORM}: mend it")
        check_class(f"{where}, {name}", label, index)
    return Classes(np.array([classes[name] for name in names], dtype=np.int64))


def _shared(folders: Sequence[tuple[str, ...]]) -> int:
    """How many folders at the beginning all have in common."""
    shared = 0
    while len({folder[: shared + 1] for folder in folders}) == 1 and all(len(folder) > shared for folder in folders):
        shared += 1
    return shared
