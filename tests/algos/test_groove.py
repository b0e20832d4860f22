"""GROOVE: algorithmic regret in known cases, and the levels of its agents."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import a2c, frontier, groove, lpg, meta_lpg, plr
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from envs.gridworld_solution import optimal_return
from purejaxrl.meta import gradient
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import run
from purejaxrl.study.stats import interval
from purejaxrl.ued.curriculum import Replay, replay, uniform
from purejaxrl.ued.scores import SCORES, algorithmic_regret, positive_value_loss
from tests.helpers import assert_equal, begin, run_options, whole_and_resumed

ENV = GridWorld(LEVELS["small"].sample)
AGENT = lpg.Config(num_envs=4, num_steps=5, num_predictions=3, rule_width=6, rule_embedding=4)
CONFIG = groove.Config(num_agents=8, num_updates=2, capacity=12, num_episodes=4, slots=3)


def make(lifetime=6, score=algorithmic_regret, **changes):
    return groove.make(
        replace(CONFIG, **changes),
        AGENT,
        ENV,
        ENV.sample_level,
        lambda key: jnp.int32(lifetime),
        score,
        optimal_return,
    )


def start(learner, hypers=None, seed=0):
    hypers = hypers or groove.hypers()
    return begin(learner, hypers, seed=seed), hypers, jax.jit(learner.learn)


def scores_of_lives(inner, theta, insert, hypers, num_lives=300):
    """Regrets of an algorithm against A2C, over lives of 60 updates."""
    num_agents = 100
    antagonist = a2c.make(a2c.Config(num_envs=8, num_steps=10), ENV)
    learner = gradient.make(
        gradient.Config(num_agents=num_agents, num_updates=20),
        World(
            "levels",
            inner,
            ENV,
            replay(ENV.sample_level, algorithmic_regret, 1000),
            sample_lifetime=lambda key: jnp.int32(60),
            critic=networks.readout(ENV.observation_space(), None, 1),
            assessment=Assessment(antagonist, num_episodes=32, slots=50),
        ),
        init_theta=lambda key: theta,
        insert=insert,
    )
    hypers = hypers.replace(
        curriculum=Replay(replay_prob=0.0), antagonist=a2c.Hypers(learning_rate=0.1)
    )
    state, hypers, step = start(learner, hypers)
    world = state.worlds[0]
    agents = world.agents
    full = agents.state.task.horizon * 0 + 60  # none is cut short
    task = agents.state.task._replace(horizon=full)
    agents = agents._replace(
        state=agents.state._replace(task=task),
        antagonist=agents.antagonist._replace(task=task),
        whole=agents.whole | True,
    )
    state = state._replace(worlds=(world._replace(agents=agents),))
    for _ in range(3 * num_lives // num_agents):
        state, _ = step(state, hypers, ())
    buffer = state.worlds[0].curriculum
    assert buffer.filled.sum() == num_lives
    kept = np.flatnonzero(buffer.filled)
    return jax.tree.map(lambda x: x[kept], buffer.levels), np.array(buffer.score[kept])


@pytest.mark.slow
def test_equal_algorithms_have_no_regret():
    inner = a2c.make(a2c.Config(num_envs=8, num_steps=10), ENV)
    hypers = gradient.Hypers(agent=a2c.Hypers(learning_rate=0.1), learning_rate=0.0)
    _, scores = scores_of_lives(inner, jnp.float32(0.1), lambda theta, hypers: hypers, hypers)
    estimate = interval(scores, confidence=0.999)
    assert estimate.low < 0 < estimate.high
    assert estimate.high - estimate.low < 0.4


@pytest.mark.slow
def test_the_regret_of_an_agent_that_never_learns_is_what_the_antagonist_learned():
    config = lpg.Config(num_envs=8, num_steps=10, rule_width=4, optimizer="sgd")
    hypers = gradient.Hypers(agent=lpg.Hypers(learning_rate=0.0), learning_rate=0.0)
    theta = lpg.init_rule(jax.random.key(0), config)
    levels, scores = scores_of_lives(lpg.make(config, ENV), theta, lpg.with_rule, hypers)

    def random_return(level, key):
        """Mean return of random play on a level, over a few episodes."""

        def episode(key):
            _, state = ENV.reset(key, level)

            def step(carry, key):
                state, alive = carry
                act_key, env_key = jax.random.split(key)
                action = jax.random.randint(act_key, (), 0, ENV.num_actions)
                _, state, reward, terminated, truncated, _ = ENV.step(env_key, state, action, level)
                return (state, alive & ~(terminated | truncated)), reward * alive

            return jax.lax.scan(step, (state, True), jax.random.split(key, 101))[1].sum()

        return jax.vmap(episode)(jax.random.split(key, 32)).mean()

    def trained_return(level, key):
        """The return of a new A2C agent after as many updates, computed apart from GROOVE."""
        from purejaxrl.algorithm import make_train

        algorithm = a2c.make(a2c.Config(num_envs=8, num_steps=10), ENV)
        _, metrics = make_train(algorithm, 60)(key, a2c.Hypers(learning_rate=0.1), level)
        late = metrics["episodes"][-20:]
        return jnp.nansum(metrics["return"][-20:] * late) / late.sum()

    keys = jax.random.split(jax.random.key(7), len(scores))
    random, trained = (
        np.array(jax.jit(jax.vmap(f))(levels, keys)) for f in (random_return, trained_return)
    )
    difference = interval(scores - (trained - random), confidence=0.999)
    assert difference.low - 0.1 < 0 < difference.high + 0.1  # the late return is still rising
    assert scores.mean() > 0.3 and np.corrcoef(scores, trained - random)[0, 1] > 0.8


@pytest.mark.slow
def test_agent_and_antagonist_have_the_same_level_and_as_many_interactions():
    learner = make()
    state, hypers, step = start(learner)
    for _ in range(12):
        state, _ = step(state, hypers, ())
        agents = state.worlds[0].agents
        np.testing.assert_array_equal(agents.state.step, agents.antagonist.step)
        assert_equal(agents.state.task, agents.antagonist.task)
    antagonist = a2c.make(a2c.Config(num_envs=4, num_steps=6), ENV)
    with pytest.raises(ValueError, match="antagonist: 24 steps per update .* 20"):
        compose(replay(ENV.sample_level, algorithmic_regret), Assessment(antagonist))


def squared_regret(key, outcome):
    """A fork's score."""
    return algorithmic_regret(key, outcome) ** 2


@pytest.mark.parametrize(
    "score", [squared_regret, *(pytest.param(s, marks=pytest.mark.slow) for s in SCORES.values())]
)
def test_exactly_the_levels_of_agents_are_in_use(score):
    learner = make(score=score)
    hypers = groove.hypers(curriculum=Replay(replay_prob=0.7))
    state, hypers, step = start(learner, hypers)
    has_antagonists = bool(jax.tree.leaves(state.worlds[0].agents.antagonist))
    assert has_antagonists == (score in (squared_regret, algorithmic_regret))
    visits, replayed = 0, 0
    for _ in range(20):
        state, metrics = step(state, hypers, ())
        visits += int(metrics["lives_ended"])
        buffer, agents = state.worlds[0].curriculum, state.worlds[0].agents
        slots = np.array(agents.slot)
        used = slots[slots >= 0]
        assert len(set(used)) == len(used)
        np.testing.assert_array_equal(np.flatnonzero(buffer.in_use), np.sort(used))
        for i in np.flatnonzero(slots >= 0):
            assert_equal(
                jax.tree.map(lambda x: x[i], agents.state.task.env_params),  # noqa: B023
                jax.tree.map(lambda x: x[slots[i]], buffer.levels),  # noqa: B023
            )
        replayed += int((slots >= 0).any())
        assert np.isfinite(buffer.score).all()
    assert visits > 30 and replayed > 10
    assert step._cache_size() == 1  # a meta-step never compiles again
    assert buffer.filled.all()  # 12 of them, of the new levels of so many lives


def test_levels_of_lives_that_were_cut_short_are_released():
    """A curriculum that keeps levels from the start draws some of them for the first lives."""
    kept = frontier.curriculum(ENV.sample_level, num_kept=16)
    assessment = Assessment(None, num_episodes=2, optimal_return=optimal_return)
    world = meta_lpg.world(
        AGENT, ENV, lambda key: jnp.int32(6), curriculum=kept, assessment=assessment
    )
    learner = meta_lpg.by_gradient(gradient.Config(num_agents=8, num_updates=2), AGENT, world)
    hypers = groove.hypers(curriculum=frontier.Frontier(share=0.9), antagonist=None)
    state, hypers, step = start(learner, hypers)
    (first,) = state.worlds
    assert (np.array(first.agents.slot) >= 0).sum() > 4 and not first.agents.whole.all()
    for _ in range(6):
        state, _ = step(state, hypers, ())
        (world,) = state.worlds
        slots = np.sort(np.array(world.agents.slot))
        np.testing.assert_array_equal(np.flatnonzero(world.curriculum.in_use), slots[slots >= 0])


def test_values_score_a_level_whose_episodes_are_longer_than_a_rollout():
    """The last rollout of a life may hold no end of an episode."""
    level = ENV.sample_level(jax.random.key(0))
    endless = level.replace(max_steps_in_episode=jnp.int32(10_000))
    learner = groove.make(
        replace(CONFIG, capacity=8), AGENT, ENV, lambda key: endless, lambda key: jnp.int32(2),
        positive_value_loss, optimal_return,
    )  # fmt: skip
    hypers = groove.hypers(curriculum=Replay(replay_prob=0.0))
    state, hypers, step = start(learner, hypers)
    for _ in range(2):
        state, metrics = step(state, hypers, ())
    assert np.isfinite(metrics["score"])
    assert state.worlds[0].curriculum.filled.sum() == 1  # all levels are the same


@pytest.mark.slow
def test_every_life_that_ends_is_scored_unless_it_was_cut_short():
    """Lives end all at once, and are more than there are slots."""
    learner = make(lifetime=2, capacity=100)
    hypers = groove.hypers(curriculum=Replay(replay_prob=0.0))
    state, hypers, step = start(learner, hypers)
    whole = state.worlds[0].agents.whole
    assert whole.sum() == 4  # the first lives of the others are of one update instead of two
    kept = []
    for _ in range(2):
        state, metrics = step(state, hypers, ())
        assert metrics["lives_ended"] == 8
        kept.append(state.worlds[0].curriculum.filled)
    assert [x.sum() for x in kept] == [4, 4 + 8]
    new = kept[1] & ~kept[0]
    expected = np.mean(state.worlds[0].curriculum.score[new])
    np.testing.assert_allclose(metrics["score"], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_level_of_a_life_that_diverged_is_not_scored():
    learner = make(lifetime=2, capacity=100)
    hypers = groove.hypers(curriculum=Replay(replay_prob=0.0))
    state, hypers, step = start(learner, hypers)
    (world,) = state.worlds
    agents = world.agents._replace(whole=world.agents.whole | True)
    params = jax.tree.map(lambda x: x.at[2].set(jnp.nan), agents.state.params)
    agents = agents._replace(state=agents.state._replace(params=params))
    state = state._replace(worlds=(world._replace(agents=agents),))
    state, metrics = step(state, hypers, ())
    assert metrics["unsound"] == 1 and metrics["lives_ended"] == 7
    assert state.worlds[0].curriculum.filled.sum() == 7
    assert np.isfinite(metrics["score"])


@pytest.mark.slow
def test_resumed_equals_uninterrupted(tmp_path):
    who = populate(seeds(1), groove.hypers(), ())
    whole, resumed = whole_and_resumed(tmp_path, make(), who, 8, stop=4)
    assert whole.state.worlds[0].curriculum.filled.any()
    assert_equal(whole.state, resumed.state)


@pytest.mark.slow
def test_the_curriculum_does_not_depend_on_the_number_of_devices(tmp_path):
    who = populate(seeds(1), groove.hypers(learning_rate=0.0), ())
    learner = make()
    one, two = (
        run(learner, who, 6, run_options(tmp_path / str(n)), devices=jax.devices()[:n]).member(0)
        for n in (1, 2)
    )
    assert one.worlds[0].curriculum.filled.sum() >= 8 and (one.worlds[0].agents.slot >= 0).any()
    assert_equal(one.worlds[0].agents.slot, two.worlds[0].agents.slot)
    here, there = one.worlds[0].curriculum, two.worlds[0].curriculum
    for field in ("levels", "fingerprint", "last_visit", "filled", "in_use", "clock"):
        assert_equal(getattr(here, field), getattr(there, field))
    np.testing.assert_allclose(here.score, there.score, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"), [("capacity", 7), ("capacity", 0), ("num_episodes", 0), ("slots", 0)]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field}: {value} is not valid"):
        replace(CONFIG, **{field: value})


def test_antagonists_without_hyperparameters_are_refused():
    with pytest.raises(ValueError, match=r"Hypers\.antagonist: None is not valid"):
        make().init(jax.random.key(0), groove.hypers(antagonist=None), None)


def compose(curriculum, assessment):
    lifetime = lambda key: jnp.int32(1)  # noqa: E731
    parts = {"curriculum": curriculum, "assessment": assessment}
    world = meta_lpg.world(AGENT, ENV, lifetime, **parts)
    return meta_lpg.by_gradient(CONFIG, AGENT, world)


def test_a_curriculum_with_a_score_needs_an_assessment_and_no_other_has_one():
    scored = replay(ENV.sample_level, algorithmic_regret)
    for curriculum, assessment in ((scored, None), (uniform(ENV.sample_level), Assessment())):
        with pytest.raises(ValueError, match="assessment: there must be one"):
            compose(curriculum, assessment)


def test_a_curriculum_that_does_not_fit_is_refused():
    scored = replay(ENV.sample_level, algorithmic_regret)
    without = "algorithmic_regret is not valid; it reads antagonist_returns, .* without antagonists"
    with pytest.raises(ValueError, match=without):
        compose(scored, Assessment())
    with pytest.raises(ValueError, match="curriculum: algos.plr.curriculum .* it explores"):
        compose(plr.curriculum(ENV.sample_level), Assessment())
    with pytest.raises(ValueError, match="capacity: 7 is not valid; .* >= 8"):
        compose(replay(ENV.sample_level, positive_value_loss, 7), Assessment())
