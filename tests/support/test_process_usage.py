import platform
from pathlib import Path

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    blocks = [bytes(50_000) for _ in range(2000)]
    del blocks[:-1]  # the last one stays, so that the end of the heap does
    before = held()
    release_memory()
    assert held() < before - 50_000_000
