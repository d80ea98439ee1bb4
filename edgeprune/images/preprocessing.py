"""How a picture becomes an input: its size, the order of its channels, and the values of its pixels.

Presets do what these libraries do with a picture for inference:

    ultralytics   LetterBox of their predictor: the longer side fits, bars of 114, OpenCV's linear resize, 0 to 1
    timm          create_transform with its defaults: Resize to size / 0.875 by bicubic, CenterCrop, ImageNet statistics
    torchvision   ImageClassification: Resize to size / 0.875 (224 -> 256) by bilinear, CenterCrop, ImageNet statistics
    imagenet      the same as torchvision
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeprune.errors import CalibrationError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

FITS = ("stretch", "letterbox", "crop", "center")
RESAMPLINGS = ("bilinear", "bicubic", "opencv")
FULL_SCALE = 255.0


@dataclass(frozen=True)
class Preprocessing:
    """From a picture to the values of an input.

    Attributes:
        fit: ``stretch`` both sides to the size; ``letterbox``: the longer side fits, with bars; ``crop``: the shorter
            side becomes size / fraction, then the center is cut out; ``center``: cut out without a resize.
        fraction: of the resized picture that a crop keeps.
        resample: ``bilinear`` and ``bicubic`` are Pillow's, which average when they shrink; ``opencv`` is
            cv2.INTER_LINEAR, which does not.
        order: of the channels, ``RGB`` or ``BGR``.
        mean: per channel of the input, subtracted from pixels in 0 to 1; above 1, from pixels in 0 to 255.
        std: per channel, divides the difference.
        fill: value of the bars, 0 to 255.
        name: of the preset or the metadata that this comes from.
    """

    fit: str = "stretch"
    fraction: float = 1.0
    resample: str = "bilinear"
    order: str = "RGB"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fill: int = 114
    name: str = ""

    def __post_init__(self) -> None:
        if self.fit not in FITS or not 0 < self.fraction <= 1:
            raise CalibrationError(f"images are fitted by {', '.join(FITS)} or crop:FRACTION, not {self.fit!r}")
        if self.order not in ("RGB", "BGR"):
            raise CalibrationError(f"the order of the channels of images is RGB or BGR, not {self.order!r}")
        if self.resample not in RESAMPLINGS:
            raise CalibrationError(f"images are resized by {', '.join(RESAMPLINGS)}, not {self.resample!r}")

    def given(
        self,
        fit: str | None = None,
        order: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Preprocessing:
        """The same with what a user gave instead."""
        new = self
        if fit is not None:
            kind, fraction = parse_fit(fit)
            new = replace(new, fit=kind, fraction=fraction)
        if order is not None:
            new = replace(new, order=order)
        if mean is not None:
            new = replace(new, mean=tuple(mean))
        return new if std is None else replace(new, std=tuple(std))

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, of pixels in 0 to 1.

        Raises:
            CalibrationError: there is not one number for each channel, or a standard deviation is not above 0.
        """
        mean, std = self.mean or (0.0,) * channels, self.std or (1.0,) * channels
        if self.name and channels == 1:  # a preset for colors, on a grey input: the average of its channels
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise CalibrationError(f"mean and std need {channels} numbers each, std above 0; got {mean} and {std}")
        if max(*mean, *std) > 1:
            mean = tuple(value / FULL_SCALE for value in mean)
            std = tuple(value / FULL_SCALE for value in std) if self.std else (1 / FULL_SCALE,) * channels
        return mean, std

    def describe(self, channels: int) -> str:
        """In a few words, for the report."""
        mean, std = self.statistics(channels)
        words = [
            {"stretch": "stretched", "letterbox": "letterboxed", "center": "center cropped"}.get(
                self.fit, f"center crop of {self.fraction:g}"
            ),
            *([f"as {self.name} does"] if self.name else []),
            f"mean {[round(value, 4) for value in mean]}, std {[round(value, 4) for value in std]}",
            *(["BGR"] if self.order == "BGR" else []),
        ]
        return ", ".join(words)


PRESETS = {
    "ultralytics": Preprocessing("letterbox", resample="opencv", name="ultralytics"),
    "timm": Preprocessing("crop", 0.875, "bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD, name="timm"),
    "torchvision": Preprocessing("crop", 0.875, mean=IMAGENET_MEAN, std=IMAGENET_STD, name="torchvision"),
    "imagenet": Preprocessing("crop", 0.875, mean=IMAGENET_MEAN, std=IMAGENET_STD, name="imagenet"),
}
"""Name for --preprocess -> what the library does."""


def parse_fit(text: str) -> tuple[str, float]:
    """The kind and the fraction of ``stretch``, ``letterbox``, ``crop``, ``crop:0.875`` or ``center``.

    Raises:
        CalibrationError: it is none of them.
    """
    kind, colon, fraction = text.partition(":")
    try:
        value = float(fraction) if colon else 1.0
    except ValueError:
        value = 0.0
    if kind not in FITS or not 0 < value <= 1 or (colon and kind != "crop"):
        raise CalibrationError(
            f"images are fitted by {', '.join(FITS)} or crop:FRACTION such as crop:0.875, not {text!r}"
        )
    return kind, value
