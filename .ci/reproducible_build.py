"""setuptools as a build backend whose archives are the same, byte for byte, whenever and wherever they are made.

Its wheels are so under SOURCE_DATE_EPOCH; its sdist holds the times and owners of the files it was made from. Both get
that time, or 1980-01-01, the earliest that a wheel can state.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # the other hooks, editable installs among them

_EARLIEST_S = 315532800


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the wheel, at the fixed time unless there is another."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(_EARLIEST_S))
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    return name


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Build the source archive, then write it anew with names in order and nothing of this machine."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    file = Path(sdist_directory) / name
    time_s = int(os.environ.get("SOURCE_DATE_EPOCH", _EARLIEST_S))
    buffer = io.BytesIO()
    with tarfile.open(file) as old, tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda m: m.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time_s, 0, 0, "", ""
            member.mode, member.pax_headers = (0o755 if member.isdir() or member.mode & 0o100 else 0o644), {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with file.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=time_s) as packed:
        packed.write(buffer.getvalue())
    return name
