"""The layout of members over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dqn
from purejaxrl.running import chunk, devices
from purejaxrl.running.devices import CPU_GROUP, Layout, layout, map_members
from purejaxrl.running.population import grid, populate, seeds
from tests.helpers import arrays, assert_equal


def test_members_fill_devices_in_groups():
    plan = layout(37, jax.devices()[:2], group=5)
    assert (plan.groups, plan.group, plan.padded) == (4, 5, 40)
    assert layout(37, jax.devices()[:1]).group <= CPU_GROUP


@pytest.mark.parametrize("group", [0, -1, 2.5])
def test_an_invalid_group_is_refused(group):
    with pytest.raises(ValueError, match=f"group: {group} is not valid; it must be an integer"):
        layout(4, group=group)


def test_any_number_of_devices_makes_a_layout():
    devices = jax.devices()[:3]
    assert layout(3, devices).mesh.devices[:, 0].tolist() == devices


@pytest.mark.parametrize("count", [2, 64 + 3])
def test_members_are_mapped_alike_one_by_one_and_side_by_side(count, monkeypatch):
    members = jnp.arange(2.0 * count).reshape(count, 2)
    one_by_one = map_members(jnp.sum, members)
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    assert_equal(map_members(jnp.sum, members), one_by_one)
    assert_equal(one_by_one, members.sum(1))


def test_members_start_together_as_they_start_one_by_one(monkeypatch):
    env, env_params = envs.make("CartPole-v1")
    agent = dqn.make(
        dqn.Config(num_envs=2, hidden=(8,), capacity=32, warmup_steps=16, batch_size=8), env
    )
    rates = grid(learning_rate=[1e-3, 1e-2])
    population = populate(seeds(3) * rates, dqn.Hypers(), env_params)
    plan = layout(population.size, jax.devices()[:2], group=2)
    one_by_one = chunk.start(agent, population, plan, horizon=5)
    monkeypatch.setattr(Layout, "on_cpu", False)
    together = chunk.start(agent, population, plan, horizon=5)
    assert len(together) == len(one_by_one) == 2
    for found, expected in zip(together, one_by_one, strict=True):
        for x, y in zip(arrays(found), arrays(expected), strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)
        assert found.alive.sharding == expected.alive.sharding
