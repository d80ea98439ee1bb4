from edgeprune.support.process_usage import TemporaryFiles, peak_memory_bytes, processor_s


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
