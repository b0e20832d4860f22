"""Random MDPs: their optimum, what each kind is, and the settings that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.random_mdp import REWARD_SCALE, MDPState, RandomMDP, to_tabular
from envs.random_mdp_kinds import EXPLORATION, KINDS
from tests.envs import tabular_solution
from tests.envs.simulate import assert_mean, episodes

NUM_LEVELS, NUM_STATES, NUM_ACTIONS, LIMIT = 60, 12, 3, 30
ENV = RandomMDP(NUM_STATES, NUM_ACTIONS, kinds=tuple(KINDS))
optimal_returns = jax.jit(jax.vmap(ENV.optimal_return))
solve_episode = jax.jit(
    lambda level: tabular_solution.solve_episode(to_tabular(level), LIMIT).policy
)


@pytest.fixture(scope="module")
def levels():
    """Levels of every kind, `[NUM_LEVELS, ...]`."""
    keys = jax.random.split(jax.random.key(0), NUM_LEVELS)
    draw = jax.vmap(jax.vmap(ENV.sample_kind, (0, None)), (None, 0))
    drawn = jax.jit(draw)(keys, jnp.arange(len(KINDS)))
    return {kind: pick(drawn, i) for i, kind in enumerate(KINDS)}


def pick(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def optimum_in_numpy(level):
    """Value iteration over the two successors, in float64."""
    level = jax.tree.map(lambda x: np.asarray(x, np.float64), level)
    first, second = np.moveaxis(level.successors.astype(int), -1, 0)
    value = np.zeros(len(level.reward))
    for _ in range(int(level.max_steps_in_episode)):
        follows = level.first_prob * value[first] + (1 - level.first_prob) * value[second]
        value = (level.reward + (1 - level.terminate_prob) * follows).max(-1)
    return value[: int(level.num_starts)].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_that_of_value_iteration_in_numpy(kind, levels):
    found = optimal_returns(levels[kind])
    expected = [optimum_in_numpy(pick(levels[kind], i)) for i in range(NUM_LEVELS)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_optimum_of_one_level_is_that_of_many_at_once(levels):
    level = pick(levels["rare"], 3)
    alone = jax.jit(ENV.optimal_return)(level)
    np.testing.assert_allclose(alone, optimal_returns(levels["rare"])[3], rtol=1e-5)


@jax.jit
def play(level, table):
    """Returns of 2000 episodes under a policy `[LIMIT, S]`."""
    return episodes(ENV, level, lambda s: table[s.time, s.index], LIMIT, 2000).sum(1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_of_the_solver_earns_the_optimum(kind, levels):
    level = pick(levels[kind], 1).replace(max_steps_in_episode=jnp.int32(LIMIT))
    returns = play(level, solve_episode(level))
    assert_mean(returns, optimal_returns(jax.tree.map(lambda x: x[None], level))[0])


def line_of(level):
    """Where actions lead from every state: -1 back, 1 forward, 0 nowhere; and the goal."""
    move = np.asarray(level.successors)[..., 0] - np.arange(NUM_STATES)[:, None]
    goal = int(np.flatnonzero(np.asarray(level.terminate_prob).all(-1))[0])
    return move, goal


def test_survival_pays_every_step_and_leaves_a_safe_action(levels):
    level = levels["survival"]
    assert (level.reward == level.reward[:, :1, :1]).all() and (level.reward > 0).all()
    assert ((level.terminate_prob > 0).sum(-1) <= 1).all()
    assert (level.terminate_prob > 0).any((1, 2)).all() and level.terminate_prob.max() < 0.6
    limited = level.reward[:, 0, 0] * level.max_steps_in_episode
    np.testing.assert_allclose(optimal_returns(level), limited, rtol=1e-3)


def test_dense_rewards_have_an_offset_and_no_end(levels):
    level = levels["dense"]
    assert not level.terminate_prob.any()
    unit = np.asarray(level.reward) / np.asarray(level.reward).std((1, 2), keepdims=True)
    assert (unit.mean((1, 2)) < -1).any() and (unit.mean((1, 2)) > 1).any()


@pytest.mark.parametrize("kind", ["sparse_goal", "cost_to_go", "corridor", "lure"])
def test_a_line_leads_to_its_goal(kind, levels):
    for i in range(10):
        move, goal = line_of(pick(levels[kind], i))
        forward, back = (move[:goal] == 1).sum(-1), (move[1:goal] == -1).sum(-1)
        assert goal >= 3 and (forward == 1).all() and (back == 1).all()
    starts = levels[kind].num_starts
    assert (starts > 1).all() if kind in ("cost_to_go", "lure") else (starts == 1).all()


def test_a_sparse_goal_alone_pays_and_a_cost_is_paid_everywhere(levels):
    sparse, cost, corridor = levels["sparse_goal"], levels["cost_to_go"], levels["corridor"]
    np.testing.assert_array_equal(sparse.reward > 0, sparse.terminate_prob == 1)
    assert (sparse.reward >= 0).all()
    for level, size in ((cost, 0.1), (corridor, 1.0)):
        scale = -np.asarray(level.reward) / size
        assert (scale == scale[:, :1, :1]).all()
        assert scale.min() >= REWARD_SCALE[0] * 0.999 and scale.max() <= REWARD_SCALE[1] * 1.001
        assert ((level.terminate_prob == 1).all(-1).sum(-1) == 1).all()


def test_rare_rewards_are_few_and_of_both_signs(levels):
    level = levels["rare"]
    assert 0.06 < (level.reward != 0).mean() < 0.14
    assert 1.4 < (level.reward > 0).sum() / (level.reward < 0).sum() < 2.9
    assert not level.terminate_prob[level.reward == 0].any()
    assert 0.3 < (level.terminate_prob > 0).any((1, 2)).mean() < 0.7


def test_the_first_action_decides_a_delayed_reward(levels):
    optima = optimal_returns(levels["delayed"])
    for i in range(10):
        level = jax.tree.map(np.asarray, pick(levels["delayed"], i))
        successors = level.successors
        assert sorted(np.round(level.first_prob[0], 3)) == pytest.approx([0.1, 0.1, 0.9])
        ends = []
        for branch in (0, 1):
            state, steps = int(successors[0, 0, branch]), 1
            while not level.terminate_prob[state].all():
                assert (successors[state] == state + 1).all() and not level.reward[state].any()
                state, steps = state + 1, steps + 1
            ends.append((steps, float(level.reward[state, 0])))
        (long, good), (other, bad) = ends
        assert long == other and good > 0 and bad == -good
        np.testing.assert_allclose(optima[i], 0.8 * good, rtol=1e-5)


def test_a_lure_ends_the_episode_for_less_than_the_goal(levels):
    level = pick(levels["lure"], 0)
    move, goal = line_of(level)
    scale = float(level.reward[goal, 0])
    lured = (move == -1) & (np.arange(NUM_STATES) < goal)[:, None]
    np.testing.assert_allclose(level.reward[:goal][lured[:goal]], 0.2 * scale, rtol=1e-5)
    assert (level.terminate_prob[lured] == 1).all()
    np.testing.assert_allclose(optimal_returns(jax.tree.map(lambda x: x[None], level)), scale)


def test_a_lock_opens_to_one_sequence_of_actions(levels):
    for i in range(10):
        level = jax.tree.map(np.asarray, pick(levels["lock"], i))
        goal = int(np.flatnonzero(level.terminate_prob.all(-1))[0])
        first, second = np.moveaxis(level.successors[:goal], -1, 0)
        state = np.arange(goal)[:, None]
        right = (first == state + 1) & (second == state)
        assert (right.sum(-1) == 1).all() and (first[~right] == 0).all()
        assert (second[~right] == 0).all() and level.num_starts == 1
        np.testing.assert_array_equal(level.reward > 0, level.terminate_prob == 1)


def test_a_current_carries_back_all_who_do_not_swim(levels):
    optima = optimal_returns(levels["current"])
    for i in range(10):
        level = jax.tree.map(np.asarray, pick(levels["current"], i))
        last = int(level.successors.max())
        first, back = np.moveaxis(level.successors[: last + 1], -1, 0)
        state = np.arange(last + 1)[:, None]
        swims = first > np.maximum(state - 1, 0)
        assert (back == np.maximum(state - 1, 0)).all() and (swims.sum(-1) == 1).all()
        assert (first[swims] == np.minimum(state[:, 0] + 1, last)).all()
        np.testing.assert_allclose(level.first_prob, 0.6, rtol=1e-6)
        far, near = level.reward[last][swims[last]], level.reward[0][~swims[0]]
        np.testing.assert_allclose(near, 0.02 * far.item(), rtol=1e-5)
        assert (level.reward != 0).sum() == 1 + len(near) and not level.terminate_prob.any()
        assert optima[i] >= 0.02 * far.item() * (level.max_steps_in_episode - 1) * 0.999


def test_a_bandit_is_over_after_one_noisy_step(levels):
    level = levels["bandit"]
    assert (level.terminate_prob == 1).all()
    best = [pick(level, i).reward.max(-1)[: level.num_starts[i]].mean() for i in range(10)]
    np.testing.assert_allclose(optimal_returns(level)[:10], best, rtol=1e-4, atol=1e-5)
    assert (level.reward_std >= REWARD_SCALE[0] * 0.999).all()


def test_levels_of_all_kinds_differ_in_size_scale_limit_and_noise(levels):
    for kind, level in levels.items():
        least, most = KINDS[kind].limit
        limit = np.asarray(level.max_steps_in_episode)
        assert least <= limit.min() < 2 * least and most / 2 < limit.max() <= most
        states = np.asarray(level.successors).max((1, 2, 3)) + 1
        parts = 2 if kind in EXPLORATION else 1
        assert states.min() >= 4 // parts and states.max() <= NUM_STATES // parts
        assert len(set(states)) > 4
        if kind != "bandit":
            assert 0.1 < (level.reward_std > 0).mean() < 0.5


def test_noise_is_added_to_or_taken_from_the_reward(levels):
    level = pick(levels["dense"], 0).replace(reward_std=jnp.float32(0.5))
    state = MDPState(jnp.int32(2), jnp.int32(0), jnp.int32(0))
    step = jax.jit(jax.vmap(lambda key: ENV.step_env(key, state, 1, level)[2]))
    noise = np.asarray(step(jax.random.split(jax.random.key(0), 1000)) - level.reward[2, 1])
    np.testing.assert_allclose(abs(noise), 0.5, rtol=1e-5)
    assert 0.4 < (noise > 0).mean() < 0.6


def test_features_replace_the_index(levels):
    env = RandomMDP(NUM_STATES, NUM_ACTIONS, features=5)
    level = jax.jit(env.sample_level)(jax.random.key(0))
    state = MDPState(jnp.int32(2), jnp.int32(0), jnp.int32(0))
    assert env.observation_space(level).shape == (5,) and level.features.shape == (NUM_STATES, 5)
    np.testing.assert_array_equal(env.observe(state, level), level.features[2])
    assert levels["dense"].features is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_states": 3}, r"RandomMDP.num_states: 3 is not valid; .* at least 4"),
        ({"num_states": 8.0}, r"RandomMDP.num_states: 8.0 is not valid; .* an integer >= 1"),
        ({"num_actions": 1}, r"RandomMDP.num_actions: 1 is not valid; .* at least 2"),
        ({"features": -1}, r"RandomMDP.features: -1 is not valid; .* an integer >= 0"),
        ({"kinds": ()}, r"RandomMDP.kinds: \(\) is not valid; .* one or more of survival"),
        ({"kinds": ("sparse",)}, r"unknown kind of MDP 'sparse'; did you mean: .*sparse_goal"),
    ],
)
def test_settings_that_are_not_valid_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomMDP(**settings)
