from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.images.decode_picture import BrokenPictureError, decode_frames, decode_image


def smooth(height: int, width: int) -> np.ndarray:
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * down, 255 * across, 255 * (1 - down)], -1).astype(np.uint8)


def test_modes(tmp_path: Path):
    deep = (np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = np.asarray(decode_image(tmp_path / "deep.png", grey=True, at_least=None))
    np.testing.assert_array_equal(found, (deep / 257).round())
    color = smooth(6, 8)
    for name, image in {
        "palette.png": Image.fromarray(color).convert("P"),
        "alpha.png": Image.fromarray(color).convert("RGBA"),
        "print.jpg": Image.fromarray(color).convert("CMYK"),
    }.items():
        image.save(tmp_path / name)
        decoded = decode_image(tmp_path / name, grey=False, at_least=None)
        assert (decoded.mode, decoded.size) == ("RGB", (8, 6)), name
    Image.fromarray(color).convert("P").save(tmp_path / "clear.png", transparency=b"\x00\x80")
    assert decode_image(tmp_path / "clear.png", grey=False, at_least=None).mode == "RGB"


def test_a_picture_taken_sideways_is_turned(tmp_path: Path):
    color = smooth(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(color).save(tmp_path / "side.png", exif=exif)
    found = np.asarray(decode_image(tmp_path / "side.png", grey=False, at_least=None))
    np.testing.assert_array_equal(found, np.rot90(color, -1))


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path):
    Image.fromarray(smooth(800, 1200)).save(tmp_path / "large.jpg", quality=95)
    assert decode_image(tmp_path / "large.jpg", grey=False, at_least=None).size == (1200, 800)
    small = decode_image(tmp_path / "large.jpg", grey=False, at_least=90)
    assert small.size == (300, 200)
    np.testing.assert_allclose(np.asarray(small), smooth(200, 300), atol=4)
    assert decode_image(tmp_path / "large.jpg", grey=True, at_least=300).size == (1200, 800)


@pytest.mark.parametrize("content", [b"", b"no image", "cut", "floats"])
def test_broken_files(content: bytes | str, tmp_path: Path):
    file = tmp_path / "x.png"
    if content == "floats":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(file := tmp_path / "x.tif")
    elif content == "cut":
        whole = io.BytesIO()
        Image.effect_noise((40, 40), 50).save(whole, "PNG")
        file.write_bytes(whole.getvalue()[:200])
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    with pytest.raises(BrokenPictureError, match="can't be read as an image"):
        decode_image(file, grey=False, at_least=None)


def test_frames_of_a_video_are_spread_over_it(tmp_path: Path):
    av = pytest.importorskip("av")
    file = tmp_path / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 200, 10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    frames = list(decode_frames(file, [0.125, 0.375, 0.625, 0.875], grey=False))
    assert [frame.size for frame in frames] == [(64, 48)] * 4
    np.testing.assert_allclose([np.asarray(frame).mean() for frame in frames], [20, 70, 120, 170], atol=6)
    file.write_bytes(b"no video")
    with pytest.raises(BrokenPictureError, match="can't be read as a video"):
        list(decode_frames(file, [0.5], grey=False))
