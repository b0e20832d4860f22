"""PPO and its forks as contenders: they differ in the clip alone."""

from dataclasses import fields

import envs
from algos import ppo
from algos.rules.clips import HAND_MADE, make_contenders
from purejaxrl.parts.wrappers import for_network

AGENT = ppo.Config(
    num_envs=8, num_steps=32, num_epochs=2, num_minibatches=2, hidden=(8,), activation="relu",
    normalize_obs=True, normalize_reward=True,
)  # fmt: skip


def chosen(part, like):
    """The values of the fields that `like` has too, but for PPO's clip."""
    names = {field.name for field in fields(like)} - {"clip_eps"}
    return {name: getattr(part, name) for name in names}


def test_contenders_are_the_same_except_for_the_clip():
    env = for_network(envs.make("CartPole-v1")[0])
    found = make_contenders(env, AGENT, ["lpo", "ta_lpo"], "all", (1e-3, 1e-2))
    assert [one.name for one in found] == [*HAND_MADE, "lpo", "ta_lpo"]
    first = found[0]
    for one in found:
        assert chosen(one.algorithm.config, AGENT) == chosen(AGENT, AGENT)
        assert chosen(one.hypers, first.hypers) == chosen(first.hypers, first.hypers)
        assert one.grid == first.grid
    assert first.hypers.final_rate_fraction == 0  # all anneal
