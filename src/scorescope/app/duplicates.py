"""The command that finds images which are there more than once: in words, as pictures, and as a store without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scorescope.data import ImageSet, ImageStore, load_images
from scorescope.data.duplicates import Duplicates, Indices, Pairs, find_common, find_duplicates
from scorescope.data.images import to_float
from scorescope.data.store import Provenance, name_of, writing_store
from scorescope.foundation import UserError, new_file
from scorescope.study.pictures import grid

SHOWN_GROUPS, SHOWN_IN_ROW, SHOWN_NAMES = 40, 6, 5
AT_ONCE = 4096


@dataclass(frozen=True)
class FoundDuplicates:
    """What the command found.

    Attributes:
        images: the set that was looked through.
        own: what is there more than once within it.
        others: the set that it was compared with, if any.
        common: the images that both hold; None without another set.
    """

    images: ImageSet
    own: Duplicates
    others: ImageSet | None
    common: Pairs | None

    @property
    def left_out(self) -> Indices:
        """Images that a clean store leaves out: of every group all but the first, and all that the other set holds."""
        shared = np.zeros(0, np.int64) if self.common is None else self.common.first
        return np.unique(np.concatenate([self.own.superfluous, shared]))

    def to_json(self) -> dict[str, Any]:
        """Everything, with the names of the images."""
        record: dict[str, Any] = {
            "images": self.images.stored,
            "similarity": self.own.similarity,
            "mirrored": self.own.mirrored,
            "equal": [_named(self.images, group) for group in self.own.equal],
            "near": [_named(self.images, group) for group in self.own.near],
            "left_out_of_a_clean_store": len(self.left_out),
        }
        if self.common is not None and self.others is not None:
            record["common"] = [
                {
                    "image": name_of(self.images, int(first)),
                    "other": name_of(self.others, int(second)),
                    "similarity": round(float(similarity), 6),
                    "equal": bool(equal),
                    "mirrored": bool(mirrored),
                }
                for first, second, similarity, equal, mirrored in zip(
                    self.common.first,
                    self.common.second,
                    self.common.similarity,
                    self.common.equal,
                    self.common.mirrored,
                    strict=True,
                )
            ]
        return record

    def words(self) -> str:
        """What was found, for a person."""
        own = self.own
        turned = ", mirror images too" if own.mirrored else ""
        lines = [
            f"{self.images.name}: {self.images.stored:,} images; {_count(own.equal)} equal byte for byte; {_count(own.near)} at"
            f" a similarity of at least {own.similarity:g}{turned}"
        ]
        for group in own.near[:SHOWN_NAMES]:
            lines.append("  " + ", ".join(_few(_named(self.images, group))))
        if len(own.near) > SHOWN_NAMES:
            lines.append(f"  and {len(own.near) - SHOWN_NAMES} more groups (--json names all)")
        if self.common is not None and self.others is not None:
            shared = len(set(self.common.second.tolist()))
            lines.append(
                f"{self.others.name}: {shared:,} of its {self.others.stored:,} images are in {self.images.name},"
                f" {len(set(self.common.second[self.common.equal].tolist())):,} of them byte for byte"
            )
            for first, second in list(zip(self.common.first, self.common.second, strict=True))[:SHOWN_NAMES]:
                lines.append(f"  {name_of(self.others, int(second))} is {name_of(self.images, int(first))}")
        return "\n".join(lines)


def duplicates(
    data: str,
    against: str | None,
    *,
    similarity: float,
    mirrored: bool,
    out: Path | None,
    pictures: Path | None,
) -> FoundDuplicates:
    """Look for duplicates in a store, and in common with another; write a clean store and a picture of the groups if asked.

    Where there are no groups, no picture is made.

    Raises UserError for wrong input, an `out` or a `pictures` that exists, or if nothing would be left.
    """
    for path in (out, pictures):
        if path is not None and (path.exists() or path.is_symlink()):
            raise UserError(f"{path} exists already: choose another name")
    if pictures is not None and pictures.suffix.lower() != ".png":
        raise UserError(f"{pictures}: groups are drawn as PNG, so the name ends in .png")
    images = load_images(data).train
    others = None if against is None else load_images(against).train
    found = FoundDuplicates(
        images,
        find_duplicates(images, similarity, mirrored=mirrored),
        others,
        None if others is None else find_common(images, others, similarity, mirrored=mirrored),
    )
    if out is not None:
        write_clean(found, out)
    sheet = None if pictures is None else draw_groups(found)
    if pictures is not None and sheet is not None:
        with new_file(pictures, replace=False) as temporary:
            temporary.write_bytes(sheet)
    return found


def write_clean(found: FoundDuplicates, out: Path) -> None:
    """A store of the images that are left. Raises UserError if none is."""
    images = found.images
    kept = np.setdiff1d(np.arange(images.stored), found.left_out)
    if not len(kept):
        raise UserError(f"every image of {images.name} is also in the other set: a clean store would be empty")
    labels = None if images.labels is None else images.own_labels()
    store = images if isinstance(images, ImageStore) else None
    with writing_store(out) as writer:
        for start in range(0, len(kept), AT_ONCE):
            part = kept[start : start + AT_ONCE]
            names = [name_of(images, int(place)) for place in part]
            writer.append(images.take(part), None if labels is None else labels[part], names)
        note = (
            f"{len(found.left_out)} of {images.stored} images were left out as duplicates (similarity at least"
            f" {found.own.similarity:g}{', mirror images too' if found.own.mirrored else ''})"
        )
        before = (
            store.record.provenance
            if store is not None
            else Provenance(source=images.name, colour="grey" if images.image_shape[0] == 1 else "colour")
        )
        writer.provenance = before.model_copy(update={"notes": (*before.notes, note)})


def draw_groups(found: FoundDuplicates) -> bytes | None:
    """The first groups as a picture, one a row, and the first images in common; None if there are none."""
    rows: list[list[tuple[ImageSet, int]]] = [
        [(found.images, member) for member in group[:SHOWN_IN_ROW]] for group in found.own.near[:SHOWN_GROUPS]
    ]
    if found.common is not None and found.others is not None:
        pairs = list(zip(found.common.first.tolist(), found.common.second.tolist(), strict=True))
        rows += [[(found.images, first), (found.others, second)] for first, second in pairs[: SHOWN_GROUPS - len(rows)]]
    if not rows:
        return None
    columns = max(len(row) for row in rows)
    empty = np.full(found.images.image_shape, np.nan, np.float32)
    tiles = np.stack(
        [
            np.stack(
                [to_float(images.take([place]))[0].numpy() for images, place in row] + [empty] * (columns - len(row))
            )
            for row in rows
        ]
    )
    captions = [[_short(name_of(images, place)) for images, place in row] + [""] * (columns - len(row)) for row in rows]
    return grid(tiles, captions=captions).png()


def _named(images: ImageSet, group: tuple[int, ...]) -> list[str]:
    return [name_of(images, member) for member in group]


def _few(names: list[str]) -> list[str]:
    return names if len(names) <= SHOWN_NAMES else [*names[:SHOWN_NAMES], f"and {len(names) - SHOWN_NAMES} more"]


def _count(groups: tuple[tuple[int, ...], ...]) -> str:
    many = sum(len(group) for group in groups)
    return "none" if not groups else f"{many:,} in {len(groups):,} group{'s' if len(groups) > 1 else ''}"


def _short(name: str) -> str:
    return name if len(name) <= 16 else "…" + name[-15:]
