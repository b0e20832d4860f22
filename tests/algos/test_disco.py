"""DiscoRL: its estimates against closed forms, its replay, and what a truncated step may change."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import disco
from algos.disco_agent import (
    OneHot,
    Outputs,
    Scale,
    Trajectories,
    estimate_values,
    expected_value,
    retrace,
    squash,
    two_hot,
    unsquash,
)
from algos.disco_rule import LSTMState, Rule
from algos.disco_weights import LAYERS, read_published
from algos.rules import load_rule
from purejaxrl.algorithm import Task, make_train, update
from purejaxrl.parts.wrappers import for_network
from tests.algos.algorithms import ALGORITHMS, DISCO

QUICK = {"xla_backend_optimization_level": 0}  # compiling is all that these tests spend time on
T, B, A, Y, BINS = 6, 2, 3, 4, 21


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_squashing_is_inverted_and_keeps_the_sign():
    x = np.array([-900.0, -3.0, -0.1, 0.0, 0.1, 2.0, 1e4], np.float32)
    np.testing.assert_allclose(squash(x), np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x)
    np.testing.assert_allclose(unsquash(squash(x)), x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("value", [-30.0, -1.3, 0.0, 0.5, 7.0])
def test_a_value_is_the_expectation_of_its_two_nearest_bins(value):
    hot = np.asarray(two_hot(jnp.float32(value), BINS))
    assert (hot > 0).sum() <= 2 and np.isclose(hot.sum(), 1)
    assert np.isclose(expected_value(jnp.log(hot)), value, rtol=1e-3, atol=1e-4)


def test_values_beyond_the_bins_are_clipped():
    hot = two_hot(jnp.array([-1e6, 1e6]), BINS)
    np.testing.assert_array_equal(hot.argmax(-1), [0, BINS - 1])
    np.testing.assert_array_equal(hot.max(-1), 1)


def test_retrace_equals_its_sum_of_corrections():
    """G_t = Q_t + Σ_k (Π_{i<=k} γ c_i) δ_k, written without a recursion (Munos et al. 2016)."""
    reward, q, next_value = normal(0, 3, T)
    discount, trace = np.random.default_rng(1).random((2, T)).astype(np.float32)
    discount[2] = 0.0  # an episode ends
    found = retrace(reward, discount, trace, q, next_value)
    delta = reward + discount * next_value - q
    for t in range(T):
        expected, weight = q[t], 1.0
        for k in range(t, T):
            expected += weight * delta[k]
            weight *= discount[k] * trace[k + 1] if k + 1 < T else 0.0
        np.testing.assert_allclose(found[t], expected, rtol=1e-5)


def test_without_traces_retrace_looks_one_step_ahead_and_with_them_to_the_end():
    reward, q, next_value = normal(0, 3, T)
    ones, zeros = np.ones(T, np.float32), np.zeros(T, np.float32)
    np.testing.assert_allclose(
        retrace(reward, 0.9 * ones, zeros, q, next_value), reward + 0.9 * next_value, rtol=1e-6
    )
    value_is_q = np.append(q[1:], 5.0).astype(np.float32)
    returns = [sum(reward[t:]) + 5.0 for t in range(T)]
    np.testing.assert_allclose(retrace(reward, ones, ones, q, value_is_q), returns, rtol=1e-5)


def test_the_scale_standardises_the_entries_that_count():
    x, weight = normal(0, 40), np.append(np.ones(30), np.zeros(10))
    scale = Scale.start().advance(x, weight)
    found = scale.standardize(x)[:30]
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-4)
    again = scale.advance(x, weight).standardize(x)[:30]
    np.testing.assert_allclose(again, found, atol=1e-4)


def drawn(seed=0):
    """Outputs of an agent and of its target network, and trajectories: the third step of the
    first one is truncated."""
    states = (T + 1, B)
    sizes = [(A,), (Y,), (A, Y), (A, A), (A, BINS)]
    online, slow = (
        Outputs(*(normal(seed + 10 * i + j, *states, *s) for j, s in enumerate(sizes)))
        for i in range(2)
    )
    action = np.random.default_rng(seed).integers(A, size=(T, B))
    terminated, truncated = np.zeros((2, T, B), bool)
    terminated[3, 1] = truncated[2, 0] = True
    behaviour = normal(seed + 30, T, B, A)
    seen = Trajectories((), action, normal(seed + 31, T, B), terminated, truncated, behaviour)
    return jax.tree.map(jnp.asarray, (online, slow, seen))


RULE = Rule(width=4, lifetime_width=4, num_predictions=Y)


def learn_from(online, slow, seen, scale=None):
    """Return the targets, and all else that an update computes before its gradient."""
    values = estimate_values(online, slow, seen, 0.9, 0.95)
    scale = scale or Scale.start().advance(values.advantage, 1.0 - seen.truncated)
    inputs = disco.rule_inputs(online, slow, seen, values, scale)
    shapes = jax.eval_shape(RULE.init, jax.random.key(0), inputs, LSTMState.start(4))
    leaves, structure = jax.tree.flatten(shapes)
    rule = structure.unflatten([0.3 * normal(i, *x.shape) for i, x in enumerate(leaves)])
    targets, memory = RULE.apply(rule, inputs, LSTMState.start(4))
    losses = disco.losses(online, seen, targets, values)
    return values.q_target, tuple(targets), (scale, memory, losses)


def replace_from(tree, step, other, until=None):
    """Take the first trajectory's leaves from another tree, from a step on."""
    at = (slice(step, until), 0)
    return jax.tree.map(lambda x, y: x.at[at].set(y[at]), tree, other)


def test_a_truncated_step_changes_nothing_but_itself():
    """Neither its reward nor the next episode reaches another step."""
    (online, slow, seen), (other, _, elsewhere) = drawn(), drawn(seed=100)
    learn = jax.jit(learn_from, compiler_options=QUICK)
    unlike = seen._replace(reward=replace_from(seen.reward, 2, elsewhere.reward, 3))
    pairs = [learn(online, slow, each) for each in (seen, unlike)]
    for a, b in zip(*map(jax.tree.leaves, pairs), strict=True):
        keep = np.delete(np.arange(T), 2) if a.shape[:1] == (T,) else ...
        np.testing.assert_array_equal(a[keep], b[keep])
    scale = pairs[0][2][0]  # of all steps, so it is held fixed now
    after = (replace_from(online, 3, other), replace_from(slow, 3, other), unlike)
    pairs = [learn(*each, scale)[:2] for each in ((online, slow, seen), after)]
    for a, b in zip(*map(jax.tree.leaves, pairs), strict=True):
        np.testing.assert_array_equal(a[:2, 0], b[:2, 0])
        assert (a[2:, 0] != b[2:, 0]).any()


ESTIMATE = jax.jit(estimate_values, compiler_options=QUICK)


def test_steps_before_a_truncated_one_bootstrap_from_its_observation():
    online, slow, seen = drawn()
    values = ESTIMATE(online, slow, seen, 0.9, 0.95)
    slow_value = (jax.nn.softmax(online.pi[2, 0]) * expected_value(slow.q[2, 0])).sum()
    expected = seen.reward[1, 0] + 0.9 * slow_value
    np.testing.assert_allclose(values.q_target[1, 0], expected, rtol=1e-5)


def test_what_comes_after_a_terminated_step_does_not_reach_those_before():
    online, slow, seen = drawn()
    q_target = ESTIMATE(online, slow, seen, 0.9, 0.95).q_target
    np.testing.assert_array_equal(q_target[3, 1], seen.reward[3, 1])


def test_the_rule_reads_the_newest_trajectories_and_others_of_all_that_the_buffer_holds(
    monkeypatch,
):
    """Rewards are the number of the update, of the second environment its negative. The buffer
    holds the trajectories of three updates."""
    _, hypers, level = ALGORITHMS["disco"]()
    sizes = dict(num_envs=2, num_trajectories=6, replay_capacity=6)
    algorithm = disco.make(disco.Config(**DISCO | sizes), envs.make("CartPole-v1")[0])
    rule_inputs, read = disco.rule_inputs, []

    def record(*args):
        read.append(rule_inputs(*args))
        return read[-1]

    monkeypatch.setattr(disco, "rule_inputs", record)

    def learn(state, experience, reward, key):
        seen = experience.transitions
        seen = seen._replace(reward=jnp.broadcast_to(reward, seen.reward.shape))
        experience = experience._replace(transitions=seen)
        state, _ = algorithm.learn(state._replace(key=key), hypers, experience)
        return state, read[-1].reward

    def start(key):
        return algorithm.collect(algorithm.init(key, hypers, Task(level, jnp.int32(9))), hypers)

    learn, start = (jax.jit(f, compiler_options=QUICK) for f in (learn, start))
    state, experience = start(jax.random.key(0))
    for number, held in enumerate([{1}, {1, 2}, {1, 2, 3}, {2, 3, 4}], start=1):
        reward, others = jnp.array([number, -number], jnp.float32), set()
        for key in jax.random.split(jax.random.key(number), 10):
            after, rewards = learn(state, experience, reward, key)
            assert (rewards == rewards[0]).all()  # every column is one trajectory
            assert rewards[0, :2].tolist() == [number, -number]
            others |= set(rewards[0, 2:].tolist())
        assert others == {sign * x for x in held for sign in (1, -1)}
        state = after


def test_the_target_network_keeps_a_share_of_itself():
    algorithm, hypers, level = ALGORITHMS["disco"]()
    hypers = hypers.replace(target_decay=0.8)

    def learn_once(key):
        state = algorithm.init(key, hypers, Task(level, jnp.int32(9)))
        target = jax.tree.map(lambda x: x + 1.0, state.params)
        after, _ = update(algorithm, state._replace(target_params=target), hypers)
        return target, state.params, after.target_params

    found = jax.jit(learn_once, compiler_options=QUICK)(jax.random.key(0))
    for before, params, now in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(now, 0.8 * before + 0.2 * params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_agents_side_by_side_learn_as_one_after_the_other():
    algorithm, hypers, level = ALGORITHMS["disco"]()
    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([1e-2, 1e-3])

    def train(key, rate):
        state, metrics = make_train(algorithm, 3)(key, hypers.replace(learning_rate=rate), level)
        return state.params, metrics["policy_loss"]

    together = jax.jit(jax.vmap(train), compiler_options=QUICK)(keys, rates)
    train = jax.jit(train, compiler_options=QUICK)
    apart = jax.tree.map(lambda *x: jnp.stack(x), *map(train, keys, rates))
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_update_writes_the_newest_trajectories_in_place():
    """Nothing in a compiled loop copies or selects the buffer."""
    capacity = 1236  # a size that nothing else has
    config = disco.Config(**DISCO | {"replay_capacity": capacity})
    _, hypers, level = ALGORITHMS["disco"]()
    algorithm = disco.make(config, envs.make("CartPole-v1")[0])
    start = jax.eval_shape(
        lambda: algorithm.init(jax.random.key(0), hypers, Task(level, jnp.int32(4)))
    )

    def steps(state):
        return jax.lax.scan(lambda s, _: update(algorithm, s, hypers), state, length=2)[0]

    text = jax.jit(steps, donate_argnums=0).lower(start).compile(QUICK).as_text()
    inside, shape = text[: text.index("\nENTRY")], rf"f32\[{capacity},5,4\]"
    assert re.search(shape, inside)
    assert not re.findall(rf"\S+ = {shape}\S* (?:copy|select)\(.*", inside)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_steps=0), "num_steps: 0 is not valid; it must be an integer >= 1"),
        (dict(num_trajectories=1), "num_trajectories: 1 is not valid; .* >= num_envs, 2"),
        (dict(replay_capacity=63), "replay_capacity: 63 is not valid; .* multiple of num_envs, 2"),
        (dict(num_bins=600), "num_bins: 600 is not valid; it must be odd"),
        (dict(head_width=4.5), "head_width: 4.5 is not valid"),
    ],
)
def test_a_config_that_is_not_valid_is_refused(settings, message):
    with pytest.raises(ValueError, match=rf"Config\.{message}"):
        disco.Config(**settings)


def test_a_rule_of_another_shape_is_refused():
    algorithm, _, level = ALGORITHMS["disco"]()
    other = load_rule("disco103").params
    with pytest.raises(ValueError, match=r"Hypers\.rule: .* of shape .* is not valid"):
        algorithm.init(jax.random.key(0), disco.Hypers(rule=other), Task(level, jnp.int32(1)))


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="action_space: .* must be Discrete"):
        disco.make(disco.Config(), for_network(envs.make("Pendulum-v1")[0]))


def test_a_row_of_a_table_is_read_as_a_vector():
    row, time = jnp.array([2, 0]), jnp.array([0.5, 0.25])
    found = OneHot(3).apply({}, (row, time))
    np.testing.assert_array_equal(found, [[0, 0, 1, 0.5], [1, 0, 0, 0.25]])
    assert OneHot(3).apply({}, row).shape == (2, 3)


@pytest.fixture(scope="module")
def published():
    """The published arrays, from the shipped rule."""
    params = load_rule("disco103").params["params"]
    arrays = {}
    for ours, theirs in LAYERS.items():
        layer = params
        for name in ours.split("/"):
            layer = layer[name]
        is_convolution = "conv" in theirs
        arrays[f"{theirs}/w"] = layer["kernel"][None] if is_convolution else layer["kernel"]
        arrays[f"{theirs}/b"] = layer["bias"]
    state = params["trajectory_state"]
    arrays["lstm/lstm/linear/w"] = np.concatenate([arrays["lstm/lstm/linear/w"], state])
    return {name: np.asarray(array) for name, array in arrays.items()}


def test_the_shipped_rule_has_the_published_weights(published, tmp_path):
    assert len(published) == 42 and sum(x.size for x in published.values()) == 754_778
    np.savez(tmp_path / "disco_103.npz", **published)
    found, shipped = read_published(tmp_path / "disco_103.npz"), load_rule("disco103").params
    jax.tree.map(np.testing.assert_array_equal, found, shipped)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lstm/linear/w": None}, "missing are lstm/linear/w, and unknown none"),
        ({"lstm/other/w": np.zeros(3)}, "missing are none, and unknown lstm/other/w"),
        ({"lstm/linear_2/w": np.zeros((256, 601))}, r"y/kernel of shape \(256, 601\)"),
    ],
)
def test_weights_of_another_version_are_refused(published, tmp_path, change, message):
    arrays = {k: x for k, x in (published | change).items() if x is not None}
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(ValueError, match=rf"weights: .*weights\.npz.*{message}"):
        read_published(tmp_path / "weights.npz")


@pytest.mark.slow
def test_a_small_agent_learns_catch():
    """A random policy earns −0.6."""
    env, level = envs.make("Catch-bsuite")
    settings = dict(learning_rate=1e-2, num_trajectories=16, hidden=(64, 64))
    algorithm, hypers = load_rule("disco103").agent(for_network(env), **settings)
    train = jax.jit(make_train(algorithm, 500))
    _, metrics = train(jax.random.key(0), hypers, level)
    assert jnp.nanmean(metrics["return"][-50:]) > 0.95
