"""The base of all model builders: from a candidate to a model that is cut, refitted, quantized and lowered.

What two candidates have in common is computed once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeprune.build.learning import Learning, Trained, learned_weights
from edgeprune.build.low_rank import LowRank
from edgeprune.calibration import BIASES, RANGE_ROWS, RANGE_TRIALS, RANGES, Calibration
from edgeprune.dependency import Cut, Ranking, Widths
from edgeprune.graph import add_warning, weight_bytes
from edgeprune.latency import FLOAT, INT8, Format, Network, int8_nodes_in
from edgeprune.passes.canonicalize import twin_nodes, twin_values
from edgeprune.passes.prune import merge_branches, prune_channels
from edgeprune.passes.quantize import round_weights
from edgeprune.passes.recover import compensate
from edgeprune.quantization import Histogram, Quantizer, Range, best_ranges, histograms, range_by, trained_range
from edgeprune.support import Progress

CACHED_MODELS, CACHED_BYTES = 4, 256 << 20
"""Built models that are kept, and their bytes: one that was scored is delivered without a second build."""

Bounds = Mapping[str, tuple[float, float]]
"""Activation name -> (low, high)."""


@dataclass(eq=False)
class ModelBuilder(ABC):
    """Builds models of one network for one kind of target.

    Attributes:
        dense: the canonical model; open dimensions stay open.
        network: its blocks.
        rankings: group id -> order in which its units are removed.
        data: calibration data for refitting and for ranges.
        weight_bits: bits of quantized weights.
        threads: threads of onnxruntime.
        refitted: whether the weights that stay are refitted after a cut.
        float_format: format of the blocks that are not in INT8.
        calibrators: activation name -> calibrator of its range, if it is known already, as from the uncut network.
        learning: how accuracy is recovered.
        after_training: key of a candidate, its widths as bytes and its formats -> the trained one.
        before_learning: such a key -> the model in float and as built, before `recover`.
        trained: activation name -> (low, high) that the user's model was quantized with; no calibrator is tried there.
    """

    symmetric: ClassVar[bool] = False
    """Whether INT8 ranges are [-a, a]."""

    dense: ir.Model
    network: Network
    rankings: Mapping[str, Ranking]
    data: Calibration
    weight_bits: int = 8
    threads: int = 1
    refitted: bool = True
    float_format: Format = FLOAT
    calibrators: dict[str, str] = field(default_factory=dict)
    trained: Bounds = field(default_factory=dict)
    learning: Learning = field(default_factory=Learning)
    after_training: dict[Hashable, Trained] = field(default_factory=dict)
    before_learning: dict[Hashable, tuple[ir.Model, ir.Model]] = field(default_factory=dict)
    _float_models: dict[bytes, ir.Model] = field(default_factory=dict)
    _built: dict[tuple[bytes, tuple[Format, ...]], ir.Model] = field(default_factory=dict)
    _learned: dict[tuple[bytes, tuple[Format, ...]], bool] = field(default_factory=dict)
    _ranges: dict[tuple[ir.Model, int], dict[str, Range]] = field(default_factory=dict)

    @abstractmethod
    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, lowered to the target."""

    @abstractmethod
    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Bounds) -> ir.Model:
        """The float model with these nodes in INT8."""

    @abstractmethod
    def quantizer(self, low: float, high: float) -> Quantizer:
        """What INT8 over this range does to an activation."""

    @abstractmethod
    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations for which `quantized` needs a range."""

    def describe(self) -> str:
        """What the error of a format depends on, besides the model and its ranges."""
        return f"{type(self).__name__} {self.weight_bits} bits, {self.float_format}"

    def fp32_reasons(self) -> dict[str, str]:
        """Node -> why it stays in float32 where other float nodes are in float16."""
        return {}

    def simulated(self, model: ir.Model) -> ir.Model:
        """A model for onnxruntime that computes the same as a built model on its target."""
        return model

    def int8_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that are in INT8 in these formats."""
        return self.all_or_none(model, int8_nodes_in(model, self.network.int8_nodes, formats))

    @cached_property
    def low_rank(self) -> LowRank:
        """Makes the layers of formats of low rank."""
        return LowRank(self.network.blocks, self.data if self.refitted else None, self.network.macs, self.threads)

    def all_or_none(self, model: ir.Model, nodes: Collection[str]) -> frozenset[str]:
        """The nodes without those that have a twin outside: calls of one layer on equal inputs must give the same."""
        outside = ({str(n.name) for n in model.graph} if self._twins else set[str]()) - set(nodes)
        return frozenset(n for n in nodes if not self._twins.get(n, frozenset()) & outside)

    @cached_property
    def _twins(self) -> Mapping[str, frozenset[str]]:
        return twin_nodes(self.dense)

    def sparse_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes whose weights are 2:4 sparse in these formats."""
        return frozenset()

    def cut(self, widths: Widths) -> Cut:
        """Units that stay at these widths: the units that the rankings remove last."""
        return {
            g.id: np.sort(self.rankings[g.id].order[g.size - int(w) :])
            for g, w in zip(self.network.analysis.groups, widths, strict=True)
            if w < g.size
        }

    def float_model(self, widths: Widths) -> ir.Model:
        """The network at these widths in float, refitted."""
        key = _key(widths)
        if key not in self._float_models:
            cut, model = self.cut(widths), self.dense
            if cut:
                analysis = self.network.analysis
                model = prune_channels(self.dense, analysis, cut)
                if self.refitted:
                    model = compensate(self.dense, model, analysis, cut, self.data)
                merge_branches(model)
            self._float_models[key] = model
        return self._float_models[key]

    def build(self, widths: Widths, formats: Sequence[Format]) -> ir.Model:
        """The network at these widths and formats, lowered to the target. The last few models are cached."""
        key = _key(widths), tuple(formats)
        if key in self.after_training:
            return self.after_training[key].model
        if key not in self._built:
            while len(self._built) >= CACHED_MODELS or sum(map(weight_bytes, self._built.values())) > CACHED_BYTES:
                self._built.pop(next(iter(self._built)))
            self._built[key] = self.lowered(self.float_model(widths), formats)
        return self._built[key]

    def recover(self, widths: Widths, formats: Sequence[Format], progress: Progress | None = None) -> bool:
        """Learn weights from the dense network, as `learning` says; `build` then uses them for this candidate.

        They stay if the built model is not worse with them on held-out samples. Nothing is learned twice.

        Returns:
            Whether learned weights stay.
        """
        key = _key(widths), tuple(formats)
        if key not in self._learned:
            self._learned[key] = self._recover(widths, formats, progress)
        return self._learned[key]

    def has_learned(self, widths: Widths) -> bool:
        """Whether `recover` has changed what `build` gives for a candidate of these widths."""
        return any(of == _key(widths) and stays for (of, _), stays in self._learned.items())

    def _recover(self, widths: Widths, formats: Sequence[Format], progress: Progress | None) -> bool:
        if not self.refitted or self.data.is_random or self.data.items < 2:
            return False
        key, cut, learned = (_key(widths), tuple(formats)), self.cut(widths), None
        before, built = self.before_learning[key] = self.float_model(widths), self.build(widths, formats)
        if cut and self.learning.fast:
            kept, rebuilt = self.network.analysis.kept(cut), lambda model: self.lowered(model, formats)
            learned = learned_weights(self.dense, before, built, kept, self.data, rebuilt, self.simulated, progress)
        if learned is not None:
            self._float_models[key[0]], self._built[key] = learned
        if (trained := self.train(widths, formats)) is not None:
            self.after_training[key] = trained
        return learned is not None or trained is not None

    def unlearn(self, widths: Widths, formats: Sequence[Format], why: str) -> None:
        """Take back what `recover` has changed; the reason is a warning of the model."""
        key = _key(widths), tuple(formats)
        self._float_models[key[0]], self._built[key] = self.before_learning[key]
        self.after_training.pop(key, None)
        self._learned[key] = False
        add_warning(self.float_model(widths), why)

    def train(self, widths: Widths, formats: Sequence[Format], share: float = 1.0) -> Trained | None:
        """A candidate after its training, or a share of it; None if that gains nothing, or none was asked for."""
        kept, before = self.network.analysis.kept(self.cut(widths)), self.float_model(widths)
        return self.learning.trained(self.dense, before, self.build(widths, formats), kept, self.data, share)

    def rounded(self, model: ir.Model, int8: Collection[str], bounds: Bounds) -> ir.Model:
        """The float model with the weights of these nodes on their INT8 grids, and biases that keep the means."""
        if not int8 or self.data.is_random or not self.refitted:  # the means of noise are not worth keeping
            return model
        return round_weights(
            model,
            int8,
            self.data.subset((BIASES if self.weight_bits == 8 else RANGES).of(self.network.macs)),
            quantizers={name: self.quantizer(*range_) for name, range_ in bounds.items()},
            weight_bits=self.weight_bits,
            search=self.weight_bits < 8,  # with 8 bits rounding to nearest is good enough
            threads=self.threads,
        )

    def bounds(self, model: ir.Model, names: Sequence[str], data: Calibration) -> dict[str, tuple[float, float]]:
        """The INT8 range of each of these activations."""
        return {name: (found.low, found.high) for name, found in self.ranges(model, names, data).items()}

    def ranges(self, model: ir.Model, names: Sequence[str], data: Calibration) -> dict[str, Range]:
        """The INT8 range of each of these activations and its calibrator: the known one, or the best for the output.

        The result depends on the model and the data alone, not on the names that were asked for before: what a cache
        saved from being built must change nothing. Activations at the same place of a network that is called twice have
        one range, so equal inputs give equal results.
        """
        twins = twin_values(model)
        asked, names = names, list(dict.fromkeys(t for n in names for t in (n, *sorted(twins.get(n, ())))))
        if names and self.refitted:
            self._know_calibrators()
        known = self._ranges.setdefault((model, data.items), {})
        missing = [n for n in names if n not in known]
        if missing and not known and self.refitted:  # all in one pass over the data: others will be asked for, too
            missing = list(dict.fromkeys([*missing, *self._all_values(model)]))
        for name, h in self._histograms(model, missing, data).items():
            # A plan may quantize activations that are not quantized when all blocks are in INT8.
            known[name] = self._range(name, h, self.calibrators.get(name, "max"))
        alike = {n: [n] if n in self.trained else [n, *twins.get(n, ())] for n in asked}
        return {name: known[one[0]].joined(known[t] for t in one[1:]) for name, one in alike.items()}

    def quantizable_values(self, model: ir.Model) -> list[str]:
        """Names of all activations of a model of this network that some format quantizes, sorted."""
        every = {n for forms in self.network.int8_nodes for nodes in forms.values() for n in nodes}
        alive = {str(n.name): n for n in model.graph if n.name in every}
        made = {str(o.name) for n in alive.values() for o in n.outputs}
        return sorted(made.union(self.values_to_quantize(model, alive.keys())))

    def _know_calibrators(self) -> None:
        """If calibrators are not known, choose those with which INT8 in the whole dense network loses least."""
        int8 = self._all_int8(self.dense)
        needed = self.values_to_quantize(self.dense, int8)
        if self.calibrators.keys() >= set(needed) - self.trained.keys():
            return
        counted = self._histograms(self.dense, self._all_values(self.dense), self.data)
        trained = {n: self._range(n, h, "max") for n, h in counted.items() if n in self.trained}
        free = {n: h for n, h in counted.items() if n not in trained}
        if not free:
            return

        def quantized(ranges: Mapping[str, Range]) -> ir.Model:
            chosen = {**ranges, **trained}
            return self.quantized(self.dense, int8, {n: (chosen[n].low, chosen[n].high) for n in needed})

        found = best_ranges(
            self.dense,
            free,
            self.data.subset(RANGE_ROWS.of(self.network.macs)),
            quantized,
            tried_items=RANGE_TRIALS.of(self.network.macs),
            symmetric=self.symmetric,
            threads=self.threads,
        )[1]
        self.calibrators.update({n: r.calibrator for n, r in found.items()})
        known = {n: self._range(n, h, self.calibrators.get(n, "max")) for n, h in counted.items()}
        self._ranges[self.dense, self.data.items] = known

    def _histograms(self, model: ir.Model, names: Collection[str], data: Calibration) -> dict[str, Histogram]:
        return histograms(model, names, data.subset(RANGES.of(self.network.macs)), self.threads)

    def _all_int8(self, model: ir.Model) -> frozenset[str]:
        """The nodes in INT8 if every block is."""
        return self.int8_nodes(model, [INT8 if INT8 in f else self.float_format for f in self.network.int8_nodes])

    def _all_values(self, model: ir.Model) -> list[str]:
        """All activations that any plan may quantize."""
        int8 = self._all_int8(model)
        return list(dict.fromkeys([*self.values_to_quantize(model, int8), *self.quantizable_values(model)]))

    def _range(self, name: str, histogram: Histogram, calibrator: str) -> Range:
        """The trained range of an activation, on the grid of the target; if there is none, that of a calibrator."""
        if name not in self.trained:
            return range_by(calibrator, histogram, symmetric=self.symmetric)
        return trained_range(*self.trained[name], histogram.low, calibrator, symmetric=self.symmetric)


def _key(widths: Widths) -> bytes:
    return np.asarray(widths, dtype=np.int64).tobytes()
