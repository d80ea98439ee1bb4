from __future__ import annotations

from edgeprune.report.versions import installed_versions


def test_versions_are_of_what_is_installed():
    versions = installed_versions()
    assert versions["onnxruntime"]
    assert list(versions)[:2] == ["edgeprune", "python"]
