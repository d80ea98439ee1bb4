"""Decode pictures once, on all cores, and keep their pixels in memory, or in a temporary file if they are many."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CalibrationError
from edgeprune.images.decode_picture import BrokenPictureError, decode_frames, decode_image
from edgeprune.images.find_pictures import Picture
from edgeprune.images.fit_picture import fitted
from edgeprune.images.preprocessing import Preprocessing
from edgeprune.support import run_in_parallel

IN_MEMORY_BYTES = 1 << 28
"""More pixels than this lie in a temporary file."""

_AT_ONCE = 64
"""Pictures that are decoded between two reports of progress."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Decoded pictures.

    Attributes:
        array: shape (pictures, height, width, 1 or 3).
        broken: a sentence for each file that could not be read.
        places: of each picture of the array in the pictures that were given.
    """

    array: NDArray[np.uint8]
    broken: tuple[str, ...]
    places: tuple[int, ...]


def decode_all(
    pictures: Sequence[Picture],
    height: int,
    width: int,
    channels: int,
    how: Preprocessing,
    *,
    strict: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Pixels:
    """All pictures that can be read, fitted to one size.

    Args:
        pictures: the pictures.
        height: of the result, pixels.
        width: of the result, pixels.
        channels: 3, or 1 for grey.
        how: they are fitted.
        strict: a picture that cannot be read is an error.
        progress: receives the fraction done.

    Raises:
        CalibrationError: Pillow is missing, no picture can be read, or there is no room for the pixels.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise CalibrationError("reading images needs Pillow: pip install 'edgeprune[images]'") from None
    # Only an average over all pixels looks the same from a smaller decoding; OpenCV's resize takes single ones.
    at_least = max(height, width) if how.fit != "center" and how.resample != "opencv" else None
    if at_least is not None:
        at_least = int(at_least / how.fraction)
    grey = channels == 1

    def decoded(work: tuple[Path, list[Picture]]) -> list[NDArray[np.uint8]] | str:
        file, parts = work
        try:
            if parts[0].place is None:
                return [fitted(decode_image(file, grey, at_least), height, width, how)]
            places = [part.place for part in parts if part.place is not None]
            return [fitted(frame, height, width, how) for frame in decode_frames(file, places, grey)]
        except BrokenPictureError as error:
            return str(error)

    works = [(file, list(parts)) for file, parts in itertools.groupby(pictures, key=lambda picture: picture.file)]
    array = _room(len(pictures), height, width, channels)
    count, broken, places, place = 0, list[str](), list[int](), 0
    for start in range(0, len(works), _AT_ONCE):
        some = works[start : start + _AT_ONCE]
        for (_, parts), result in zip(some, run_in_parallel(decoded, some), strict=True):
            first, place = place, place + len(parts)
            if isinstance(result, str):
                if strict:
                    raise CalibrationError(f"{result} (--strict)")
                broken.append(result)
                continue
            array[count : count + len(result)] = result
            places += range(first, first + len(result))
            count += len(result)
        if progress is not None:
            progress(min(1.0, (start + _AT_ONCE) / len(works)))
    if not count:
        raise CalibrationError(f"none of {len(works)} files can be read: {broken[0]}")
    return Pixels(array[:count], tuple(broken), tuple(places))


def _room(count: int, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    shape, size = (count, height, width, channels), count * height * width * channels
    if size <= IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="edgeprune-") as file:
        try:
            # A sparse file would end the process, not raise an error, once the disk is full.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise CalibrationError(
                f"{count} decoded images need {size / 1e9:.1f} GB in {tempfile.gettempdir()}: {error.strerror}; use "
                "fewer with --calib-samples, or name a larger folder in TMPDIR"
            ) from error
        except AttributeError:  # macOS has no such call
            file.truncate(size)
        return np.memmap(file, np.uint8, "r+", shape=shape)
