"""Text lines to read: words of a licence, numbers, dates and prices, rendered in many fonts and conditions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 48, 320
LONGEST = 24
LICENCE = Path(__file__).resolve().parents[2] / "LICENSE"
FONT_FILES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
)


def rendered_lines(count: int, seed: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Text and image of ``count`` lines, the same for the same seed.

    The image is an input of PP-OCR's recogniser: shape (3, 48, 320), -1 to 1, padded with zeros on the right.
    """
    choose = random.Random(seed)
    words = [word.strip('".,;:()[]') for word in LICENCE.read_text(encoding="utf-8").split()]
    words = sorted({word for word in words if 2 <= len(word) <= 14 and word.isascii()})
    for _ in range(count):
        text = _text(choose, words)
        yield text, _image(choose, text)


def _text(choose: random.Random, words: list[str]) -> str:
    kind = choose.random()
    if kind < 0.12:
        return f"{choose.randint(1, 28):02}.{choose.randint(1, 12):02}.{choose.randint(1990, 2030)}"
    if kind < 0.24:
        return f"${choose.randint(1, 9999)}.{choose.randint(0, 99):02} ({choose.randint(1, 99)}%)"
    if kind < 0.36:
        letters = "".join(choose.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=3))
        return f"{letters}-{choose.randint(1000, 999999)}/{choose.randint(1, 99)}"
    text = choose.choice(words)
    while len(longer := f"{text} {choose.choice(words)}") <= LONGEST:
        text = longer
    return choose.choice((text, text, text.upper(), text.capitalize()))


def _image(choose: random.Random, text: str) -> NDArray[np.float32]:
    font = _font(choose)
    left, top, right, bottom = font.getbbox(text)
    margin = choose.randint(2, 8)
    paper = [choose.randint(150, 255) for _ in range(3)]
    ink = [max(0, shade - choose.randint(110, 200)) for shade in paper]
    if choose.random() < 0.2:
        paper, ink = ink, paper
    size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    image = Image.new("RGB", size, tuple(paper))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=tuple(ink))
    image = image.rotate(choose.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, expand=True, fillcolor=tuple(paper))
    image = image.filter(ImageFilter.GaussianBlur(choose.uniform(0.0, 0.9)))
    width = min(WIDTH, max(1, round(image.width * HEIGHT / image.height)))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    noise = np.random.default_rng(choose.getrandbits(32)).normal(0, choose.uniform(0, 10), pixels.shape)
    padded = np.zeros((3, HEIGHT, WIDTH), np.float32)
    padded[:, :, :width] = (np.clip(pixels + noise, 0, 255) / 127.5 - 1).transpose(2, 0, 1)[::-1]  # RGB to BGR
    return padded


def _font(choose: random.Random) -> ImageFont.FreeTypeFont:
    """One of the fonts in the package matplotlib, with a size between 22 and 40 pixels."""
    matplotlib = find_spec("matplotlib")
    if matplotlib is None or matplotlib.origin is None:
        raise SystemExit("this example needs the fonts in the package matplotlib: pip install --no-deps matplotlib")
    folder = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / choose.choice(FONT_FILES)), choose.randint(22, 40))
