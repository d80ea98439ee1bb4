"""Calibration samples from a folder of images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.sources import Array, Feeds, InputSpec, joined
from edgeprune.errors import CalibrationError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageSource:
    """A folder of images, decoded, resized and normalised when they are read.

    Pixels become ``(value / 255 - mean) / std`` in a float input and stay 0 to 255 in an integer one.
    """

    folder: Path
    files: tuple[Path, ...]
    spec: InputSpec
    layout: str
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    joins_items = True

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The only input."""
        return (self.spec,)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self.mean)

    @property
    def items(self) -> int:
        """One for each image."""
        return len(self.files)

    @property
    def samples(self) -> int:
        """One for each image."""
        return len(self.files)

    def describe(self) -> str:
        """The folder and the options of the preprocessing."""
        return (
            f"{len(self.files)} images of {self.folder.name}/ at {self.height}x{self.width}, "
            f"mean {list(self.mean)}, std {list(self.std)}, {self.layout}"
        )

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen images, decoded one by one."""
        items = ({self.spec.name: self._decode(file)[None]} for file in itertools.compress(self.files, chosen))
        return joined(items, items_per_batch, {self.spec.name: 0})

    def _decode(self, file: Path) -> Array:
        """One image as an array of the model's layout, without the batch axis."""
        from PIL import Image, UnidentifiedImageError

        try:
            with closing(Image.open(file)) as image:
                fitted = image.convert("L" if self.channels == 1 else "RGB")
                if fitted.size != (self.width, self.height):
                    fitted = fitted.resize((self.width, self.height), Image.Resampling.BILINEAR)
                pixels = np.asarray(fitted).reshape(self.height, self.width, self.channels)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise CalibrationError(f"{file} can't be read as an image: {error}") from error
        if self.spec.dtype.kind == "f":
            mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
            pixels = (pixels.astype(np.float32) / 255 - mean) / std
        pixels = pixels.astype(self.spec.dtype)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels)


def open_images(
    folder: Path,
    specs: tuple[InputSpec, ...],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    layout: str,
    size: tuple[int, int] | None,
    sizes: Mapping[str, Sequence[int]] | None = None,
) -> ImageSource:
    """The images of a folder, in the order of their names.

    Their size is ``size``, else that of the model's input, else that in ``sizes`` (input name -> dimensions).

    Raises:
        CalibrationError: there are none, Pillow is missing, or the model does not take images.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise CalibrationError("reading images needs Pillow: pip install 'edgeprune[images]'") from None
    files = tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()))
    if not files:
        raise CalibrationError(f"{folder} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if len(specs) != 1 or len(specs[0].shape) != 4:
        raise CalibrationError(
            f"images need a model with one input of 4 axes; this one takes {', '.join(map(str, specs))}"
        )
    if layout not in ("NCHW", "NHWC"):
        raise CalibrationError(f"the layout of images is NCHW or NHWC, not {layout!r}")
    spec = specs[0]
    channel_axis, height_axis = (1, 2) if layout == "NCHW" else (3, 1)
    channels = spec.shape[channel_axis] or len(mean or (0, 0, 0))
    stated = (sizes or {}).get(spec.name, spec.shape)[height_axis : height_axis + 2]
    if size and any(want not in (None, got) for want, got in zip(stated, size, strict=True)):
        said = "--shape gives" if spec.name in (sizes or {}) else "the model has"
        raise CalibrationError(
            f"--size {size[0]}x{size[1]} contradicts input {spec.name!r}, for which {said} {stated[0]}x{stated[1]}"
        )
    height, width = size or stated
    if not height or not width:
        raise CalibrationError(f"input {spec.name!r} takes any size ({spec}): give the images' size")
    if channels not in (1, 3) or spec.shape[0] not in (None, 1):
        raise CalibrationError(f"images can't be fed to input {spec.name!r}, which takes {spec} in layout {layout}")
    if spec.dtype.kind != "f" and (mean or std):
        raise CalibrationError(f"mean and std don't apply to input {spec.name!r}, which takes {spec}")
    shape = (1, channels, height, width) if layout == "NCHW" else (1, height, width, channels)
    spec.check_header(spec.dtype, shape, str(folder))
    means, stds = tuple(mean or (0.0,) * channels), tuple(std or (1.0,) * channels)
    if len(means) != channels or len(stds) != channels or min(stds) <= 0:
        raise CalibrationError(f"mean and std need {channels} numbers each, std above 0; got {means} and {stds}")
    return ImageSource(folder, files, spec, layout, height, width, means, stds)
