"""PPO on CartPole, from a command line.

python tests/purejaxrl/test_launch.py --seeds 2
python tests/purejaxrl/test_launch.py --seeds 3
"""

from dataclasses import dataclass

import pytest

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, command, launch, updates_for
from purejaxrl.running.runner import RunOptions
from tests.helpers import CONFIG


@dataclass(frozen=True)
class Settings(Experiment):
    """PPO on {env}."""

    env: str = "CartPole-v1"
    """Environment."""
    seeds: int = 2
    """Agents."""
    agent: ppo.Config = CONFIG
    """Static settings."""
    hypers: ppo.Hypers = ppo.Hypers()
    """Hyperparameters."""
    total_steps: float = 32
    """Environment steps."""
    run: RunFlags = RunOptions(progress=False)

    @property
    def title(self) -> str:
        return f"PPO on {self.env} {{}} [/b]"  # braces and markup are text


def build(settings: Settings) -> Job:
    env, env_params = envs.make(settings.env)
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    return Job(ppo.make(settings.agent, env), env_params, num_updates, env)


def test_floats_are_members_of_one_run_and_the_rest_is_looped_over(tmp_path):
    words = ["--hypers.gamma", "0.9,0.99", "--agent.num-envs", "2,4", "--out", str(tmp_path)]
    outcomes = launch(Settings, build, words)
    assert [o.settings.agent.num_envs for o in outcomes] == [2, 4]
    for outcome, folder in zip(outcomes, ("num_envs=2", "num_envs=4"), strict=True):
        rows = [(row["gamma"], row["seed"]) for row in outcome.result.population.rows]
        assert rows == [(0.9, 0), (0.9, 1), (0.99, 0), (0.99, 1)]
        assert (tmp_path / folder / "curves.png").exists()


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, capsys):
    assert launch(Settings, build, ["--dry-run", "--out", str(tmp_path / "out")]) == []
    assert not (tmp_path / "out").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "2 members" in said
    assert "32 environment steps each" in said


@pytest.mark.slow
def test_a_dry_run_of_several_settings_adds_them_up(tmp_path, capsys):
    words = ["--agent.num-envs", "2,4", "--dry-run", "--total-steps", "64"]
    launch(Settings, build, [*words, "--out", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert "2 runs, one after the other" in said


def test_help_is_the_docstring_of_the_file_with_a_line_for_each_command(capsys):
    with pytest.raises(SystemExit) as ended:
        launch(Settings, build, ["--help"])
    assert ended.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "PPO on CartPole, from a command line." in lines
    assert "$ python tests/purejaxrl/test_launch.py --seeds 2" in lines
    assert "$ python tests/purejaxrl/test_launch.py --seeds 3" in lines


def test_what_was_learned_is_saved_before_anything_is_drawn(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no picture today")

    monkeypatch.setattr("purejaxrl.study.plots.learning_curves", fail)
    saved = []
    with pytest.raises(SystemExit):
        launch(Settings, build, ["--out", str(tmp_path)], save=saved.append)
    assert saved[0].result.out == tmp_path


@pytest.mark.slow
def test_resume_repeats_the_command_line_and_extends_the_run(tmp_path):
    words = ["--hypers.gamma", "0.9,0.99", "--out", str(tmp_path)]
    launch(Settings, build, words)
    (longer,) = launch(Settings, build, ["--resume", "--total-steps", "64", "--out", str(tmp_path)])
    assert longer.result.metrics["update"].max() == 4
    (again,) = launch(Settings, build, ["--resume", "--out", str(tmp_path)])
    assert again.result.metrics["update"].max() == 4


@pytest.mark.slow
def test_members_that_diverged_are_counted_and_not_scored(tmp_path, capsys):
    words = ["--hypers.learning-rate", "1e-3,1e38", "--out", str(tmp_path), "--seeds", "3"]
    with pytest.warns(UserWarning, match="is frozen"):
        launch(Settings, build, words)
    said = capsys.readouterr().err
    assert "all diverged" in said and "3 (3 diverged)" in said


@pytest.mark.slow
def test_several_settings_end_in_one_table(tmp_path, capsys):
    launch(Settings, build, ["--env", "CartPole-v1,Acrobot-v1", "--out", str(tmp_path)])
    assert "env=Acrobot-v1" in capsys.readouterr().err.rpartition("setting")[2]


def test_ctrl_c_while_starting_ends_in_words(capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        launch(Settings, interrupted, [])
    assert ended.value.code == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--agent.num-envs", "0"], "num_envs"),
        (["--hypers.gamma", "1.5"], "gamma"),
        (["--env", "CartPool-v1"], "CartPool-v1"),
    ],
)
def test_bad_input_ends_with_its_name_and_nothing_written(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        launch(Settings, build, [*words, "--out", str(tmp_path / "out")])
    assert ended.value.code not in (0, None)
    said = capsys.readouterr()
    assert message in said.out + said.err
    assert not (tmp_path / "out").exists()


def test_what_a_command_does_not_accept_is_an_error_in_words(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["name", "--seeds", "5"])

    def main(settings: Settings) -> None:
        raise ValueError(f"seeds: {settings.seeds} is not valid; it must be even")

    with pytest.raises(SystemExit) as ended:
        command(main, Settings)
    assert ended.value.code == 2
    assert "seeds: 5 is not valid" in capsys.readouterr().err
