"""AdamW whose steps are relative to the size of each output channel, an average of the weights, and the schedule.

A network whose BatchNormalization is folded has channels of very different sizes. A step of the same size for all would
change small channels too much. So the step of a channel is a share of its root mean square, as of a whole tensor in
Shazeer & Stern 2018, "Adafactor", section 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Tensor = Any


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
