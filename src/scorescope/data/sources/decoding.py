"""From the bytes of an image file to 8-bit grey or colour, with a word for every change that is made on the way."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from scorescope.data.sources.base import BrokenImageError, Decoded

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TURNED = "turned as the EXIF orientation says"
ON_WHITE = "laid on white where they are transparent"
FIRST_FRAME = "the first of several frames or pages taken"
DEEP = "16 bits a value cut to the upper 8"
DEEP_COLOUR = "16 bits a colour cut to the upper 8"
SCALED = "more than 8 bits a value scaled to the white that was given"
_ORIENTATION = ExifTags.Base.Orientation
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def decode(encoded: bytes, white: float | None = None) -> Decoded:
    """Decode one image file to mode ``L`` (grey) or ``RGB``, turned as its EXIF orientation says.

    Transparent parts become white, 16-bit grey keeps its high byte, of an animation the first frame is taken; `changes` of
    the result says which of these was done.

    Args:
        encoded: the file.
        white: the value that is white in grey images of more than 8 bits; 65535 by default.

    Raises:
        BrokenImageError: the file is cut, damaged, not an image, or of a kind that has no 8-bit meaning.
    """
    if not encoded:
        raise BrokenImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            changes = [FIRST_FRAME] if getattr(image, "is_animated", False) else []
            deep_colour = _is_deep_colour(image)
            image.load()
            if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
                changes.append(TURNED)
            found = to_grey_or_rgb(ImageOps.exif_transpose(image), white)
    except BrokenImageError:
        raise
    except Exception as error:  # whatever a decoder raises on a damaged file, from TypeError to MemoryError
        # Pillow shows the in-memory file's address, which helps nobody.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image that Pillow can read" if unknown else " ".join(str(error).split())
        raise BrokenImageError(reason or type(error).__name__) from error
    if deep_colour:
        if white is not None:
            raise BrokenImageError("colour of 16 bits a value is read to its upper 8 only, which --white cannot mend")
        changes.append(DEEP_COLOUR)
        peak = 257 * max(int(high) for _, high in _extrema(found.image))
        return Decoded(found.image, (*changes, *found.changes), peak)
    return Decoded(found.image, (*changes, *found.changes), found.peak)


def to_grey_or_rgb(image: Image.Image, white: float | None = None) -> Decoded:
    """An image of any Pillow mode as ``L`` or ``RGB``; arguments and errors as `decode`."""
    if image.mode == "1":
        return Decoded(image.convert("L"))
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(np.asarray(image), white)
    if image.mode in _ALPHA or "transparency" in image.info:  # a PNG can name one colour of other modes as transparent
        return _on_white(image)
    return Decoded(image if image.mode in ("L", "RGB") else image.convert("RGB"))


def to_8_bits(values: npt.NDArray[np.generic], white: float) -> npt.NDArray[np.uint8]:
    """Values from 0 to `white`, of any type, as 0 to 255, rounded; what is beyond is clipped."""
    scaled = np.asarray(values, dtype=np.float64) * (255.0 / white)
    levels: npt.NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return levels


def from_array(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    """uint8 (H, W) or (H, W, 1 or 3) as an image."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _from_deep(values: npt.NDArray[np.generic], white: float | None) -> Decoded:
    if not np.isfinite(values).all():
        raise BrokenImageError("it has NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if white is not None:
        if low < 0 or high > white * (1 + 1e-6):
            raise BrokenImageError(
                f"it has values from {low:g} to {high:g}, which is not within 0 and --white {white:g}"
            )
        return Decoded(Image.fromarray(to_8_bits(values, white)), (SCALED,), high)
    if values.dtype.kind == "f":
        raise BrokenImageError("floating-point pixels have no 8-bit meaning: say which value is white with --white")
    if low < 0 or high > 65535:
        raise BrokenImageError(
            f"32-bit grey from {low:g} to {high:g} has no 8-bit meaning: say which value is white with --white"
        )
    return Decoded(Image.fromarray((values.astype(np.int64) >> 8).astype(np.uint8)), (DEEP,), high)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow is about to drop the lower bytes of red, green and blue."""
    for tile in getattr(image, "tile", ()):
        raw = tile[3] if isinstance(tile[3], str) else tile[3][0] if isinstance(tile[3], tuple) and tile[3] else ""
        if isinstance(raw, str) and raw.startswith(("RGB;16", "RGBA;16", "RGBX;16")):
            return True
    return False


def _on_white(image: Image.Image) -> Decoded:
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    seen = image.convert("RGBA")
    if _extrema(seen)[3][0] == 255:  # transparent nowhere
        return Decoded(seen.convert(mode))
    return Decoded(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert(mode), (ON_WHITE,))


def _extrema(image: Image.Image) -> Sequence[tuple[float, float]]:
    """Lowest and highest value of each band."""
    found = image.getextrema()
    return [(float(band[0]), float(band[1])) for band in (found if isinstance(found[0], tuple) else (found,))]
