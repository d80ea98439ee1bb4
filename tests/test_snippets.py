"""Every Python snippet of the documents runs, in a folder with the files that they name."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from edgeprune.dependency import dims
from edgeprune.importance import registry
from tests.dependency.rules.cases import Case
from tests.quick_timing import time_quickly
from tests.small_models import build, normal
from tests.test_documents import BLOCK, DOCUMENTS, ROOT

SNIPPETS = [
    pytest.param(document, code, id=f"{document.relative_to(ROOT)}:{text[: text.index(code)].count(chr(10)) + 1}")
    for document in DOCUMENTS
    for text in [document.read_text(encoding="utf-8")]
    for language, code in BLOCK.findall(text)
    if language == "python"
]

SIZE = 32


def redundant() -> ir.Model:
    """A classifier of images whose 96 inner channels repeat 4, so that any speed-up that is asked for can be had."""
    repeated = np.repeat(normal(4, 3, 3, 3), 24, axis=0)
    between = np.tile(np.repeat(normal(4, 4, 3, 3), 24, axis=0), (1, 24, 1, 1)) / 24
    return build(
        f"""g (float[n,3,{SIZE},{SIZE}] x) => (float[n,5] y) {{
            a = Conv<pads=[1,1,1,1]>(x, w1)
            b = Relu(a)
            c = Conv<pads=[1,1,1,1]>(b, w2)
            d = Relu(c)
            e = GlobalAveragePool(d)
            f = Flatten(e)
            y = Gemm<transB=1>(f, w3, b3)
        }}""",
        w1=repeated,
        w2=between,
        w3=normal(5, 96),
        b3=normal(5),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a reader who has a model, some photos, and a compiled model in ``out``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    time_quickly(monkeypatch)
    monkeypatch.setattr(dims, "_RULES", dict(dims._RULES))
    monkeypatch.setattr(registry, "CRITERIA", dict(registry.CRITERIA))
    rng = np.random.default_rng(0)
    for place in (tmp_path, tmp_path / "out"):
        place.mkdir(exist_ok=True)
        ir.save(redundant(), place / "model.onnx")
    np.savez("images.npz", x=rng.random((24, 3, SIZE, SIZE), np.float32))
    (tmp_path / "photos").mkdir()
    for number in range(24):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(f"photos/{number}.png")
    return tmp_path


def around(document: Path) -> dict[str, object]:
    """Names that a document takes as given: those of the file that its snippet is a line of."""
    given: dict[str, object] = {"__name__": "snippet"}
    if document.name == "devices.md":
        given["x"] = np.zeros((1, 3, SIZE, SIZE), np.float32)
    if document.name == "CONTRIBUTING.md":
        given |= {"Case": Case, "ir": ir}
        for module in ("edgeprune.dependency", "edgeprune.importance.registry", "edgeprune.importance.context"):
            given |= vars(importlib.import_module(module))
    return given


@pytest.mark.parametrize(("document", "code"), SNIPPETS)
def test_a_snippet_runs(document: Path, code: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    names = around(document)
    if document.name == "CONTRIBUTING.md":
        dims._RULES.clear()  # it shows a rule that exists
    exec(compile(code, document.name, "exec"), names)
    if "compile(" in code:
        assert (folder / "model.cpu" / "recipe.toml").is_file()
        speedup, drop = map(float, capsys.readouterr().out.split())
        assert speedup >= 2
        assert drop < 100
    if "outputs" in names:
        assert [output.shape for output in names["outputs"]] == [(1, 5)]
