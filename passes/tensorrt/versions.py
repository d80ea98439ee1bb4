"""What differs between the TensorRT versions of the targets: one table, for the lowering and for trtexec's options.

Sources: release notes and migration guides of TensorRT 8.5 to 11.5; docs/operators.md of onnx-tensorrt for the opsets.
JetPack 5 has 8.5, JetPack 6 has 10.3, JetPack 7.2 (Orin and Thor) has 10.16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeprune.errors import PassError

Numbers = tuple[int, int]


@dataclass(frozen=True)
class Release:
    """Properties of TensorRT from one version on.

    Attributes:
        since: the first version, major and minor.
        opset: newest opset of the ONNX parser.
        typing: whether the builder chooses types (``weak``), takes them from the graph if told to (``flag``), or always
            takes them from the graph (``strong``).
        stored_int8: whether weights may be stored as int8. Before, the importer refused int8 constants.
        fp8: whether Q/DQ pairs of FLOAT8E4M3FN are built, on devices that have FP8.
        build_only: trtexec's option for a build without inference.
        graph_by_default: whether trtexec replays a CUDA graph, spins and copies nothing unless told not to.
    """

    since: Numbers
    opset: int
    typing: Literal["weak", "flag", "strong"]
    stored_int8: bool
    fp8: bool
    build_only: str
    graph_by_default: bool

    @property
    def int64_as_int32(self) -> bool:
        """Whether inputs and outputs of type int64 are int32 in the engine; TensorRT 10.0 brought INT64."""
        return self.since < (10, 0)


RELEASES = (
    Release((8, 5), 17, "weak", False, False, "--buildOnly", False),
    Release((8, 6), 17, "weak", False, False, "--skipInference", False),
    Release((9, 0), 19, "weak", False, False, "--skipInference", False),
    Release((10, 0), 20, "flag", True, True, "--skipInference", False),
    Release((10, 8), 22, "flag", True, True, "--skipInference", False),
    Release((10, 15), 24, "flag", True, True, "--skipInference", False),
    Release((11, 0), 24, "strong", True, True, "--skipInference", True),
    Release((11, 5), 25, "strong", True, True, "--skipInference", True),
)
"""Oldest first; a version has the properties of the last row that it is not older than."""

OLDEST = RELEASES[0].since
STRONGLY_TYPED = next(r.since for r in RELEASES if r.typing != "weak")
NEWEST = next(f"{r.since[0]}.{r.since[1]}" for r in RELEASES if r.typing == "strong")
"""Graphs for strongly typed targets are also built by this version, whatever their JetPack has."""


def release(version: Numbers) -> Release:
    """The properties of a version.

    Raises:
        PassError: it is older than all of the table.
    """
    known = [r for r in RELEASES if r.since <= version]
    if not known:
        raise PassError(f"TensorRT before {OLDEST[0]}.{OLDEST[1]} is not supported")
    return known[-1]
