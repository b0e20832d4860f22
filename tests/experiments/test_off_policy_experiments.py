"""DQN, PQN, SAC and TD3 from the command line: settings by environment, and what is refused."""

import dataclasses
import re
from unittest import mock

import jax
import pytest

from purejaxrl.algorithm import make_train
from purejaxrl.launch import launch
from purejaxrl.running.words import parse

with mock.patch("purejaxrl.running.devices.use_cpu_cores"):  # the tests have their own devices
    from experiments import dqn, pqn, sac, td3

TINY = dict(num_envs=2, num_steps=2, hidden=(8,))
REPLAY = TINY | dict(capacity=32, warmup_steps=16, batch_size=8, num_batches=2)
CASES = [
    (dqn, "CartPole-v1", REPLAY),
    (dqn, "Breakout-MinAtar", REPLAY),
    (dqn, "gridworld-small", REPLAY),
    (pqn, "Acrobot-v1", TINY | dict(num_minibatches=2)),
    (pqn, "Asterix-MinAtar", TINY | dict(num_minibatches=2)),
    (pqn, "chain-short", TINY | dict(num_minibatches=2)),
    (sac, "Pendulum-v1", REPLAY),
    (sac, "CartPole-v1", REPLAY),
    (sac, "inverted_pendulum", REPLAY),
    (td3, "Pendulum-v1", REPLAY),
    (td3, "inverted_pendulum", REPLAY),
]
QUICK = {"CartPole-v1", "Breakout-MinAtar", "Acrobot-v1", "Pendulum-v1"}
"""The environments that are tried at every change; with the others, a case is marked slow."""


@pytest.mark.parametrize(
    ("module", "env", "tiny"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[1] not in QUICK)) for case in CASES],
    ids=lambda x: getattr(x, "__name__", str(x)[:20]),
)
def test_it_can_be_traced_with_the_settings_that_suit_the_environment(module, env, tiny):
    found = module.Settings.recommended(env)
    settings = dataclasses.replace(found, agent=dataclasses.replace(found.agent, **tiny))
    job = module.build(settings)
    train = make_train(job.algorithm, 2)
    _, metrics = jax.eval_shape(train, jax.random.key(0), settings.hypers, job.env_params)
    assert metrics["return"].shape == (2,)


def test_words_override_the_settings_of_the_environment():
    (settings,) = parse(sac.Settings, ["--env", "CartPole-v1", "--hypers.target-entropy", "0.5"])
    assert settings.hypers == sac.sac.DiscreteHypers(target_entropy=0.5)
    (settings,) = parse(sac.Settings, ["--env", "PointRobot-misc"])  # its actions are continuous
    assert type(settings.hypers) is sac.sac.Hypers
    (settings,) = parse(dqn.Settings, ["--env", "Asterix-MinAtar", "--agent.num-batches", "2"])
    assert (settings.agent.num_batches, settings.agent.torso) == (2, "cnn")


def test_the_length_of_a_run_counts_its_warm_up():
    (settings,) = parse(dqn.Settings, [])
    assert dqn.build(settings).num_updates == (500_000 - 10_000) // 10


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (dqn, ["--total-steps", "9000"], "total_steps: 9000 .*from 10,010, .*warm-up, 10,000"),
        (dqn, ["--env", "Pendulum-v1"], r"action_space: Box.* is not valid; it must be Discrete"),
        (dqn, ["--agent.capacity", "10001"], "capacity: 10001 .*multiple of num_envs"),
        (dqn, ["--agent.batch-size", "20000"], "batch_size: 20000 .*at most warmup_steps"),
        (dqn, ["--hypers.epsilon-end", "1.5"], r"epsilon_end: 1\.5 is not valid; .*<= 1"),
        (pqn, ["--env", "Pendulum-v1"], r"action_space: Box.* is not valid; it must be Discrete"),
        (pqn, ["--hypers.epsilon-start=-1"], r"epsilon_start: -1\.0 is not valid; .*>= 0"),
        (sac, ["--agent.warmup-steps", "60000"], "warmup_steps: 60000 .*at most the capacity"),
        (td3, ["--env", "CartPole-v1"], r"action_space: Discrete\(2\) is not valid"),
        (td3, ["--agent.num-batches", "3"], "num_batches: 3 .*multiple of policy_delay = 2"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_compiles(
    module, words, message, tmp_path, capsys
):
    with pytest.raises(SystemExit) as ended:
        launch(module.Settings, module.build, [*words, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    said = capsys.readouterr()
    said = " ".join((said.out + said.err).replace("│", " ").split())
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists()
