"""What the outputs of a model are, by its graph and by their values on calibration samples."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.run import Run
from edgeprune.calibration.sample_counts import OUTPUTS
from edgeprune.errors import CalibrationError
from edgeprune.graph import count_macs
from edgeprune.outputs import Outputs, find_outputs

BATCH = 8
HELD_BYTES = 256 << 20
"""Most bytes of outputs that are looked at."""


def outputs_of(model: ir.Model, data: Calibration, run: Run | None = None) -> Outputs:
    """What the outputs are: as the data knows already, or found on some of its samples.

    Args:
        model: whose outputs they are; only the end of its graph is read.
        data: samples; they know the outputs after `Calibration.judging`.
        run: runs the model; by default onnxruntime.

    Raises:
        CalibrationError: there are no samples.
    """
    names = tuple(str(value.name) for value in model.graph.outputs)
    if data.outputs is not None and data.outputs.names == names:
        return data.outputs
    run = run or OnnxRuntime().load(model).run
    batches, held = [], 0
    macs = sum(count_macs(model).values())  # an open size counts as one: then more samples are run than needed
    few = data.subset(OUTPUTS.of(macs))
    for feeds in few.batches(BATCH):
        batches.append(list(run(feeds)))
        held += sum(array.nbytes for array in batches[-1])
        if held > HELD_BYTES:
            break
    if not batches:
        raise CalibrationError(f"{data.describe()}: there is no sample to look at the outputs of")
    return find_outputs(model, batches)
