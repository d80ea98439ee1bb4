"""Published ways to make a transformer smaller, under equal conditions: accuracy at the same MACs, without training.

    python benchmarks/seeds.py VIT.onnx CALIB EVAL [--keep 0.84 0.68] [--families tokens depth widths rank]

Every row leaves about the same share of the network's multiply-accumulates (MACs). "Cut" is the network as the method
leaves it. "Refitted" is the same network after our compensation, where there is one. The methods choose as the papers
say, in their simplest form:

* tokens: one step after a third of the attentions, by every setting of ``compile --tokens``.
* depth: whole blocks or branches. "Deeper Layers" drops the consecutive blocks whose input and output differ by the
  least angle; ReplaceMe is the same blocks, with the linear map that is fitted in their place. MultiPruner drops
  branches one by one, always the one without which the outputs differ least, for half of the MACs, and then narrows.
* widths: the same share of the units of every head dimension, head and MLP, by a criterion.
* rank: every linear layer as two, of the same share of its MACs: plain SVD, ASVD (inputs scaled by their size) and
  SVD-LLM (by the square root of their second moments).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from criteria import ratio_that_leaves

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import Calibration, Evaluation, IntermediateOutputs, open_calibration, open_evaluation
from edgeprune.dependency import Cut, OpenedModel, droppable, open_model
from edgeprune.graph import (
    Refused,
    clone,
    count_macs,
    find_linears,
    infer_shapes,
    layer_bias,
    layer_matrix,
    set_weights,
)
from edgeprune.importance import choose, rank
from edgeprune.passes.prune import merge_branches, prune_channels
from edgeprune.passes.recover import compensate
from edgeprune.passes.tokens import SETTINGS, token_sites
from edgeprune.passes.x86 import lower_x86
from edgeprune.recovery import Probe
from edgeprune.support import Progress
from edgeprune.tokens import TokenSchedule, with_fewer_tokens

STEP = 8
CRITERIA = {
    "obs": "ours",
    "flap": "FLAP",
    "vbp": "Variance-Based Pruning",
    "fisher": "SnapViT's score",
    "l2": "weights",
}
FAMILIES = ("tokens", "depth", "widths", "rank")


@dataclass(frozen=True, eq=False)
class Row:
    """One method at one size: the network as it is cut, its MACs, and how it is refitted, if it can be."""

    method: str
    what: str
    model: ir.Model
    macs: int
    refit: Callable[[], ir.Model] | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """The network, its data, and the share of its MACs to leave."""

    opened: OpenedModel
    data: Calibration
    keep: float

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(count_macs(self.opened.fixed).values())

    def macs_of(self, model: ir.Model) -> int:
        """Multiply-accumulates of a changed network, at the same sizes."""
        return sum(count_macs(infer_shapes(clone(model), self.opened.sizes.shapes)).values())

    def pruned(self, cut: Cut) -> ir.Model:
        """The network without the units that a cut does not keep; nothing of a dropped branch is left."""
        model = prune_channels(self.opened.dense, self.opened.analysis, cut)
        merge_branches(model)
        return model

    def row(self, method: str, what: str, cut: Cut) -> Row:
        """The row of a cut."""
        dense, analysis, model = self.opened.dense, self.opened.analysis, self.pruned(cut)

        def refit() -> ir.Model:
            refitted = compensate(dense, prune_channels(dense, analysis, cut), analysis, cut, self.data)
            merge_branches(refitted)
            return refitted

        return Row(method, what, model, self.macs_of(model), refit)


def main() -> int:
    """Print the table."""
    arguments = _arguments()
    opened = open_model(arguments.model, {}, Progress())
    data = open_calibration(arguments.calib, opened.dense, limit=arguments.samples)
    evaluation = open_evaluation(arguments.evaluation, opened.dense)
    print("| method | what leaves | MACs | cut | refitted |\n|---|---|---:|---:|---:|")
    print(f"| all stays | | 100% | {_score(evaluation, opened.dense):.2f} | |", flush=True)
    rows = {"tokens": tokens, "depth": depth, "widths": widths, "rank": ranks}
    for keep in arguments.keep:
        bench = Bench(opened, data, keep)
        for family in arguments.families:
            for row in rows[family](bench):
                refitted = "" if row.refit is None else f"{_score(evaluation, row.refit()):.2f}"
                share = row.macs / bench.macs
                cut = _score(evaluation, row.model)
                print(f"| {row.method} | {row.what} | {share:.0%} | {cut:.2f} | {refitted} |", flush=True)
    return 0


def tokens(bench: Bench) -> Iterator[Row]:
    """A step after a third of the attentions, by every setting."""
    sites = token_sites(bench.opened.dense)
    if isinstance(sites, Refused):
        return
    depths = sorted({site.attentions for site in sites}, reverse=True)
    site = next(s for s in sites if s.attentions == depths[len(depths) // 3])
    for name, setting in SETTINGS.items():
        low, high, best = 1, setting.most(site.tokens, site.protected), None
        while low <= high:
            leave = (low + high) // 2
            made = with_fewer_tokens(bench.opened, TokenSchedule(name, (site,), (leave,)), sites)
            macs = sum(count_macs(made.fixed).values())
            if macs >= bench.keep * bench.macs:
                best, low = Row(f"`{name}`", f"{leave} of {site.tokens} tokens", made.dense, macs), leave + 1
            else:
                high = leave - 1
        if best is not None:
            yield best


def depth(bench: Bench) -> Iterator[Row]:
    """Whole blocks by the angle between their input and output, and branches one by one."""
    branches = droppable(bench.opened.dense, bench.opened.analysis.groups)
    places = {str(n.name): k for k, n in enumerate(bench.opened.dense.graph)}
    ids = sorted(branches, key=lambda group: places[branches[group].end])
    kinds = {g.id: g.kind for g in bench.opened.analysis.groups}
    whole: Cut = {group: np.empty(0, np.int64) for group in ids}
    names = [branches[group].skip for group in ids]
    runner = IntermediateOutputs(bench.opened.dense, names)
    states = [runner.run(feeds) for feeds in bench.data.batches(bench.data.batch_size)]

    def angle(first: int, behind: int) -> float:
        """The mean angle between the inputs of two branches, over all tokens."""
        found = []
        for state in states:
            a, b = (state[names[k]].astype(np.float64) for k in (first, behind))
            cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
            found.append(np.arccos(np.clip(cosine, -1, 1)).mean())
        return float(np.mean(found))

    for count in range(2, len(ids), 2):  # a block is two branches
        starts = [k for k in range(len(ids) - count) if kinds[ids[k]] == "head"]
        first = min(starts, key=lambda k: angle(k, k + count), default=None)
        if first is None:
            break
        cut = {group: whole[group] for group in ids[first : first + count]}
        if bench.macs_of(bench.pruned(cut)) <= (bench.keep + 0.03) * bench.macs:
            what = f"{count // 2} block{'s' * (count > 2)} from branch {first + 1}"
            row = bench.row("Deeper Layers (cut), ReplaceMe (refitted)", what, cut)
            yield row
            break
    yield _depth_first(bench, ids, whole)


def _depth_first(bench: Bench, ids: list[str], whole: Cut) -> Row:
    """Branches one by one for half of the MACs, then widths."""
    probe, half = Probe(bench.opened.dense, bench.data, 64, 1), (1 + bench.keep) / 2
    cut: Cut = {}
    while True:
        trials = {g: cut | {g: whole[g]} for g in ids if g not in cut}
        models = {g: bench.pruned(trial) for g, trial in trials.items()}
        models = {g: m for g, m in models.items() if bench.macs_of(m) >= half * bench.macs}
        if not models:
            break
        best = min(models, key=lambda g: probe.error(models[g]))
        cut = trials[best]
    dense, analysis = bench.opened.dense, bench.opened.analysis
    rankings = rank("obs", dense, analysis, bench.data, STEP)
    for ratio in np.arange(0.05, 0.95, 0.05):
        both = choose(analysis, rankings, float(ratio), STEP) | cut
        if bench.macs_of(bench.pruned(both)) <= bench.keep * bench.macs:
            break
    return bench.row("MultiPruner's order", f"{len(cut)} branches, then {ratio:.0%} of the widths", both)


def widths(bench: Bench) -> Iterator[Row]:
    """The same share of every group, by each criterion."""
    dense, analysis = bench.opened.dense, bench.opened.analysis
    ratio = ratio_that_leaves(dense, analysis, bench.keep)
    for criterion, name in CRITERIA.items():
        rankings = rank(criterion, dense, analysis, bench.data, STEP)
        yield bench.row(
            f"`{criterion}` ({name})", f"{ratio:.0%} of the widths", choose(analysis, rankings, ratio, STEP)
        )


def ranks(bench: Bench) -> Iterator[Row]:
    """Every linear layer as two."""
    dense = bench.opened.dense
    linears = {name: layer for name, layer in find_linears(dense).items() if layer.op == "MatMul" and layer.groups == 1}
    macs = count_macs(bench.opened.fixed)
    inside = sum(macs.get(name, 0) for name in linears)
    share = 1 - (1 - bench.keep) * bench.macs / inside
    runner = IntermediateOutputs(dense, sorted({layer.input for layer in linears.values()}))
    moments: dict[str, np.ndarray] = {}
    sizes: dict[str, np.ndarray] = {}
    for feeds in bench.data.batches(bench.data.batch_size):
        for name, x in runner.run(feeds).items():
            rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
            moments[name] = moments.get(name, 0) + rows.T @ rows
            sizes[name] = sizes.get(name, 0) + np.abs(rows).mean(0)

    def scale_of(method: str, name: str) -> np.ndarray:
        """The matrix that the weights are multiplied with before the SVD."""
        if method == "SVD":
            return np.eye(len(moments[name]))
        if method == "ASVD":
            return np.diag(np.sqrt(sizes[name] / sizes[name].mean()) + 1e-6)
        values, vectors = np.linalg.eigh(moments[name])
        return np.asarray(vectors * np.sqrt(np.maximum(values, 1e-6 * values.max())))

    for method in ("SVD", "ASVD", "SVD-LLM"):
        model, saved = clone(dense), 0
        for name, layer in linears.items():
            weight = layer_matrix(model, layer)[0].astype(np.float64)
            inner = int(share * weight.size / sum(weight.shape))
            scale = scale_of(method, layer.input)
            u, s, v = np.linalg.svd(weight @ scale, full_matrices=False)
            low = np.linalg.solve(scale.T, ((u[:, :inner] * s[:inner]) @ v[:inner]).T).T
            set_weights(model, layer, low[None], layer_bias(model, layer))
            saved += round(macs.get(name, 0) * (1 - inner * sum(weight.shape) / weight.size))
        yield Row(method, f"ranks of {share:.0%} of the MACs of {len(linears)} layers", model, bench.macs - saved)


def _score(evaluation: Evaluation, model: ir.Model) -> float:
    return evaluation.score(OnnxRuntime().load(lower_x86(model)).run).value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calib")
    parser.add_argument("evaluation")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.84, 0.68], help="shares of the MACs to leave")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--samples", type=int, default=256, help="calibration samples (256)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
