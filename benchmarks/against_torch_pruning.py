"""MACs and parameters that edgeprune and Torch-Pruning leave at the same ratio, and the time to find the groups.

Both remove the same share of every group by the L2 norm of its weights, without rounding. Torch-Pruning gets the torch
module, with the settings of its own examples (classifiers ignored, attention heads declared); edgeprune gets the
module's ONNX export. One counter counts both ONNX exports, and a pruned network counts only if it runs. The times are
measured alternately, in one process, on the same network:

    groups          edgeprune: from the canonical model to its groups
    from the file   edgeprune: from the loaded model, with canonicalization
    DependencyGraph Torch-Pruning: `build_dependency`, from the module
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import onnx_ir as ir
import torch
import torch_pruning as tp
from networks import NETWORKS, build, export
from torch import nn

from edgeprune import graph
from edgeprune.dependency import analyse
from edgeprune.importance import choose, rank
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import prune_channels
from edgeprune.support import describe_failure
from edgeprune.testing import feeds_for, run

_TIMEOUT_SECONDS = 60
"""For Torch-Pruning on one network: on some networks its index lists grow without end."""
_CLASSIFIERS = ("head", "head_dist", "fc", "classifier", "heads", "aux_classifier")


@dataclass
class Left:
    """Shares of a network's MACs and parameters that are left, or the reason of a failure."""

    macs: float = 0.0
    parameters: float = 0.0
    failure: str = ""

    def __str__(self) -> str:
        return "fails" if self.failure else f"{self.macs:6.1%} {self.parameters:6.1%}"


@dataclass
class Row:
    """One network: the result of each tool, and median seconds."""

    network: str
    ours: Left
    ours_with_statistic: Left
    theirs: Left
    groups_seconds: float
    from_file_seconds: float
    dependency_graph_seconds: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="library:name, by default all of networks.py")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5, help="of the alternating time measurements")
    parser.add_argument("--json", type=Path, help="also write the rows to this file, after each network")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(
        f"{'':34} {'edgeprune':>14} {'and statistics':>14} {'Torch-Pruning':>14}   groups  from file  DependencyGraph\n"
        f"{'network':34} {'MACs':>6} {'params':>7} {'MACs':>6} {'params':>7} {'MACs':>6} {'params':>7}"
        f" {'s':>8} {'s':>10} {'s':>16}  ratio"
    )
    rows: list[Row] = []
    for name in options.networks:
        row = compare(name, options.ratio, options.rounds)
        rows.append(row)
        print(line_of(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))
    summary(rows)


def compare(name: str, ratio: float, rounds: int) -> Row:
    """Prune one network with both, and time both."""
    network, example = build(name)
    loaded = export(network, example)
    canonical = canonicalize(loaded, verify=False)
    dense = size(canonical)
    ours = [cut_by_edgeprune(canonical, ratio, dense, allow_statistic=allow) for allow in (False, True)]
    theirs, seconds = Left(), ([], [], [])
    built = True
    for _ in range(rounds):
        seconds[0].append(timed(lambda: analyse(canonical)))
        seconds[1].append(timed(lambda: analyse(canonicalize(loaded, verify=False))))
        if built:
            try:
                seconds[2].append(timed(lambda: tp.DependencyGraph().build_dependency(network, example_inputs=example)))
            except Exception as error:  # any error of the other tool is its result
                theirs, built = Left(failure=describe_failure(error)[:100]), False
    if built:
        theirs = cut_by_torch_pruning(name, ratio, dense)
    medians = [statistics.median(s) if s else None for s in seconds]
    return Row(name, ours[0], ours[1], theirs, medians[0] or 0.0, medians[1] or 0.0, medians[2] if built else None)


def size(model: ir.Model) -> tuple[int, int]:
    """Multiply-accumulates and parameters."""
    return sum(graph.count_macs(model).values()), graph.count_parameters(model)


def cut_by_edgeprune(model: ir.Model, ratio: float, dense: tuple[int, int], *, allow_statistic: bool) -> Left:
    """The result of edgeprune."""
    analysis = analyse(model, allow_statistic=allow_statistic)
    cut = choose(analysis, rank("l2", model, analysis), ratio)
    pruned = prune_channels(model, analysis, cut)
    if not all(np.isfinite(output).all() for output in run(pruned, feeds_for(pruned, 0))):
        return Left(failure="not finite")
    macs, parameters = size(pruned)
    return Left(macs / dense[0], parameters / dense[1])


def cut_by_torch_pruning(name: str, ratio: float, dense: tuple[int, int]) -> Left:
    """The result of Torch-Pruning, used as in its examples."""
    network, example = build(name)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            heads = {
                owner: module.num_heads
                for module in network.modules()
                if (owner := attention_weights(module)) is not None
            }
            with at_most(_TIMEOUT_SECONDS):
                pruner = tp.pruner.BasePruner(
                    network,
                    example,
                    importance=tp.importance.MagnitudeImportance(p=2),
                    pruning_ratio=ratio,
                    ignored_layers=ignored(network),
                    num_heads=heads,
                )
                pruner.step()
            for module in network.modules():
                owner = attention_weights(module)
                if isinstance(owner, nn.Linear):
                    width = owner.out_features // 3
                    for attribute, value in (("attn_dim", width), ("head_dim", width // module.num_heads)):
                        if hasattr(module, attribute):
                            setattr(module, attribute, value)
            with torch.no_grad():
                network(example)
            macs, parameters = size(canonicalize(export(network, example), verify=False))
    except Exception as error:  # as above
        return Left(failure=describe_failure(error)[:100])
    return Left(macs / dense[0], parameters / dense[1])


def attention_weights(module: nn.Module) -> nn.Module | None:
    """The module for which Torch-Pruning needs the number of heads: a fused projection or torch's own attention."""
    if isinstance(module, nn.MultiheadAttention):
        return module
    fused = getattr(module, "qkv", None)
    return fused if isinstance(fused, nn.Linear) and hasattr(module, "num_heads") else None


def ignored(network: nn.Module) -> list[nn.Module]:
    """The last layers: their outputs are the network's outputs."""
    inner = getattr(network, "network", network)
    found: list[nn.Module] = []
    for name in _CLASSIFIERS:
        part = getattr(inner, name, None)
        layers = (
            [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)] if isinstance(part, nn.Module) else []
        )
        found += layers[-1:]
    if type(inner).__name__ == "DetectionModel":
        found.append(inner.model[-1])
    return found


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError if the body takes longer."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call, without the garbage collector."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds


def line_of(row: Row) -> str:
    """One line of the table."""
    theirs = row.dependency_graph_seconds
    tail = f"{theirs:16.3f} {theirs / row.groups_seconds:5.1f}x" if theirs is not None else f"{'-':>16}"
    return (
        f"{row.network:34} {row.ours!s:>14} {row.ours_with_statistic!s:>14} {row.theirs!s:>14} "
        f"{row.groups_seconds:8.4f} {row.from_file_seconds:10.3f} {tail}  {row.theirs.failure}"
    ).rstrip()


def summary(rows: list[Row]) -> None:
    """Print totals: which tool leaves less, and which is faster."""
    both = [row for row in rows if not row.theirs.failure]
    less = sum(row.ours.macs <= row.theirs.macs + 0.005 for row in both)
    less_with_statistic = sum(
        min(row.ours.macs, row.ours_with_statistic.macs) <= row.theirs.macs + 0.005 for row in both
    )
    print(
        f"\nOf {len(rows)} networks edgeprune prunes {sum(not r.ours.failure for r in rows)}, "
        f"Torch-Pruning {len(both)}.\n"
        f"Of the {len(both)} that both prune, edgeprune leaves no more MACs (within 0.5 points) in {less}, "
        f"with --allow-statistic in {less_with_statistic}."
    )
    timings = [(r.dependency_graph_seconds, r.groups_seconds, r.from_file_seconds) for r in rows]
    known = [(theirs / groups, theirs / whole) for theirs, groups, whole in timings if theirs is not None]
    if known:
        groups, whole = zip(*known, strict=True)
        print(
            f"DependencyGraph build / groups: median {statistics.median(groups):.1f}x, least {min(groups):.1f}x; "
            f"/ from the loaded file: median {statistics.median(whole):.2f}x, least {min(whole):.2f}x."
        )


if __name__ == "__main__":
    sys.exit(main())
