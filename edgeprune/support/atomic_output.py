"""Atomic output: a file or folder is written under a temporary name beside its place, then renamed.

It appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeprune.errors import UsageError

OUTPUT_FILES = frozenset({"model.onnx", "dense.onnx", "plan.json", "report.json"})
"""edgeprune wrote a folder that holds one of these, so ``--force`` may delete it."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_output(folder: Path, *, force: bool, needs_bytes: int = 0) -> None:
    """Refuse, before the work begins, an output folder that could not be written at its end.

    Args:
        folder: the output folder.
        force: an old one may be replaced.
        needs_bytes: about what will be written.

    Raises:
        UsageError: It exists and ``force`` is not given; it may not be replaced, because it is a file, a link, a
            folder that edgeprune did not write, or one that contains the working folder; its place cannot be written,
            or has too little room.
    """
    if os.path.lexists(folder):
        _check_replaceable(folder, force=force)
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    _check_writable(place, folder)
    if (free := shutil.disk_usage(place).free) < needs_bytes:
        raise UsageError(
            f"the output folder {str(folder)!r} needs about {_megabytes(needs_bytes)}, but its disk has "
            f"{_megabytes(free)} left: name another folder with -o"
        )


def check_temporary_room(needs_bytes: int) -> None:
    """Refuse, before the work begins, to work without room for temporary files.

    Raises:
        UsageError: no folder for temporary files can be written, or it has less than ``needs_bytes`` left.
    """
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        raise UsageError("no folder for temporary files can be written: name one in TMPDIR") from None
    if (free := shutil.disk_usage(folder).free) < needs_bytes:
        raise UsageError(
            f"temporary files need about {_megabytes(needs_bytes)}, but {folder!r} has {_megabytes(free)} left: name "
            "another folder in TMPDIR"
        )


def _check_writable(place: Path, output: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {str(output)!r}: {error.strerror}") from error


def _megabytes(size: int) -> str:
    return f"{max(1, round(size / 1e6)):,} MB"


def _check_replaceable(folder: Path, *, force: bool) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"the output folder {str(folder)!r} exists and is not a folder")
    if not force:
        raise UsageError(f"the output folder {str(folder)!r} exists; --force replaces it")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(f"the output folder {str(folder)!r} contains the working folder, so it is not replaced")
    names = {entry.name for entry in folder.iterdir()}
    if names and not names & OUTPUT_FILES:
        raise UsageError(
            f"edgeprune did not write the folder {str(folder)!r} (it has no report.json), so --force does not "
            "delete it; remove it yourself, or name another folder with -o"
        )


@contextlib.contextmanager
def output_folder(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """A new, empty folder to write into, which becomes ``folder`` when the context ends without an error.

    After any error, also Ctrl-C or a full disk, the new folder is deleted and an old one is unchanged.

    Args:
        folder: Path of the result. Missing parent folders are created.
        force: Replace an output folder that exists.

    Raises:
        UsageError: See `check_output`; or the disk is full, or the path cannot be written.
    """
    check_output(folder, force=force)
    fresh = _beside(folder)
    with _missing_parents(folder), _writing_to(folder, fresh):
        fresh.mkdir()
        try:
            yield fresh
            _swap(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; an existing one is replaced.

    Raises:
        UsageError: The disk is full, or the path cannot be written.
    """
    with _replacement(file) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _swap(fresh: Path, folder: Path) -> None:
    """Put ``fresh`` in the place of ``folder``; if that fails, the old folder is restored."""
    if not folder.exists():
        fresh.rename(folder)
        return
    old = _beside(folder)
    folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def _missing_parents(folder: Path) -> Iterator[None]:
    """Create the missing parents of ``folder``; remove them again after an error."""
    missing = [parent for parent in folder.absolute().parents if not parent.exists()]
    with _writing_to(folder, folder.absolute().parent, *missing):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise


@contextlib.contextmanager
def _writing_to(path: Path, *places: Path) -> Iterator[None]:
    """Report as a `UsageError` that ``path``, or something below one of the other places, cannot be written."""
    try:
        yield
    except OSError as error:
        file = Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, (str, bytes)) else None
        ours = file is not None and any(file.is_relative_to(place.absolute()) for place in (path, *places))
        if not (ours or error.errno in _DISK_FULL):
            raise
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error


@contextlib.contextmanager
def output_file(file: Path, *, force: bool = False) -> Iterator[Path]:
    """A path beside ``file`` to write to; it becomes ``file`` when the context ends without an error.

    Raises:
        UsageError: ``file`` exists and ``force`` is not given; the disk is full, or the path cannot be written.
    """
    check_file(file, force=force)
    with _replacement(file) as fresh:
        yield fresh


@contextlib.contextmanager
def _replacement(file: Path) -> Iterator[Path]:
    fresh = _beside(file)
    with _writing_to(file, fresh):
        try:
            yield fresh
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)


def check_file(file: Path, *, force: bool) -> None:
    """Refuse, before the work begins, an output file that could not be written at its end.

    Raises:
        UsageError: it exists and ``force`` is not given, it is a folder, or its folder does not exist or cannot
            be written.
    """
    if file.is_dir():
        raise UsageError(f"the output {str(file)!r} is a folder")
    if os.path.lexists(file) and not force:
        raise UsageError(f"the output file {str(file)!r} exists; --force replaces it")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"the folder of the output file {str(file)!r} does not exist")
    _check_writable(file.absolute().parent, file)
