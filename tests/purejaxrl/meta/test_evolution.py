"""Evolution on hand-made agents with known fitness, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evosax.algorithms import Open_ES
from evosax.core.fitness_shaping import identity_fitness_shaping_fn

import envs
from algos import a2c, lpo, ppo
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.meta import evolution
from purejaxrl.meta.worlds import World
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params, Probe
from tests.helpers import begin, mostly_slow, planned_memory
from tests.purejaxrl.meta.hand_made import CONFIG, GOAL, HYPERS, level, life_of, lifetime, make


def descent(config, hypers, theta):
    """The strategy with plain gradient descent, so that its step is its gradient."""
    return Open_ES(
        2 * config.num_pairs,
        theta,
        optimizer=optax.sgd(1.0),
        std_schedule=lambda _: hypers.std,
        fitness_shaping_fn=identity_fitness_shaping_fn,
    )


def generation(learner, hypers=HYPERS, seed=0):
    state = begin(learner, hypers, seed=seed)
    after, metrics = jax.jit(learner.learn)(state, hypers, ())
    return state, after, jax.device_get(metrics)


def candidates_of(state, config=CONFIG, hypers=HYPERS):
    """Draw again what the generation drew from its key."""
    ask_key, _, _, world_key = jax.random.split(state.key, 4)
    level_key, life_key, *_ = jax.random.split(world_key, 5)
    es = descent(config, hypers, state.params)
    drawn, _ = es.ask(ask_key, state.strategy, es.default_params)
    split = lambda key: jax.random.split(key, config.num_pairs)  # noqa: E731
    return np.array(drawn), jax.vmap(level)(split(level_key)), jax.vmap(lifetime)(split(life_key))


@pytest.mark.parametrize("group", mostly_slow([1, 4, 16], {4}))
def test_every_candidate_gets_the_fitness_of_its_own_life(group):
    """Fitness depends on the candidate, and on the level and the horizon of its pair."""
    config = evolution.Config(num_pairs=8, group=group, num_episodes=1)

    def worth(theta, task, age):
        return theta @ GOAL + 0.01 * age + 0.001 * task.env_params.length

    learner = make(worth, config, strategy=descent, shape=lambda fitness: fitness)
    state, after, metrics = generation(learner)
    drawn, levels, horizons = candidates_of(state, config)
    both = lambda x: np.tile(np.array(x, np.float64), 2)  # noqa: E731
    fitness = drawn @ np.array(GOAL) + 0.01 * both(horizons) + 0.001 * both(levels.length)
    step = fitness @ drawn / (16 * 0.1**2)  # θ is 0: the candidates are σε
    np.testing.assert_allclose(after.params, step, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(metrics["return"], fitness.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["best"], fitness.max(), rtol=1e-4)
    assert metrics["env_steps"] == 2 * horizons.sum()


def test_a_life_of_n_updates_makes_exactly_n_updates():
    learner = make(lambda theta, task, age: 1.0 * age)
    state, _, metrics = generation(learner)
    _, _, horizons = candidates_of(state)
    np.testing.assert_allclose(metrics["return"], horizons.mean(), rtol=1e-6)
    assert metrics["best"] == horizons.max()


def test_the_gradient_estimate_is_unbiased_on_a_quadratic():
    """Average many generations from one θ, and compare with the quadratic's gradient."""
    theta = jnp.array([0.3, 0.2, -0.4])
    learner = make(strategy=descent, shape=lambda fitness: fitness, init_theta=lambda key: theta)
    state = begin(learner, HYPERS)
    keys = jax.random.split(jax.random.key(1), 4000)
    once = lambda key: learner.learn(state._replace(key=key), HYPERS, ())[0].params - theta  # noqa: E731
    steps = np.array(jax.jit(lambda keys: jax.lax.map(once, keys))(keys))
    error = steps.std(0) / np.sqrt(len(steps))
    assert (abs(steps.mean(0) - np.array(-2 * (theta - GOAL))) < 4 * error).all()
    assert (error < 0.05).all()


def test_both_candidates_of_a_pair_see_the_same_level_and_randomness():
    """If the candidates of a pair are equal, so is their fitness, to the last bit."""
    env, levels = GridWorld(LEVELS["small"].sample), uniform(LEVELS["small"].sample)
    seen = []

    def record(fitness):
        seen.append(fitness)
        return evolution.rank_within_pair(fitness)

    learner = evolution.make(
        CONFIG,
        World("small", a2c.make(a2c.Config(num_envs=4, num_steps=5), env), env, levels, lifetime),
        init_theta=lambda key: jnp.float32(0.1),
        insert=lambda theta, hypers: hypers.replace(learning_rate=jnp.abs(theta)),
        shape=record,
    )
    hypers = evolution.Hypers(agent=a2c.Hypers(), std=1e-12)
    state = begin(learner, hypers)

    def once(state):
        after, _ = learner.learn(state, hypers, ())
        return after.params, seen[-1]

    theta, fitness = jax.jit(once)(state)
    np.testing.assert_array_equal(fitness[0], fitness[1])
    assert len(np.unique(fitness[0])) > CONFIG.num_pairs // 2
    assert theta == state.params  # no candidate was better


def test_ranks():
    fitness = jnp.array([[1.0, 5.0, 2.0], [0.0, 7.0, 2.0]])
    np.testing.assert_array_equal(
        evolution.rank_within_pair(fitness), [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]
    )


def test_it_climbs_to_the_optimum():
    learner = make()
    hypers = evolution.Hypers(learning_rate=0.05, std=0.1)
    state, step = learner.init(jax.random.key(0), hypers, None), jax.jit(learner.learn)
    for _ in range(150):
        state, _ = step(state, hypers, ())
    np.testing.assert_allclose(state.params, GOAL, atol=0.1)


def test_a_generation_of_ties_changes_nothing():
    theta = jnp.array([0.3, -1.7, 11.0])
    learner = make(lambda *_: 1.0, init_theta=lambda key: theta)
    state, after, _ = generation(learner, evolution.Hypers(std=0.1, learning_rate=0.05))
    np.testing.assert_array_equal(after.params, state.params)


def test_a_candidate_that_diverges_is_ranked_last_and_counted():
    def worth(theta, task, age):
        return jnp.where(theta[0] > 0, jnp.nan, theta[0])

    learner = make(worth)
    hypers = evolution.Hypers(learning_rate=0.05)
    state, after, metrics = generation(learner, hypers)
    assert 0 < metrics["unsound"] < 16 and np.isfinite(metrics["return"])
    assert after.params[0] < state.params[0]
    _, after, metrics = generation(make(lambda *_: jnp.nan))
    assert metrics["unsound"] == 16 and np.isfinite(after.params).all()


def test_generations_without_a_sound_candidate_end_the_evolution():
    learner = make(lambda *_: jnp.nan)
    state, step = learner.init(jax.random.key(0), HYPERS, None), jax.jit(learner.learn)
    finite = []
    for _ in range(3):
        state, metrics = step(state, HYPERS, ())
        vital = jax.tree.leaves(learner.vital(state, metrics))
        finite.append(all(np.isfinite(x).all() for x in vital))
    assert finite == [True, True, False]


def test_candidates_are_grouped_by_the_length_of_their_lives():
    """Under 20 % of the updates are masked, at 64 pairs with horizons from 10 to 250."""
    config = evolution.Config(num_pairs=64, group=8, num_episodes=1)
    lifetimes = LEVELS["all_vrandlife"].sample_lifetime
    learner = make(config=config, sample_lifetime=lifetimes)
    masked = [generation(learner, seed=seed)[2]["masked"] for seed in range(5)]
    assert max(masked) < 0.2
    worst = make(config=evolution.Config(64, 128, 1), sample_lifetime=lifetimes)
    assert generation(worst)[2]["masked"] > 0.5


def test_other_strategies_of_evosax_can_be_passed():
    from evosax.algorithms import SNES

    learner = make(strategy=lambda config, hypers, theta: SNES(2 * config.num_pairs, theta))
    state, step = learner.init(jax.random.key(0), HYPERS, None), jax.jit(learner.learn)
    returns = []
    for _ in range(60):
        state, metrics = step(state, HYPERS, ())
        returns.append(metrics["return"])
    assert returns[-1] > returns[0] and np.abs(state.params - GOAL).max() < 0.3


def test_the_step_size_decays_to_its_minimum():
    hypers = evolution.Hypers(learning_rate=0.1, decay=0.5, least_learning_rate=0.01)
    learner = make(lambda theta, task, age: theta.sum())
    state, step = learner.init(jax.random.key(0), hypers, None), jax.jit(learner.learn)
    before, moved = state.params, []
    for _ in range(8):
        state, _ = step(state, hypers, ())
        moved.append(float(jnp.abs(state.params - before).max()))
        before = state.params
    np.testing.assert_allclose(moved[0], 0.1, rtol=1e-2)  # Adam's first step is its rate
    assert min(moved[6:]) > 0.005 and max(moved[6:]) < 0.02


@pytest.mark.slow
def test_memory_grows_with_a_group_and_not_with_the_generation():
    env, params = envs.make("CartPole-v1")
    agent = lpo.Config(num_envs=16, num_steps=64, drift_width=8)

    def memory(num_pairs, group):
        learner = evolution.make(
            evolution.Config(num_pairs=num_pairs, group=group),
            World("cart", lpo.make(agent, env), env, uniform(lambda key: params), life_of(5)),
            init_theta=lambda key: lpo.init_drift(key, agent),
            insert=lpo.with_drift,
        )
        return planned_memory(learner, evolution.Hypers(agent=lpo.Hypers()))

    few, many, twice, eight = memory(2, 2), memory(32, 2), memory(32, 4), memory(32, 8)
    assert many < 1.1 * few
    np.testing.assert_allclose((eight - many) / (twice - many), 3, rtol=0.1)


@pytest.mark.slow
def test_the_same_code_tunes_ppo():
    """PPO's learning rate rises when it starts too low."""
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    config = ppo.Config(num_envs=8, num_steps=8, num_epochs=1, num_minibatches=2, hidden=(8,))
    levels = uniform(lambda key: Params(length=2, max_steps_in_episode=2))
    learner = evolution.make(
        evolution.Config(num_pairs=8, group=8, num_episodes=32),
        World("probe", ppo.make(config, env), env, levels, life_of(10)),
        init_theta=lambda key: jnp.log(1e-3),
        insert=lambda theta, hypers: hypers.replace(learning_rate=jnp.exp(theta)),
    )
    hypers = evolution.Hypers(agent=ppo.Hypers(), learning_rate=0.2, std=0.5)
    state, step, returns = learner.init(jax.random.key(0), hypers, None), jax.jit(learner.learn), []
    for _ in range(30):
        state, metrics = step(state, hypers, ())
        returns.append(float(metrics["return"]))
    assert state.params > np.log(1e-3) + 1.0
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 0.3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_pairs": 0}, r"Config\.num_pairs: 0 is not valid"),
        (
            {"num_pairs": 8, "group": 3},
            r"Config\.group: 3 is not valid; .* divisor .* 16",
        ),
    ],
)
def test_bad_settings_are_named(settings, expected):
    with pytest.raises(ValueError, match=expected):
        evolution.Config(**settings)


@pytest.mark.parametrize("life", [jnp.int32(0), jnp.float32(2.5), jnp.ones(2, jnp.int32)])
def test_a_life_that_is_not_one_or_more_updates_is_refused(life):
    with pytest.raises(ValueError, match=r"sample_lifetime: .* is not valid; .* one integer >= 1"):
        make(sample_lifetime=lambda key: life)


def test_the_agents_own_hyperparameters_are_refused():
    with pytest.raises(ValueError, match=r"Hypers is not valid; it must be .*evolution\.Hypers"):
        make().init(jax.random.key(0), a2c.Hypers(), None)
