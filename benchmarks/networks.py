"""The networks of the comparisons, as torch modules with random weights, and their ONNX exports."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from edgeprune import graph

NETWORKS = (
    *("tv:resnet50", "tv:mobilenet_v2", "timm:deit_small_patch16_224", "timm:swin_tiny_patch4_window7_224"),
    *("tv:shufflenet_v2_x1_0", "timm:ghostnet_100", "timm:hrnet_w18_small", "tv:densenet121", "tv:swin_t"),
    *("tv:alexnet", "tv:convnext_tiny", "tv:efficientnet_b0", "tv:googlenet", "tv:inception_v3", "tv:mnasnet1_0"),
    *("tv:mobilenet_v3_large", "tv:regnet_x_400mf", "tv:regnet_y_400mf", "tv:resnet18", "tv:resnext50_32x4d"),
    *("tv:squeezenet1_1", "tv:vgg16_bn", "tv:vit_b_16", "tv:wide_resnet50_2", "tv:maxvit_t"),
    *("tv:fcn_resnet50", "tv:deeplabv3_resnet50", "tv:lraspp_mobilenet_v3_large"),
    *("timm:beit_base_patch16_224", "timm:cait_xxs24_224", "timm:convnext_atto", "timm:convnextv2_atto"),
    *("timm:cspresnet50", "timm:dla34", "timm:efficientformer_l1", "timm:efficientnet_lite0", "timm:fastvit_t8"),
    *("timm:levit_128s", "timm:mixer_s16_224", "timm:mobilenetv4_conv_small", "timm:mobilevit_xxs"),
    *("timm:poolformer_s12", "timm:pvt_v2_b0", "timm:repvgg_a0", "timm:res2net50_26w_4s", "timm:resnest14d"),
    *("timm:seresnet50", "timm:xcit_nano_12_p16_224", "ultralytics:yolov8n"),
)

_SEGMENTATION = ("fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large")


class _FirstOutput(nn.Module):
    """A network that returns a dictionary or a tuple, with only its main output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.network(x)
        return found["out"] if isinstance(found, dict) else found[0]


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network in evaluation mode, and an input of its usual size."""
    family, _, model = name.partition(":")
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # it has no ONNX form
    size = {"inception_v3": 299, "yolov8n": 320}.get(model, 224)
    if family == "timm":
        import timm

        network = timm.create_model(model, pretrained=False)
    elif family == "ultralytics":
        from ultralytics import YOLO

        network = _FirstOutput(YOLO(f"{model}.yaml").model.float())
    else:
        import torchvision

        if model in _SEGMENTATION:
            network = getattr(torchvision.models.segmentation, model)(weights=None, weights_backbone=None)
            network = _FirstOutput(network)
        else:
            more = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
            network = getattr(torchvision.models, model)(weights=None, **more)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval(), torch.randn(1, 3, size, size)


def export(network: nn.Module, example: torch.Tensor) -> ir.Model:
    """The network's ONNX export by TorchScript, as edgeprune loads it."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), str(path), opset_version=17, dynamo=False)
        return graph.load(path)
