"""Decode pictures by Pillow, and frames of videos by PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.errors import CalibrationError

if TYPE_CHECKING:
    from PIL.Image import Image

_SHRUNK = 2
"""A JPEG is decoded at a half, a quarter or an eighth if that is still so many times the wanted size."""


class BrokenPictureError(Exception):
    """A file cannot be read as an image; the text says why."""


def decode_image(file: Path, grey: bool, at_least: int | None) -> Image:
    """The image of a file, upright, as grey (``L``) or colors (``RGB``) of 8 bits.

    Args:
        file: the file.
        grey: whether one channel is wanted, by Rec. 601 (0.299 R + 0.587 G + 0.114 B).
        at_least: decode a JPEG smaller if both sides stay longer than this; None decodes it as it is.

    Raises:
        BrokenPictureError: it cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            if at_least is not None:
                image.draft(None, (_SHRUNK * at_least, _SHRUNK * at_least))
            image.load()
            upright = ImageOps.exif_transpose(image) or image
            return _eight_bits(upright).convert("L" if grey else "RGB")
    except UnidentifiedImageError as error:
        raise BrokenPictureError(f"{file} can't be read as an image: its content is none") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BrokenPictureError(f"{file} can't be read as an image: {error}") from error


def _eight_bits(image: Image) -> Image:
    """The image in a mode that converts to 8 bits without clipping; deep grey is scaled by its full range."""
    from PIL import Image as Pillow

    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.int64)
    return Pillow.fromarray(
        (deep / 257).round().clip(0, 255).astype(np.uint8) if deep.max() > 255 else deep.astype(np.uint8)
    )


def decode_frames(file: Path, places: Sequence[float], grey: bool) -> Iterator[Image]:
    """Frames of a video at fractions of its length, in order; as many as could be read.

    Raises:
        BrokenPictureError: it cannot be read as a video.
        CalibrationError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise CalibrationError("reading videos needs PyAV: pip install 'edgeprune[video]'") from None
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            wanted = iter(sorted(_frame_numbers(container, stream, places)))
            following = next(wanted, None)
            for number, frame in enumerate(container.decode(stream)):
                while following is not None and number == following:
                    yield frame.to_image().convert("L" if grey else "RGB")
                    following = next(wanted, None)
                if following is None:
                    return
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        raise BrokenPictureError(f"{file} can't be read as a video: {error}") from error


def _frame_numbers(container: Any, stream: Any, places: Sequence[float]) -> list[int]:
    count = stream.frames
    if not count and container.duration and stream.average_rate:
        count = int(container.duration / 1e6 * float(stream.average_rate))  # in microseconds
    if not count:
        raise ValueError("it does not say how long it is")
    return sorted({min(count - 1, int(place * count)) for place in places})
