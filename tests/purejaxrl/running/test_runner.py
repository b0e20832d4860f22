"""The promises of the runner: bit-exact resumption, devices that do not matter, clear errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import envs
from algos import a2c, ppo
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.wrappers import Wrapper
from purejaxrl.running import record, runner
from purejaxrl.running.checkpoint import CheckpointError, Series
from purejaxrl.running.estimate import estimate
from purejaxrl.running.metrics import read_metrics
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from tests.helpers import CONFIG, ENV, ENV_PARAMS, PPO, assert_equal, population, train
from tests.purejaxrl.running.damage import files, flip

REPO = Path(__file__).parents[3]


def compare_metrics(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole", 8)
    train(tmp_path / "parts", 3, horizon=8)
    parts = train(tmp_path / "parts", 8, resume=True)
    assert_equal(whole.state, parts.state)
    compare_metrics(whole.metrics, parts.metrics)


def test_metrics_are_one_table_with_no_row_missing_or_double(tmp_path):
    result = train(tmp_path / "run", 5)
    frame = pd.read_parquet(tmp_path / "run" / "metrics")
    assert sorted(zip(frame["member"], frame["update"], strict=True)) == [
        (m, u) for m in range(4) for u in range(1, 6)
    ]
    last = result.metrics.groupby("member")["env_steps"].last()
    assert (last == 5 * CONFIG.batch_size).all()
    assert list(result.metrics.groupby("member")["seed"].first()) == [0, 1, 2, 3]


@pytest.mark.parametrize(("minutes", "saved"), [(60, [5]), (1e-9, [2, 4, 5])])
def test_slow_updates_are_saved_by_the_clock(tmp_path, minutes, saved):
    options = dict(checkpoint_every=100, checkpoint_minutes=minutes, keep_last=9)
    train(tmp_path / "run", 5, **options)
    assert list(Series(tmp_path / "run" / "checkpoints").updates()) == saved


def last_update(out: Path) -> int:
    """Read the last update that is stored from the names of the parts."""
    return max((int(path.name.split("-")[2]) for path in out.glob("metrics/part-*")), default=0)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(tmp_path):
    script = (
        "from purejaxrl.running.devices import use_cpu_cores; use_cpu_cores(8)\n"
        "import sys; from pathlib import Path; from tests.helpers import train\n"
        "train(Path(sys.argv[1]), 200, resume=True, checkpoint_every=3)\n"
    )
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for reached in (10, 80):
        process = subprocess.Popen([sys.executable, "-c", script, str(out)], env=environment)
        while last_update(out) < reached and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed = train(out, 200, resume=True, checkpoint_every=3)
    whole = train(tmp_path / "whole", 200)
    assert_equal(whole.state, resumed.state)
    compare_metrics(whole.metrics, resumed.metrics)


def test_a_finished_run_is_read_without_writing(tmp_path):
    whole = train(tmp_path / "run", 4)
    times = lambda: {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*/*")}  # noqa: E731
    before = times()
    assert_equal(train(tmp_path / "run", 4, resume=True).state, whole.state)
    assert times() == before


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 4, 8])
def test_devices_do_not_change_a_bit(tmp_path, num_devices):
    one = train(tmp_path / "one", 4, members=16, devices=jax.devices()[:1])
    many = train(tmp_path / "many", 4, members=16, devices=jax.devices()[:num_devices])
    assert_equal(one.state, many.state)
    compare_metrics(one.metrics, many.metrics)


@pytest.mark.slow  # equal to the last bit only as users compile it, with LLVM's optimisation
def test_padding_is_dropped_where_counts_do_not_divide(tmp_path):
    three = train(tmp_path / "three", 4, members=13, devices=jax.devices()[:3])
    one = train(tmp_path / "one", 4, members=13, devices=jax.devices()[:1])
    assert len(three.alive) == 13
    assert_equal(one.state, three.state)


@pytest.mark.slow
def test_states_with_empty_arrays_train_and_resume(tmp_path):
    """A chain without distractors has `distractors [0]` in its state."""
    env, level = envs.make("chain-short")
    agent = a2c.make(a2c.Config(num_envs=2, num_steps=3), env)
    who = populate(seeds(3), a2c.Hypers(), level)
    for updates, resume in ((2, False), (4, True)):
        options = RunOptions(str(tmp_path), chunk=2, progress=False, resume=resume)
        result = run(agent, who, updates, options)
    assert result.state.step.tolist() == [4, 4, 4]


def test_a_member_alone_equals_itself_in_the_population(tmp_path):
    together = train(tmp_path / "all", 2)
    alone = train(tmp_path / "one", 2, population=population().select("seed=3"))
    for a, b in zip(
        jax.tree.leaves(together.member(3).params), jax.tree.leaves(alone.member(0).params),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)  # one matrix product, or several


@pytest.mark.parametrize("name", ["[brackets]", "two words", "Übung", "a*b?"])
def test_a_folder_of_any_name_is_trained_into_and_resumed(tmp_path, name):
    train(tmp_path / name, 2)
    assert train(tmp_path / name, 4, resume=True).metrics["update"].max() == 4


def test_the_home_folder_can_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert train("~/run", 2).out == tmp_path / "run"
    assert len(read_metrics("~/run")) == 8


@pytest.mark.parametrize("length", [0, -4, 2.5, True])
def test_lengths_that_are_no_counts_are_refused(tmp_path, length):
    with pytest.raises(ValueError, match=rf"num_updates: {length} is not valid"):
        train(tmp_path / "run", length)
    with pytest.raises(ValueError, match=rf"horizon: {length} is not valid"):
        train(tmp_path / "run", 2, horizon=length)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_can_be_extended(tmp_path):
    constant = population(4, final_rate_fraction=1.0)  # nothing anneals: the horizon is not seen
    train(tmp_path / "run", 3, population=constant)
    extended = train(tmp_path / "run", 7, population=constant, resume=True)
    whole = train(tmp_path / "whole", 7, population=constant)
    assert_equal(whole.state.params, extended.state.params)
    compare_metrics(whole.metrics, extended.metrics)


def test_keys_are_never_reused():
    def lives(algorithm):
        key, hypers = jax.random.key(0), ppo.Hypers()
        task = Task(ENV_PARAMS, jax.numpy.int32(4))
        with jax.debug_key_reuse(True):
            state = jax.jit(algorithm.init)(key, hypers, task)
            step = jax.jit(lambda state: update(algorithm, state, hypers)[0])
            return step(step(state)).step

    assert lives(PPO) == 2

    def reusing(state, hypers):
        state, trajectory = PPO.collect(state, hypers)
        jax.random.normal(state.key)
        return state, trajectory

    with pytest.raises(jax.errors.KeyReuseError):
        lives(PPO._replace(collect=reusing))


def test_memory_does_not_grow_with_the_number_of_updates(tmp_path):
    options = runner.RunOptions(str(tmp_path), chunk=4)
    short = estimate(PPO, population(), 10, options).num_bytes
    assert estimate(PPO, population(), 10_000, options).num_bytes == short


def test_a_used_folder_is_not_touched_without_resume(tmp_path):
    train(tmp_path / "run", 2)
    before = sorted(p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(ValueError, match="already holds a run; continue it with --resume"):
        train(tmp_path / "run", 4)
    assert sorted(p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")) == before


def test_a_refused_length_leaves_the_record_as_it_is(tmp_path):
    train(tmp_path / "run", 4)
    before = (tmp_path / "run" / record.FILE).read_text()
    with pytest.raises(ValueError, match="already made 4, and can be made longer, but not shorter"):
        train(tmp_path / "run", 2, resume=True, command={"words": ["--total-steps", "2"]})
    assert (tmp_path / "run" / record.FILE).read_text() == before


def test_a_finished_run_is_read_without_compiling(tmp_path, monkeypatch):
    done = train(tmp_path / "run", 4)
    monkeypatch.setattr(runner, "compile_chunk", None)
    again = train(tmp_path / "run", 4, resume=True)
    assert_equal((done.state, done.best), (again.state, again.best))
    pd.testing.assert_frame_equal(done.metrics, again.metrics)


def test_another_setting_is_refused_by_name(tmp_path):
    train(tmp_path / "run", 2)
    with pytest.raises(ValueError, match=r"hypers\.gamma\[0\] was 0\.99.*, now 0\.5"):
        train(tmp_path / "run", 4, resume=True, population=population(4, gamma=0.5))
    with pytest.raises(ValueError, match="num_updates: 1 is not valid; the run .* made 2"):
        train(tmp_path / "run", 1, resume=True)


def test_another_environment_or_loss_is_refused_by_name(tmp_path):
    train(tmp_path / "run", 2)

    def forked(x, hypers):
        return -x.log_ratio * x.advantage

    options = RunOptions(str(tmp_path / "run"), resume=True, progress=False)
    for algorithm, now in (
        (ppo.make(CONFIG, ENV, forked), "forked"),
        (ppo.make(CONFIG, Wrapper(ENV)), "Wrapper"),
    ):
        with pytest.raises(ValueError, match=rf"made_of\[.\] was .*, now .*{now}"):
            run(algorithm, population(4), 4, options)


def damage_newest(checkpoints: Path) -> None:
    newest = max(checkpoints.glob("0*"))
    victim = max(files(newest), key=lambda path: path.stat().st_size)
    flip(victim, victim.stat().st_size // 2, bit=0)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    train(tmp_path / "run", 6)
    damage_newest(tmp_path / "run" / "checkpoints")
    with pytest.warns(UserWarning, match="damaged.*trying the one before"):
        resumed = train(tmp_path / "run", 6, resume=True)
    whole = train(tmp_path / "whole", 6)
    assert_equal(whole.state, resumed.state)
    compare_metrics(whole.metrics, resumed.metrics)


@pytest.mark.parametrize(("length", "saved"), [(4, [4]), (5, [5]), (8, [8])])
def test_a_damaged_checkpoint_gives_way_to_those_made_after_the_fallback(tmp_path, length, saved):
    """The run may end before the damaged update, at 6, or pass it."""
    train(tmp_path / "run", 6, horizon=8)
    damage_newest(tmp_path / "run" / "checkpoints")
    with pytest.warns(UserWarning, match="damaged.*trying the one before"):
        train(tmp_path / "run", length, horizon=8, resume=True, keep_last=1)
    assert Series(tmp_path / "run" / "checkpoints").updates() == saved
    assert read_metrics(tmp_path / "run")["update"].max() == length
    again = train(tmp_path / "run", length, horizon=8, resume=True)
    assert_equal(again.state, train(tmp_path / "whole", length, horizon=8).state)


def test_a_full_disk_keeps_what_was_saved_and_says_so(tmp_path, monkeypatch):
    train(tmp_path / "run", 4, horizon=8)
    write = pq.write_table

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(CheckpointError, match=r"No space left.*up to update 4 are kept"):
        train(tmp_path / "run", 8, resume=True)
    monkeypatch.setattr(pq, "write_table", write)
    assert_equal(train(tmp_path / "whole", 8).state, train(tmp_path / "run", 8, resume=True).state)


def test_an_unwritable_folder_is_refused_before_compiling(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(runner, "start", lambda *_: pytest.fail("started before checking"))
    with pytest.raises(ValueError, match="out: .*file/run cannot be written"):
        train(tmp_path / "file" / "run", 2)


def test_invalid_hyperparameters_are_refused_before_compiling(tmp_path):
    sick = population(2)
    sick = sick._replace(hypers=sick.hypers.replace(gamma=np.array([0.9, np.nan])))
    with pytest.raises(ValueError, match=r"Hypers.gamma: nan is not valid \(member 1\)"):
        train(tmp_path / "run", 2, population=sick)
    assert not (tmp_path / "run").exists()


def test_the_run_says_what_it_was(tmp_path):
    train(tmp_path / "run", 2)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"]["config"]["num_envs"] == CONFIG.num_envs
    assert record["versions"]["jax"] == jax.__version__


@pytest.mark.slow
def test_peak_memory_of_a_process_is_the_same_for_four_times_the_updates(tmp_path):
    script = (
        "from purejaxrl.running.devices import use_cpu_cores; use_cpu_cores(2)\n"
        "import resource, sys; from pathlib import Path; from tests.helpers import train\n"
        "train(Path(sys.argv[1]), int(sys.argv[2]), members=16, chunk=16)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak(updates: int) -> int:
        command = [sys.executable, "-c", script, str(tmp_path / str(updates)), str(updates)]
        # Both compile: a process that finds compiled code in the cache peaks lower.
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "JAX_ENABLE_COMPILATION_CACHE": "false",
        }
        return int(subprocess.check_output(command, env=environment, text=True))

    assert peak(8000) <= 1.05 * peak(2000)
