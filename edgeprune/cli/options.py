"""Options that several commands share; a command receives them under the names given here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from edgeprune.cli.quantity import Range, Share, parse_numbers
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from edgeprune.calibration import CalibrationSpec

    TextType = click.ParamType[str]
else:
    TextType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])
Shapes = dict[str, tuple[int, ...]]


class Source(TextType):
    """A file or folder, ``file.py:function``, or a keyword such as ``random``; the value stays text."""

    name = "source"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return click.Path().shell_complete(ctx, param, incomplete)


def complete_targets(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Targets that begin with the incomplete name, for the shell."""
    from edgeprune.devices import target_names

    return [name for name in target_names() if name.startswith(incomplete)]


FILE = click.Path(path_type=Path)
SOURCE = Source()
POSITIVE = Range(min=0, min_open=True)
SHARE = Share(0, 1, min_open=True)

model_argument = click.argument("model", type=FILE)
target_option = click.option(
    "--target", required=True, shell_complete=complete_targets, help="The device; `edgeprune targets` lists all."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a CPU target."
)
compile_runtime_option = click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "openvino", "auto"]),
    help="What runs the result on a CPU: auto measures onnxruntime and OpenVINO (the [openvino] extra) and keeps the "
    "faster [default: onnxruntime].",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "openvino"]),
    help="What runs models on a CPU; openvino needs the [openvino] extra [default: onnxruntime].",
)
device_option = click.option(
    "--device",
    metavar="ADDRESS",
    help="Address of the attached target, to measure on it: ssh://user@host[:port], or local.",
)


def _one_or_several(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return values if len(values) > 1 else values[0] if values else None


devices_option = click.option(
    "--device",
    metavar="ADDRESS",
    multiple=True,
    callback=_one_or_several,
    help="Address of the attached target, to measure on it: ssh://user@host[:port], or local. Several boards of one "
    "kind: give it for each; they are measured at the same time, and their median counts.",
)
stats_device_option = click.option(
    "--stats-device",
    type=click.Choice(["cpu", "torch", "cuda"]),
    default="cpu",
    show_default=True,
    help="What computes statistics: onnxruntime on the CPU; or PyTorch, there or on a CUDA GPU.",
)
builds_option = click.option(
    "--builds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Engines of each model that are timed, with --device and TensorRT: builds differ by up to 4%.",
)
timing_cache_option = click.option(
    "--timing-cache",
    type=FILE,
    metavar="FILE",
    help="Timing cache by which trtexec builds all engines; made if there is no such file, and never changed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
statistic_option = click.option(
    "--allow-statistic", is_flag=True, help="Also cut axes over which a normalization computes statistics, and experts."
)


def output_options(named: str) -> Callable[[Command], Command]:
    """Add -o and --force, received as ``out`` and ``force``; ``named`` ends the default name of the folder."""

    def decorate(command: Command) -> Command:
        force = click.option("--force", is_flag=True, help="Replace the output folder if it exists.")
        folder = click.option(
            "-o",
            "--out",
            type=FILE,
            metavar="DIR",
            help=f"Output folder [default: MODEL.{named} in the working folder].",
        )
        return folder(force(command))

    return decorate


def shape_option(command: Command) -> Command:
    """Add --shape, received as ``shapes``: input name -> sizes."""

    def parse(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        if not values:
            return {}
        from edgeprune.graph import parse_shape_option

        return dict(parse_shape_option(value) for value in values)

    return click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=1x3x48x320",
        callback=parse,
        help="Sizes of an input with open axes, once for each input; they also count for what can be cut "
        "[default: the data's, else proposed].",
    )(command)


def calibration_options(command: Command, flag: str = "--calib") -> Command:
    """Add --calib and the options for images, received together as ``calibration``, a CalibrationSpec or None."""

    def numbers(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        if not (found := parse_numbers(value)):
            raise UsageError(f"--{parameter.name} takes numbers separated by commas, not {value!r}")
        return found

    def height_and_width(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
        if value is None:
            return None
        parts = value.lower().split("x")
        if not all(part.isdigit() and int(part) > 0 for part in parts) or len(parts) > 2:
            raise UsageError(f"--size takes HEIGHTxWIDTH in pixels, such as 224x224, not {value!r}")
        return int(parts[0]), int(parts[-1])

    def sources(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | dict[str, str] | None:
        halves = [value.partition("=") for value in values]
        if len(values) == 1:
            name, equals, source = halves[0]
            named = equals and source and not Path(values[0]).exists() and Path(source.partition(".py:")[0]).exists()
            return {name: source} if named else values[0]
        if not values:
            return None
        if unnamed := next((value for value, (_, equals, _) in zip(values, halves, strict=True) if not equals), None):
            raise UsageError(
                f"{flag} is given {len(values)} times: name the input that each feeds, as in {flag} NAME={unnamed}"
            )
        if len({name for name, _, _ in halves}) < len(values):
            raise UsageError(f"{flag} names an input twice")
        return {name: source for name, _, source in halves}

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        return command(*args, calibration=calibration_of(options), **options)

    for option in reversed(
        (
            click.option(
                flag,
                "calib",
                type=SOURCE,
                multiple=True,
                callback=sources,
                metavar="SRC",
                help=("Calibration data" if flag == "--calib" else "Data without labels")
                + ": an .npz or .npy keyed by input name; a folder of images and videos, a .txt "
                "with one file a line, or a video; file.py:function that yields feeds; or `random` numbers, which say "
                "nothing about your data. Several inputs: once for each, as NAME=SRC.",
            ),
            click.option(
                f"{flag}-samples", "calib_samples", type=click.IntRange(min=1), help="Use at most this many samples."
            ),
            click.option(
                "--preprocess",
                type=click.Choice(["auto", "none", "ultralytics", "timm", "torchvision", "imagenet"]),
                help="Images: prepare them as these libraries do; auto: as the export's metadata says [default: auto].",
            ),
            click.option(
                "--fit",
                metavar="HOW",
                help="Images: stretch, letterbox, crop (the shorter side is resized, the center cut out), "
                "crop:FRACTION or center (no resize) [default: stretch].",
            ),
            click.option(
                "--channel-order", type=click.Choice(["RGB", "BGR"]), help="Images: order of colors [default: RGB]."
            ),
            click.option(
                "--mean",
                metavar="R,G,B",
                callback=numbers,
                help="Images: subtracted from pixels in 0..1; numbers above 1: from pixels in 0..255.",
            ),
            click.option("--std", metavar="R,G,B", callback=numbers, help="Images: then divides the pixels."),
            click.option(
                "--layout",
                type=click.Choice(["NCHW", "NHWC"]),
                help="Images: order of axes [default: by the model's shape].",
            ),
            click.option(
                "--size", metavar="HxW", callback=height_and_width, help="Images and open axes: height and width."
            ),
            click.option("--strict", is_flag=True, help="Images: stop at a file that cannot be read; else skip it."),
        )
    ):
        option(wrapped)
    return cast(Command, wrapped)


def calibration_of(options: dict[str, Any]) -> CalibrationSpec | None:
    """What the parameters of `calibration_options` say, which are taken out of the others."""
    names = ("mean", "std", "layout", "size", "preprocess", "fit", "channel_order", "strict")
    images = {name: options.pop(name) for name in names}
    calib, limit = options.pop("calib"), options.pop("calib_samples")
    from edgeprune.calibration import CalibrationSpec

    return None if calib is None else CalibrationSpec(calib, limit=limit, **images)


def choice_options(command: Command) -> Command:
    """Add --outputs and --fidelity, received together as ``choice``."""

    @functools.wraps(command)
    def wrapped(*args: Any, outputs: str | None, fidelity: tuple[str, ...], **options: Any) -> Any:
        from edgeprune.outputs import Choice

        return command(*args, choice=Choice.parse(outputs, fidelity), **options)

    weights = click.option(
        "--outputs",
        metavar="NAME[=WEIGHT],...",
        help="Outputs of the model that count, with their weights [default: all, equally].",
    )
    metrics = click.option(
        "--fidelity",
        multiple=True,
        metavar="NAME=METRIC",
        help="Compare an output with the original's by top1, cosine, sqnr, iou, detections or equal [default: by what "
        "it is].",
    )
    return cast(Command, weights(metrics(wrapped)))
