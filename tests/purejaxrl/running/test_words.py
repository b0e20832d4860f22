import os
from dataclasses import dataclass

import pytest

from algos import ppo
from purejaxrl.running import commandline, record
from purejaxrl.running.commandline import plan_runs
from purejaxrl.running.options import RunOptions, updates_for
from purejaxrl.running.words import parse, with_kept_words
from tests.purejaxrl.test_launch import Settings, build

SWEEP = ["--hypers.gamma", "0.9,0.99", "--agent.num-envs", "2"]


def keep(out, words, sub=""):
    """Leave the record of a run of these words, which has saved a checkpoint."""
    (out / sub).mkdir(parents=True, exist_ok=True)
    (plan,) = plan_runs(Settings, build, words)
    about = {"command": {"experiment": __file__, "words": list(words)}}
    record.claim(out / sub, False, record.identity(plan.job.algorithm, plan.population), **about)
    (out / sub / record.SAVED).touch()


def test_lists_become_every_combination():
    words = ["--hypers.gamma", "0.9,0.99", "--agent.num-envs=2,4", "--seeds", "3"]
    found = [(s.hypers.gamma, s.agent.num_envs, s.seeds) for s in parse(Settings, words)]
    assert found == [(0.9, 2, 3), (0.9, 4, 3), (0.99, 2, 3), (0.99, 4, 3)]


def test_run_options_are_never_split(tmp_path):
    (found,) = parse(Settings, ["--only", "learning_rate=0.001,seed=1", "--out", "a,b"])
    assert found.run.only == "learning_rate=0.001,seed=1"
    assert found.run.out == "a,b"


def test_a_member_of_a_sweep_is_named_as_warnings_name_it(tmp_path):
    words = ["--hypers.learning-rate", "1e-3,1e-2", "--out", str(tmp_path)]
    (plan,) = plan_runs(Settings, build, [*words, "--only", "learning_rate=0.001,seed=1"])
    assert plan.population.names == ("learning_rate=0.001,seed=1",)


def test_seeds_count_up_from_the_first():
    (plan,) = plan_runs(Settings, build, ["--seeds", "2", "--first-seed", "5"])
    assert plan.population.names == ("seed=5", "seed=6")
    with pytest.raises(ValueError, match="Settings.first_seed: -1 is not valid"):
        Settings(first_seed=-1)


def test_resume_alone_repeats_the_kept_command_line(tmp_path):
    keep(tmp_path, [*SWEEP, "--out", str(tmp_path)])
    words = with_kept_words(Settings, ["--resume", "--out", str(tmp_path)])
    (plan,) = plan_runs(Settings, build, words)
    assert plan.population.size == 4 and plan.settings.agent.num_envs == 2
    assert plan.options.resume


@pytest.mark.parametrize(
    "more",
    [
        ["--total-steps", "640"],
        ["--chunk", "3"],
        ["--no-progress"],
        ["--hypers.gamma", "0.9,0.99"],
        ["--seeds=2"],
    ],
    ids=" ".join,
)
def test_resume_may_change_the_length_and_how_it_runs_and_repeat_what_was_said(tmp_path, more):
    keep(tmp_path, [*SWEEP, "--out", str(tmp_path)])
    words = with_kept_words(Settings, ["--resume", "--out", str(tmp_path), *more])
    assert plan_runs(Settings, build, words)[0].population.size == 4


@pytest.mark.parametrize(
    "more, said",
    [
        (["--agent.num-envs", "4"], r"agent\.num_envs: 4 is not valid; .* has 2"),
        (["--hypers.gamma", "0.5,0.99"], r"hypers\.gamma: 0\.5 is not valid; .* has 0\.9"),
        (["--hypers.gamma", "0.5"], r"hypers\.gamma: 0\.5 is not valid; .* has 0\.9"),
        (["--seeds", "5"], r"seeds: 5 is not valid; .* has 2"),
        (["--env", "Acrobot-v1"], r"env: 'Acrobot-v1' is not valid; .* has 'CartPole-v1'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_resume_refuses_any_other_change_by_name(tmp_path, more, said):
    keep(tmp_path, [*SWEEP, "--out", str(tmp_path)])
    with pytest.raises(ValueError, match=said):
        with_kept_words(Settings, ["--resume", "--out", str(tmp_path), *more])


def test_resume_finds_the_command_line_of_a_loop_in_its_subfolders(tmp_path):
    words = ["--agent.num-envs", "2,4", "--out", str(tmp_path)]
    for label in ("2", "4"):
        keep(tmp_path, ["--agent.num-envs", label], f"num_envs={label}")
        path = tmp_path / f"num_envs={label}" / record.FILE
        path.write_text(path.read_text().replace(f'"{label}"\n', '"2,4"\n'))
    kept = with_kept_words(Settings, ["--resume", "--out", str(tmp_path)])
    assert [plan.options.out for plan in plan_runs(Settings, build, kept)] == [
        str(tmp_path / "num_envs=2"),
        str(tmp_path / "num_envs=4"),
    ]
    assert [s.agent.num_envs for s in parse(Settings, words)] == [2, 4]


def test_one_run_of_a_loop_is_resumed_alone_only_if_the_words_say_which(tmp_path):
    one = tmp_path / "num_envs=4"
    keep(tmp_path, ["--agent.num-envs", "4"], one.name)
    path = one / record.FILE
    path.write_text(path.read_text().replace('"4"\n', '"2,4"\n'))
    with pytest.raises(ValueError, match=r"one of several runs .* say which one by --agent\.num-e"):
        with_kept_words(Settings, ["--resume", "--out", str(one)])
    said = ["--resume", "--out", str(one), "--agent.num-envs", "4"]
    (plan,) = plan_runs(Settings, build, with_kept_words(Settings, said))
    assert plan.options.folder == one and plan.settings.agent.num_envs == 4


def test_runs_of_a_loop_that_were_resumed_apart_are_resumed_together(tmp_path):
    """By the newest command line that makes both, whatever its run options."""
    whole = ["--agent.num-envs", "2,4", "--out", str(tmp_path)]
    for label, words in (("2", [*whole, "--total-steps", "640"]), ("4", whole)):
        keep(tmp_path, ["--agent.num-envs", label], f"num_envs={label}")
        record.renew(tmp_path / f"num_envs={label}", command={"words": words})
    os.utime(tmp_path / "num_envs=2" / record.FILE, (2e9, 2e9))
    kept = with_kept_words(Settings, ["--resume", "--out", str(tmp_path)])
    plans = plan_runs(Settings, build, kept)
    assert [plan.options.folder.name for plan in plans] == ["num_envs=2", "num_envs=4"]
    assert plans[0].settings.total_steps == 640

    record.renew(tmp_path / "num_envs=2", command={"words": ["--agent.num-envs", "2"]})
    os.utime(tmp_path / "num_envs=2" / record.FILE, (2e9, 2e9))  # newer, and only one of them
    assert len(plan_runs(Settings, build, with_kept_words(Settings, ["--resume", *whole[2:]]))) == 2


def test_a_folder_above_that_of_a_run_is_not_begun_anew(tmp_path):
    keep(tmp_path, SWEEP, "CartPole-v1")
    with pytest.raises(ValueError, match="is not the folder of a run; these are: .*CartPole-v1"):
        with_kept_words(Settings, ["--resume", "--out", str(tmp_path)])


def test_a_file_whose_name_has_commas_is_one_value(tmp_path):
    path = tmp_path / "rule-learning_rate=0.1,seed=0.npz"
    words = ["--env", str(path)]
    assert [s.env for s in parse(Settings, words)] == str(path).split(",")
    path.touch()
    assert [s.env for s in parse(Settings, words)] == [str(path)]


def test_a_value_that_is_too_long_for_a_file_name_is_split():
    rates = [f"0.{i:07d}" for i in range(1, 50)]
    found = parse(Settings, ["--hypers.gamma", ",".join(rates)])
    assert [s.hypers.gamma for s in found] == [float(rate) for rate in rates]


def test_what_an_evaluation_reads_cannot_be_swept():
    reads = lambda settings: build(settings)._replace(reads=("gamma",))  # noqa: E731
    assert len(plan_runs(Settings, reads, ["--hypers.gamma", "0.9"])) == 1
    with pytest.raises(ValueError, match=r"hypers.gamma: several values are not valid here"):
        plan_runs(Settings, reads, ["--hypers.gamma", "0.9,0.99"])


def test_a_run_that_saved_nothing_resumes_with_its_words_and_any_change(tmp_path):
    keep(tmp_path, [*SWEEP, "--out", str(tmp_path)])
    (tmp_path / record.SAVED).unlink()
    for more, num_envs in ([], 2), (["--agent.num-envs", "1"], 1):
        words = with_kept_words(Settings, ["--resume", "--out", str(tmp_path), *more])
        (plan,) = plan_runs(Settings, build, words)
        assert plan.settings.agent.num_envs == num_envs and plan.population.size == 4


def test_a_run_that_saved_nothing_does_not_hide_those_in_its_subfolders(tmp_path):
    keep(tmp_path, ["--seeds", "5", "--out", str(tmp_path)])
    (tmp_path / record.SAVED).unlink()
    keep(tmp_path, ["--env", "CartPole-v1"], "env=CartPole-v1")
    with pytest.raises(ValueError, match="is not the folder of a run; these are: .*CartPole-v1"):
        with_kept_words(Settings, ["--resume", "--out", str(tmp_path)])


def test_resume_without_a_run_starts_one(tmp_path):
    words = ["--resume", "--out", str(tmp_path / "none"), *SWEEP]
    assert with_kept_words(Settings, words) == tuple(words)


@dataclass(frozen=True)
class WithRecommended(Settings):
    """Settings whose defaults depend on the environment."""

    @classmethod
    def recommended(cls, env: str) -> "WithRecommended":
        wide = {"Acrobot-v1": 8}
        return cls(env=env, agent=ppo.Config(num_envs=wide.get(env, 2)), total_steps=1e4)


def test_every_environment_of_a_list_has_its_own_defaults():
    words = ["--env", "CartPole-v1,Acrobot-v1", "--agent.num-steps", "16"]
    found = [(s.env, s.agent.num_envs, s.agent.num_steps) for s in parse(WithRecommended, words)]
    assert found == [("CartPole-v1", 2, 16), ("Acrobot-v1", 8, 16)]
    plans = plan_runs(WithRecommended, build, words)
    assert [plan.options.folder.name for plan in plans] == ["env=CartPole-v1", "env=Acrobot-v1"]
    assert all(plan.swept == () for plan in plans)


@dataclass(frozen=True)
class InOwnFolder(WithRecommended):
    """Settings whose folder depends on the environment."""

    @classmethod
    def recommended(cls, env: str) -> "InOwnFolder":
        return cls(env=env, run=RunOptions(out=f"results/{env}"))


def test_folders_that_differ_get_no_label_and_one_of_a_loop_is_resumed_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--env", "CartPole-v1,Acrobot-v1"]
    plans = plan_runs(InOwnFolder, build, words)
    assert [plan.options.out for plan in plans] == ["results/CartPole-v1", "results/Acrobot-v1"]
    for plan in plans:
        found = record.identity(plan.job.algorithm, plan.population)
        plan.options.folder.mkdir(parents=True)
        about = {"experiment": __file__, "words": words}
        record.claim(plan.options.folder, False, found, command=about)
        (plan.options.folder / record.SAVED).touch()
    kept = with_kept_words(InOwnFolder, ["--resume", "--env", "Acrobot-v1"])
    (one,) = plan_runs(InOwnFolder, build, kept)
    assert one.options.out == "results/Acrobot-v1"


@pytest.mark.parametrize("steps", [0, 15, -1, float("nan"), float("inf"), 1e30])
def test_steps_that_make_no_update_or_too_many_are_refused(steps):
    with pytest.raises(ValueError, match=r"total_steps: .* is not valid; .* from 16, the env"):
        updates_for(steps, 16)


def test_steps_that_are_rounded_down_are_announced(capsys):
    assert updates_for(64, 16) == 4
    assert capsys.readouterr().err == ""
    assert updates_for(1e2, 16) == 6
    assert "100 is rounded down to 96, 6 updates of 16 steps" in capsys.readouterr().err


def test_rebuild_needs_a_run_of_an_experiment(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        commandline.rebuild(tmp_path)
    (plan,) = plan_runs(Settings, build, [])
    record.claim(tmp_path, False, record.identity(plan.job.algorithm, plan.population))
    with pytest.raises(ValueError, match="that no experiment file started"):
        commandline.rebuild(tmp_path)
