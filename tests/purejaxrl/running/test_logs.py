"""What the terminal says while a run trains."""

import errno
import io
import math
import os

import pytest

from purejaxrl.running import logs


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(logs.console, "_file", io.StringIO())  # `file` would not be restored
    return lambda: logs.console.file.getvalue()


def test_the_last_line_has_the_return_of_training_and_of_the_last_evaluation(said):
    progress = logs.ProgressLine(10, 0, show=True)
    progress.advance(5, 500, 12.5)
    progress.evaluation = 20.0
    progress.advance(10, 1000, 17.5)
    assert said().startswith("10/10 updates · return 17.5 · evaluation 20 · ")
    assert " steps/s · ETA 0 s" in said()


def test_a_return_that_does_not_exist_is_not_shown(said):
    progress = logs.ProgressLine(10, 0, show=True)
    progress.advance(5, 0, math.nan)
    progress.advance(10, 0, math.nan)
    assert said().startswith("10/10 updates · ")
    assert "nan" not in said() and "return" not in said() and "evaluation" not in said()
    assert " updates/s" in said()


def test_speed_is_measured_from_where_training_begins(said):
    progress = logs.ProgressLine(10, 5, show=True)
    progress.begin(5, 500)
    progress.advance(10, 1000, 17.5)
    assert " steps/s · ETA 0 s" in said()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "0:01:00"), (3723.4, "1:02:03"), (90000, "1 day, 1:00:00")],
)
def test_long_durations_are_in_hours_and_minutes(seconds, expected):
    assert logs.duration(seconds) == expected


def test_nothing_is_shown_if_nothing_is_to_be_shown(said):
    logs.ProgressLine(10, 0, show=False).advance(10, 1000, 1.0)
    assert said() == ""


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_terminal_or_a_reader_that_is_gone_ends_nothing(number):
    """As in `python experiments/ppo.py 2>&1 | tee log`, where Ctrl-C ends `tee` first."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(number, os.strerror(number))  # BrokenPipeError for EPIPE

    console = logs.Terminal(file=Gone())
    console.print("nobody reads this")
    console.print("nor this")
    assert console.quiet == (number == errno.EPIPE)
