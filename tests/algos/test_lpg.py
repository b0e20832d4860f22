"""LPG: hand-made rules against closed forms, and what a rule reads."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c, lpg, ppo
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.algorithm import Task, is_finite, make_train
from tests.helpers import begin, init_rule, mostly_slow

SMALL = lpg.Config(
    num_envs=4, num_steps=6, num_predictions=3, rule_width=8, rule_embedding=4, optimizer="sgd",
    normalize_reward=False,
)  # fmt: skip
GAMMA, RATE = 0.9, 2.0
ENV = GridWorld(LEVELS["small"].sample)
LEVEL = ENV.default_params.replace(max_steps_in_episode=jnp.int32(4))  # cut within a rollout
TASK = Task(LEVEL, jnp.int32(10))


def returns_to_go(reward, done, gamma):
    """Discounted returns to the end of the episode or the rollout, by a loop."""

    def step(after, inputs):
        reward, done = inputs
        after = reward + gamma * jnp.where(done, 0.0, after)
        return after, after

    return jax.lax.scan(step, jnp.zeros_like(reward[0]), (reward, done), reverse=True)[1]


class Reinforce:
    """A hand-made rule: π̂ is the return to go, ŷ the agent's own prediction."""

    def apply(self, _, x: lpg.RuleInputs) -> lpg.Target:
        return lpg.Target(returns_to_go(x.reward, x.done, x.gamma), jnp.log(x.prediction))


class TemporalDifference:
    """A hand-made rule: ŷ mixes a reward term with the discounted next prediction."""

    def apply(self, _, x: lpg.RuleInputs) -> lpg.Target:
        now = jnp.stack([x.reward, 1 - x.reward, 0 * x.reward], -1) * 0.5 + 0.1
        keep = (x.gamma * (1 - x.terminated))[..., None]
        target = (1 - keep) * now + keep * x.next_prediction
        return lpg.Target(0 * x.reward, jnp.log(target / target.sum(-1, keepdims=True)))


def one_update(rule, entropy_coef=0.0):
    """Parameters before and after one update, and its experience, as NumPy."""
    inner = lpg.make(SMALL, ENV, rule=rule)
    hypers = lpg.Hypers(learning_rate=RATE, gamma=GAMMA, entropy_coef=entropy_coef)
    state = jax.jit(inner.init)(jax.random.key(0), hypers, TASK)
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)  # noqa: E731
    state = state._replace(params=jax.tree.map(draw, state.params))
    before, experience = jax.jit(inner.collect)(state, hypers)
    state, _ = jax.jit(inner.learn)(before, hypers, experience)
    tables = [(p.actor["params"], p.predictor["params"]) for p in (before.params, state.params)]
    return *jax.tree.map(np.asarray, tables), jax.tree.map(np.asarray, experience.transitions)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(table, obs):
    return table["rows"][obs.row] + obs.time[..., None] * table["time"]


@pytest.mark.parametrize("entropy_coef", [0.0, 0.3])
def test_with_returns_for_pi_hat_it_is_reinforce(entropy_coef):
    """Also with a bonus of the policy's entropy."""
    (actor, predictor), (after, predictor_after), seen = one_update(Reinforce(), entropy_coef)
    done = seen.terminated | seen.truncated
    assert done[:-1].any() and not done.all() and seen.reward.any()
    expected = {name: x.astype(np.float64) for name, x in actor.items()}
    probs, count = softmax(logits(actor, seen.obs)), seen.reward.size
    for b in range(SMALL.num_envs):
        ret = 0.0
        for t in reversed(range(SMALL.num_steps)):
            ret = seen.reward[t, b] + GAMMA * (0.0 if done[t, b] else ret)
            p, of_action = probs[t, b], np.eye(5)[seen.action[t, b]]
            of_entropy = -p * (np.log(p) - (p * np.log(p)).sum())
            push = RATE / count * (ret * (of_action - p) + entropy_coef * of_entropy)
            expected["rows"][seen.obs.row[t, b]] += push
            expected["time"] += push * seen.obs.time[t, b]
    np.testing.assert_allclose(after["rows"], expected["rows"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["time"], expected["time"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(predictor_after["rows"], predictor["rows"], atol=1e-6)


def test_with_bootstrapped_targets_for_y_hat_it_is_td():
    (actor, y_table), (actor_after, after), seen = one_update(TemporalDifference())
    y, next_y = softmax(logits(y_table, seen.obs)), softmax(logits(y_table, seen.final_obs))
    expected = y_table["rows"].astype(np.float64)
    for t, b in np.ndindex(seen.reward.shape):
        r, keep = seen.reward[t, b], GAMMA * (1 - seen.terminated[t, b])
        target = (1 - keep) * (np.array([r, 1 - r, 0]) * 0.5 + 0.1) + keep * next_y[t, b]
        gap = np.log(y[t, b]) - np.log(target / target.sum())
        gradient = y[t, b] * (gap - (y[t, b] * gap).sum())  # of KL(y ‖ ŷ) by the logits of y
        expected[seen.obs.row[t, b]] -= RATE * 0.5 / seen.reward.size * gradient
    np.testing.assert_allclose(after["rows"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(actor_after["rows"], actor["rows"])


def test_the_next_prediction_is_of_the_true_next_observation():
    """Where an episode is cut, that is the final observation, not the one after the reset."""
    read = []

    class Spy(Reinforce):
        def apply(self, params, x):
            jax.debug.callback(lambda *args: read.append(args), x.next_prediction, x.done)
            return super().apply(params, x)

    (_, y_table), _, seen = one_update(Spy())
    jax.effects_barrier()
    next_y, done = read[-1]
    assert done[:-1].any()
    np.testing.assert_allclose(next_y, softmax(logits(y_table, seen.final_obs)), rtol=1e-5)
    after_reset = softmax(logits(y_table, jax.tree.map(lambda x: x[1:], seen.obs)))
    assert abs(next_y[:-1][done[:-1]] - after_reset[done[:-1]]).max() > 0.1


def test_a_rule_that_is_a2c_trains_as_a2c_does():
    """Without a critic and with λ = 1, A2C's advantage is the return to go."""
    config = a2c.Config(num_envs=4, num_steps=6, optimizer="sgd")
    hypers = a2c.Hypers(
        learning_rate=RATE, gamma=GAMMA, gae_lambda=1.0, value_coef=0.0, entropy_coef=0.0,
        max_grad_norm=jnp.inf,
    )  # fmt: skip
    key = jax.random.key(3)
    theirs, their_metrics = jax.jit(make_train(a2c.make(config, ENV), 20))(key, hypers, LEVEL)
    ours, metrics = jax.jit(make_train(lpg.make(SMALL, ENV, rule=Reinforce()), 20))(
        key, lpg.Hypers(learning_rate=RATE, gamma=GAMMA), LEVEL
    )
    table = ours.params.actor["params"]["rows"]
    assert abs(table).max() > 0.1
    np.testing.assert_allclose(table, theirs.params.actor["params"]["rows"], atol=1e-5)
    np.testing.assert_array_equal(metrics["episodes"], their_metrics["episodes"])


class Rewards:
    """A hand-made rule: π̂ is the reward, less a half."""

    def apply(self, _, x: lpg.RuleInputs) -> lpg.Target:
        return lpg.Target(x.reward - 0.5, jnp.log(x.prediction))


def test_several_passes_descend_ppos_clipped_loss():
    rate, clip = 20.0, 0.05
    hypers = lpg.Hypers(learning_rate=rate, gamma=GAMMA, clip_eps=clip)
    agent = lpg.make(dataclasses.replace(SMALL, num_epochs=3), ENV, Rewards())
    state = jax.jit(agent.init)(jax.random.key(0), hypers, TASK)
    before, experience = jax.jit(agent.collect)(state, hypers)
    nets, seen = lpg.make_networks(SMALL, ENV), experience.transitions
    log_prob = lambda params: nets.policy(params, seen.obs).log_prob(seen.action)  # noqa: E731
    acting = log_prob(before.params)

    @jax.jit
    @jax.grad
    def gradient(params):
        x = ppo.LossInputs(log_prob(params) - acting, seen.reward - 0.5, jnp.float32(0))
        return ppo.policy_loss(x, ppo.Hypers(clip_eps=clip)).mean()

    params = before.params
    for _ in range(3):
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradient(params))
    assert (abs(log_prob(params) - acting) > np.log1p(clip)).any()  # the clip was reached
    found, _ = jax.jit(agent.learn)(before, hypers, experience)
    for one, other in zip(*map(jax.tree.leaves, (params.actor, found.params.actor)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert found.step == 1


def inputs(seed=0, steps=6):
    keys = jax.random.split(jax.random.key(seed), 6)
    shape = (steps, SMALL.num_envs)
    y = jax.nn.softmax(jax.random.normal(keys[4], (2, *shape, SMALL.num_predictions)))
    return lpg.RuleInputs(
        reward=jax.random.normal(keys[0], shape),
        terminated=jnp.zeros(shape),
        done=jnp.zeros(shape, bool),
        gamma=jnp.float32(GAMMA),
        prob=jax.random.uniform(keys[3], shape),
        prediction=y[0],
        next_prediction=y[1],
    )


def test_the_rule_reads_later_steps_of_the_same_episode_only():
    rule, params = jax.jit(SMALL.make_rule().apply), init_rule(jax.random.key(1), SMALL)
    x = inputs()
    later = x._replace(reward=x.reward.at[4].add(1.0))
    assert (rule(params, x).pi != rule(params, later).pi)[:5].all()
    ends = x.done.at[2].set(True)  # terminated or truncated: `terminated` stays 0
    a, b = (rule(params, x._replace(done=ends)) for x in (x, later))
    np.testing.assert_array_equal(a.pi[:3], b.pi[:3])
    assert (a.pi != b.pi)[3:5].all()


def test_the_rule_reads_terminations_but_no_time_limits():
    def terminated_read(level):
        read = []

        class Spy(Reinforce):
            def apply(self, params, x):
                jax.debug.callback(lambda *args: read.append(args), x.terminated, x.done)
                return super().apply(params, x)

        inner = lpg.make(SMALL, ENV, rule=Spy())
        hypers = lpg.Hypers()
        state = begin(inner, hypers, Task(level, jnp.int32(1)))
        inner.learn(*(lambda s, e: (s, hypers, e))(*inner.collect(state, hypers)))
        jax.effects_barrier()
        return read[0]

    endless = LEVEL.replace(terminate_prob=0 * LEVEL.terminate_prob)
    terminated, done = terminated_read(endless)
    assert done.any() and not terminated.any()


@pytest.mark.parametrize(
    "name",
    mostly_slow(["CartPole-v1", "Catch-bsuite", "chain-short", "garnet"], {"CartPole-v1"}),
)
def test_agents_with_networks_or_tables_learn_by_a_rule(name):
    env, env_params = envs.make(name)
    if name == "Catch-bsuite":
        from purejaxrl.parts.wrappers import FlattenObservation

        env = FlattenObservation(env)
    hypers = lpg.Hypers(rule=init_rule(jax.random.key(0), SMALL), learning_rate=1e-3)
    algorithm = lpg.make(dataclasses.replace(SMALL, optimizer="adam"), env)
    before = begin(algorithm, hypers, Task(env_params, jnp.int32(3)), seed=0)
    state, metrics = jax.jit(make_train(algorithm, 3))(jax.random.key(0), hypers, env_params)
    assert bool(is_finite((state.params, metrics["policy_loss"])))
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(before.params), strict=True):
        assert (a != b).any()


def test_continuous_actions_are_refused():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(ValueError, match="action_space: .*must be Discrete"):
        lpg.make(SMALL, env)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, "None is not valid; it must be a tree of params/Dense_0/bias"),
        ({"x": jnp.zeros(3)}, "a tree of x is not valid"),
        (
            dataclasses.replace(SMALL, rule_width=5),
            r"shape \(5, 1\) is not .* \(8, 1\)",
        ),
        (dataclasses.replace(SMALL, num_predictions=4), r"shape \(4, 4\) is not .* \(3, 4\)"),
    ],
    ids=["none", "another tree", "another width", "another number of predictions"],
)
def test_a_rule_that_is_not_the_configs_is_refused(rule, expected):
    if isinstance(rule, lpg.Config):
        rule = init_rule(jax.random.key(0), rule)
    agent = lpg.make(SMALL, ENV)
    with pytest.raises(ValueError, match=rf"Hypers\.rule: .*{expected}"):
        agent.init(jax.random.key(0), lpg.Hypers(rule=rule), TASK)


def test_the_rule_has_the_published_number_of_parameters():
    """204,714 with γ among the inputs; the published code has 768 fewer, without it."""
    shapes = jax.eval_shape(lambda: lpg.init_rule(jax.random.key(0), lpg.Config()))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 204_714


@cache
def reading(**changes):
    """How a life of random parameters begins, and an update of it with what its rule reads."""
    config = dataclasses.replace(SMALL, **changes)
    hypers = lpg.Hypers(gamma=GAMMA, learning_rate=0.0)
    agent, nets = lpg.make(config, ENV, rule=Reinforce()), lpg.make_networks(config, ENV)

    def begin(level):
        return agent.init(jax.random.key(0), hypers, Task(level, jnp.int32(10)))

    def update(state):
        state, experience = agent.collect(state, hypers)
        inputs = lpg.rule_inputs(nets, state, hypers, experience.transitions)
        return agent.learn(state, hypers, experience)[0], inputs

    return jax.jit(begin), jax.jit(update)


def inputs_read(level, updates=3, **changes):
    """What a rule reads in each of a few updates."""
    begin, update = reading(**changes)
    state, read = begin(level), []
    for _ in range(updates):
        state, inputs = update(state)
        read.append(inputs)
    return read


def test_what_a_rule_reads_does_not_depend_on_the_scale_of_rewards():
    large = LEVEL.replace(reward=100 * LEVEL.reward)
    one, other = (inputs_read(level, normalize_reward=True) for level in (LEVEL, large))
    assert any(x.reward.any() for x in one)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.reward, b.reward, rtol=1e-3, atol=1e-6)
    raw = [inputs_read(level) for level in (LEVEL, large)]
    np.testing.assert_allclose(raw[1][0].reward, 100 * raw[0][0].reward, rtol=1e-5)


def test_the_scale_of_rewards_advances_with_every_rollout_also_without_learning():
    config = dataclasses.replace(SMALL, normalize_reward=True)
    agent, hypers = lpg.make(config, ENV, rule=Reinforce()), lpg.Hypers(gamma=GAMMA)
    state = begin(agent, hypers, Task(LEVEL, jnp.int32(10)))
    collect = jax.jit(lambda state: agent.collect(state, hypers)[0])
    counts = []
    for _ in range(2):
        state = collect(state)
        counts.append(float(state.reward_scale.moments.count))
    np.testing.assert_allclose(np.diff([0, *counts]), config.batch_size, rtol=1e-3)


def test_the_next_prediction_is_masked_where_the_episode_terminated():
    ends = LEVEL.replace(terminate_prob=jnp.ones_like(LEVEL.terminate_prob))
    read = inputs_read(ends)
    assert any(x.terminated.any() for x in read)
    for x in read:
        total = x.next_prediction.sum(-1)
        np.testing.assert_allclose(total, 1 - x.terminated, atol=1e-6)  # also where it was cut
