"""Random views of images: flips, crops of other sizes, small warps, colours, and pieces of other images.

No labels are needed: the teacher sees the same view. The operations are a few lines of tensor code each, because they
must accept what a deployed model takes: batches of any number of channels, normalized in any way, on any device.

* crops and sizes: Szegedy et al. 2015; flips; small rotation and shear;
* colours: gains and offsets of each channel, channels exchanged (only where there are three), noise;
* pieces of other images: Yun et al. 2019, "CutMix"; Bochkovskiy et al. 2020 (mosaics). Their labels are the teacher's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

Tensor = Any
NOISE_IMAGES = 4
"""Images of noise that are drawn for a batch; to draw all would take as long as a pass through a small network."""


@dataclass(frozen=True)
class Views:
    """How strongly views differ from the images. All shares are probabilities for each image.

    Attributes:
        plain: share of views that are the image itself.
        flip: share that are mirrored.
        resized: share that are resized, rotated and shifted.
        smallest, largest: factors of the size.
        stretch: largest ratio of the factors of both axes.
        shift: how far they are shifted at least, as a share of half the size.
        rotation: largest angle, degrees.
        shear: largest shear.
        colour: share whose colours change.
        exchanged: share of these whose three channels are exchanged.
        gain: largest relative change of a channel's gain.
        offset: largest offset of a channel, in standard deviations of its pixels.
        noise: largest standard deviation of the noise, in standard deviations of the pixels.
        mixed: share that get a rectangle of another image.
    """

    plain: float = 0.1
    flip: float = 0.5
    resized: float = 0.7
    smallest: float = 0.7
    largest: float = 1.4
    stretch: float = 1.3
    shift: float = 0.15
    rotation: float = 6.0
    shear: float = 0.08
    colour: float = 0.8
    exchanged: float = 1.0
    gain: float = 0.3
    offset: float = 0.5
    noise: float = 0.15
    mixed: float = 0.5

    def scaled(self, strength: float) -> Views:
        """Views that differ less from the images; flips are all or nothing, and stay."""
        return replace(
            self,
            smallest=self.smallest**strength,
            largest=self.largest**strength,
            stretch=self.stretch**strength,
            shift=self.shift * strength,
            rotation=self.rotation * strength,
            shear=self.shear * strength,
            exchanged=self.exchanged * strength,
            gain=self.gain * strength,
            offset=self.offset * strength,
            noise=self.noise * strength,
            mixed=self.mixed * strength,
        )


class Augmenter:
    """Draws views of batches of images of shape (samples, channels, height, width).

    Args:
        low, high, mean, std: statistics of the pixels for each channel, shape (channels,).
        views: how strongly they differ.
        generator: draws the random numbers.
    """

    def __init__(self, low: Tensor, high: Tensor, mean: Tensor, std: Tensor, views: Views, generator: Any) -> None:
        shape = (1, -1, 1, 1)
        self._low, self._high = low.reshape(shape), high.reshape(shape)
        self._mean, self._std = mean.reshape(shape), std.reshape(shape)
        self.views, self._generator = views, generator

    def with_views(self, views: Views, generator: Any) -> Augmenter:
        """The same for other views, drawn from another generator."""
        shape = self._low, self._high, self._mean, self._std
        return Augmenter(*shape, views, generator)

    def __call__(self, images: Tensor) -> Tensor:
        """Views of images; pieces are taken from the other images of the batch."""
        views = self.views
        x = self._warped(images)
        x = self._mixed(x) if views.mixed and len(x) > 1 else x
        x = self._coloured(x).clamp_(self._low.to(x), self._high.to(x))
        plain = self._chance(len(x), views.plain).to(x.device)
        x[plain] = images[plain]
        return x

    def _uniform(self, *shape: int) -> Tensor:
        """Uniform random numbers between -1 and 1."""
        return 2 * torch.rand(shape, generator=self._generator) - 1

    def _chance(self, count: int, share: float) -> Tensor:
        return torch.rand(count, generator=self._generator) < share

    def _warped(self, x: Tensor) -> Tensor:
        """Mirrored, resized, rotated, sheared and shifted; the rest is filled by reflection."""
        views, count = self.views, len(x)
        flip = torch.where(self._chance(count, views.flip), -1.0, 1.0)
        some = self._chance(count, views.resized).float()
        middle = (math.log(views.largest) + math.log(views.smallest)) / 2
        half = (math.log(views.largest) - math.log(views.smallest)) / 2
        size = torch.exp(some * (middle + half * self._uniform(count)))
        ratio = torch.exp(some * math.log(views.stretch) / 2 * self._uniform(count))
        angle = some * math.radians(views.rotation) * self._uniform(count)
        shear = some * views.shear * self._uniform(count)
        # The grid maps the view to the image: a larger size is a smaller piece of the image.
        wide, high = 1 / (size * ratio), ratio / size
        cos, sin = torch.cos(angle), torch.sin(angle)
        shift_x = self._uniform(count) * ((1 - wide).abs() + views.shift * some)
        shift_y = self._uniform(count) * ((1 - high).abs() + views.shift * some)
        first = torch.stack([flip * wide * cos, flip * (shear - sin) * wide, shift_x], 1)
        second = torch.stack([sin * high, cos * high, shift_y], 1)
        moved = torch.nonzero(some > 0).reshape(-1)
        y = torch.where((flip < 0).reshape(-1, 1, 1, 1), x.flip(3), x)
        if len(moved):
            theta = torch.stack([first, second], 1)[moved].to(x)
            grid = functional.affine_grid(theta, list(x[moved].shape), align_corners=False)
            y = y.index_copy(
                0, moved, functional.grid_sample(x[moved], grid, padding_mode="reflection", align_corners=False)
            )
        return y

    def _mixed(self, x: Tensor) -> Tensor:
        """With a rectangle of the image before at the same place."""
        count, _, height, width = x.shape
        some = self._chance(count, self.views.mixed)
        across, down = (self._spans(count, n).int().tolist() for n in (width, height))
        y = x.clone()
        for i in torch.nonzero(some).reshape(-1).tolist():
            (left, right), (top, bottom) = across[i], down[i]
            y[i, :, top:bottom, left:right] = x[i - 1, :, top:bottom, left:right]
        return y

    def _spans(self, count: int, length: int) -> Tensor:
        """Begin and end of a random piece of an axis, a third of it or more; half of them reach an end of the axis."""
        size = length * (0.3 + 0.4 * torch.rand(count, generator=self._generator))
        begin = torch.rand(count, generator=self._generator) * (length - size)
        side = torch.rand(count, generator=self._generator)
        begin = torch.where(side < 0.25, torch.zeros(()), torch.where(side > 0.75, length - size, begin))
        return torch.stack([begin, begin + size], 1).round()

    def _coloured(self, x: Tensor) -> Tensor:
        """Gains and offsets of the channels, channels exchanged, and noise: a matrix for each image."""
        views, (count, channels) = self.views, x.shape[:2]
        some = self._chance(count, views.colour).float().reshape(-1, 1, 1)
        std, mean = self._std.reshape(-1, 1), self._mean.reshape(-1, 1)
        gain = torch.exp(some * views.gain * self._uniform(count, channels, 1))
        offset = some * views.offset * self._uniform(count, channels, 1) * std
        order = torch.arange(channels).expand(count, channels)
        if channels == 3:
            random = torch.stack([torch.randperm(3, generator=self._generator) for _ in range(count)])
            changed = (some.reshape(-1) > 0) & self._chance(count, views.exchanged)
            order = torch.where(changed.reshape(-1, 1), random, order)
        # (x - mean) / std, exchanged, is multiplied by std and the gain: a matrix and a vector of each image.
        exchanged = torch.eye(channels)[order] * (std / std.reshape(1, -1))
        matrix = gain * exchanged
        vector = mean + offset - matrix @ mean
        y = torch.baddbmm(vector.to(x), matrix.to(x), x.flatten(2)).reshape(x.shape)
        level = (some * views.noise * torch.rand(count, 1, 1, generator=self._generator)).to(x)
        return y.addcmul_(self._noise(x), (level * std.to(x)).unsqueeze(-1))

    def _noise(self, x: Tensor) -> Tensor:
        """Normal noise; the images of a batch take theirs from one piece of it, each at its own place."""
        size = x[0].numel()
        bank = torch.randn(NOISE_IMAGES * size, generator=self._generator)
        begins = torch.randint((NOISE_IMAGES - 1) * size, (len(x),), generator=self._generator).tolist()
        return torch.stack([bank[b : b + size] for b in begins]).reshape(x.shape).to(x)
