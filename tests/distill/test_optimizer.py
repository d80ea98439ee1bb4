"""Steps relative to the weights: AdamW and Muon, the average of the weights, and the schedule."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgeprune.distill.optimizer import (  # noqa: E402
    RelativeMuon,
    channel_scales,
    learning_rate,
    orthogonal,
    orthogonal_macs,
)


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (4, 4)])
def test_orthogonal_is_the_newton_schulz_iteration_of_muon(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = x if shape[0] <= shape[1] else x.t()
    expected = wide / wide.norm()
    for _ in range(5):
        gram = expected @ expected.t()
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    expected = expected if shape[0] <= shape[1] else expected.t()
    np.testing.assert_allclose(orthogonal(x), expected, rtol=1e-9, atol=1e-9)
    # Float32 is what is trained in: small singular values must not be lost in the Gram matrix.
    np.testing.assert_allclose(orthogonal(x.float()), expected, atol=2e-3)


def test_singular_values_become_nearly_equal() -> None:
    left, _ = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))
    right, _ = torch.linalg.qr(torch.randn(40, 12, generator=torch.Generator().manual_seed(1)))
    found = torch.linalg.svdvals(orthogonal(left @ torch.diag(torch.linspace(0.1, 1, 12)) @ right.t()))
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.25


def test_no_gradient_gives_no_step() -> None:
    assert not orthogonal(torch.zeros(4, 8)).any()


def test_orthogonal_costs_more_along_the_longer_side_only_linearly() -> None:
    assert orthogonal_macs(8, 72) == orthogonal_macs(72, 8) == 2 * 64 * 72 + 20 * 512


def stepped(masked: bool = False) -> tuple[dict, dict]:
    """Weights before and after one step of 0.01; the gradients of the rows differ by factors of a thousand."""
    generator = torch.Generator().manual_seed(0)
    weights = {"conv": torch.randn(8, 4, 3, 3, generator=generator), "turned": torch.randn(6, 10, generator=generator)}
    weights["conv"] *= torch.logspace(-2, 1, 8).reshape(-1, 1, 1, 1)
    weights["bias"] = torch.randn(8, generator=generator)
    masks = {"conv": (torch.rand(8, 4, 3, 3, generator=generator) < 0.5).float()} if masked else {}
    if masked:
        weights["conv"] *= masks["conv"]
    for w in weights.values():
        w.grad = torch.randn(w.shape, generator=generator) * (masks.get("conv", 1) if w.dim() == 4 else 1)
    weights["conv"].grad *= torch.logspace(3, 0, 8).reshape(-1, 1, 1, 1)
    scales = {n: channel_scales(w, {"conv": 0, "turned": 1}.get(n)) for n, w in weights.items()}
    before = {n: w.clone() for n, w in weights.items()}
    RelativeMuon(weights, scales, {"conv": 0, "turned": 1}, masks).step(0.01)
    return before, weights


def test_steps_have_the_same_share_of_every_channel() -> None:
    before, after = stepped()
    change = (after["conv"] - before["conv"]).flatten(1).square().mean(1).sqrt()
    share = change / channel_scales(before["conv"], 0).reshape(-1)
    np.testing.assert_allclose(share, 0.3 * 0.01, rtol=0.35)
    turned = (after["turned"] - before["turned"]) / channel_scales(before["turned"], 1)
    np.testing.assert_allclose(turned.square().mean().sqrt(), 0.3 * 0.01, rtol=0.35)
    assert (after["bias"] != before["bias"]).all()


def test_masked_weights_stay_zero() -> None:
    before, after = stepped(masked=True)
    assert (after["conv"][before["conv"] == 0] == 0).all()
    assert (after["conv"][before["conv"] != 0] != before["conv"][before["conv"] != 0]).all()


def test_a_checkpoint_has_all_of_an_optimizer() -> None:
    def training(stop: int | None) -> torch.Tensor:
        weight = torch.ones(4, 6)
        optimizer = RelativeMuon({"w": weight}, {"w": torch.ones(4, 1)}, {"w": 0}, {})
        for step in range(4):
            if step == stop:
                state = optimizer.state()
                optimizer = RelativeMuon({"w": weight}, {"w": torch.ones(4, 1)}, {"w": 0}, {})
                optimizer.load(state)
            weight.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
            optimizer.step(0.1)
        return weight

    np.testing.assert_array_equal(training(2), training(None))


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate(1.0, done, 0.1) for done in (0.0, 0.05, 0.1, 0.5, 1.0)]
    np.testing.assert_allclose(rates[:3], [0.02, 0.5, 1.0])
    assert rates[2] > rates[3] > rates[4] > 0


def test_tiny_gradients_have_the_same_directions():
    """As those of a student that is still equal to its teacher: their squares are 0 in float32."""
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(3))
    found = orthogonal(matrix * 1e-30)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, orthogonal(matrix), rtol=1e-3, atol=1e-3)
    assert not orthogonal(torch.zeros(4, 5)).any()
