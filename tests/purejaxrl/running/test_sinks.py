"""Sinks: one dashboard run per member, and a sink that fails does not end a run."""

import struct
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from purejaxrl.running.sinks import DroppableSink, TensorBoardSink, WandbSink
from purejaxrl.running.tables import tabulate

ROWS = ({"seed": 0, "gamma": 0.5}, {"seed": 1, "gamma": 0.5})
VALUES = np.array([[1.0, 2.0], [30.0, np.nan]], np.float32)


def chunk(first: int = 0):
    return tabulate(ROWS, {"return": VALUES, "alive": VALUES > 0}, first + np.array([1, 2]))


class FakeRun:
    def __init__(self, **arguments):
        self.arguments, self.logged, self.finished = arguments, [], False
        self.id = arguments["id"] or f"id of {arguments['name']}"

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """A module `wandb` that keeps its runs, and the folder `results/run` of a run."""
    monkeypatch.chdir(tmp_path)
    Path("results/run").mkdir(parents=True)
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**arguments):
        module.runs.append(FakeRun(**arguments))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_each_member_is_a_wandb_run_in_one_group(wandb):
    sink = WandbSink("project", "results/run", ROWS, {"num_envs": 4})
    sink(chunk())
    sink(chunk(first=2))
    assert [run.arguments for run in wandb.runs] == [
        {
            "project": "project",
            "group": "results/run",
            "name": f"seed={seed},gamma=0.5",
            "id": None,
            "resume": "allow",
            "config": {"num_envs": 4, "seed": seed, "gamma": 0.5},
            "reinit": "create_new",
        }
        for seed in (0, 1)
    ]
    returns = [[values.get("return") for _, values in run.logged] for run in wandb.runs]
    assert returns == [[1.0, 2.0, 1.0, 2.0], [30.0, None, 30.0, None]]  # NaN is not logged
    assert [step for step, _ in wandb.runs[1].logged] == [1, 2, 3, 4]


def test_a_resumed_run_goes_on_with_its_wandb_runs(wandb):
    one = tabulate(ROWS[1:], {"return": VALUES[1:]}, np.array([1, 2]))
    WandbSink("project", "results/run", ROWS[1:], {})(one)  # with `--only seed=1`
    for _ in range(2):
        WandbSink("project", "results/run", ROWS, {})(chunk())
    ids = ["id of seed=0,gamma=0.5", "id of seed=1,gamma=0.5"]
    assert [run.arguments["id"] for run in wandb.runs] == [None, None, ids[1], *ids]


def test_wandb_runs_are_finished(wandb):
    sink = DroppableSink(WandbSink("project", "results/run", ROWS, {}))
    sink(chunk())
    sink.close()
    assert [run.finished for run in wandb.runs] == [True, True]


def test_no_wandb_run_is_started_before_the_first_chunk(wandb):
    WandbSink("project", "results/run", ROWS, {})
    assert wandb.runs == []


@pytest.mark.parametrize("module", ["wandb", "tensorboardX"])
def test_a_missing_package_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"sink '{module}' needs: pip install {module}"):
        make_sink(module)


@pytest.mark.parametrize("module", ["wandb", "tensorboardX"])
def test_a_package_that_cannot_be_imported_says_why_itself(tmp_path, monkeypatch, module):
    (tmp_path / f"{module}.py").write_text("import a_module_that_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match="No module named 'a_module_that_it_needs'"):
        make_sink(module)


def make_sink(module: str):
    if module == "wandb":
        return WandbSink("project", "results/run", ROWS, {})
    return TensorBoardSink("folder", ["a", "b"])


def test_each_member_is_a_tensorboard_run(tmp_path):
    sink = DroppableSink(TensorBoardSink(tmp_path, ["seed=0", "seed=1"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sink(chunk())
        sink.close()
    for name in ("seed=0", "seed=1"):
        [file] = (tmp_path / name).iterdir()
        assert b"return" in file.read_bytes()


def test_tensorboard_hides_the_rows_that_a_resumed_run_writes_again(tmp_path):
    from tensorboardX.proto import event_pb2

    sink = TensorBoardSink(tmp_path, ["seed=0", "seed=1"])
    sink(chunk(first=2))
    sink.close()
    for name in ("seed=0", "seed=1"):
        [file] = (tmp_path / name).iterdir()
        events = [event_pb2.Event.FromString(record) for record in records(file.read_bytes())]
        started = [event.step for event in events if event.HasField("session_log")]
        assert started == [3]  # TensorBoard drops what older files have from this step on


def records(data: bytes):
    """Yield the records of a TFRecord file: length, checksum, content, checksum."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_a_failing_sink_is_dropped_with_one_warning(wandb):
    def no_network(**_):
        raise ConnectionError("no network")

    wandb.init = no_network
    sink = DroppableSink(WandbSink("project", "results/run", ROWS, {}))
    with pytest.warns(UserWarning, match="sink 'wandb' failed and is dropped.*no network") as seen:
        for first in (0, 2, 4):
            sink(chunk(first))
        sink.close()
    assert len(seen) == 1


def test_a_sink_that_cannot_be_closed_only_warns():
    class Sink:
        calls = 0

        def __call__(self, table):
            self.calls += 1

        def close(self):
            raise OSError("disk is full")

    sink = Sink()
    droppable = DroppableSink(sink)
    droppable(chunk())
    with pytest.warns(UserWarning, match="sink 'Sink' failed.*OSError: disk is full"):
        droppable.close()
    droppable(chunk())
    assert sink.calls == 1


def test_any_function_can_be_a_sink_and_an_interrupt_is_not_swallowed():
    def log(table):
        raise KeyboardInterrupt

    sink = DroppableSink(log)
    assert sink.name == "log"
    with pytest.raises(KeyboardInterrupt):
        sink(chunk())
    sink.close()
