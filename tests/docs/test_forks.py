"""What the forks of docs/fork.md define is right; `test_snippets.py` sees that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.algorithm import Task, update
from tests.algos.probes import Params, Probe
from tests.docs.pages import ROOT, blocks

PAGE = [block.text for block in blocks(ROOT / "docs/fork.md") if block.language == "python"]


def define(name, before):
    """Execute the fork that defines `name`, up to the line that begins with `before`."""
    fork = next(text for text in PAGE if name in text)
    found = {"__name__": "fork"}
    exec(PAGE[0] + fork[: fork.index(f"\n{before}")], found)
    return found


@pytest.fixture(scope="module")
def transformer():
    net = define("class Transformer", "chain, ")["Transformer"](size=3, width=8)
    memory = net.initial_memory(2)
    obs = jax.random.normal(jax.random.key(0), (7, 2, 4))
    first = jnp.zeros((7, 2), bool).at[0].set(True).at[4, 0].set(True)
    params = jax.jit(net.init)(jax.random.key(1), memory, obs, first)
    return jax.jit(lambda memory, obs, first: net.apply(params, memory, obs, first)), (
        memory, obs, first,
    )  # fmt: skip


def test_the_transformer_steps_as_it_runs_over_time(transformer):
    run, (memory, obs, first) = transformer
    after, features = run(memory, obs, first)
    for t in range(7):
        memory, stepped = run(memory, obs[t : t + 1], first[t : t + 1])
        np.testing.assert_allclose(stepped[0], features[t], atol=1e-5)
    np.testing.assert_allclose(memory.tokens, after.tokens, atol=1e-6)


def test_the_transformer_sees_its_window_and_its_episode_only(transformer):
    run, (memory, obs, first) = transformer
    _, features = run(memory, obs, first)
    _, other = run(memory, obs.at[3].add(1.0), first)
    changed = np.abs(other - features).max(-1) > 1e-6
    np.testing.assert_array_equal(changed[:, 0], [0, 0, 0, 1, 0, 0, 0])  # it ended after step 3
    np.testing.assert_array_equal(changed[:, 1], [0, 0, 0, 1, 1, 1, 0])


@pytest.mark.parametrize(("length", "limit"), [(2, 9), (9, 2)], ids=["terminated", "truncated"])
def test_dqn_stores_the_true_last_observation_and_writes_in_a_ring(length, limit):
    found = define("class Replay", "agent = make(")
    env = Probe(lambda state, action: jnp.float32(1), show_always=False)
    config = found["Config"](num_envs=2, num_steps=3, capacity=10, batch_size=4, num_batches=1)
    agent, hypers = found["make"](config, env), found["Hypers"]()
    task = Task(Params(length=length, max_steps_in_episode=limit), jnp.int32(4))
    state = jax.jit(agent.init)(jax.random.key(0), hypers, task)
    step = jax.jit(lambda state: update(agent, state, hypers)[0])
    rows = step(state).replay.rows
    np.testing.assert_array_equal(rows.terminated[:6], np.repeat([0, length == 2, 0], 2))
    np.testing.assert_array_equal(rows.next_obs[2:4, 0], 0)  # not the cue that a reset shows
    np.testing.assert_array_equal(rows.reward, [1] * 6 + [0] * 4)
    replay = step(step(state)).replay
    assert replay.written == 12
    np.testing.assert_array_equal(replay.rows.reward, 1)
