"""What the commands share: options, and how a run ends: its exit code and one sentence about what went wrong."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

from edgeprune.calibration_spec import CalibrationSpec
from edgeprune.errors import BackendError, EdgepruneError, ModelError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from edgeprune.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

INTERRUPTED = 130
TERMINATED = 143
_WIDTH_OF_A_LOG = 160

MODEL = click.Path(path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)


@dataclass(frozen=True)
class Shown:
    """How much a command tells."""

    quiet: bool

    def progress(self) -> Progress:
        """Bars on a terminal, lines elsewhere, nothing under --quiet; all on standard error."""
        from edgeprune.progress import Progress, TerminalProgress

        return Progress() if self.quiet else TerminalProgress(error_console())


def say_how_much(command: Command) -> Command:
    """Add --quiet and --verbose; the command receives a `Shown`, and its errors show their traceback if asked to."""

    @functools.wraps(command)
    def wrapped(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        try:
            return command(*args, shown=Shown(quiet), **options)
        except Exception:
            if verbose or os.environ.get("EDGEPRUNE_DEBUG", "0") not in ("", "0"):
                traceback.print_exc()
            raise

    click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error (so does EDGEPRUNE_DEBUG=1).")(
        wrapped
    )
    click.option("-q", "--quiet", is_flag=True, help="Show no progress, only the result.")(wrapped)
    return cast(Command, wrapped)


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
        help="Fix the sizes of an input that leaves some open; may be given once an input.",
    )(command)


def calibration_options(command: Command) -> Command:
    """Add --calib and what goes with images, received together as ``calibration``, a CalibrationSpec or None."""

    def numbers(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            raise UsageError(f"--{parameter.name} takes numbers with commas between, not {value!r}") from None

    def height_and_width(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
        if value is None:
            return None
        parts = value.lower().split("x")
        if not all(part.isdigit() and int(part) > 0 for part in parts) or len(parts) > 2:
            raise UsageError(f"--size takes HEIGHTxWIDTH in pixels, such as 224x224, not {value!r}")
        return int(parts[0]), int(parts[-1])

    @functools.wraps(command)
    def wrapped(*args: Any, calib: str | None, calib_samples: int | None, **options: Any) -> Any:
        images = {name: options.pop(name) for name in ("mean", "std", "layout", "size")}
        calibration = None if calib is None else CalibrationSpec(calib, limit=calib_samples, **images)
        return command(*args, calibration=calibration, **options)

    for option in reversed(
        (
            click.option(
                "--calib",
                metavar="SRC",
                help="Calibration data: an .npz or .npy keyed by input name, a folder of images, file.py:function that "
                "yields feeds, or `random`, which knows nothing of your data.",
            ),
            click.option("--calib-samples", type=click.IntRange(min=1), help="Use at most so many samples of it."),
            click.option("--mean", metavar="R,G,B", callback=numbers, help="Images: subtracted from pixels in 0..1."),
            click.option("--std", metavar="R,G,B", callback=numbers, help="Images: what is left is divided by this."),
            click.option(
                "--layout", type=click.Choice(["NCHW", "NHWC"]), default="NCHW", help="Images: order of axes."
            ),
            click.option("--size", metavar="HxW", callback=height_and_width, help="Images: resize to this."),
        )
    ):
        option(wrapped)
    return cast(Command, wrapped)


def parse_fraction(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``5%`` or ``0.05`` as 0.05; a bare 5 is refused, since it may mean either."""
    if value is None:
        return None
    flag = parameter.opts[-1]
    text = value.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"{flag} takes a share such as 5%, not {value!r}") from None
    if text.endswith("%"):
        return number / 100
    if number >= 1:
        raise UsageError(f"{flag} {value} is not clear: write {value}% for a percentage")
    return number


def output_console() -> Console:
    """Where results go: standard output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_LOG)


def error_console() -> Console:
    """Where progress and notes go: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _WIDTH_OF_A_LOG)


def print_json(data: Mapping[str, object]) -> None:
    """Print one JSON object on standard output."""
    import json

    click.echo(json.dumps(data, indent=1, allow_nan=False))


def run_and_exit(group: click.Group, arguments: list[str] | None) -> NoReturn:
    """Run the command line and leave with its exit code; what went wrong is one sentence on standard error."""
    with _exit_on_termination():
        code = _run(group, arguments)
    sys.exit(code)


def _run(group: click.Group, arguments: list[str] | None) -> int:
    try:
        # Not group.main: it leaves with exit code 1, a failed gate's, when the reader of a pipe goes away.
        with group.make_context("edgeprune", list(sys.argv[1:] if arguments is None else arguments)) as context:
            result = group.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _end("interrupted", INTERRUPTED)
    except click.ClickException as error:
        return _end(error.format_message(), UsageError.exit_code)
    except EdgepruneError as error:
        return _end(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough; closing standard output at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _end("there is not enough memory for this model on this machine", BackendError.exit_code)
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        return _end(f"{error.strerror or error}{where}", UsageError.exit_code)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        return _end(f"a fault in edgeprune stopped it ({text}); --verbose shows where", ModelError.exit_code)


def _end(sentence: str, code: int) -> int:
    click.echo(f"edgeprune: {' '.join(sentence.split())}", err=True)
    return code


@contextlib.contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that nothing half-written stays."""

    def leave(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
