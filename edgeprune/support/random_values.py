"""Random numbers for the inputs of a model: valid as pixels, features, indices and factors alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def random_values(shape: Sequence[int], dtype: np.dtype[np.generic], generator: np.random.Generator) -> NDArray[Any]:
    """Standard normal floats, and integers of 0 and 1 (valid as an index).

    A float input of a single number is a factor or a threshold, such as the scale of a Resize: 0.25 to 2.
    """
    import numpy as np

    if dtype.kind != "f":
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    single = len(shape) < 2 and int(np.prod(shape)) == 1
    return np.asarray(generator.uniform(0.25, 2, shape) if single else generator.standard_normal(shape)).astype(dtype)
