"""Calibration samples from pictures: folders, lists of files, videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.sources import Array, Feeds, InputSpec
from edgeprune.errors import CalibrationError
from edgeprune.images import PRESETS, Pixels, Preprocessing, decode_all, exported_preprocessing, find_pictures
from edgeprune.support import Progress, or_nearest, plural

DEFAULT_PICTURES = 1024
"""So many pictures are used if the user does not say how many: more do not change ranges or rankings."""

DEFAULT_FRAMES = 256
"""Frames of a video that are used if the user does not say how many."""

AUTO = "auto"


@dataclass(frozen=True)
class ImageOptions:
    """How pictures become an input; see the arguments of `edgeprune.calibration.open_calibration`."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    layout: str | None = None
    size: tuple[int, int] | None = None
    preprocess: str | None = None
    fit: str | None = None
    channel_order: str | None = None
    strict: bool = False

    def given(self) -> list[str]:
        """The flags that were given."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value not in (None, False)]

    def preprocessing(self, metadata: Mapping[str, str]) -> Preprocessing:
        """What a preset, the export's metadata and the single options give together.

        Raises:
            CalibrationError: there is no such preset, or an option has no such value.
        """
        if self.preprocess not in (None, AUTO, "none", *PRESETS):
            known = (AUTO, "none", *PRESETS)
            near = or_nearest(str(self.preprocess), known, len(known))
            raise CalibrationError(f"there is no preset {self.preprocess!r} for images{near}")
        plain = Preprocessing()
        if self.preprocess in PRESETS:
            plain = PRESETS[str(self.preprocess)]
        elif self.preprocess != "none":
            plain = exported_preprocessing(metadata)[0] or plain
        return plain.given(self.fit, self.channel_order, self.mean, self.std)


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Decoded pictures, which are normalised when they are read.

    An item is one picture, or as many as the fixed batch of the model has. Pixels become
    ``(value / 255 - mean) / std`` in a float input and stay 0 to 255 in an integer one.
    """

    path: Path
    pixels: Pixels
    spec: InputSpec
    layout: str
    how: Preprocessing
    pictures: tuple[str, ...]
    total: int
    notes: tuple[str, ...] = ()
    joins_items = True

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The only input."""
        return (self.spec,)

    @property
    def items(self) -> int:
        """One for each picture, or for each whole batch of pictures."""
        return len(self.pixels.array) // self._rows

    @property
    def samples(self) -> int:
        """One for each picture of the items."""
        return self.items * self._rows

    @property
    def found(self) -> int:
        """Items, if every picture was used and could be read."""
        return self.total // self._rows

    @property
    def read_places(self) -> tuple[int, ...]:
        """The places of the items among those that were chosen to be read.

        Raises:
            CalibrationError: a picture of a whole batch could not be read, so all batches after it are others.
        """
        if self._rows == 1:
            return self.pixels.places
        if self.pixels.broken:
            raise CalibrationError(f"{self.pixels.broken[0]}, and every batch of {self._rows} images must be whole")
        return tuple(range(self.items))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the first picture of every item."""
        return tuple(self.pictures[place] for place in self.pixels.places)[:: self._rows]

    @property
    def _rows(self) -> int:
        return self.spec.shape[0] or 1

    def describe(self) -> str:
        """The folder or file, and the options of the preprocessing."""
        count, height, width, channels = self.pixels.array.shape
        name = f"{self.path.name}/" if self.path.is_dir() else self.path.name
        how = self.how.describe(channels) if self.spec.dtype.kind == "f" else self.how.fit
        return f"{count} images of {name} at {height}x{width}, {how}, {self.layout}"

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen pictures."""
        items = np.flatnonzero(chosen)
        for start in range(0, len(items), items_per_batch):
            firsts = items[start : start + items_per_batch] * self._rows
            numbers = (firsts[:, None] + np.arange(self._rows)).reshape(-1)
            yield {self.spec.name: self._values(self.pixels.array[numbers])}

    def _values(self, pixels: NDArray[np.uint8]) -> Array:
        """Values of the input, from pixels of shape (pictures, height, width, channels)."""
        values: Array = pixels
        if self.spec.dtype.kind == "f":
            mean, std = (np.asarray(s, np.float32) for s in self.how.statistics(pixels.shape[-1]))
            values = (pixels.astype(np.float32) / 255 - mean) / std
        values = values.astype(self.spec.dtype)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if self.layout == "NCHW" else values)


def picture_shape(
    spec: InputSpec, options: ImageOptions, sizes: Mapping[str, Sequence[int]], metadata: Mapping[str, str]
) -> tuple[str, tuple[int, int, int, int]]:
    """The layout, and the shape of one sample: of the flags, the model, or the size in the export's metadata.

    Raises:
        CalibrationError: the model does not take pictures, or nothing tells their size.
    """
    layout = options.layout or ("NHWC" if spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3) else "NCHW")
    if layout not in ("NCHW", "NHWC"):
        raise CalibrationError(f"the layout of images is NCHW or NHWC, not {layout!r}")
    channel_axis, height_axis = (1, 2) if layout == "NCHW" else (3, 1)
    channels = spec.shape[channel_axis] or len(options.mean or (0, 0, 0))
    stated = sizes.get(spec.name, spec.shape)[height_axis : height_axis + 2]
    size = options.size
    if size and any(want not in (None, got) for want, got in zip(stated, size, strict=True)):
        fixed = spec.shape[height_axis : height_axis + 2]
        said = "the model has" if tuple(fixed) == tuple(stated) else "--shape gives"
        raise CalibrationError(
            f"--size {size[0]}x{size[1]} contradicts input {spec.name!r}, for which {said} {stated[0]}x{stated[1]}"
        )
    exported = exported_preprocessing(metadata)[1] or (None, None)
    height, width = size or [known or told for known, told in zip(stated, exported, strict=True)]
    if not height or not width:
        raise CalibrationError(f"input {spec.name!r} takes any size ({spec}): give the images' size")
    if channels not in (1, 3):
        raise CalibrationError(f"images can't be fed to input {spec.name!r}, which takes {spec} in layout {layout}")
    rows = spec.shape[0] or 1
    return layout, (rows, channels, height, width) if layout == "NCHW" else (rows, height, width, channels)


def open_images(
    path: Path,
    specs: tuple[InputSpec, ...],
    options: ImageOptions,
    limit: int | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> ImageSource:
    """Pictures, in the order of their names or of a list, decoded on all cores.

    Args:
        path: a folder, a text file with one file a line, a video, or an image.
        specs: the inputs of the model.
        options: how the pictures become the input.
        limit: use at most this many, spread evenly.
        sizes: input name -> dimensions, where the model leaves them open.
        metadata: of the ONNX file.
        progress: shows the progress.

    Raises:
        CalibrationError: there are none, Pillow is missing, or the model does not take images.
    """
    pictures = find_pictures(path, min(limit or DEFAULT_FRAMES, DEFAULT_FRAMES))
    if len(specs) != 1 or len(specs[0].shape) != 4:
        raise CalibrationError(
            f"images feed one input of 4 axes; this model takes {', '.join(f'{s.name!r} ({s})' for s in specs)}: "
            f"give each input its own source, as in --calib {specs[0].name}={path}, an .npz with an array for each "
            "input, or file.py:function that yields them"
        )
    spec = specs[0]
    layout, shape = picture_shape(spec, options, sizes or {}, metadata or {})
    channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], *shape[1:3])
    if spec.dtype.kind != "f" and (options.mean or options.std):
        raise CalibrationError(f"mean and std don't apply to input {spec.name!r}, which takes {spec}")
    spec.check_header(spec.dtype, shape, str(path))
    how = options.preprocessing(metadata or {})
    how.statistics(channels)
    most = limit or DEFAULT_PICTURES
    used = [pictures[i] for i in np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int)]
    with (progress or Progress()).step(f"decoding {plural(len(used), 'image')}") as step:
        pixels = decode_all(used, height, width, channels, how, strict=options.strict, progress=step.fraction)
    if len(pixels.array) < shape[0]:
        found = plural(len(pixels.array), "image")
        raise CalibrationError(f"{found} of {path} are fewer than the batch of input {spec.name!r}, which takes {spec}")
    notes = [*_notes(len(pictures), len(used), limit, pixels, channels, how, options)]
    if left := len(pixels.array) % shape[0]:
        notes.append(f"the model takes batches of {shape[0]} images: {plural(left, 'image')} at the end left out")
    return ImageSource(path, pixels, spec, layout, how, tuple(map(str, used)), len(pictures), tuple(notes))


def _notes(
    found: int,
    used: int,
    limit: int | None,
    pixels: Pixels,
    channels: int,
    how: Preprocessing,
    options: ImageOptions,
) -> Iterator[str]:
    if limit is None and used < found:
        yield f"{used} of {found} images are used for calibration, spread evenly; --calib-samples changes that"
    if pixels.broken:
        are = "file was" if len(pixels.broken) == 1 else "files were"
        yield f"{len(pixels.broken)} {are} skipped, for example: {pixels.broken[0]}; --strict makes this an error"
    if channels == 1:
        yield "the model has one channel: images are converted to grey (0.299 R + 0.587 G + 0.114 B)"
    if how.name and options.preprocess in (None, AUTO):
        yield f"images are prepared as the export's metadata says ({how.describe(channels)}); --preprocess changes that"
