"""What a meta-gradient learner promises: sound agents, lives of their length, exact resumes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from algos import lpg, ppo
from purejaxrl.meta import gradient
from purejaxrl.meta.metrics import summarize_updates
from purejaxrl.parts import networks
from purejaxrl.running.population import grid, populate, seeds
from purejaxrl.running.runner import run
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params, Probe
from tests.helpers import assert_equal, begin, planned_memory, run_options, whole_and_resumed
from tests.purejaxrl.meta.small import (
    ENV,
    HYPERS,
    INNER,
    agents_of,
    first_gradient,
    make,
    start,
    with_agents,
    world,
)


@pytest.mark.slow
def test_the_meta_gradient_is_finite_where_nothing_can_be_learned():
    """The rule's units are all dead, and agents get no reward."""
    level = ENV.default_params
    level = level.replace(reward=0 * level.reward)
    learner = make()
    state = start(learner)
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    agents = agents_of(state)
    task = agents.state.task._replace(env_params=jax.tree.map(lambda x: jnp.stack([x, x]), level))
    state = with_agents(state, agents._replace(state=agents.state._replace(task=task)))
    after, metrics = jax.jit(learner.learn)(state, HYPERS, ())
    assert metrics["unsound"] == 0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after.params, after.opt_state)))


@pytest.mark.slow
def test_an_agent_does_not_depend_on_its_neighbours():
    learner = make(num_agents=4, group=2)
    hypers = HYPERS.replace(max_grad_norm=jnp.inf)
    state = start(learner, hypers, seed=1)
    step = jax.jit(learner.learn)
    together, _ = step(state, hypers, ())
    order = jnp.array([2, 0, 3, 1])
    shuffled = with_agents(state, jax.tree.map(lambda x: x[order], agents_of(state)))
    apart, _ = step(shuffled, hypers, ())
    # A new agent differs only by the new θ, whose gradient is summed in another order.
    for a, b in zip(
        jax.tree.leaves(agents_of(together).state.params),
        jax.tree.leaves(agents_of(apart).state.params),
        strict=True,
    ):
        np.testing.assert_allclose(a[order], b, rtol=1e-5, atol=1e-7)
    for a, b in zip(*map(jax.tree.leaves, map(first_gradient, (together, apart))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_rematerialisation_does_not_change_the_gradient():
    state = start(make())
    plain, _ = jax.jit(make().learn)(state, HYPERS, ())
    again, _ = jax.jit(make(rematerialize=True).learn)(state, HYPERS, ())
    for a, b in zip(*map(jax.tree.leaves, map(first_gradient, (plain, again))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_with_rematerialisation_memory_hardly_grows_with_k():
    agent = lpg.Config(num_envs=16, rule_width=64, optimizer="sgd")

    def memory(num_updates, rematerialize):
        inner = lpg.make(agent, ENV)
        learner = make(2, num_updates, inner=inner, rule=agent, rematerialize=rematerialize)
        return planned_memory(learner, HYPERS)

    grown = [memory(20, again) - memory(5, again) for again in (False, True)]
    assert grown[1] < grown[0] / 3


@pytest.fixture(scope="module")
def lives_of_seven():
    """A learner whose lives take no multiple of K updates, its state, and its compiled step."""
    learner = make(num_agents=4, lifetime=7)
    return start(learner), jax.jit(learner.learn)


def test_updates_after_the_end_of_a_life_do_not_count():
    metrics = {
        "episodes": jnp.array([2, 0, 0]), "env_steps": jnp.array([20, 20, 0]),
        "return": jnp.array([3.0, jnp.nan, 7.0]), "pi_hat_square": jnp.array([1.0, 2.0, 60.0]),
    }  # fmt: skip
    found = summarize_updates(metrics, jnp.array([True, True, False]))
    assert {k: float(v) for k, v in found.items()} == {
        "episodes": 2, "env_steps": 40, "return": 3.0, "pi_hat_square": 1.5
    }  # fmt: skip


def test_a_diverging_agent_cannot_poison_the_rule(lives_of_seven):
    state, step = lives_of_seven
    params = jax.tree.map(lambda x: x.at[2].set(jnp.nan), agents_of(state).state.params)
    agents = agents_of(state)
    ill = with_agents(state, agents._replace(state=agents.state._replace(params=params)))
    after, metrics = step(ill, HYPERS, ())
    assert metrics["unsound"] == 1
    params = after.params, agents_of(after).state.params
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(params))
    assert (first_gradient(after)["params"]["state"] != 0).any()
    assert agents_of(after).state.step[2] == 0  # it was replaced


def test_every_agents_gradient_is_clipped_alone(lives_of_seven):
    state, step = lives_of_seven

    def gradient_of(agents, max_grad_norm):
        hypers = HYPERS.replace(max_grad_norm=float(max_grad_norm))
        after, metrics = step(with_agents(state, agents), hypers, ())
        leaves = jax.tree.leaves(first_gradient(after))
        return np.concatenate([np.ravel(x) for x in leaves]), metrics

    agents = agents_of(state)
    copied = [jax.tree.map(lambda x, i=i: x[jnp.full(4, i)], agents) for i in range(4)]
    alone = [gradient_of(copies, jnp.inf)[0] for copies in copied]
    norms = np.array([np.linalg.norm(gradient) for gradient in alone])
    median = np.median(norms)
    for limit, clipped in ((median, 0.5), (0.2 * median, np.mean(norms > 0.2 * median))):
        scaled = [g * min(1, limit / n) for g, n in zip(alone, norms, strict=True)]
        found, metrics = gradient_of(agents, limit)
        assert metrics["clipped"] == clipped
        np.testing.assert_allclose(found, np.mean(scaled, axis=0), rtol=1e-3, atol=1e-3 * limit)


def with_nan_agents(state):
    """The same meta-learner, with agents whose parameters are all NaN."""
    agents = agents_of(state)
    params = jax.tree.map(lambda x: jnp.nan * x, agents.state.params)
    return with_agents(state, agents._replace(state=agents.state._replace(params=params)))


@pytest.mark.slow
def test_a_learner_survives_one_step_without_a_sound_agent_but_not_several_in_a_row():
    learner = make()
    state = start(learner)
    step, lost = jax.jit(learner.learn), []
    for unsound in (True, False, True, True, True):
        state, metrics = step(with_nan_agents(state) if unsound else state, HYPERS, ())
        vital = jax.tree.leaves(learner.vital(state, metrics))
        lost.append((int(state.lost_steps), all(np.isfinite(x).all() for x in vital)))
    assert lost == [(1, True), (0, True), (1, True), (2, True), (3, False)]


@pytest.mark.slow
def test_a_rule_that_only_makes_unsound_agents_is_frozen_and_reported(tmp_path):
    who = populate(grid(learning_rate=[1e-4, 1e30]), HYPERS, ())
    with pytest.warns(UserWarning, match=r"learning_rate=1e\+30.* is frozen"):
        result = run(make(), who, 6, run_options(tmp_path), devices=jax.devices()[:1])
    assert result.alive.tolist() == [True, False]


@pytest.mark.slow
def test_the_critic_of_the_meta_objective_learns():
    """In the published code its gradient was zero and its parameters never moved."""
    learner = make()
    state = start(learner)
    step = jax.jit(learner.learn)
    for _ in range(5):
        before = agents_of(state).critic.params
        state, _ = step(state, HYPERS, ())
        assert (agents_of(state).critic.params["params"]["rows"] != before["params"]["rows"]).any()


def test_lives_end_after_their_updates_and_first_lives_are_staggered(lives_of_seven):
    state, step = lives_of_seven
    assert agents_of(state).state.task.horizon.tolist() == [2, 4, 6, 7]
    # `env_steps` counts one more rollout, of the meta-objective
    ages, ended, updates = [], [], []
    for _ in range(8):
        state, metrics = step(state, HYPERS, ())
        ages.append(agents_of(state).state.step.tolist())
        ended.append(int(metrics["lives_ended"]))
        updates.append(int(metrics["env_steps"]) // INNER.config.batch_size - 4)
        assert (agents_of(state).state.step < agents_of(state).state.task.horizon).all()
    assert ages[0] == [0, 2, 2, 2] and ages[2] == [4, 2, 0, 6]
    assert ages[3] == [6, 4, 2, 0]  # the seventh update ended it, the eighth was not made
    assert step._cache_size() == 1  # a meta-step never compiles again
    assert ended[:4] == [1, 1, 1, 1] and updates[:4] == [8, 8, 8, 7]


@pytest.mark.slow
def test_resumed_equals_uninterrupted(tmp_path):
    who = populate(seeds(2), HYPERS, ())
    whole, resumed = whole_and_resumed(tmp_path, make(num_agents=4), who, 6, stop=4)
    assert_equal(whole.state, resumed.state)


@pytest.mark.slow
def test_the_meta_gradient_does_not_depend_on_the_number_of_devices(tmp_path):
    who = populate(seeds(1), HYPERS, ())
    learner = make(num_agents=8)
    states = [
        run(learner, who, 1, run_options(tmp_path / str(n)), devices=jax.devices()[:n]).state
        for n in (1, 2, 8)
    ]
    grads = [jax.tree.leaves(first_gradient(state)) for state in states]
    for other in grads[1:]:
        for a, b in zip(grads[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_member_does_not_depend_on_the_others(tmp_path):
    learner, alone = make(), populate(seeds(1, 1), HYPERS, ())
    both = run(learner, populate(seeds(2), HYPERS, ()), 4, run_options(tmp_path / "a"))
    alone = run(learner, alone, 4, run_options(tmp_path / "b"))
    assert_equal(both.member(1).params, alone.member(0).params)


class Tuned(struct.PyTreeNode):
    """Hyperparameters of PPO that are tuned online."""

    log_learning_rate: jax.Array
    entropy_coef: jax.Array
    discount_logit: jax.Array


def tune(theta, hypers):
    return hypers.replace(
        learning_rate=jnp.exp(theta.log_learning_rate),
        entropy_coef=theta.entropy_coef,
        gamma=jax.nn.sigmoid(theta.discount_logit),
    )


@pytest.mark.slow
def test_the_same_code_tunes_ppo():
    """PPO's learning rate rises when it starts too low, and its discount changes."""
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    config = ppo.Config(num_envs=8, num_steps=8, num_epochs=1, num_minibatches=2, hidden=(8,))
    start = Tuned(jnp.log(1e-3), jnp.float32(0.0), jnp.float32(2.0))
    learner = gradient.make(
        gradient.Config(num_agents=4, num_updates=3),
        world(
            ppo.make(config, env),
            env,
            lifetime=30,
            critic=networks.readout(env.observation_space(), networks.MLP((8,)), 1),
            curriculum=uniform(lambda key: Params(length=2, max_steps_in_episode=2)),
        ),
        init_theta=lambda key: jax.tree.map(jnp.float32, start),
        insert=tune,
    )
    hypers = gradient.Hypers(agent=ppo.Hypers(final_rate_fraction=1.0), learning_rate=0.05)
    state = begin(learner, hypers)
    step = jax.jit(learner.learn)
    returns = []
    for _ in range(80):
        state, metrics = step(state, hypers, ())
        returns.append(float(metrics["return"]))
    assert metrics["unsound"] == 0
    assert state.params.log_learning_rate > start.log_learning_rate + 0.5
    assert state.params.discount_logit != start.discount_logit
    assert np.mean(returns[-20:]) > np.mean(returns[:20]) + 0.2


@pytest.mark.parametrize(
    ("field", "value"), [("num_agents", 0), ("num_updates", 0), ("group", 0), ("group", 2.5)]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field}: {value} is not valid"):
        gradient.Config(**{field: value})


@pytest.mark.parametrize("lifetime", [0, -3])
def test_a_life_without_updates_is_refused(lifetime):
    with pytest.raises(ValueError, match=rf"sample_lifetime: a life of {lifetime} updates is not"):
        make(lifetime=lifetime)


def test_a_meta_learner_without_hyperparameters_of_its_agents_is_refused():
    with pytest.raises(ValueError, match=r"Hypers\.agent: None is not valid"):
        make().init(jax.random.key(0), gradient.Hypers(), None)
    with pytest.raises(ValueError, match=r"Hypers is not valid; it must be .*gradient\.Hypers"):
        make().init(jax.random.key(0), HYPERS.agent, None)


def test_an_algorithm_without_log_prob_is_refused():
    with pytest.raises(ValueError, match="inner: .*log_prob"):
        make(inner=INNER._replace(log_prob=None))
