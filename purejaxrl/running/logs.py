"""Messages and the progress of a run on the terminal."""

import contextlib
import math
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Terminal(Console):
    """A console that stops printing, and lets the run go on, when its terminal or pipe is gone."""

    def on_broken_pipe(self) -> None:
        """Fall silent; rich would end the process, and with it a run that is not saved yet."""
        self.quiet = True

    def print(self, *objects: Any, **style: Any) -> None:
        """Print, if there is somebody to read it."""
        with contextlib.suppress(OSError):
            super().print(*objects, **style)


console = Terminal(stderr=True)


def say(text: str) -> None:
    """Print a message as it is, without markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a duration: `12 s`, or `1:02:03` where it is a minute or more."""
    return f"{seconds:.0f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


class ProgressLine:
    """Progress with ETA, return and steps/s: a live bar, or a line every ten seconds.

    An algorithm that makes no environment steps shows updates/s. `evaluation` is the mean return of
    the last evaluation, NaN before the first.
    """

    evaluation: float = math.nan

    def __init__(self, total_updates: int, done: int, show: bool):
        """Start at `done` of `total_updates`; `show=False` prints nothing."""
        self.total, self.show = total_updates, show
        self.origin: tuple[float, int, int] | None = None  # time, updates and steps at the start
        self.printed = time.monotonic()
        self.live = None
        if show and console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} updates"),
                TimeElapsedColumn(),
                console=console,
            )
            self.live.start()
            self.bar = self.live.add_task("compiling", total=total_updates, completed=done)

    def begin(self, done: int, steps: int) -> None:
        """Measure speed from here, where all is compiled; by default from the first `advance`."""
        self.origin = time.monotonic(), done, steps

    def advance(self, done: int, steps: int, mean_return: float) -> None:
        """Show that `done` updates and `steps` environment steps are done."""
        if not self.show:
            return
        now = time.monotonic()
        began, start, start_steps = self.origin = self.origin or (now, done, steps)
        returns = {"return": mean_return, "evaluation": self.evaluation}
        shown = [f"{name} {value:.4g}" for name, value in returns.items() if math.isfinite(value)]
        if done > start:
            elapsed = max(now - began, 1e-9)
            made, unit = (steps - start_steps, "steps") if steps else (done - start, "updates")
            shown.append(f"{made / elapsed:,.0f} {unit}/s")
            shown.append(f"ETA {duration(elapsed / (done - start) * (self.total - done))}")
        text = " · ".join(shown)
        if self.live:
            self.live.update(self.bar, completed=done, description=text)
        elif now - self.printed > 10 or done == self.total:
            self.printed = now
            console.print(f"{done}/{self.total} updates · {text}", markup=False)

    def close(self) -> None:
        """Stop drawing."""
        if self.live:
            with contextlib.suppress(OSError):
                self.live.stop()
