"""Everything that is written appears whole or not at all: into a temporary place beside it first, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeprune.errors import UsageError

OUTPUT_FILES = frozenset({"model.onnx", "dense.onnx", "plan.json", "report.json"})
"""A folder that holds one of these was written by edgeprune, and ``--force`` may delete it."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_output(folder: Path, *, force: bool) -> None:
    """Refuse an output folder that can't be written at the end, before the work begins.

    Raises:
        UsageError: It exists and ``force`` is not given, or it may not be replaced: it is a file, a link, a folder with
            files of others, or one that holds the working folder.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"the output folder {str(folder)!r} exists and is no folder")
    if not force:
        raise UsageError(f"the output folder {str(folder)!r} exists; --force replaces it")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(f"the output folder {str(folder)!r} holds the working folder, and is not replaced")
    names = {entry.name for entry in folder.iterdir()}
    if names and not names & OUTPUT_FILES:
        raise UsageError(
            f"the folder {str(folder)!r} was not written by edgeprune (it has no report.json), so --force does not "
            "delete it; remove it yourself, or name another with -o"
        )


@contextlib.contextmanager
def output_folder(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """A new, empty folder to write into, which becomes ``folder`` when the context ends without an error.

    On any error, Ctrl-C and a full disk included, nothing of it stays and an old folder is as it was.

    Args:
        folder: Where the result is to be. Folders above it are made.
        force: Replace an output folder that is there already.

    Raises:
        UsageError: See `check_output`; or the disk is full, or the place can't be written to.
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
    """Write a text file, UTF-8, whole or not at all; one that exists is replaced.

    Raises:
        UsageError: The disk is full, or the place can't be written to.
    """
    fresh = _beside(file)
    with _writing_to(file, fresh):
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)


def _swap(fresh: Path, folder: Path) -> None:
    """Put ``fresh`` where ``folder`` is; the old one is deleted once the new one is in place, or put back."""
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
    """Make the folders above ``folder``, and take those that were made away again after an error."""
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
    """Turn the operating system's refusal to write ``path``, or below one of the other places, into a sentence."""
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
    """A name beside ``file`` to write to, which becomes ``file`` when the context ends without an error.

    Raises:
        UsageError: ``file`` exists and ``force`` is not given; the disk is full, or the place can't be written to.
    """
    check_file(file, force=force)
    fresh = _beside(file)
    with _writing_to(file, fresh):
        try:
            yield fresh
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)


def check_file(file: Path, *, force: bool) -> None:
    """Refuse an output file that can't be written at the end, before the work begins.

    Raises:
        UsageError: it exists and ``force`` is not given, or is no file; or its folder is not there.
    """
    if file.is_dir():
        raise UsageError(f"the output {str(file)!r} is a folder")
    if os.path.lexists(file) and not force:
        raise UsageError(f"the output file {str(file)!r} exists; --force replaces it")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"the folder of the output file {str(file)!r} does not exist")
