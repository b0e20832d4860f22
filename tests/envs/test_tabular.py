import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from envs.tabular import Garnet, Level
from tests.envs import tabular_solution
from tests.envs.simulate import assert_mean, episodes

TINY = Garnet(num_states=3, num_actions=2, branching=2)
SMALL = Garnet(num_states=6, num_actions=4, branching=3, reward_std=0.5)
MANY = Garnet(num_states=20, num_actions=4, branching=3)

ENDS = ((0.0, 0.9), (0.2, 0.0), (0.0, 0.4))
"""Probabilities that a step ends the episode, by state and action."""

sample_tiny = jax.jit(TINY.sample_level)
optimal_return_tiny = jax.jit(TINY.optimal_return)
sample_small = jax.jit(SMALL.sample_level)
sample_many = jax.jit(jax.vmap(MANY.sample_level))
solve = jax.jit(tabular_solution.solve)
solve_episode = jax.jit(tabular_solution.solve_episode, static_argnums=1)
evaluate = jax.jit(tabular_solution.evaluate)


def with_rates(params, terminate_prob=0.0, reward_std=0.0):
    rates = {
        "terminate_prob": jnp.asarray(terminate_prob, jnp.float32),
        "reward_std": jnp.float32(reward_std),
    }
    return params.replace(**rates)


def deterministic(next_state, reward, limit):
    """An MDP with given successors and rewards, `[S, A]`, that starts in state 0."""
    num_states = len(next_state)
    return Level(
        transition=jax.nn.one_hot(jnp.array(next_state), num_states),
        reward=jnp.array(reward, jnp.float32),
        reward_std=jnp.float32(0),
        start_prob=jax.nn.one_hot(0, num_states),
        terminate_prob=jnp.float32(0),
        max_steps_in_episode=jnp.int32(limit),
    )


def in_numpy(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def linear_solve(params, policy, gamma):
    """Value of a stationary policy, in float64."""
    mdp = in_numpy(params)
    states = np.arange(len(policy))
    ends = np.broadcast_to(mdp.terminate_prob, mdp.reward.shape)[states, policy]
    matrix = gamma * (1 - ends)[:, None] * mdp.transition[states, policy]
    return np.linalg.solve(np.eye(len(policy)) - matrix, mdp.reward[states, policy])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]),
    terminate=st.sampled_from([0.0, 0.1, ENDS]),
)
def test_no_deterministic_policy_beats_the_discounted_optimum(seed, gamma, terminate):
    params = with_rates(sample_tiny(jax.random.key(seed)), terminate)
    solution = solve(params, gamma)
    values = [linear_solve(params, policy, gamma) for policy in itertools.product([0, 1], repeat=3)]
    best = np.max(values, axis=0)
    scale = max(1, abs(best).max())
    np.testing.assert_allclose(solution.value, best, atol=2e-4 * scale)
    own = linear_solve(params, np.asarray(solution.policy), gamma)
    np.testing.assert_allclose(own, best, atol=1e-4 * scale)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), terminate=st.sampled_from([0.3, ENDS]))
def test_no_time_dependent_policy_beats_the_optimum_of_an_episode(seed, terminate):
    params = with_rates(sample_tiny(jax.random.key(seed)), terminate)
    params = params.replace(max_steps_in_episode=jnp.int32(3))
    mdp = in_numpy(params)

    def value(policy):
        """Of `policy[time][state]`, by following the distribution over states."""
        at, total = mdp.start_prob, 0.0
        for actions in policy:
            rows = np.arange(3), np.array(actions)
            total += at @ mdp.reward[rows]
            goes_on = 1 - np.broadcast_to(mdp.terminate_prob, (3, 2))[rows]
            at = (at * goes_on) @ mdp.transition[rows]
        return total

    decisions = list(itertools.product([0, 1], repeat=3))
    best = max(value(policy) for policy in itertools.product(decisions, repeat=3))
    solution = solve_episode(params, 3)
    np.testing.assert_allclose(value(np.asarray(solution.policy)), best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mdp.start_prob @ solution.value[0], best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(optimal_return_tiny(params), best, rtol=1e-4, atol=1e-5)


def test_closed_forms_of_waiting_for_a_reward():
    # Action 0 takes 1 and stays; action 1 goes where every step pays 3. State 2 is out of reach.
    params = deterministic([[0, 1], [1, 1], [2, 2]], [[1, 0], [3, 3], [0, 0]], 10)
    patient, impatient = solve(params, 0.9), solve(params, 0.2)
    np.testing.assert_allclose(patient.value, [27, 30, 0], rtol=1e-5)
    np.testing.assert_allclose(impatient.value, [1.25, 3.75, 0], rtol=1e-5)
    assert (patient.policy[0], impatient.policy[0]) == (1, 0)

    episode = solve_episode(params, 12)
    left = np.array([*range(10, 0, -1), 0, 0])  # steps to the limit
    np.testing.assert_allclose(episode.value[:, 0], np.maximum(3 * (left - 1), left > 0))
    np.testing.assert_allclose(episode.value[:, 1], 3 * left)
    np.testing.assert_array_equal(episode.policy[:10, 0], 9 * [1] + [0])
    assert optimal_return_tiny(params) == 27


def test_termination_discounts():
    params = sample_tiny(jax.random.key(0))
    ends, discounted = solve(with_rates(params, terminate_prob=0.1), 1.0), solve(params, 0.9)
    np.testing.assert_allclose(ends.value, discounted.value, rtol=1e-5)
    np.testing.assert_array_equal(ends.policy, discounted.policy)


@pytest.mark.parametrize("gamma", [0.9, 0.999])
def test_a_policy_is_evaluated_as_by_a_linear_solve(gamma):
    params = sample_small(jax.random.key(0))
    policy = np.array([0, 3, 2, 1, 1, 0])
    value = evaluate(params, policy, gamma)
    np.testing.assert_allclose(value, linear_solve(params, policy, gamma), rtol=3e-4)


def test_the_optima_of_many_levels_at_once_satisfy_bellmans_equation():
    levels = sample_many(jax.random.split(jax.random.key(0), 64))
    gammas = np.linspace(0.5, 0.99, 64)
    value, policy = jax.jit(jax.vmap(solve))(levels, gammas)
    mdp = in_numpy(levels)
    q = mdp.reward + gammas[:, None, None] * np.einsum("bsan,bn->bsa", mdp.transition, value)
    np.testing.assert_allclose(value, q.max(-1), atol=2e-3)
    chosen = np.take_along_axis(q, np.asarray(policy)[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, q.max(-1), atol=2e-3)


@jax.jit
def play(params, table):
    """Rewards of 8000 episodes under a policy `[60, S]`."""
    return episodes(SMALL, params, lambda state: table[state.time, state.index], 60, 8000)


def test_the_policy_of_the_episode_earns_its_optimum():
    params = with_rates(sample_small(jax.random.key(1)), terminate_prob=0.05, reward_std=0.5)
    params = params.replace(max_steps_in_episode=jnp.int32(20))
    optimum = jax.jit(SMALL.optimal_return)(params)
    solution = solve_episode(params, 60)
    assert_mean(play(params, solution.policy).sum(1), optimum)
    np.testing.assert_allclose(params.start_prob @ solution.value[0], optimum, rtol=1e-5)


def test_the_greedy_policy_earns_the_discounted_optimum_in_the_long_run():
    gamma = 0.8  # of which nothing is left after 60 steps
    params = with_rates(sample_small(jax.random.key(2)), reward_std=0.5)
    solution = solve(params, gamma)
    rewards = np.asarray(play(params, np.tile(solution.policy, (60, 1))))
    assert_mean(rewards @ gamma ** np.arange(60), params.start_prob @ solution.value)


@pytest.mark.parametrize("branching", [1, 3, 5])
def test_a_garnet_has_distinct_successors_and_spacings_as_probabilities(branching):
    env = Garnet(num_states=5, num_actions=3, branching=branching)
    levels = jax.jit(jax.vmap(env.sample_level))(jax.random.split(jax.random.key(0), 400))
    levels = jax.tree.map(np.asarray, levels)
    transition = levels.transition
    assert transition.shape == (400, 5, 3, 5)
    assert (transition >= 0).all() and ((transition > 0).sum(-1) == branching).all()
    np.testing.assert_allclose(transition.sum(-1), 1, rtol=1e-5)
    # Drawn without replacement, the counts vary less than assumed here.
    assert stats.chisquare((transition > 0).reshape(-1, 5).sum(0)).pvalue > 1e-4
    if branching > 1:  # a spacing of uniform cuts is Beta(1, branching - 1)
        spacings = transition[transition > 0][::branching]
        assert stats.kstest(spacings, stats.beta(1, branching - 1).cdf).pvalue > 1e-4
    assert stats.kstest(levels.reward.ravel(), stats.norm.cdf).pvalue > 1e-4
    assert levels.reward.shape == (400, 5, 3) and np.isfinite(levels.reward).all()
    np.testing.assert_allclose(levels.start_prob, np.full((400, 5), 1 / 5))
    assert not levels.reward_std.any() and not levels.terminate_prob.any()
    assert (levels.max_steps_in_episode == 100).all()


def test_steps_follow_the_levels_probabilities():
    params = with_rates(sample_tiny(jax.random.key(5)), terminate_prob=ENDS, reward_std=0.3)

    @jax.jit
    @jax.vmap
    def step_from_state_2(key):
        first, state = TINY.reset_env(key, params)
        step_key = jax.random.fold_in(key, 1)
        return first, TINY.step_env(step_key, state.replace(index=jnp.int32(2)), 1, params)

    num = 20_000
    first, out = step_from_state_2(jax.random.split(jax.random.key(0), num))
    obs, state, reward, terminated, _ = out
    assert stats.chisquare(np.bincount(first, minlength=3)).pvalue > 1e-4
    np.testing.assert_array_equal(obs, state.index)
    counts, probs = np.bincount(obs, minlength=3), np.asarray(params.transition[2, 1], np.float64)
    possible = probs > 0
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], probs[possible] / probs.sum() * num).pvalue > 1e-4
    noise = (np.asarray(reward) - float(params.reward[2, 1])) / 0.3
    assert stats.kstest(noise, stats.norm.cdf).pvalue > 1e-4
    assert stats.binomtest(int(terminated.sum()), num, ENDS[2][1]).pvalue > 1e-4
    assert abs(np.corrcoef(noise, terminated)[0, 1]) < 4 / np.sqrt(num)


def test_the_limit_truncates_and_an_episode_starts_anew():
    params = sample_tiny(jax.random.key(0)).replace(max_steps_in_episode=jnp.int32(3))

    @jax.jit
    def run(key):
        first, state = TINY.reset(key, params)

        def step(state, key):
            _, state, reward, terminated, truncated, _ = TINY.step(key, state, 1, params)
            return state, (reward, terminated, truncated, state.time)

        return first, jax.lax.scan(step, state, jax.random.split(key, 7))[1]

    first, (reward, terminated, truncated, time) = run(jax.random.key(0))
    assert (first.shape, first.dtype) == ((), TINY.observation_space(params).dtype)
    assert reward.dtype == jnp.float32
    assert not terminated.any()
    assert truncated.tolist() == [False, False, True, False, False, True, False]
    assert time.tolist() == [1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_states": 0}, r"Garnet.num_states: 0 is not valid; .* >= 1"),
        ({"num_actions": 1.5}, r"Garnet.num_actions: 1.5 is not valid"),
        ({"branching": 0}, r"Garnet.branching: 0 is not valid"),
        ({"branching": 21}, r"Garnet.branching: 21 is not valid; .* at most num_states, 20"),
        ({"reward_std": -0.1}, r"Garnet.reward_std: -0.1 is not valid"),
        ({"terminate_prob": 1.1}, r"Garnet.terminate_prob: 1.1 is not valid; .* in \[0, 1\]"),
        ({"max_steps_in_episode": 0}, r"Garnet.max_steps_in_episode: 0 is not valid"),
    ],
)
def test_settings_that_are_not_valid(settings, message):
    with pytest.raises(ValueError, match=message):
        Garnet(**settings)
