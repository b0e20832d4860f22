"""Signals stop a run after a chunk, everything saved, and an import without a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from purejaxrl.running import signals
from purejaxrl.running.signals import SIGNALS
from tests.helpers import assert_equal, mostly_slow, train


@pytest.mark.parametrize(
    ("raised", "said"), [("KeyboardInterrupt", "interrupted"), ("ValueError", "Traceback")]
)
def test_ctrl_c_while_importing_ends_without_a_traceback(raised, said):
    script = (
        f"import runpy; runpy.run_path({signals.__file__!r})['interrupt_quietly']()\nraise {raised}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.startswith(said)
    assert ("Traceback" in done.stderr) == (raised == "ValueError")
    assert done.returncode != 0


@pytest.fixture
def own_signals():
    """Handlers as in a terminal: a shell's background jobs ignore SIGINT, and nohup SIGHUP."""
    default = {number: signal.SIG_DFL for number in SIGNALS}
    default[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in default.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    "number", mostly_slow([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], {signal.SIGTERM})
)
def test_a_signal_finishes_the_chunk_and_saves(tmp_path, number):
    def interrupt(table):
        if table["update"][0].as_py() == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(signals.Stopped, match="stopped at update 4 of 10"):
        train(tmp_path / "run", 10, sinks=(interrupt,), checkpoint_every=100)
    resumed = train(tmp_path / "run", 10, resume=True)
    assert_equal(train(tmp_path / "whole", 10).state, resumed.state)


@pytest.mark.usefixtures("own_signals")
def test_a_signal_in_the_last_chunk_lets_nothing_follow_the_run(tmp_path):
    stop = lambda table: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with pytest.raises(signals.Stopped, match="stopped at update 2 of 2"):
        train(tmp_path / "run", 2, sinks=(stop,))
    assert train(tmp_path / "run", 2, resume=True).alive.all()


@pytest.mark.usefixtures("own_signals")
def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path):
    """As under nohup, when the terminal is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hang_up = lambda table: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
    assert train(tmp_path / "run", 4, sinks=(hang_up,)).alive.all()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.slow
@pytest.mark.usefixtures("own_signals")
def test_a_second_interrupt_stops_at_once_and_loses_nothing_saved(tmp_path):
    def interrupt_twice(table):
        if table["update"][0].as_py() == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", 10, sinks=(interrupt_twice,))
    resumed = train(tmp_path / "run", 10, resume=True)
    assert_equal(train(tmp_path / "whole", 10).state, resumed.state)
