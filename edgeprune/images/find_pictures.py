"""Find pictures: the images and videos of a folder and its folders, of a list of files, or of one video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import CalibrationError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Picture:
    """An image file, or one frame of a video.

    Attributes:
        file: the image or the video.
        place: of the frame in the video, as a fraction of its length; None for an image.
    """

    file: Path
    place: float | None = None

    def __str__(self) -> str:
        return str(self.file) if self.place is None else f"{self.file} at {self.place:.0%}"


def is_picture_source(path: Path) -> bool:
    """Whether a path is a folder, a list of files, a video or an image."""
    return path.is_dir() or path.suffix.lower() in {LIST_SUFFIX, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES}


def find_pictures(source: Path, frames: int) -> tuple[Picture, ...]:
    """All pictures, in the order of their names or of the list.

    Args:
        source: a folder, whose folders are searched too; a text file with one file a line; a video; or an image.
        frames: the most frames of a video, spread evenly.

    Raises:
        CalibrationError: there are none, or a file of the list does not exist.
    """
    if source.is_dir():
        inside = (p for p in source.rglob("*") if not any(q.startswith(".") for q in p.relative_to(source).parts))
        files = sorted(p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and p.is_file())
    elif not source.is_file():
        raise CalibrationError(f"{source} does not exist")
    else:
        files = _listed(source) if source.suffix.lower() == LIST_SUFFIX else [source]
    if not files:
        raise CalibrationError(f"{source} has no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return tuple(picture for file in files for picture in _pictures(file, frames))


def _pictures(file: Path, frames: int) -> list[Picture]:
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        return [Picture(file)]
    return [Picture(file, (number + 0.5) / frames) for number in range(frames)]


def _listed(source: Path) -> list[Path]:
    """The files of a list, relative to its folder or the working folder; a number after a name is a label."""
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{source} is not a text file with one file a line: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        unlabelled = text.rsplit(maxsplit=1)[0] if text.split()[-1].isdigit() else text
        candidates = [folder / name for name in (text, unlabelled) for folder in (source.parent, Path())]
        existing = [file for file in candidates if file.is_file()]
        if not existing:
            raise CalibrationError(f"{source}, line {number}: there is no file {text!r}")
        found.append(existing[0])
    return found
