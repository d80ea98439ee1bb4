"""PyTorch modules to export: from a user's function, or by a name in timm, torchvision or ultralytics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeprune.errors import BackendError, UsageError
from edgeprune.images import METADATA_KEY, Preprocessing, metadata_text
from edgeprune.pytorch.checkpoint import import_torch, read_tensors
from edgeprune.pytorch.fitted_module import run_module
from edgeprune.pytorch.image_conventions import of_timm, of_torchvision, of_ultralytics
from edgeprune.support import describe_failure, is_function_spec, load_function

Shape = tuple[int, ...]

_INPUT = "images"
_DETECTOR_SIZE = 640
_CLASSIFIER_SIZE = 224


@dataclass(frozen=True, eq=False)
class TorchSource:
    """A module with example inputs.

    Attributes:
        module: in evaluation mode, on the CPU; its forward takes tensors in order.
        inputs: input name -> example tensor, in that order.
        outputs: names of the outputs, if they are known.
        stem: for the name of the file.
        metadata: how the library prepares pictures for it, for the exported file.
    """

    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    stem: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_source(
    spec: str, *, shapes: Mapping[str, Sequence[int]], weights: Path | None, pretrained: bool, seed: int
) -> TorchSource:
    """The module of a specification.

    Args:
        spec: ``file.py:function``, or ``library/name``; a name without library is searched in all three libraries.
        shapes: input name -> sizes, instead of those of the library or the function.
        weights: a state dict to load.
        pretrained: download the published weights of a name; otherwise they are random.
        seed: of random weights and inputs.

    Raises:
        UsageError: there is no such module, or it cannot be made, or it does not take those weights.
        BackendError: PyTorch or the library is not installed.
    """
    torch = import_torch()
    torch.manual_seed(seed)
    if is_function_spec(spec):
        if pretrained:
            raise UsageError("--pretrained is for names; a function loads its own weights, or give --weights")
        found = _from_function(spec, shapes)
    else:
        found = _from_library(spec, shapes, pretrained)
    if weights is not None:
        try:
            found.module.load_state_dict(read_tensors(weights))
        except RuntimeError as error:
            raise UsageError(f"--weights {weights}: {describe_failure(error)}") from error
    found.module.eval()
    for parameter in found.module.parameters():
        parameter.requires_grad_(False)
    # Before an exporter traces it: some modules store values that they compute in their first run, such as anchors.
    run_module(found.module, found.inputs.values(), f"{spec} does not run on its inputs", UsageError)
    return found


def _from_function(spec: str, shapes: Mapping[str, Sequence[int]]) -> TorchSource:
    torch = import_torch()
    function = load_function(spec, UsageError)
    try:
        returned = function()
    except Exception as error:  # the user's code may raise any error
        raise UsageError(f"{spec}: {describe_failure(error)}") from error
    module, given = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"{spec}: returned a {type(module).__name__}, not a torch.nn.Module or a module and its inputs"
        )
    names = _argument_names(module.forward)
    if isinstance(given, Mapping):
        inputs = {str(name): tensor for name, tensor in given.items()}
    elif given is not None:
        tensors = given if isinstance(given, (tuple, list)) else (given,)
        inputs = dict(zip(names, tensors, strict=False))
    else:
        inputs = {}
    inputs.update({name: torch.randn(*sizes) for name, sizes in shapes.items()})
    if not inputs:
        wanted = " ".join(f"--shape {name}=..." for name in names or ("x",))
        raise UsageError(f"{spec}: give the sizes of all inputs: {wanted}, each such as 1x3x224x224")
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise UsageError(
            f"--shape names {unknown[0]!r}, which is not an input; the module's inputs are {', '.join(names)}"
        )
    odd = [name for name, tensor in inputs.items() if not isinstance(tensor, torch.Tensor)]
    if odd:
        raise UsageError(f"{spec}: the example of input {odd[0]!r} is not a tensor")
    return TorchSource(module, inputs, (), spec.rpartition(":")[2])


def _from_library(spec: str, shapes: Mapping[str, Sequence[int]], pretrained: bool) -> TorchSource:
    import_torch()
    library, slash, name = spec.partition("/")
    known = {"torchvision": _torchvision, "timm": _timm, "ultralytics": _ultralytics}
    if not slash:
        library, name = _library_of(spec, known), spec
    if library not in known:
        raise UsageError(f"{spec!r} is neither file.py:function nor a name of {', '.join(known)}")
    if find_spec(library) is None:
        raise BackendError(f"{library} is not installed; pip install {library}")
    if unknown := [key for key in shapes if key != _INPUT]:
        raise UsageError(f"--shape names {unknown[0]!r}; the input of {spec} is {_INPUT!r}")
    return known[library](name, shapes.get(_INPUT), pretrained)


def _library_of(name: str, known: Mapping[str, Callable[..., TorchSource]]) -> str:
    """The first library that has a model with this name.

    Raises:
        UsageError: no installed library has it.
        BackendError: no library is installed.
    """
    installed = [library for library in known if find_spec(library) is not None]
    if not installed:
        raise BackendError(f"{name!r} needs one of {', '.join(known)}; pip install torchvision")
    for library in installed:
        if library == "torchvision":
            from torchvision.models import list_models

            found = name in list_models()
        elif library == "timm":
            from timm import is_model

            found = bool(is_model(name))
        else:
            found = name.startswith(("yolo", "rtdetr"))
        if found:
            return library
    raise UsageError(f"no model is called {name!r} in {', '.join(installed)}")


def _torchvision(name: str, shape: Sequence[int] | None, pretrained: bool) -> TorchSource:
    from torchvision import models

    if name not in models.list_models():
        raise UsageError(f"torchvision has no model {name!r}")
    weights = models.get_model_weights(name)
    try:
        module = models.get_model(name, weights="DEFAULT" if pretrained else None, **_no_backbone(name, pretrained))
    except (OSError, RuntimeError) as error:
        raise _not_fetched(name, error) from error
    crop = getattr(getattr(weights, "DEFAULT", None), "transforms", lambda: None)()
    size = (getattr(crop, "crop_size", None) or [_CLASSIFIER_SIZE])[0]
    return TorchSource(module, _image(shape, size), (), name, _prepared(of_torchvision(crop)))


def _no_backbone(name: str, pretrained: bool) -> dict[str, object]:
    segmentation = ("deeplabv3", "fcn", "lraspp")
    return {"weights_backbone": None} if not pretrained and name.startswith(segmentation) else {}


def _timm(name: str, shape: Sequence[int] | None, pretrained: bool) -> TorchSource:
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}")
    try:
        module = timm.create_model(name, pretrained=pretrained, exportable=True)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(name, error) from error
    config = timm.data.resolve_model_data_config(module)
    return TorchSource(module, _image(shape, config["input_size"][-1]), (), name, _prepared(of_timm(config)))


def _prepared(how: Preprocessing | None) -> dict[str, str]:
    return {} if how is None else {METADATA_KEY: metadata_text(how)}


def _not_fetched(name: str, error: Exception) -> BackendError:
    why = describe_failure(error)
    return BackendError(
        f"the weights of {name} cannot be downloaded ({why}); give --weights FILE, or no --pretrained for random ones"
    )


def _ultralytics(name: str, shape: Sequence[int] | None, pretrained: bool) -> TorchSource:
    from ultralytics import RTDETR, YOLO

    try:
        whole = (RTDETR if name.startswith("rtdetr") else YOLO)(f"{name}.{'pt' if pretrained else 'yaml'}")
    except ConnectionError as error:
        raise _not_fetched(name, error) from error
    except (OSError, RuntimeError) as error:
        raise UsageError(f"ultralytics cannot make {name!r}: {describe_failure(error)}") from error
    module = whole.model.float().cpu().eval()
    for part in module.modules():
        # The attributes that ultralytics' own exporter sets, so that heads return only their predictions.
        if hasattr(part, "export"):
            part.export, part.format, part.dynamic = True, "onnx", False
    return TorchSource(module, _image(shape, _DETECTOR_SIZE), ("output0",), name, of_ultralytics(str(whole.task), name))


def _image(shape: Sequence[int] | None, size: int) -> dict[str, Any]:
    torch = import_torch()
    return {_INPUT: torch.rand(*(shape or (1, 3, size, size)))}


def _argument_names(forward: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in inspect.signature(forward).parameters.items() if parameter.kind in kinds]
