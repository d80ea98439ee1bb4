"""Times of an engine's kernels -> times of the launches that a network was divided into.

TensorRT fuses as it sees fit: one kernel may cover several launches, and one launch several kernels. A kernel's time
goes to the launches whose nodes it names, in proportion to what these were expected to take. A region that names only
its first and last node covers all nodes between them that no other kernel names. What names no node (reformats of
inputs, for instance) belongs to the inference as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from edgeprune.backends import LayerTime

_REGION = re.compile(r"ForeignNode\[(.+?)\.\.\.(.+?)\]")


def launch_times(
    layers: Sequence[LayerTime], launches: Sequence[Sequence[str]], expected_us: Sequence[float], total_us: float
) -> tuple[list[float], float]:
    """Microseconds of every launch, and of what belongs to none.

    Args:
        layers: kernels, timed with a profiler that slows each of them down alike.
        launches: names of the nodes of every launch, in graph order.
        expected_us: of every launch.
        total_us: what an inference takes without a profiler: all times add up to this.

    Returns:
        Times of shape (launches,); 0 for a launch that no kernel names.
    """
    home = {name: i for i, names in enumerate(launches) for name in names}
    named = [_named(layer, home) for layer in layers]
    covered = {i for launch_set in named for i in launch_set}
    overhead_us = max(0.0, (sum(x.median_us for x in layers) - total_us) / max(1, len(layers)))
    times, rest = [0.0] * len(launches), 0.0
    for layer, mine in zip(layers, named, strict=True):
        us = max(layer.median_us - overhead_us, 0.05 * layer.median_us)
        mine = mine + [i for i in _between(layer, home) if i not in covered]
        weights = [expected_us[i] for i in mine]
        whole = sum(weights)
        if whole <= 0:
            rest += us
            continue
        for i, weight in zip(mine, weights, strict=True):
            times[i] += us * weight / whole
    scale = total_us / max(sum(times) + rest, 1e-9)
    return [t * scale for t in times], rest * scale


def _named(layer: LayerTime, home: Mapping[str, int]) -> list[int]:
    """Launches whose nodes the layer names: by its metadata, or else within its name."""
    nodes = layer.nodes or tuple(n for n in _words(layer.name) if n in home)
    return sorted(Counter(home[n] for n in nodes if n in home))


def _words(name: str) -> list[str]:
    """What may be a node's name in a layer's: ``a + b``, ``PWN(PWN(a), b)``, ``... for Input Tensor 0 to a``."""
    return [word for word in re.split(r"\s\+\s|[(),\s\[\]{}]|\.\.\.", name) if word]


def _between(layer: LayerTime, home: Mapping[str, int]) -> list[int]:
    match = None if layer.nodes else _REGION.search(layer.name)
    if match is None or match[1] not in home or match[2] not in home:
        return []
    return list(range(home[match[1]], home[match[2]] + 1))
