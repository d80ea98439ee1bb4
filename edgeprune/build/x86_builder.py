"""From a choice to a model: cut, refit what stays, quantize. What a choice shares with an earlier one is done once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.dependency import Cut, Ranking, Widths
from edgeprune.graph import asymmetric_scale
from edgeprune.latency import FLOAT, INT8, Format, Network
from edgeprune.passes.prune import prune_channels
from edgeprune.passes.quantize import fake_quantizer, round_weights
from edgeprune.passes.recover import ReconstructSettings, compensate, reconstruct, split_for_learning
from edgeprune.passes.x86 import lower_x86, quantize_x86, values_to_quantize
from edgeprune.quantization import Quantizer, Range, best_ranges, histograms, range_by
from edgeprune.support import Progress, available_cores

LEARNABLE_SHARE = 0.1
"""Of a built network's error; where cutting made less of it, and integers the rest, learning has little to gain."""

REMEMBERED = 4
"""Models that are kept: the same is asked for when it is scored and when it is delivered."""


@dataclass(eq=False)
class Builder:
    """Builds models of one network.

    Attributes:
        dense: the canonical model, open dimensions open.
        network: its blocks.
        rankings: group id -> in which order its units go.
        data: calibration data for refitting and for ranges.
        weight_bits: bits of quantized weights.
        threads: of onnxruntime.
        refitted: whether what stays is refitted after a cut.
        float_format: what a block runs in that is not on integers.
        calibrators: which ranges activations get, where that was found out already: in the network without cuts, say,
            whose activations are distributed much like those of the same network cut.
    """

    symmetric: ClassVar[bool] = False
    """Whether integers spread over [-a, a]."""

    dense: ir.Model
    network: Network
    rankings: Mapping[str, Ranking]
    data: Calibration
    weight_bits: int = 8
    threads: int = 1
    refitted: bool = True
    float_format: Format = FLOAT
    calibrators: dict[str, str] = field(default_factory=dict)
    _float_models: dict[bytes, ir.Model] = field(default_factory=dict)
    _built: dict[tuple[bytes, tuple[Format, ...]], ir.Model] = field(default_factory=dict)
    _learned: dict[tuple[bytes, tuple[Format, ...]], bool] = field(default_factory=dict)
    _ranges: dict[tuple[int, int], tuple[ir.Model, dict[str, Range]]] = field(default_factory=dict)

    def describe(self) -> str:
        """What the error of a format depends on besides the model and its ranges."""
        return f"{type(self).__name__} {self.weight_bits} bits, {self.float_format}"

    def cut(self, widths: Widths) -> Cut:
        """Units that stay at these widths: those that the ranking removes last."""
        return {
            g.id: np.sort(self.rankings[g.id].order[g.size - int(w) :])
            for g, w in zip(self.network.analysis.groups, widths, strict=True)
            if w < g.size
        }

    def float_model(self, widths: Widths) -> ir.Model:
        """The network at these widths, refitted, in float."""
        key = np.asarray(widths, dtype=np.int64).tobytes()
        if key not in self._float_models:
            cut = self.cut(widths)
            model = self.dense
            if cut:
                analysis = self.network.analysis
                model = prune_channels(self.dense, analysis, cut)
                if self.refitted:
                    model = compensate(self.dense, model, analysis, cut, self.data)
            self._float_models[key] = model
        return self._float_models[key]

    def recover(self, widths: Widths, formats: Sequence[Format], progress: Progress | None = None) -> bool:
        """Learn the weights of a cut network from the dense one; what is built at these widths from now on has them.

        Held-out samples judge it as built, in its formats: whether it stayed. Nothing is learned twice.
        """
        asked = (np.asarray(widths, dtype=np.int64).tobytes(), tuple(formats))
        if asked not in self._learned:
            self._learned[asked] = self._recover(widths, formats, progress)
        return self._learned[asked]

    def _recover(self, widths: Widths, formats: Sequence[Format], progress: Progress | None) -> bool:
        cut = self.cut(widths)
        if not cut or not self.refitted or self.data.is_random or self.data.items < 2:
            return False
        key = np.asarray(widths, dtype=np.int64).tobytes()
        before, built = self.float_model(widths), self.build(widths, formats)
        settings = ReconstructSettings(threads=available_cores())
        fit, held_out = split_for_learning(self.dense, self.data, settings)
        shown = self.simulated(built)
        if held_out.error(before) < LEARNABLE_SHARE * held_out.error(shown):
            return False
        kept = self.network.analysis.kept(cut)
        learned = reconstruct(self.dense, before, fit, held_out, kept=kept, settings=settings, progress=progress)
        if learned is None:
            return False
        self._float_models[key] = learned
        self._built.pop((key, tuple(formats)), None)
        self._keep_calibrators(before, learned)
        after = self.build(widths, formats)
        if not held_out.is_worse(self.simulated(after), shown):
            return True
        self._float_models[key], self._built[key, tuple(formats)] = before, built
        return False

    def simulated(self, model: ir.Model) -> ir.Model:
        """What onnxruntime runs here to tell what a built model computes."""
        return model

    def build(self, widths: Widths, formats: Sequence[Format]) -> ir.Model:
        """The network at these widths and formats; the last few are remembered."""
        key = (np.asarray(widths, dtype=np.int64).tobytes(), tuple(formats))
        if key not in self._built:
            while len(self._built) >= REMEMBERED:
                self._built.pop(next(iter(self._built)))
            self._built[key] = self.lowered(self.float_model(widths), formats)
        return self._built[key]

    def lowered(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """A float model of the network in these formats, as its target takes it."""
        int8 = self.int8_nodes(model, formats)
        if not int8:
            return lower_x86(model)
        bounds = self.bounds(model, self.values_to_quantize(model, int8), self.data)
        return self.quantized(lower_x86(self.rounded(model, int8, bounds), int8), int8, bounds)

    def rounded(self, model: ir.Model, int8: Collection[str], bounds: Mapping[str, tuple[float, float]]) -> ir.Model:
        """The float model with the weights of these nodes on their integer grids, and biases that keep means.

        With 8 bits a weight the nearest integers are as good as any; with fewer, rounding is searched.
        """
        if not int8 or self.data.is_random or not self.refitted:  # noise says nothing of the means to keep
            return model
        quantizers = {name: self.quantizer(*range_) for name, range_ in bounds.items()}
        return round_weights(
            model,
            int8,
            self.data,
            quantizers=quantizers,
            weight_bits=self.weight_bits,
            search=self.weight_bits < 8,
            threads=self.threads,
        )

    def quantizer(self, low: float, high: float) -> Quantizer:
        """What integers over this range do to an activation."""
        scale, zero = asymmetric_scale(low, high)
        return fake_quantizer(float(scale), int(zero), 0, 255)

    def quantized(self, model: ir.Model, int8: Collection[str], bounds: Mapping[str, tuple[float, float]]) -> ir.Model:
        """The float model with these nodes on integers."""
        return quantize_x86(model, int8, bounds, weight_bits=self.weight_bits)

    def values_to_quantize(self, model: ir.Model, int8: Collection[str]) -> list[str]:
        """Names of the activations whose ranges `quantized` needs for these nodes."""
        return values_to_quantize(model, int8)

    def bounds(self, model: ir.Model, names: Sequence[str], data: Calibration) -> dict[str, tuple[float, float]]:
        """The range of each of these activations to spread integers over; for timing alone any will do."""
        return {name: (found.low, found.high) for name, found in self.ranges(model, names, data).items()}

    def ranges(self, model: ir.Model, names: Sequence[str], data: Calibration) -> dict[str, Range]:
        """The same with the calibrators that chose them: those that are known, or the best by the network's output."""
        # The model is kept beside its ranges, so that its id stays its own.
        _, known = self._ranges.setdefault((id(model), data.items), (model, {}))
        decided = model is not self.dense and self.calibrators.keys() >= set(names)
        if names and not known and self.refitted and not decided:
            known |= self._best_ranges(model, names, data)
        missing = [n for n in names if n not in known]
        for name, h in histograms(model, missing, data, self.threads).items():
            # A plan may quantize what integers everywhere do not.
            known[name] = range_by(self.calibrators.get(name, "max"), h, symmetric=self.symmetric)
        return {name: known[name] for name in names}

    def _keep_calibrators(self, before: ir.Model, learned: ir.Model) -> None:
        """Take the ranges of a network whose weights have only moved a little by the calibrators that it had before."""
        _, known = self._ranges.get((id(before), self.data.items), (before, {}))
        counted = histograms(learned, known, self.data, self.threads)
        ranges = {n: range_by(known[n].calibrator, h, symmetric=self.symmetric) for n, h in counted.items()}
        self._ranges[id(learned), self.data.items] = learned, ranges

    def _best_ranges(self, model: ir.Model, names: Sequence[str], data: Calibration) -> dict[str, Range]:
        """Ranges of the named values and of all that is quantized when every block is on integers."""
        int8 = self.int8_nodes(model, [INT8 if INT8 in f else self.float_format for f in self.network.int8_nodes])
        needed = self.values_to_quantize(model, int8)
        counted = histograms(model, dict.fromkeys([*needed, *names]), data, self.threads)

        def quantized(ranges: Mapping[str, Range]) -> ir.Model:
            return self.quantized(model, int8, {n: (ranges[n].low, ranges[n].high) for n in needed})

        return best_ranges(model, counted, data, quantized, symmetric=self.symmetric, threads=self.threads)[1]

    def int8_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes that these formats put on integers."""
        alive = {str(n.name) for n in model.graph}
        forms = zip(self.network.int8_nodes, formats, strict=True)
        return frozenset(n for available, f in forms for n in available[f] if n in alive)

    def sparse_nodes(self, model: ir.Model, formats: Sequence[Format]) -> frozenset[str]:
        """Names of the model's nodes whose weights these formats make 2:4: none, unless the target has such kernels."""
        return frozenset()
