"""What a run's folder holds is trusted only where it is whole, and belongs to one run at a time."""

import errno
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from purejaxrl.running import record
from purejaxrl.running.checkpoint import CheckpointError
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from tests.helpers import ENV_PARAMS, PPO, assert_equal, population, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    train(out, 2)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is damaged"),
        ('{"format": 2, "iden', "is damaged"),
        ("{}", "is damaged .it has no identity"),
        ("[]", "is damaged .it has no identity"),
        ('{"identity": {}}', "has format 1"),
    ],
    ids=["empty", "truncated", "no fields", "a list", "another format"],
)
def test_a_damaged_record_is_an_error_that_names_the_file(copy, text, message):
    (copy / record.FILE).write_text(text)
    for resume in (True, False):
        with pytest.raises(ValueError, match=rf"run\.json {message}"):
            train(copy, 4, resume=resume)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_whose_record_is_gone_is_not_continued(copy, resume):
    (copy / record.FILE).unlink()
    before = sorted(copy.rglob("part-*"))
    with pytest.raises(ValueError, match=r"checkpoints and metrics of a run whose run\.json"):
        train(copy, 4, resume=resume, population=population(4, learning_rate=0.5))
    assert sorted(copy.rglob("part-*")) == before


def test_a_run_whose_checkpoints_are_gone_does_not_start_again(copy):
    shutil.rmtree(copy / "checkpoints")
    before = sorted(copy.rglob("part-*"))
    with pytest.raises(CheckpointError, match="had checkpoints.*none is left"):
        train(copy, 4, resume=True)
    assert sorted(copy.rglob("part-*")) == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(copy):
    shutil.rmtree(copy / "checkpoints")
    (copy / "saved.json").unlink()
    assert train(copy, 2, resume=True).state.step.tolist() == [2] * 4


@pytest.mark.parametrize("resume", [True, False])
def test_a_start_that_failed_leaves_a_folder_that_takes_another_run(tmp_path, resume):
    def broken(state, hypers):
        raise RuntimeError("a bug in collect")

    with pytest.raises(RuntimeError, match="a bug in collect"):
        run(PPO._replace(collect=broken), population(4), 2, RunOptions(str(tmp_path / "run")))
    assert (tmp_path / "run" / record.FILE).exists() and not record.saved(tmp_path / "run")
    corrected = population(2, learning_rate=0.5)
    assert train(tmp_path / "run", 2, resume=resume, population=corrected).alive.shape == (2,)
    assert len(record.read(tmp_path / "run")["identity"]["members"]) == 2


@pytest.mark.parametrize("name", ["checkpoints", "metrics", "evaluations"])
def test_a_folder_with_anything_saved_takes_no_other_run(copy, name):
    (copy / "evaluations").mkdir()
    (copy / "evaluations" / "part").touch()
    for other in {"checkpoints", "metrics", "evaluations"} - {name}:
        shutil.rmtree(copy / other)
    (copy / record.SAVED).unlink()
    with pytest.raises(ValueError, match="already holds a run"):
        train(copy, 2)
    with pytest.raises(ValueError, match="holds another run: members was"):
        train(copy, 2, resume=True, population=population(2))


def test_damaged_metrics_are_refused_on_resume(copy):
    part = next(copy.glob("metrics/part-*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(ValueError, match=rf"metrics {part}: damaged"):
        train(copy, 4, resume=True)


def test_a_dashboard_that_fails_is_dropped_and_the_run_goes_on(tmp_path):
    def fail(table):
        raise ConnectionError("no network")

    with pytest.warns(UserWarning, match="sink 'fail' failed and is dropped.*no network"):
        result = train(tmp_path / "run", 6, sinks=(fail,))
    assert result.metrics["update"].max() == 6


HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
HOLD += "f.write('process 7 on elsewhere'); f.flush(); print('held', flush=True); sys.stdin.read()"


def test_a_folder_that_another_process_writes_is_refused_until_it_ends(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="is being written by another run .process 7 on elsewhere"):
        train(out, 2)
    holder.kill()
    holder.wait()
    assert train(out, 2).alive.all()


def test_a_file_system_without_locks_only_warns(tmp_path, monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(record.fcntl, "flock", unsupported)
    told = r"out: .*/run is on a file system without locks \(.*No locks available\); nothing keeps"
    with pytest.warns(UserWarning, match=told), record.locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()


def test_the_record_is_written_again_only_where_it_changes(copy):
    before = (copy / record.FILE).stat().st_mtime_ns
    train(copy, 2, resume=True)
    assert (copy / record.FILE).stat().st_mtime_ns == before


def test_going_on_with_another_platform_is_announced_once(copy):
    path = copy / record.FILE
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"versions": kept["versions"] | {"platform": "gpu"}}))
    with pytest.warns(UserWarning, match="had platform gpu and goes on with cpu: .* not be bit"):
        train(copy, 4, resume=True)
    assert record.read(copy)["versions"] == kept["versions"]


def test_going_on_with_other_code_is_announced(copy):
    path = copy / record.FILE
    kept = json.loads(path.read_text())
    assert {"algos.ppo", "gymnax.environments.classic_control.cartpole"} <= kept["code"].keys()
    path.write_text(json.dumps(kept | {"code": kept["code"] | {"algos.ppo": "0123456789ab"}}))
    with pytest.warns(UserWarning, match="the code of algos.ppo has changed since .*; to train"):
        train(copy, 4, resume=True)


@pytest.mark.slow
def test_going_on_with_another_group_is_announced(tmp_path):
    one = jax.devices()[:1]
    train(tmp_path / "run", 2, group=2, devices=one)
    with pytest.warns(UserWarning, match="had 2 members at a time .* goes on with 1"):
        train(tmp_path / "run", 4, group=1, resume=True, devices=one)


# Slow, because runs are equal to the last bit only with LLVM's optimisation.
OTHER_WAYS = {
    "longer": {},
    "in other chunks": {"chunk": 3},
    "in other groups": {"group": 2},
    "with other files": {"checkpoint_every": 5, "keep_last": 3, "tensorboard": True},
    "with averaged rows": {"log_every": 2},
}


@pytest.fixture(scope="module")
def in_one_group(tmp_path_factory):
    """The folder of two updates of four members that one device vmaps, and the result of four."""
    out, one = tmp_path_factory.mktemp("in_one_group"), jax.devices()[:1]
    train(out / "begun", 2, devices=one, horizon=4)
    return out / "begun", train(out / "whole", 4, devices=one, horizon=4)


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHER_WAYS)
def test_how_a_run_is_run_is_no_part_of_what_it_is(case, in_one_group, tmp_path):
    begun, whole = in_one_group
    shutil.copytree(begun, tmp_path / "moved")
    one = jax.devices()[:1]
    found = train(tmp_path / "moved", 4, resume=True, devices=one, horizon=4, **OTHER_WAYS[case])
    assert_equal(found.state, whole.state)


class Nameless:
    """A loss with a part that cannot be named."""

    def __init__(self, name=""):
        self.generator = np.random.default_rng(0)
        if name:
            self.name = name

    def __call__(self, x, hypers):
        return -x.log_ratio * x.advantage


def test_a_run_of_an_unnamed_part_trains_is_announced_and_is_not_resumed(tmp_path):
    from algos import ppo
    from tests.helpers import CONFIG, ENV

    def go(loss, updates, **options):
        options = RunOptions(str(tmp_path / "run"), progress=False, **options)
        return run(ppo.make(CONFIG, ENV, loss), population(2), updates, options)

    with pytest.warns(UserWarning, match="cannot be resumed: .*Nameless has no name"):
        go(Nameless(), 1)
    with pytest.raises(ValueError, match="cannot be resumed: .*Nameless has no name"):
        go(Nameless(), 2, resume=True)


def test_numbers_of_any_kind_make_a_record_that_is_read_back():
    rows = seeds(2)
    hypers = [np.float32(0.5), 0.5, np.array(0.5, np.float32), np.inf]
    for value in hypers:
        who = populate(rows, population(1).hypers.__class__(clip_eps=value), ENV_PARAMS)
        found = record.identity(PPO, who)
        assert not record.first_difference(found, json.loads(json.dumps(found)))


def test_a_difference_in_a_long_name_is_shown_where_it_is():
    long = "x" * 500
    said = record.first_difference({"a": [long + "b"]}, {"a": [long + "c"]})
    assert said.startswith("a[0] was …") and 'xb"' in said and 'xc"' in said
    assert len(said) < 300
