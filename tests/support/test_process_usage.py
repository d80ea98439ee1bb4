import platform
from pathlib import Path

import pytest

from edgeprune.support import process_usage
from edgeprune.support.process_usage import TemporaryFiles, peak_memory_bytes, processor_s, release_memory


def test_processor_time_grows_with_work_and_memory_is_known() -> None:
    before = processor_s()
    assert sum(i * i for i in range(300_000)) > 0
    assert processor_s() > before
    assert peak_memory_bytes() > 10_000_000


def test_temporary_files_count_what_is_there_at_the_same_time() -> None:
    files = TemporaryFiles()
    for change in (100, 50, -100, 30):
        files.add(change)
    assert (files.bytes, files.most_bytes) == (80, 150)


class Circle:
    """Something that refers to itself, as the nodes and values of a model do."""

    def __init__(self) -> None:
        self.itself = self
        self.blocks = [bytes(50_000) for _ in range(2000)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
@pytest.mark.parametrize("grown", [True, False])
def test_unneeded_memory_goes_back_to_the_system_once_the_process_has_grown(
    grown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    monkeypatch.setattr(process_usage, "GROWTH_BYTES", 0 if grown else 1 << 40)
    Circle()
    last = bytes(50_000)  # the end of the heap stays in use
    before = held()
    release_memory()
    assert (held() < before - 50_000_000) == grown
    assert len(last) == 50_000
