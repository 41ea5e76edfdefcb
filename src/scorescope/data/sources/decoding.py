"""From the bytes of an image file to 8-bit grey or colour, without the silent losses of a plain conversion."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from scorescope.data.sources.base import BrokenImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def decode(encoded: bytes) -> Image.Image:
    """Decode one image file to mode ``L`` (grey) or ``RGB``, turned as its EXIF orientation says.

    Transparent parts become white, 16-bit grey keeps its high byte, of an animation the first frame is taken.
    Raises BrokenImageError if the file is cut, damaged, not an image, or of a kind that has no 8-bit meaning.
    """
    if not encoded:
        raise BrokenImageError("the file is empty")
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
            return to_grey_or_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, Image.DecompressionBombError) as error:
        # Pillow shows the in-memory file's address, which helps nobody.
        reason = "not an image that Pillow can read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise BrokenImageError(reason or type(error).__name__) from error


def to_grey_or_rgb(image: Image.Image) -> Image.Image:
    """An image of any Pillow mode as ``L`` or ``RGB``; see `decode`."""
    if image.mode in ("L", "RGB"):
        # A PNG can name one colour of these modes as transparent.
        return _on_white(image) if "transparency" in image.info else image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise BrokenImageError(f"32-bit grey from {deep.min()} to {deep.max()} has no 8-bit meaning")
        return Image.fromarray((deep >> 8).astype(np.uint8))
    if image.mode == "F":
        raise BrokenImageError("floating-point pixels have no 8-bit meaning")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def from_array(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    """uint8 (H, W) or (H, W, 1 or 3) as an image."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _on_white(image: Image.Image) -> Image.Image:
    grey = image.mode in ("L", "LA", "La")
    opaque = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return flat.convert("L" if grey else "RGB")
