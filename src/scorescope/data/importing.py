"""From a source to a store: decode in parallel, bring to one colour mode and size, refuse or count what is broken.

Images are decoded by threads (Pillow lets go of Python's lock while it does) in small pieces, of which only a few are
under way at any time: memory does not grow with the number of images.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from scorescope.data.images import Pixels
from scorescope.data.sources import BrokenImageError, Source
from scorescope.data.sources.base import check_class
from scorescope.data.sources.decoding import DEEP, DEEP_COLOUR
from scorescope.data.store import ImageStore, Provenance, Skipped, StoreWriter, writing_store
from scorescope.foundation import UserError, track
from scorescope.foundation.limits import LARGEST_SIDE

Colour = Literal["grey", "colour"]
RESIZE = "centre square, Lanczos with antialiasing"
_PIECE = 16
_PIECE_BYTES = 1 << 22
_DARK = 1 << 15  # a brightest value of 16 bits that leaves half of them to nothing


@dataclass(frozen=True)
class Fit:
    """What every image is brought to.

    Args:
        size: side in pixels of the square, or None to keep images as they are.
        colour: one channel, three, or None for what the first image has.
    """

    size: int | None = None
    colour: Colour | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= LARGEST_SIDE:
            raise UserError(f"--size {self.size:,}: a side has between 1 and {LARGEST_SIDE:,} pixels")


def side_of(text: str) -> int:
    """The side of a square from words, "32" or "32x32". Raises UserError for other words, and for what is no square."""
    sides = text.lower().replace("×", "x").replace("*", "x").split("x")
    if not (1 <= len(sides) <= 2 and all(side.strip().isdecimal() and len(side) < 10 for side in sides)):
        raise UserError(f"--size {text[:40]!r}: give the side of a square in pixels, such as 32 or 32x32")
    numbers = {int(side) for side in sides}
    if len(numbers) > 1:
        raise UserError(f"--size {text}: images are brought to squares: give one side, such as {min(numbers)}")
    return numbers.pop()


@dataclass(frozen=True)
class _Fitted:
    """One image on its way: its pixels (C, H, W), or why it is broken."""

    index: int
    pixels: Pixels | None
    was_colour: bool = False
    enlarged: bool = False
    changes: tuple[str, ...] = ()
    peak: float = 0.0
    problem: str = ""


@dataclass
class _Tally:
    """What is counted along the way and said in the store's record."""

    broken: list[Skipped] = field(default_factory=list)
    widened: int = 0
    greyed: int = 0
    enlarged: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    peak: float = 0.0


def import_images(
    source: Source,
    out: Path | str,
    *,
    size: int | None = None,
    colour: Colour | None = None,
    labels: npt.NDArray[np.integer] | None = None,
    skip_broken: bool = False,
) -> ImageStore:
    """Write all images of a source into a new store and open it.

    Args:
        source: an open source.
        out: folder to make.
        size: side in pixels; every image is cropped to its centre square and resized. None keeps sizes.
        colour: ``grey`` (luma, ITU-R BT.601) or ``colour``; None keeps what the first image has: grey images among
            colour ones become colour without loss; colour images after a grey one are refused.
        labels: int (N,), in place of the source's own.
        skip_broken: leave broken images out and name them in the record, instead of refusing them all.

    Raises:
        UserError: `out` exists; broken images (unless skipped) or nothing else; different sizes without `size`;
            colour among grey without `colour`; a number that is no class; the disk is full. Nothing is left at `out` then.
    """
    if labels is not None and len(labels) != len(source):
        raise UserError(f"{len(labels)} labels for the {len(source)} images of {source.where}: they must be as many")
    classes = labels if labels is not None else source.labels
    if classes is not None and len(classes):
        check_class(source.where, int(classes.min()), int(classes.argmin()))
        check_class(source.where, int(classes.max()), int(classes.argmax()))
    fit, tally = Fit(size, colour), _Tally()
    with writing_store(out) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoders warn of what is counted here, on lines of their own
        used = _write_all(source, writer, classes, fit, tally, skip_broken)
        if tally.broken and not skip_broken:
            raise _broken_error(source, tally.broken)
        if writer.count == 0:
            raise UserError(
                f"every one of the {len(source)} images of {source.where} is broken; {_first(tally.broken)}"
            )
        writer.provenance = Provenance(
            source=source.where,
            colour=used,
            size=size,
            resize=RESIZE if size is not None else "",
            licence=source.licence,
            classes=source.classes if labels is None else (),
            notes=(*source.notes, *_notes(tally, writer.count)),
            skipped=tuple(tally.broken),
        )
    return ImageStore.open(out)


def _write_all(
    source: Source,
    writer: StoreWriter,
    labels: npt.NDArray[np.integer] | None,
    fit: Fit,
    tally: _Tally,
    skip_broken: bool,
) -> Colour:
    """Stream the images into the store; the first broken one ends the writing but not the counting. Returns the mode."""
    first: _Fitted | None = None
    mode: Colour = fit.colour or "colour"
    with contextlib.closing(_fitted(source, fit)) as fitted:
        for image in track(fitted, f"importing {Path(source.where).name}", total=len(source)):
            if image.pixels is None:
                tally.broken.append(Skipped(name=source.name_of(image.index), reason=image.problem))
            if image.pixels is None or (tally.broken and not skip_broken):
                continue
            if first is None:
                first = image
                mode = fit.colour or ("colour" if image.was_colour else "grey")
            pixels = _in_mode(source, image, mode, fit, first, tally)
            tally.enlarged += image.enlarged
            tally.changes.update(image.changes)
            tally.peak = max(tally.peak, image.peak)
            if first.pixels is not None and pixels.shape[1:] != first.pixels.shape[1:]:
                raise _sizes_error(source, first, image)
            writer.append(
                pixels[None],
                None if labels is None else labels[image.index : image.index + 1],
                None if source.names is None else [source.names[image.index]],
            )
    return mode


def _in_mode(source: Source, image: _Fitted, mode: Colour, fit: Fit, first: _Fitted, tally: _Tally) -> Pixels:
    assert image.pixels is not None
    if mode == "grey" and image.was_colour:
        if fit.colour is None:
            raise UserError(
                f"{source.name_of(first.index)} is grey and {source.name_of(image.index)} is in colour: "
                "pass --grey to make all grey, or --color to make all colour"
            )
        tally.greyed += 1
    if mode == "colour" and not image.was_colour:
        tally.widened += 1
        if image.pixels.shape[0] == 1:
            return np.repeat(image.pixels, 3, axis=0)
    return image.pixels


def _fitted(source: Source, fit: Fit) -> Generator[_Fitted, None, None]:
    """All images in order, decoded ahead by as many threads as there are cores."""
    workers = max(1, min(8, os.cpu_count() or 1))
    first = _fit_one(source, fit, 0)
    yield first
    # Large images go one by one: about four pieces a thread are in memory at any time.
    size = _PIECE if first.pixels is None else max(1, min(_PIECE, _PIECE_BYTES // first.pixels.nbytes))
    pieces = (range(start, min(start + size, len(source))) for start in range(1, len(source), size))
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        under_way: deque[Future[list[_Fitted]]] = deque()
        try:
            for piece in pieces:
                under_way.append(pool.submit(_fit_piece, source, fit, piece))
                if len(under_way) > 2 * workers:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _fit_piece(source: Source, fit: Fit, piece: range) -> list[_Fitted]:
    return [_fit_one(source, fit, index) for index in piece]


def _fit_one(source: Source, fit: Fit, index: int) -> _Fitted:
    try:
        found = source.decoded(index)
    except BrokenImageError as error:
        return _Fitted(index, None, problem=str(error))
    image = found.image
    was_colour = image.mode != "L"
    enlarged = fit.size is not None and min(image.size) < fit.size
    if fit.colour is not None:
        image = image.convert("L" if fit.colour == "grey" else "RGB")
    if fit.size is not None:
        image = square(image, fit.size)
    pixels = np.array(image)
    pixels = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (C, H, W)
    return _Fitted(index, pixels, was_colour, enlarged, found.changes, found.peak)


def square(image: Image.Image, size: int) -> Image.Image:
    """The centre square of an image at `size` × `size` pixels (Lanczos, antialiased when it shrinks)."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if (width, height) == (size, size):
        return image
    # Cropped first: the filter would reach beyond a box that is only passed to resize.
    centre = image.crop((left, top, left + side, top + side))
    return centre.resize((size, size), Image.Resampling.LANCZOS)


def _notes(tally: _Tally, count: int) -> list[str]:
    counts = (
        (tally.widened, "grey images were given three equal channels"),
        (tally.greyed, "colour images were made grey (ITU-R BT.601 luma)"),
        (tally.enlarged, "images were smaller than the size asked for and were enlarged"),
    )
    notes = [f"{number} {said}" for number, said in counts if number]
    for change, number in tally.changes.most_common():
        brightest = f", the brightest value {tally.peak:,.6g} of 65,535" if change in (DEEP, DEEP_COLOUR) else ""
        dark = brightest and change == DEEP and tally.peak < _DARK
        mend = f" (if {tally.peak:.6g} is white: --white {_white(tally.peak)})" if dark else ""
        notes.append(f"{change}: {number} of {count} images{brightest}{mend}")
    return notes


def _white(peak: float) -> int:
    """The largest value of as few bits as hold the brightest one that was seen."""
    return int(2 ** math.ceil(math.log2(peak + 1)) - 1) if peak > 0 else 1


def _first(broken: list[Skipped]) -> str:
    return f"the first is {broken[0].name} ({broken[0].reason})"


def _broken_error(source: Source, broken: list[Skipped]) -> UserError:
    many = f"{len(broken)} of the {len(source)} images in {source.where} {'is' if len(broken) == 1 else 'are'} broken"
    return UserError(f"{many}; {_first(broken)}: mend or remove, or pass --skip-broken to leave them out")


def _sizes_error(source: Source, first: _Fitted, other: _Fitted) -> UserError:
    def said(image: _Fitted) -> str:
        assert image.pixels is not None
        _, height, width = image.pixels.shape
        return f"{source.name_of(image.index)} is {width}×{height}"

    return UserError(f"{said(first)} and {said(other)}: pass --size to bring all images to one size, as --size 32")
