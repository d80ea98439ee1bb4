"""A plan back onto a checkpoint, with PyTorch through both exporters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.build.plan import GroupPlan, Plan
from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.errors import ModelError, UsageError
from edgeprune.pytorch.apply import apply_plan

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


MODULES = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.block = Block(32)
        self.depthwise, self.pointwise = nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 48, 1)
        self.mlp = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 48))
        self.gamma = nn.Parameter(torch.full((48,), 0.1))
        self.fc1, self.fc2 = nn.Linear(48, 64), nn.Linear(64, 10)

    def forward(self, image):
        x = self.block(torch.relu(self.bn(self.stem(image))))
        x = torch.relu(self.pointwise(self.depthwise(x))).mean((2, 3))
        return self.fc2(nn.functional.gelu(self.fc1(x + self.gamma * self.mlp(x))))


def trained():
    torch.manual_seed(0)
    net = Net()
    nn.init.uniform_(net.gamma, 0.1, 0.5)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return net.eval()


def untrained():
    torch.manual_seed(0)
    return Net().eval()


def other():
    return nn.Linear(3, 3)
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, [str(a) for a in arguments])
    said = capsys.readouterr()
    return exited.value.code, said.out, said.err


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    np.savez("calib.npz", image=draw(32, 3, 16, 16))
    Path("nets.py").write_text(MODULES)
    return Path("nets.py")


def save(modules: Path, function: str) -> None:
    import torch

    space: dict[str, Any] = {}
    exec(modules.read_text(), space)
    torch.save({"state_dict": space[function]().state_dict(), "epoch": 3}, "net.pt")


@pytest.mark.filterwarnings("ignore::Warning:torch", "ignore::Warning:copyreg", "ignore::Warning:onnxscript")
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("function", ["trained", "untrained"])
def test_the_cut_module_equals_the_pruned_model(
    modules: Path, exporter: str, function: str, capsys: pytest.CaptureFixture[str]
):
    import torch

    save(modules, function)
    flags = ("--shape", "image=1x3x16x16", "--exporter", exporter, "-o", "net.onnx")
    code, out, err = run(capsys, "export", f"nets.py:{function}", *flags, "-q", "--json")
    assert code == 0, err
    assert json.loads(out)["deviation"] < 1e-5
    assert run(capsys, "prune", "net.onnx", "--ratio", 0.5, "--calib", "calib.npz", "-o", "out", "-q")[0] == 0
    module = ("--module", f"nets.py:{function}")
    code, out, err = run(capsys, "apply", "out/plan.json", "net.pt", "-o", "cut.pt", *module, "--json", "-q")
    assert code == 0, err
    found = json.loads(out)
    assert found["weights"] == "compiled"
    assert found["checked"] == "outputs of the cut module against model.onnx"
    assert found["deviation"] < 1e-5
    assert found["parameters"]["after"] < 0.5 * found["parameters"]["before"]
    cut = torch.load("cut.pt", weights_only=True)
    assert cut["block.bn1.running_var"].shape == cut["block.conv1.weight"].shape[:1] == (16,)
    assert cut["depthwise.weight"].shape[0] == cut["depthwise.bias"].shape[0] < 32
    code, out, _ = run(
        capsys, "apply", "out", "net.pt", "-o", "own.pt", "--weights", "checkpoint", "--json", "-q", *module
    )
    assert code == 0
    assert json.loads(out)["checked"] == "outputs of the cut module against the cut dense.onnx"


@pytest.mark.filterwarnings("ignore::Warning:torch", "ignore::Warning:copyreg", "ignore::Warning:onnxscript")
def test_what_does_not_belong_together_is_refused(modules: Path, capsys: pytest.CaptureFixture[str]):
    save(modules, "trained")
    flags = ("--shape", "image=1x3x16x16", "--exporter", "torchscript", "-o", "net.onnx", "-q")
    assert run(capsys, "export", "nets.py:untrained", *flags)[0] == 0
    assert run(capsys, "prune", "net.onnx", "--ratio", 0.5, "--no-compensate", "-o", "out", "-q")[0] == 0
    code, _, err = run(capsys, "apply", "out", "net.pt", "-q")
    assert code == 3
    assert "comes from no tensor of the checkpoint" in err or "BatchNormalization" in err
    Path("text.pt").write_text("no checkpoint")
    for arguments, code, sentence in (
        (("apply", "out", "text.pt"), 2, "'text.pt' is not read"),
        (("apply", "out", "none.pt"), 2, "there is no checkpoint 'none.pt'"),
        (("apply", "none/plan.json", "net.pt"), 2, "cannot read 'none/plan.json': No such file"),
        (("export", "nets.py:nothing"), 2, "has no function 'nothing'"),
        (("export", "nets.py:trained"), 2, "give the sizes of all inputs: --shape image=..., each such as 1x3x224x224"),
        (("export", "nets.py:trained", "--shape", "x=1"), 2, "the module's inputs are image"),
        (("export", "nets.py:trained", *flags), 2, "'net.onnx' exists; --force replaces it"),
        (("export", "nets.py:trained", "--shape", "image=1x4x9x9", "-o", "n.onnx"), 2, "does not run on its inputs"),
        (("export", "lib/net", "-o", "n.onnx"), 2, "neither file.py:function nor a name"),
    ):
        found, _, err = run(capsys, *arguments, *(() if "-q" in arguments else ("-q",)))
        assert (found, err.count("\n")) == (code, 1), err
        assert sentence in err


@pytest.mark.filterwarnings("ignore::Warning:torch", "ignore::Warning:copyreg", "ignore::Warning:onnxscript")
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_open_axis_is_open(modules: Path, exporter: str, capsys: pytest.CaptureFixture[str]):
    flags = ("--shape", "image=1x3x16x16", "--dynamic", "image:0", "--exporter", exporter, "-o", "net.onnx")
    code, out, err = run(capsys, "export", "nets.py:trained", *flags, "--json", "-q")
    assert code == 0, err
    assert json.loads(out)["inputs"] == {"image": ["batch", 3, 16, 16]}


def test_a_dropped_branch_is_refused(tmp_path: Path):
    group = GroupPlan("w1:0", "channel", 8, (), ("w1", "w2"))
    Plan("cpu", "net.onnx", "0" * 64, (group,), {}, ()).save(tmp_path / "plan.json")
    with pytest.raises(ModelError, match="the branch of 'w1:0' is dropped"):
        apply_plan(tmp_path, tmp_path / "net.pt")


def test_without_torch_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import builtins

    from edgeprune.errors import BackendError
    from edgeprune.pytorch.export import export_model

    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendError, match=r"pip install 'edgeprune\[torch\]'"):
        export_model("resnet18", tmp_path / "x.onnx")
    with pytest.raises(UsageError, match="does not exist"):
        export_model("resnet18", tmp_path / "none" / "x.onnx")
