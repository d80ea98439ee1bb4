"""Calibration data: one interface to arrays, images, functions and random numbers.

A Calibration can be read many times, always in the same order and batch by batch; it keeps no data in memory.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.batch_axes import BatchAxes, measured_axes, placed, without_batch
from edgeprune.calibration.source_arrays import open_arrays
from edgeprune.calibration.source_function import open_function
from edgeprune.calibration.source_images import ImageOptions, ImageSource, open_images
from edgeprune.calibration.source_joined import JoinedSource, by_input, open_joined
from edgeprune.calibration.sources import Feeds, InputSpec, RandomSource, Source, check_finite, open_random, rows_of
from edgeprune.errors import CalibrationError
from edgeprune.graph import symbol_of
from edgeprune.images import is_picture_source
from edgeprune.outputs import Outputs
from edgeprune.support import Progress, is_function_spec

DEFAULT_BATCH_SIZE = 32
DEFAULT_RANDOM_SAMPLES = 64

LEAST_HELD_OUT, MOST_HELD_OUT = 0.125, 0.25
ENOUGH = 16
"""Held-out items from which on an eighth is enough: at deep cuts the refit loses more by what is held out.

A YOLOv8n cut to 41% of its parameters has 68.3 mAP50-95 with 16 of 128 images held out, and 67.4 with 32.
"""


@dataclass(frozen=True)
class Calibration:
    """A stream of feeds for one model that can be read again.

    Attributes:
        source: where the samples come from.
        chosen: shape (source.items,), which of them belong to this set.
        batch_size: default number of items in a batch.
        specs: the inputs.
        axes: where the model's inputs and outputs have their samples.
        outputs: what the outputs are, and how much each counts; None if nobody has looked yet.
    """

    source: Source
    chosen: NDArray[np.bool_]
    batch_size: int
    specs: tuple[InputSpec, ...]
    axes: BatchAxes
    outputs: Outputs | None = None

    @property
    def batchable(self) -> bool:
        """Whether a batch may have more than one item, along the first axis of every tensor."""
        return self.axes.joins

    def rows(self, feeds: Feeds) -> int:
        """Samples in a batch."""
        return rows_of(feeds, self.specs)

    @cached_property
    def items(self) -> int:
        """Number of items: rows, or whole batches of a model with a fixed batch."""
        return int(self.chosen.sum())

    @cached_property
    def samples(self) -> int:
        """Number of samples."""
        return round(self.source.samples * self.items / max(1, self.source.items))

    @property
    def is_random(self) -> bool:
        """Whether the samples are random numbers, not data."""
        return isinstance(self.source, RandomSource)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the data was read, as sentences."""
        return self.source.notes if isinstance(self.source, (ImageSource, JoinedSource)) else ()

    def describe(self) -> str:
        """One line for the report: the source and the number of samples used."""
        return f"{self.source.describe()}, {self.samples} samples used"

    def batches(self, batch_size: int | None = None) -> Iterator[Feeds]:
        """Feeds by input name, always the same in the same order.

        Args:
            batch_size: the most items in a batch (default: the set's own). It is ignored where ``batchable`` is off.

        Raises:
            CalibrationError: the source can't be read, or has NaN or infinite values.
        """
        size = self.batch_size if batch_size is None else batch_size
        for feeds in self.source.read(self.chosen, max(1, size) if self.batchable else 1):
            for name, array in feeds.items():
                check_finite(array, name, self.source.describe())
            yield feeds

    def split(self, holdout_fraction: float | None = None, seed: int = 0) -> tuple[Calibration, Calibration]:
        """Two disjoint sets, both with at least one item: a larger one, and a smaller one that is held out.

        By default an eighth is held out; of few items up to a quarter, as long as that is no more than `ENOUGH`.

        Raises:
            CalibrationError: there are fewer than two items.
        """
        indices = np.flatnonzero(self.chosen)
        if len(indices) < 2:
            raise CalibrationError(f"{self.source.describe()}: at least 2 samples are needed, one of them to hold out")
        share = held_out_share(len(indices)) if holdout_fraction is None else holdout_fraction
        count = min(len(indices) - 1, max(1, round(share * len(indices))))
        held_out = np.zeros_like(self.chosen)
        held_out[np.random.default_rng(seed).permutation(indices)[:count]] = True
        return self._with(self.chosen & ~held_out), self._with(held_out)

    def subset(self, items: int) -> Calibration:
        """At most this many items, spread evenly over the set, so that sorted data keeps its variety."""
        indices = np.flatnonzero(self.chosen)
        if items >= len(indices):
            return self
        few = np.zeros_like(self.chosen)
        few[indices[np.linspace(0, len(indices) - 1, max(1, items)).round().astype(np.int64)]] = True
        return self._with(few)

    def judging(self, outputs: Outputs) -> Calibration:
        """The same samples for a model with these outputs."""
        return replace(self, outputs=outputs)

    def _with(self, chosen: NDArray[np.bool_]) -> Calibration:
        return replace(self, chosen=chosen)


def held_out_share(items: int) -> float:
    """The share that is held out by default: a quarter of up to 64 items, an eighth of 128 and more."""
    return max(LEAST_HELD_OUT, min(MOST_HELD_OUT, ENOUGH / max(items, 1)))


def input_specs(model: ir.Model) -> tuple[InputSpec, ...]:
    """Types, shapes and batch axes of the model's inputs, in order.

    Raises:
        CalibrationError: an input is not a tensor of numbers, or its rank is unknown.
    """
    specs = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        if value.shape is None or value.dtype is None:
            raise CalibrationError(f"the model has no type or shape for input {value.name!r}")
        dims = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        symbols = tuple(symbol_of(value, axis) for axis in range(len(dims)))
        specs.append(InputSpec(str(value.name), np.dtype(value.dtype.numpy()), dims, symbols))
    return placed(specs, model)


def all_samples(source: Source, batch_size: int, model: ir.Model) -> Calibration:
    """All samples of a source for a model, which is run on the first two.

    Raises:
        CalibrationError: the source has no samples, or the first ones cannot be read.
    """
    if source.items == 0:
        raise CalibrationError(f"{source.describe()} has no samples")
    first = np.arange(source.items) < 2
    two = list(itertools.islice(source.read(first, 1), 2))
    axes = measured_axes(model, source.specs, two if source.joins_items else two[:1])
    return Calibration(source, np.ones(source.items, np.bool_), batch_size, source.specs, axes)


def open_calibration(
    spec: str | Mapping[str, str] | None,
    model: ir.Model,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: str | None = None,
    size: tuple[int, int] | None = None,
    preprocess: str | None = None,
    fit: str | None = None,
    channel_order: str | None = None,
    strict: bool = False,
    limit: int | None = None,
    batch_size: int | None = None,
    sizes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Calibration data for a model.

    Args:
        spec: an .npz or .npy file; a folder of images and videos, a .txt with one file a line, or a video;
            ``file.py:function`` that yields feeds; or ``random``. ``NAME=SRC`` names the input that it feeds. A
            mapping has a source for each input; they belong together by their order.
        model: the model that the data must fit in names, types and shapes.
        mean: per channel, subtracted from pixels in 0 to 1; above 1, from pixels in 0 to 255 (images; default 0).
        std: per channel, divides the difference (images; default 1).
        layout: ``NCHW`` or ``NHWC`` (images; default: by the model's shape).
        size: height and width in pixels (images and random data; default: the model's own).
        preprocess: ``ultralytics``, ``timm``, ``torchvision`` or ``imagenet``: prepare images as these do; ``auto``: as
            the export's metadata says, if it does; ``none`` (images; default ``auto``).
        fit: ``stretch``, ``letterbox``, ``crop``, ``crop:FRACTION`` or ``center`` (images; default ``stretch``).
        channel_order: ``RGB`` or ``BGR`` (images).
        strict: a file that cannot be read is an error, not skipped (images).
        limit: use at most this many samples, spread evenly (from a function: the first ones).
        batch_size: rows in a batch, if the model's batch is open.
        sizes: input name -> dimensions, of random data and images where the model leaves them open.
        progress: shows the progress.

    Raises:
        CalibrationError: there is no data, or it does not fit the model; the text says what was expected.
    """
    specs = input_specs(model)
    if spec is None:
        raise CalibrationError(
            "this needs calibration data: give an .npz or .npy file, a folder of images or file.py:function "
            "(`random` is enough if only latency matters)"
        )
    if limit is not None and limit < 1:
        raise CalibrationError(f"the number of calibration samples must be at least 1, not {limit}")

    images = ImageOptions(mean, std, layout, size, preprocess, fit, channel_order, strict)

    def opened(specs: tuple[InputSpec, ...]) -> Calibration:
        source = _open_source(spec, specs, images, limit, sizes or {}, model.metadata_props, progress)
        return all_samples(source, batch_size or DEFAULT_BATCH_SIZE, model)

    samples = opened(specs)
    if samples.axes.mixes:
        for other in without_batch(specs, model):
            try:
                again = opened(other)
            except CalibrationError:
                continue
            if not again.axes.mixes:
                samples = again
                break
    source = samples.source
    return samples if limit is None else samples.subset(max(1, limit * source.items // source.samples))


def _open_source(
    spec: str | Mapping[str, str],
    specs: tuple[InputSpec, ...],
    images: ImageOptions,
    limit: int | None,
    sizes: Mapping[str, Sequence[int]],
    metadata: Mapping[str, str],
    progress: Progress | None,
) -> Source:
    if (sources := by_input(spec, tuple(s.name for s in specs))) is not None:
        fed_by_pictures = [name for name, text in sources.items() if _takes_pictures(text)]

        def part(text: str, fed: InputSpec, most: int | None) -> Source:
            mine = ImageOptions() if fed_by_pictures and fed.name not in fed_by_pictures else images
            return _open_source(text, (fed,), mine, most, sizes, metadata, progress)

        # An array is read whole, so all pictures beside it are, too; the samples are thinned out later.
        return open_joined(sources, specs, part, limit if len(fed_by_pictures) == len(sources) else sys.maxsize)
    assert isinstance(spec, str)  # what has no names of inputs
    path = Path(spec)
    if _takes_pictures(spec):
        return open_images(path, specs, images, limit, sizes, metadata, progress)
    if unused := [flag for flag in images.given() if flag not in (("--size",) if spec == "random" else ())]:
        verb = "prepares" if len(unused) == 1 else "prepare"
        raise CalibrationError(f"{' and '.join(unused)} {verb} images, but the calibration data is {spec!r}")
    if spec == "random":
        specs = tuple(s.sized(sizes[s.name]) if s.name in sizes else s for s in specs)
        return open_random(specs, limit or DEFAULT_RANDOM_SAMPLES)
    if is_function_spec(spec):
        return open_function(spec, specs, limit)
    if path.suffix.lower() in (".npz", ".npy"):
        return open_arrays(path, specs)
    if not path.exists():
        raise CalibrationError(f"{spec} does not exist")
    raise CalibrationError(
        f"{spec} is not an .npz or .npy file, a folder of images, a list of files (.txt), a video or file.py:function"
    )


def _takes_pictures(spec: str) -> bool:
    return not is_function_spec(spec) and spec != "random" and is_picture_source(Path(spec))
