"""Steps that are relative to the size of each output channel, an average of the weights, and the schedule.

A network whose BatchNormalization is folded has channels of very different sizes. A step of the same size for all would
change small channels too much. So the step of a channel is a share of its root mean square, as of a whole tensor in
Shazeer & Stern 2018, "Adafactor", section 8. Vectors are updated by AdamW, matrices that mix channels by Muon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Tensor = Any
NEWTON_STEPS = 5
MUON_SIZE = 0.3
"""Root mean square of a step of AdamW, in units of the learning rate, that steps of Muon have as well."""


class RelativeAdamW:
    """Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", with relative steps.

    Args:
        weights: name -> parameter; updated in place.
        scales: name -> the size that its steps are relative to, broadcast against the parameter.
        decays: names whose weights decay.
        betas, epsilon, decay: of the paper; the decay is relative to the learning rate.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        scales: Mapping[str, Tensor],
        decays: frozenset[str] = frozenset(),
        betas: tuple[float, float] = (0.9, 0.99),
        epsilon: float = 1e-12,
        decay: float = 0.0,
    ) -> None:
        self.weights, self.scales, self._decays = dict(weights), dict(scales), decays
        self._betas, self._epsilon, self._decay = betas, epsilon, decay
        self.steps = 0
        self.first = {n: torch.zeros_like(w) for n, w in self.weights.items()}
        self.second = {n: torch.zeros_like(w) for n, w in self.weights.items()}

    def step(self, rate: float) -> None:
        """One step against the gradients of the parameters."""
        self.steps += 1
        one, two = self._betas
        correct_one, correct_two = 1 - one**self.steps, 1 - two**self.steps
        with torch.no_grad():
            for name, weight in self.weights.items():
                gradient = weight.grad
                if gradient is None:
                    continue
                first, second = self.first[name], self.second[name]
                first.lerp_(gradient, 1 - one)
                second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
                root = (second / correct_two).sqrt_().add_(self._epsilon)
                if self._decay and name in self._decays:
                    weight.mul_(1 - rate * self._decay)
                weight.addcdiv_(first * self.scales[name], root, value=-rate / correct_one)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        first, second = ({n: t.clone() for n, t in m.items()} for m in (self.first, self.second))
        return {"steps": self.steps, "first": first, "second": second}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.steps = int(state["steps"])
        for mine, theirs in ((self.first, state["first"]), (self.second, state["second"])):
            for name, tensor in theirs.items():
                mine[name].copy_(tensor)


class RelativeMuon:
    """Muon (Jordan et al. 2024) for matrices, `RelativeAdamW` for all other weights.

    The momentum of a matrix, in units of the sizes of its rows, is replaced by the nearest orthogonal matrix. So every
    direction in which a layer can change gets a step of the same size, and not those of large gradients alone. The step
    is scaled so that one learning rate serves both optimizers (Liu et al. 2025, "Muon is Scalable for LLM Training",
    section 2.2).

    Args:
        weights, scales, decays, decay: as in `RelativeAdamW`.
        rows: names of matrices -> the axis of their outputs.
        masks: name -> 1 where a weight may change.
        momentum: Nesterov's.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        scales: Mapping[str, Tensor],
        rows: Mapping[str, int],
        masks: Mapping[str, Tensor],
        decays: frozenset[str] = frozenset(),
        decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        self.rows = dict(rows)
        self.matrices = {n: weights[n] for n in rows}
        others = {n: w for n, w in weights.items() if n not in rows}
        self.others = RelativeAdamW(others, scales, decays, decay=decay)
        self.scales, self.masks, self._decays, self._decay = dict(scales), masks, decays, decay
        self._momentum = momentum
        self.buffers = {n: torch.zeros_like(w) for n, w in self.matrices.items()}

    def step(self, rate: float) -> None:
        """One step against the gradients of the parameters."""
        self.others.step(rate)
        with torch.no_grad():
            for name, weight in self.matrices.items():
                if weight.grad is None:
                    continue
                scale, buffer = self.scales[name], self.buffers[name]
                gradient = weight.grad * scale  # of the weight in units of its scale
                buffer.mul_(self._momentum).add_(gradient)
                wanted = gradient.add_(buffer, alpha=self._momentum).movedim(self.rows[name], 0)
                found = orthogonal(wanted.reshape(len(wanted), -1)).reshape(wanted.shape)
                change = found.movedim(0, self.rows[name]) * scale
                if name in self.masks:
                    change = change * self.masks[name]
                if self._decay and name in self._decays:
                    weight.mul_(1 - rate * self._decay)
                size = MUON_SIZE * math.sqrt(max(len(wanted), wanted.numel() // len(wanted)))
                weight.add_(change, alpha=-rate * size)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"others": self.others.state(), "buffers": {n: b.clone() for n, b in self.buffers.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.others.load(state["others"])
        for name, tensor in state["buffers"].items():
            self.buffers[name].copy_(tensor)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the nearest matrix with orthogonal rows or columns: all singular values become 0.7 to 1.2.

    The Newton-Schulz iteration of Jordan et al. 2024, with their coefficients. It runs on the Gram matrix of the
    shorter side: X <- P X, and P = a + b G + c G^2 and G = X X^T commute. So the product of the Ps is all that X needs.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    wide = wide / wide.abs().amax().clamp_min(1e-38)  # squares of tiny gradients would be 0
    wide = wide / torch.linalg.vector_norm(wide).clamp_min(1e-30)
    gram = wide @ wide.t()
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    whole = one
    for _ in range(NEWTON_STEPS):
        factor = torch.addmm(a * one + b * gram, gram, gram, alpha=c)
        whole = factor @ whole
        gram = factor @ gram @ factor
        gram = (gram + gram.t()) / 2
    found = whole @ wide
    return found if matrix.shape[0] <= matrix.shape[1] else found.t()


def orthogonal_macs(rows: int, columns: int) -> float:
    """Multiply-accumulates of `orthogonal`."""
    short, long = sorted((rows, columns))
    return 2.0 * short * short * long + 4.0 * NEWTON_STEPS * short**3


def clip_gradients(weights: Mapping[str, Tensor], most: float) -> float:
    """Shrink all gradients so that their norm is at most ``most`` (Pascanu et al. 2013); returns the norm before."""
    gradients = [w.grad for w in weights.values() if w.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = most / float(norm) if float(norm) > most else 1.0
    if factor < 1:
        for gradient in gradients:
            gradient.mul_(factor)
    return float(norm)


class Average:
    """The exponential moving average of weights (Polyak & Juditsky 1992), which forgets faster at first."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self._weights, self._decay, self.steps = dict(weights), decay, 0
        self.values = {n: w.detach().clone() for n, w in weights.items()}

    def update(self) -> None:
        """Take in the present weights."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, value in self.values.items():
                value.lerp_(self._weights[name], 1 - decay)


def learning_rate(peak: float, done: float, warm: float = 0.03, last: float = 0.01) -> float:
    """The rate after a share of the work: linear warm-up, then half a cosine (Loshchilov & Hutter 2017, "SGDR")."""
    if done < warm:
        return peak * max(0.02, done / warm)
    progress = min(1.0, (done - warm) / (1 - warm))
    return peak * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * progress)))


def channel_scales(weight: Tensor, axis: int | None) -> Tensor:
    """The root mean square of every output channel, at least a tenth of the tensor's, in a shape that broadcasts."""
    whole = weight.detach().square().mean().sqrt()
    if axis is None or weight.dim() < 2:
        return whole.clamp_min(0.02)  # a bias may be 0 everywhere
    axes = [a for a in range(weight.dim()) if a != axis]
    each = weight.detach().square().mean(axes, keepdim=True).sqrt()
    return torch.maximum(each, 0.1 * whole).clamp_min(1e-6)
