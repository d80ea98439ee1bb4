"""Distances between a student and its teacher; each is a setting by name, and several can be added.

A loss names the values that it compares, and is given them by name. It is 0 where both networks agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.outputs import Outputs

Tensor = Any
Values = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Pair:
    """What a loss may look at.

    Attributes:
        dense: the teacher, with static shapes of one sample.
        student: the student.
        shared: names of float values that both have, in the student's order, and whose shapes fit.
        kept: (value name, axis) -> positions of the teacher's axis that the student has.
        outputs: what the outputs are.
        axes: output name -> axis of its samples.
        samples: a few samples of the teacher's outputs, by name.
        variances: value name -> variance of the teacher's value, for the values that were asked for.
        temperature: of softened classes.
    """

    dense: ir.Model
    student: ir.Model
    shared: tuple[str, ...]
    kept: Mapping[tuple[str, int], NDArray[np.int64]]
    outputs: Outputs
    axes: Mapping[str, int]
    samples: Mapping[str, NDArray[Any]]
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Loss:
    """A distance.

    Attributes:
        names: values of both networks that it reads.
        distance: the values of the teacher and of the student -> a scalar tensor.
    """

    names: tuple[str, ...]
    distance: Callable[[Values, Values], Tensor]


LOSSES: dict[str, Callable[[Pair], Loss | None]] = {}
"""Name -> what makes the loss for two networks; None if they have nothing that it compares."""


def loss(name: str) -> Callable[[Callable[[Pair], Loss | None]], Callable[[Pair], Loss | None]]:
    """Enter a loss under its name."""

    def enter(make: Callable[[Pair], Loss | None]) -> Callable[[Pair], Loss | None]:
        LOSSES[name] = make
        return make

    return enter
