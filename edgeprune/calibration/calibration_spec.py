"""Where calibration data is and how to read it; the model that it must fit is loaded later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.errors import CalibrationError
from edgeprune.images import exported_preprocessing, is_picture_source
from edgeprune.support import Progress, is_function_spec

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.calibration.calibration import Calibration


@dataclass(frozen=True)
class CalibrationSpec:
    """The arguments of `edgeprune.calibration.open_calibration` without the model; see there.

    Attributes:
        source: of all inputs, or input name -> its source.
    """

    source: str | Mapping[str, str]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    layout: str | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None
    preprocess: str | None = None
    fit: str | None = None
    channel_order: str | None = None
    strict: bool = False

    def open(
        self,
        model: ir.Model,
        sizes: Mapping[str, Sequence[int]] | None = None,
        progress: Progress | None = None,
    ) -> Calibration:
        """The data, checked against the model's inputs.

        Args:
            model: that the data must fit.
            sizes: input name -> dimensions, of random data and images where the model leaves them open.
            progress: shows the progress.

        Raises:
            CalibrationError: there is no data, or it does not fit.
        """
        from edgeprune.calibration.calibration import open_calibration

        options = dict(vars(self))
        return open_calibration(options.pop("source"), model, sizes=sizes, progress=progress, **options)

    def check_there(self, flag: str = "--calib") -> None:
        """Refuse sources that do not exist, before the model is read.

        Raises:
            CalibrationError: naming the flag and the file.
        """
        texts = [self.source] if isinstance(self.source, str) else self.source.values()
        for text in texts:
            name, equals, rest = text.partition("=")
            if not _is_there(text) and not (name and equals and _is_there(rest)):
                raise CalibrationError(
                    f"{flag}: {text.rpartition(':')[0] if is_function_spec(text) else text} does not exist"
                )

    def has_sizes(self, model: ir.Model) -> bool:
        """Whether the data itself, or the metadata of the model, tells the sizes of its samples."""
        texts = [self.source] if isinstance(self.source, str) else self.source.values()
        sources = [text.partition("=")[2] or text for text in texts]
        if "random" in sources:
            return False
        pictures = any(not is_function_spec(text) and is_picture_source(Path(text)) for text in sources)
        return not pictures or self.size is not None or exported_preprocessing(model.metadata_props)[1] is not None

    def random_shapes(self, model: ir.Model) -> dict[str, tuple[int, ...]]:
        """Input name -> dimensions for random data that ``size`` gives to a model of images; else empty.

        Raises:
            CalibrationError: the size does not fit the model.
        """
        from edgeprune.calibration.calibration import input_specs
        from edgeprune.calibration.source_images import ImageOptions, picture_shape

        specs = input_specs(model)
        if self.source != "random" or self.size is None:
            return {}
        if len(specs) != 1 or len(specs[0].shape) != 4:
            raise CalibrationError("--size is for a model with one input of 4 axes; give --shape for each input")
        return {specs[0].name: picture_shape(specs[0], ImageOptions(size=self.size), {}, {})[1]}


CalibrationData = CalibrationSpec | str | Path | Mapping[str, str | Path]
"""Calibration data as Python callers may give it; see `as_spec`."""


def _is_there(source: str) -> bool:
    file = source.rpartition(":")[0] if is_function_spec(source) else source
    return source == "random" or Path(file).exists()


def as_spec(calibration: CalibrationData | None) -> CalibrationSpec | None:
    """Calibration data as Python callers give it: a spec, where the data is, or where that of each input is."""
    if calibration is None or isinstance(calibration, CalibrationSpec):
        return calibration
    if isinstance(calibration, Mapping):
        return CalibrationSpec({name: str(source) for name, source in calibration.items()})
    return CalibrationSpec(str(calibration))
