"""Two processes on this machine train as one process does, and survive a process's death."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from purejaxrl import hosts
from purejaxrl.running import devices
from purejaxrl.running.metrics import read_metrics

ROOT = Path(__file__).parents[2]
TRAINING = "tests/purejaxrl/hosts_training.py"
PPO = (
    "experiments/ppo.py", "--env", "CartPole-v1", "--seeds", "2", "--agent.num-envs", "2",
    "--agent.num-steps", "8", "--agent.hidden", "8", "--agent.num-minibatches", "2",
    "--hypers.final-rate-fraction", "1", "--chunk", "8", "--checkpoint-every", "1",
    "--eval-every", "0",
)  # fmt: skip


def begin(*words, devices=1, **options) -> subprocess.Popen:
    environment = os.environ | {"PUREJAXRL_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, **options)


def together(*words) -> tuple:
    return "-m", "purejaxrl.hosts", "--num-processes", "2", "--heartbeat-seconds", "10", *words


def train_by_one_and_by_two(what: str, folder: Path) -> tuple[Path, Path]:
    """Return the folders of what one process with two devices trained, and two with one each."""
    one, two = folder / "one", folder / "two"
    running = begin(TRAINING, one, what, devices=2), begin(*together(TRAINING, two, what))
    assert [process.wait() for process in running] == [0, 0]
    return one, two


def learned(folder: Path) -> list[np.ndarray]:
    with np.load(folder / "learned.npz") as file:
        return [file[name] for name in file.files]


def test_two_processes_train_what_one_trains_and_the_first_writes_all_metrics(tmp_path):
    one, two = train_by_one_and_by_two("ppo", tmp_path)
    for alone, shared in zip(learned(one), learned(two), strict=True):
        np.testing.assert_array_equal(alone, shared)
    one, two = (read_metrics(folder / "run") for folder in (one, two))
    assert one.equals(two) and set(two["member"]) == set(range(5))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["lpg", "evolution"])
def test_two_processes_meta_learn_what_one_learns(what, tmp_path):
    one, two = train_by_one_and_by_two(what, tmp_path)
    for alone, shared in zip(learned(one), learned(two), strict=True):
        np.testing.assert_allclose(alone, shared, rtol=0, atol=1e-5)


def children(process: subprocess.Popen) -> list[int]:
    return [
        int(x) for x in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]


def test_a_killed_process_ends_the_run_and_another_number_of_processes_resumes_it(tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    never = str(2**30)
    running = begin(*together(*PPO, "--total-steps", never, "--out", out), stderr=subprocess.PIPE)
    while not (out / "saved.json").exists():
        assert running.poll() is None
        time.sleep(0.1)
    os.kill(children(running)[1], signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "so the run has ended; its last checkpoint is good" in said.decode()

    saved = json.loads((out / "saved.json").read_text())["update"]
    steps = str((saved + 8) * 16)
    for folder, words in ((out, ["--resume"]), (whole, [])):  # the second finds what is compiled
        resumed = begin(*PPO, "--total-steps", steps, "--out", folder, *words, devices=2)
        assert resumed.wait() == 0
    assert read_metrics(out).equals(read_metrics(whole))


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_saves_and_reports_no_error(tmp_path):
    out, never = tmp_path / "out", str(2**30)
    running = begin(*together(*PPO, "--total-steps", never, "--out", out), stderr=subprocess.PIPE)
    while not (out / "saved.json").exists():
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=60)[1].decode()
    assert running.returncode == hosts.STOPPED
    assert "resume to go on" in said and "error" not in said


def test_the_process_that_was_killed_is_named_and_not_one_that_lost_it(monkeypatch):
    said = []
    monkeypatch.setattr(hosts, "say", said.append)
    monkeypatch.setattr(hosts, "SIGNALS", ())  # the tests keep their own handlers
    started = {0: begin("-c", "exit(1)"), 1: begin("-c", "import os; os.kill(os.getpid(), 9)")}
    for process in started.values():
        process.wait()
    assert hosts.watch(started) == -signal.SIGKILL
    assert said == [hosts._words_of(1, -signal.SIGKILL)]


class Device:
    """A device of a process."""

    def __init__(self, process_index: int):
        self.process_index = process_index


def test_every_process_gets_as_many_devices_as_the_others():
    of_two = [Device(i // 4) for i in range(8)]
    assert devices._spread(2, of_two) == [of_two[0], of_two[4]]
    assert devices._spread(5, of_two) == [*of_two[:3], *of_two[4:6]]
    assert devices._spread(9, of_two) == of_two


def test_a_process_without_work_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    of_two = [Device(i) for i in range(2)]
    with pytest.raises(ValueError, match="num_processes: 2 is not valid; there is work for 1"):
        devices._spread(1, of_two)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("num_processes", {"num_processes": 0}),
        ("process", {"num_processes": 2, "process": 2, "coordinator": "a:1"}),
        ("process", {"process": 0, "coordinator": "a:1"}),
        ("coordinator", {"num_processes": 2, "process": 0}),
        ("coordinator", {"num_processes": 2, "coordinator": "somewhere"}),
        ("heartbeat_seconds", {"heartbeat_seconds": 0}),
    ],
)
def test_bad_settings_are_named(field, settings):
    with pytest.raises(ValueError, match=rf"^Settings.{field}: .* is not valid"):
        hosts.Settings(**settings)


def test_a_missing_experiment_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hosts", "--num-processes", "2", "nothing.py"])
    with pytest.raises(SystemExit, match="2"):
        hosts.main()
    assert "experiment: 'nothing.py' is not valid" in capsys.readouterr().err
