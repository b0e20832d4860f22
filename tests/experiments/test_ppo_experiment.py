"""PPO on any environment: settings by environment, and what is refused."""

import dataclasses
import re
from unittest import mock

import jax
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from algos import ppo
from purejaxrl.algorithm import make_train
from purejaxrl.launch import launch
from purejaxrl.running.words import parse

with mock.patch("purejaxrl.running.devices.use_cpu_cores"):  # the tests have their own devices
    from experiments import ppo as experiment
    from experiments import ppo_rnn_memory

TINY = ppo.Config(num_envs=2, num_steps=4, num_minibatches=2, hidden=(8,))
QUICK = {"CartPole-v1", "PointRobot-misc", "Catch-bsuite", "gridworld-small", "maze-25"}
"""An environment of each kind of space; the others are marked slow."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in envs.names()],
)
def test_ppo_can_be_traced_on_every_environment(name):
    settings = dataclasses.replace(experiment.Settings.recommended(name), agent=TINY)
    job = experiment.build(settings)
    train = make_train(job.algorithm, 2)
    _, metrics = jax.eval_shape(train, jax.random.key(0), settings.hypers, job.env_params)
    assert metrics["return"].shape == (2,)
    actions = job.env.action_space(job.env_params)
    assert type(actions) is type(envs.make(name)[0].action_space(job.env_params))
    if isinstance(actions, spaces.Box):
        assert len(actions.shape) == 1
        assert np.all(actions.low == -1) and np.all(actions.high == 1)
    else:
        assert isinstance(actions, spaces.Discrete) and actions.n > 1


def test_every_environment_of_a_sweep_has_its_own_defaults():
    found = parse(experiment.Settings, ["--env", "CartPole-v1,Asterix-MinAtar", "--seeds", "3"])
    assert [s.env for s in found] == ["CartPole-v1", "Asterix-MinAtar"]
    assert [s.total_steps for s in found] == [5e5, 1e7]
    assert [s.hypers.learning_rate for s in found] == [2.5e-4, 5e-3]
    assert [s.agent.activation for s in found] == ["tanh", "relu"]
    assert [s.run.out for s in found] == ["results/ppo/CartPole-v1", "results/ppo/Asterix-MinAtar"]
    assert [s.seeds for s in found] == [3, 3]
    assert [s.title for s in found] == ["PPO on CartPole-v1", "PPO on Asterix-MinAtar"]


def test_without_words_it_is_cartpole():
    (settings,) = parse(experiment.Settings, [])
    assert (settings.env, settings.agent, settings.seeds) == ("CartPole-v1", ppo.Config(), 16)


def test_words_override_the_recommended_settings():
    (settings,) = parse(experiment.Settings, ["--env=Pendulum-v1", "--agent.num-envs", "2"])
    assert (settings.agent.num_envs, settings.agent.num_epochs) == (2, 10)
    assert settings.hypers.gamma == 0.95


def test_help_shows_the_settings_of_the_environment(capsys):
    with pytest.raises(SystemExit):
        launch(experiment.Settings, experiment.build, ["--env", "Pendulum-v1", "--help"])
    assert "results/ppo/Pendulum-v1" in capsys.readouterr().out


@pytest.mark.slow
def test_the_backend_reaches_brax():
    words = ["--env", "inverted_pendulum", "--backend", "positional"]
    (settings,) = parse(experiment.Settings, words)
    assert experiment.make_env(settings)[0].backend == "positional"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env", "Pendulum"], "unknown environment 'Pendulum'; did you mean: .*Pendulum-v1"),
        (["--env", "MinAtar"], "unknown environment 'MinAtar'; did you mean: .*-MinAtar"),
        (["--agent.torso", "cnn"], "torso: 'cnn' is not valid for observations of shape"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_compiles(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        launch(experiment.Settings, experiment.build, [*words, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", ["0", "-1", "999"])
def test_a_memory_chain_of_invalid_length_is_refused(length, tmp_path, capsys):
    words = ["--memory-length", length, "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        launch(ppo_rnn_memory.Settings, ppo_rnn_memory.build, words)
    said = capsys.readouterr()
    said = " ".join((said.out + said.err).split())
    assert f"memory_length: {length} is not valid; it must be an integer from 1 to 998" in said
