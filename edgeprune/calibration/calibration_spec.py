"""Where calibration data is and how to read it; the model that it must fit is loaded later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.calibration.calibration import Calibration


@dataclass(frozen=True)
class CalibrationSpec:
    """The arguments of `edgeprune.calibration.open_calibration` without the model; see there."""

    source: str
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    layout: str = "NCHW"
    size: tuple[int, int] | None = None
    limit: int | None = None

    def open(self, model: ir.Model, sizes: Mapping[str, Sequence[int]] | None = None) -> Calibration:
        """The data, checked against the model's inputs.

        Args:
            model: that the data must fit.
            sizes: input name -> dimensions, of random data and images where the model leaves them open.

        Raises:
            CalibrationError: there is no data, or it does not fit.
        """
        from edgeprune.calibration.calibration import open_calibration

        options = dict(vars(self))
        return open_calibration(options.pop("source"), model, sizes=sizes, **options)

    @property
    def has_sizes(self) -> bool:
        """Whether the data itself tells the sizes of its samples."""
        return self.source != "random" and (self.size is not None or not Path(self.source).is_dir())


def as_spec(calibration: CalibrationSpec | str | Path | None) -> CalibrationSpec | None:
    """Calibration data as Python callers give it: a spec, or where the data is."""
    if calibration is None or isinstance(calibration, CalibrationSpec):
        return calibration
    return CalibrationSpec(str(calibration))
