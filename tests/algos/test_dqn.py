"""DQN's targets by hand, its settings one by one, probes, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dqn
from purejaxrl.algorithm import Task, make_train, update
from tests.algos.chain import GAMMA, ONE_STEP, Chain, Q
from tests.algos.probes import Params, Probe, assert_bootstraps_only_where_truncated, pay_one

SMALL = dqn.Config(
    num_envs=4, num_steps=2, capacity=512, warmup_steps=64, batch_size=32, num_batches=2,
    target_every=8, hidden=(16,),
)  # fmt: skip
FAST = dqn.Hypers(learning_rate=3e-3)


def chain_agent(expected, **changes):
    """An agent with the action values `Q`, and which share of its targets is each expected one."""

    @jax.jit
    def share_of(target):
        def loss(x, hypers):
            return (jnp.abs(x.target - target) < 1e-4) + 0.0 * x.q

        config = dataclasses.replace(SMALL, num_envs=1, num_steps=4, capacity=64, **changes)
        agent = dqn.make(config, Chain(), loss)
        hypers = dqn.Hypers(gamma=GAMMA)
        state = agent.init(jax.random.key(0), hypers, Task(Chain().default_params, jnp.int32(9)))
        table = {"params": {"rows": changes.get("rows", Q)}}
        state = state._replace(params=table, target_params=table)
        return update(agent, state, hypers)[1]["loss"]

    return [float(share_of(target)) for target in expected]


def test_targets_on_a_chain_with_a_terminal_and_a_truncated_step():
    """A buffer that stores the observation after the reset would give 4 + γ Q(reset).

    Treating the time limit as a termination would give 4.
    """
    shares = chain_agent(ONE_STEP)
    assert min(shares) > 0
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-6)


def test_returns_of_three_steps_stop_at_either_end():
    """1 + γ 2; 2; 3 + γ 4 + γ² 40; 4 + γ 40."""
    shares = chain_agent([2.0, 15.0, 24.0], num_returns=3)
    assert min(shares) > 0
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-6)


def test_double_takes_the_value_of_the_learning_networks_choice():
    learning, slow = jnp.array([[1.0, 2.0]]), jnp.array([[30.0, 10.0]])
    env, found = Probe(lambda state, action: jnp.float32(0)), {}
    for double in (True, False):
        config = dataclasses.replace(SMALL, double=double, num_batches=1)
        agent = dqn.make(config, env, lambda x, hypers: x.target + 0.0 * x.q)
        hypers = dqn.Hypers(gamma=1.0)
        level = Params(length=10, max_steps_in_episode=1)  # every step is truncated
        state = agent.init(jax.random.key(0), hypers, Task(level, jnp.int32(9)))
        with_bias = lambda params, q: jax.tree_util.tree_map_with_path(  # noqa: E731
            lambda path, x: q[0] if x.shape == (2,) else jnp.zeros_like(x), params
        )
        state = state._replace(
            params=with_bias(state.params, learning), target_params=with_bias(state.params, slow)
        )
        found[double] = float(update(agent, state, hypers)[1]["loss"])
    assert found == {True: 10.0, False: 30.0}


def test_dueling_adds_a_value_and_centred_advantages():
    outputs = jnp.array([[5.0, 1.0, 2.0, 6.0]])
    np.testing.assert_allclose(dqn.add_up(outputs), [[3.0, 4.0, 8.0]])


def train(env, params, updates=150, config=SMALL, hypers=FAST):
    run = jax.jit(make_train(dqn.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


@pytest.mark.parametrize(
    "changes", [{}, {"double": False, "dueling": True, "num_returns": 3}], ids=["plain", "all"]
)
def test_it_learns_to_act_on_what_it_sees(changes):
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    _, metrics = train(env, Params(), config=dataclasses.replace(SMALL, **changes))
    assert metrics["return"][-20:].mean() > 0.85  # ε is 0.05
    assert metrics["epsilon"][0] == 1 and metrics["env_steps"].tolist()[:2] == [72, 8]


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    agent = dqn.make(dataclasses.replace(SMALL, target_every=1), Probe(pay_one))
    hypers = FAST.replace(gamma=0.5, target_rate=0.05)
    assert_bootstraps_only_where_truncated(agent, hypers, 300)


CART, CART_PARAMS = envs.make("CartPole-v1")
ALONE = make_train(dqn.make(SMALL, CART), 3)
TOGETHER = jax.jit(jax.vmap(ALONE, in_axes=(0, 0, None)))


@pytest.mark.slow
def test_members_of_different_seeds_differ_in_everything():
    hypers = jax.tree.map(lambda x: jnp.full(2, x), FAST)
    state, metrics = TOGETHER(jax.random.split(jax.random.key(0), 2), hypers, CART_PARAMS)
    kept = state.params, state.replay.contents, state.interaction.obs, state.key
    for path, x in jax.tree_util.tree_leaves_with_path(kept):
        x = jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        varies = not any(name in str(path) for name in ("reward", "truncated"))  # here constant
        assert not varies or (x[0] != x[1]).any(), path
    assert metrics["loss"][0, -1] != metrics["loss"][1, -1]


def test_vmapped_over_seeds_and_hyperparameters_equals_alone():
    keys, rates = jax.random.split(jax.random.key(1), 2), jnp.array([1e-4, 1e-2])
    hypers = jax.vmap(lambda rate: dqn.Hypers(learning_rate=rate))(rates)
    hypers = jax.tree.map(lambda x: jnp.broadcast_to(x, (2,)), hypers)
    together, _ = TOGETHER(keys, hypers, CART_PARAMS)
    run = jax.jit(ALONE)
    for i in range(2):
        alone, _ = run(keys[i], jax.tree.map(lambda x, i=i: x[i], hypers), CART_PARAMS)
        for a, b in zip(
            jax.tree.leaves((together.params, together.replay)),
            jax.tree.leaves((alone.params, alone.replay)),
            strict=True,
        ):
            np.testing.assert_allclose(a[i], b, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dqn.make(SMALL, envs.make("Pendulum-v1")[0]), r"action_space: .*Discrete"),
        (lambda: dataclasses.replace(SMALL, capacity=100), "Config.capacity: 100 is not valid"),
        (lambda: dataclasses.replace(SMALL, batch_size=65), "Config.batch_size: 65 .*warmup_steps"),
        (lambda: dataclasses.replace(SMALL, target_every=0), "Config.target_every: 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("field", ["epsilon_start", "epsilon_end"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_an_epsilon_outside_of_0_to_1_is_refused(field, value):
    run = make_train(dqn.make(SMALL, CART), 1)
    with pytest.raises(ValueError, match=rf"Hypers\.{field}: {value} is not valid"):
        run(jax.random.key(0), dqn.Hypers(**{field: value}), CART_PARAMS)
