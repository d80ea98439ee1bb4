from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.support import processor as cpu


def test_this_cpu_has_a_name_and_cores():
    found = cpu.this_cpu()
    assert found.name
    assert found.cores >= 1
    assert str(found).startswith(f"{found.name}, {found.cores} core")


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (
            "processor\t: 0\nmodel name\t: Some  CPU\nflags\t\t: fpu avx2 avx512_vnni\n",
            "Some CPU",
            ("avx2", "avx512_vnni"),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n\nModel\t\t: A Board\n", "A Board", ("asimd", "asimddp")),
    ],
)
def test_linux_facts(text: str, name: str, features: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    monkeypatch.setattr(cpu, "Path", lambda _: file)
    found = cpu.this_cpu.__wrapped__()
    assert (found.name, found.features) == (name, features)
