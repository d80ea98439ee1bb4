"""Progress of long steps, and the seconds that each step took on the clock and on the processor.

The library is silent by default. The command line shows bars on a terminal, and one line for each step elsewhere, as
in a CI log.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgeprune.support.process_usage import processor_s, release_memory
from edgeprune.support.step_times import StepTimes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID


class Step:
    """A running step; this class shows nothing."""

    def advance(self, amount: float = 1.0) -> None:
        """Add ``amount`` to what is done of the step's total."""

    def fraction(self, done: float) -> None:
        """Set the fraction of the step that is done, 0 to 1."""


class Progress:
    """Steps without a display.

    Attributes:
        seconds: step -> seconds it took; a step entered twice adds up.
        processor_s: step -> processor seconds it took, those of steps inside it included.
        expected_s: step -> seconds that it is expected to take for this model; see `expect`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor_s: dict[str, float] = {}
        self.expected_s: dict[str, float] = {}
        self._began_at = processor_s()

    @property
    def used_s(self) -> float:
        """Processor seconds since the first of all steps."""
        return processor_s() - self._began_at

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Tell what steps are expected to take: step -> seconds."""
        self.expected_s.update(seconds)

    @contextlib.contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """Run one step inside this context.

        Args:
            name: The step as shown to the user, such as "profiling blocks".
            total: The sum of all calls of `Step.advance`; None if the step calls only `Step.fraction`, or nothing.
        """
        started, used = time.perf_counter(), processor_s()
        try:
            with self._shown(name, total) as step:
                yield step
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self.processor_s[name] = self.processor_s.get(name, 0.0) + processor_s() - used
            release_memory()

    def note(self, text: str) -> None:
        """Tell the user something that is not an error."""

    @contextlib.contextmanager
    def _shown(self, name: str, total: float | None) -> Iterator[Step]:
        yield Step()


class TerminalProgress(Progress):
    """Bars on a terminal, which disappear when done; elsewhere one line for every finished step.

    A bar shows the time left: from the step's own pace if it reports one, else from the time of the last run of the
    same step (``times``), else from what is expected for the model, else from its usual time.
    """

    def __init__(self, console: Console, times: StepTimes | None = None):
        super().__init__()
        self._console = console
        self._times = times
        self._bars: Bars | None = None

    def note(self, text: str) -> None:
        """Print the note above the bars."""
        self._console.print(text, highlight=False, markup=False)

    @contextlib.contextmanager
    def _shown(self, name: str, total: float | None) -> Iterator[Step]:
        if not self._console.is_terminal:
            started = time.perf_counter()
            yield Step()
            self.note(f"{name}: {time.perf_counter() - started:.1f} s")
            return
        with self._open_bars() as bars:
            expected_s = None if self._times is None else self._times.get(name)
            usual_s = self.expected_s.get(name)
            if usual_s is None and self._times is not None:
                usual_s = self._times.usual(name)
            task = bars.add_task(name, total=total, expected_s=expected_s, usual_s=usual_s)
            started = time.perf_counter()
            try:
                yield _Bar(bars, task, total)
                if self._times is not None:
                    self._times.put(name, time.perf_counter() - started)
            finally:
                bars.remove_task(task)

    @contextlib.contextmanager
    def _open_bars(self) -> Iterator[Bars]:
        """The display, opened by the outermost step and shared by the steps inside it."""
        if self._bars is not None:
            yield self._bars
            return
        from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        class TimeLeft(ProgressColumn):
            def render(self, task: Task) -> Text:
                known = task.fields
                return Text(time_left(task.time_remaining, task.elapsed, known["expected_s"], known["usual_s"]))

        description = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), description, BarColumn(), TimeElapsedColumn(), TimeLeft())
        # Two redraws a second: a busier display thread would disturb the latency measurements.
        with Bars(*columns, console=self._console, transient=True, refresh_per_second=2) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None


class _Bar(Step):
    def __init__(self, bars: Bars, task: TaskID, total: float | None):
        self._bars, self._task, self._total = bars, task, total

    def advance(self, amount: float = 1.0) -> None:
        self._bars.update(self._task, advance=amount)

    def fraction(self, done: float) -> None:
        total = 1.0 if self._total is None else self._total
        self._bars.update(self._task, total=total, completed=done * total)


def time_left(
    by_pace_s: float | None, elapsed_s: float | None, expected_s: float | None, usual_s: float | None = None
) -> str:
    """The time left as text, such as ``about 40 s left``; empty if it is unknown or under a second.

    Args:
        by_pace_s: seconds left by the step's own pace, if it reports one.
        elapsed_s: seconds since the step began.
        expected_s: seconds it took the last time.
        usual_s: seconds it takes for other models: a guess, and shown as one.
    """
    elapsed_s = elapsed_s or 0.0
    if by_pace_s is not None:
        return "" if by_pace_s < 1 else f"about {_duration(by_pace_s)} left"
    if expected_s is not None:
        how, left_s, than = "about", expected_s - elapsed_s, "the last time"
    elif usual_s is not None:
        how, left_s, than = "perhaps", usual_s - elapsed_s, "usual"
    else:
        return ""
    if left_s >= 1:
        return f"{how} {_duration(left_s)} left"
    return f"longer than {than}" if left_s < -1 else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
