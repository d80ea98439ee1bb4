"""The groups of five real architectures as text files: a change of the solver shows as a difference of text.

``golden/NAME.onnx.gz`` is an export without its weights, ``golden/NAME.txt`` has its groups. After an intended change,
run this file as a program to write the text files again, and read the difference.
"""

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprune.dependency.solve import analyse
from edgeprune.testing.oracle import canonical

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(p.name.removesuffix(".onnx.gz") for p in GOLDEN.glob("*.onnx.gz"))


def load(name: str) -> onnx.ModelProto:
    """The export, with ones for the weights it was stripped of."""
    model = onnx.load_from_string(gzip.decompress((GOLDEN / f"{name}.onnx.gz").read_bytes()))
    constants = [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    for t in (*model.graph.initializer, *constants):
        stripped = t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) and not (t.raw_data or t.float_data)
        if stripped:
            t.CopyFrom(numpy_helper.from_array(np.ones(tuple(t.dims), np.float32), t.name))
    return model


def dump(name: str) -> str:
    """A line a group: unit, size, and the weight axes it cuts, with their roles and the positions of a unit."""
    lines = []
    for g in analyse(canonical(load(name))).groups:
        axes = [
            f"{m.value}[{m.axis}]{m.role[0]}{int((m.unit == 0).sum())}" for m in g.members if m.role != "activation"
        ]
        lines.append(f"{g.kind} {g.size}: {' '.join(axes)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_groups(name: str) -> None:
    assert dump(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_there_are_five() -> None:
    assert len(NAMES) == 5


if __name__ == "__main__":
    for each in NAMES:
        (GOLDEN / f"{each}.txt").write_text(dump(each), encoding="utf-8")
