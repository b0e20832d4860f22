"""Pieces in channels and back, mixtures, guidance by hand, and an agent that learns from pieces."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import dqn, td3_bc
from algos import policy_guided_diffusion as pgd
from algos import trajectory_diffusion as diffusion
from envs.dynamics import dynamics_error
from purejaxrl.algorithm import Task, make_train, update
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import Dataset, starts_of_pieces, weigh_by_return
from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.checkpoint import CheckpointError
from tests.helpers import begin

PENDULUM, LEVEL = envs.make("Pendulum-v1")
WRAPPED = for_network(PENDULUM)
CONFIG = diffusion.Config(length=4, batch_size=64, width=32, num_blocks=1)
FEW = edm.Sampling(num_steps=8)
TD3_BC = td3_bc.make(td3_bc.Config(batch_size=16, hidden=(8,)), WRAPPED)


def recorded(size=512):
    """Steps whose action is half of the first observation, in episodes of eight."""
    obs = jax.random.normal(jax.random.key(0), (size + 1, 3))
    last = jnp.arange(size) % 8 == 7
    never = jnp.zeros(size, bool)
    action = 0.5 * jnp.tanh(obs[:-1, :1])
    return Dataset(Step(obs[:-1], action, obs[:-1, 1], never, last, obs[1:]))


@pytest.fixture(scope="module")
def learned():
    """A model of `recorded`, and its training."""
    dataset = recorded()
    hypers = diffusion.Hypers(dataset, jnp.asarray(starts_of_pieces(dataset, 4)))
    algorithm = diffusion.make(CONFIG, WRAPPED)
    state, metrics = jax.jit(make_train(algorithm, 2000))(jax.random.key(0), hypers, LEVEL)
    return algorithm.policy(state), metrics


def test_steps_are_written_as_pieces_and_read_again_with_the_end_of_the_episode():
    steps = jax.tree.map(lambda x: x[:8].reshape(2, 4, *x.shape[1:]), recorded().steps)
    steps = steps._replace(terminated=steps.terminated.at[1, 3].set(True))
    pieces = diffusion.to_pieces(steps)
    assert pieces.shape == (2, 5, 3 + 1 + 2)
    found = diffusion.from_pieces(pieces, 3)
    for name in ("obs", "action", "reward", "terminated", "next_obs"):
        expected = getattr(steps, name)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.truncated, [[0, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.slow
def test_a_model_of_episodes_that_terminate_draws_terminal_steps():
    """Of pieces of four steps out of episodes of eight, a fifth ends with the episode."""
    dataset = recorded()
    steps = dataset.steps._replace(
        terminated=dataset.steps.truncated, truncated=dataset.steps.terminated
    )
    dataset = Dataset(steps)
    starts = jnp.asarray(starts_of_pieces(dataset, 4))
    algorithm = diffusion.make(CONFIG, WRAPPED)
    train = jax.jit(make_train(algorithm, 2000))
    model = algorithm.policy(train(jax.random.key(0), diffusion.Hypers(dataset, starts), LEVEL)[0])
    draw = jax.jit(lambda key: diffusion.draw_pieces(key, CONFIG, model, 3, 512, edm.Sampling()))
    found = diffusion.from_pieces(draw(jax.random.key(1)), 3).terminated
    assert found[:, -1].mean() == pytest.approx(0.2, abs=0.08)
    assert found[:, :-1].mean() < 0.02


def test_samples_are_drawn_with_an_average_that_follows_the_parameters():
    dataset = recorded(64)
    starts = jnp.asarray(starts_of_pieces(dataset, 4))
    hypers = diffusion.Hypers(dataset, starts, average_rate=0.1)
    algorithm = diffusion.make(CONFIG, WRAPPED)
    state = begin(algorithm, hypers, Task(LEVEL, jnp.int32(10)))
    average = jax.tree.map(lambda x: x + 1.0, state.params)
    state = state._replace(step=jnp.int32(5), average=average)  # the first step has a rate of 0
    after, _ = jax.jit(lambda state: update(algorithm, state, hypers))(state)
    expected = jax.tree.map(lambda x, y: 0.9 * x + 0.1 * y, average, after.params)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, algorithm.policy(after).params, expected)
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), state.params, after.params)
    assert any(jax.tree.leaves(moved))


def test_a_model_learns_how_actions_follow_from_observations(learned):
    model, metrics = learned
    assert metrics["loss"][-100:].mean() < 0.7 * metrics["loss"][:100].mean()
    draw = jax.jit(lambda key: diffusion.draw_pieces(key, CONFIG, model, 3, 512, edm.Sampling()))
    steps = diffusion.from_pieces(draw(jax.random.key(1)), 3)
    expected = 0.5 * np.tanh(steps.obs[..., 0])
    assert np.corrcoef(expected.ravel(), steps.action.ravel())[0, 1] > 0.9
    assert steps.obs.std() == pytest.approx(1.0, abs=0.2)


def test_guidance_moves_actions_towards_the_policy_and_leaves_states(learned):
    model, _ = learned

    def mean_action(guidance):
        log_prob = lambda obs, action: -0.5 * ((action - 0.9) ** 2).sum(-1) / 0.1  # noqa: E731
        pieces = diffusion.draw_pieces(
            jax.random.key(1), CONFIG, model, 3, 256, FEW, log_prob, guidance
        )
        steps = diffusion.from_pieces(pieces, 3)
        return steps.action.mean(), steps.obs[..., 1:].mean()

    mean_action = jax.jit(mean_action)
    actions, observations = np.array([mean_action(x) for x in (0.0, 0.3, 1.0, 3.0)]).T
    assert (np.diff(actions) > 0).all()
    assert np.ptp(observations) < 0.2


@pytest.mark.parametrize("width", [0.05, 0.5])
def test_guided_actions_lie_between_the_models_and_the_policys(learned, monkeypatch, width):
    """Along the inverse tanh a Gaussian policy is not log-concave, and some would overshoot."""
    model, mode = learned[0], 0.3

    def once(key, denoise, shape, how):
        return denoise(3.0 * jax.random.normal(key, shape), jnp.float32(1.0))

    def log_prob(obs, action):
        return -0.5 * ((action - mode) ** 2).sum(-1) / width**2

    monkeypatch.setattr(edm, "sample", once)
    draw = lambda guidance: diffusion.from_pieces(diffusion.draw_pieces(  # noqa: E731
        jax.random.key(0), CONFIG, model, 3, 256, FEW, log_prob, guidance
    ), 3).action  # fmt: skip
    plain, guided = np.asarray(draw(0.0)), np.asarray(draw(2.0))
    low, high = np.minimum(plain, mode), np.maximum(plain, mode)
    assert ((low - 1e-5 <= guided) & (guided <= high + 1e-5)).all()
    assert (np.abs(guided - mode) < 0.9 * np.abs(plain - mode)).mean() > 0.9


def test_the_policy_is_asked_about_denoised_pieces(learned, monkeypatch):
    """At σ = 80 a noised piece is about 80 in size. The published code asks about that one."""
    model, seen = learned[0], []

    def once(key, denoise, shape, how):
        return denoise(80.0 * jax.random.normal(key, shape), jnp.float32(80.0))

    def log_prob(obs, action):
        seen.append(obs)
        return -(action**2).sum(-1)

    monkeypatch.setattr(edm, "sample", once)
    diffusion.draw_pieces(jax.random.key(0), CONFIG, model, 3, 8, FEW, log_prob, 1.0)
    assert np.abs(seen[0]).max() < 20


@pytest.mark.slow
def test_a_narrow_policy_guides_more_than_a_wide_one(learned):
    """The published code guides by a policy of unit width, whatever the agent's own is."""

    def spread(width):
        log_prob = lambda obs, action: -0.5 * (action**2).sum(-1) / width**2  # noqa: E731
        draw = jax.jit(
            lambda key: diffusion.draw_pieces(key, CONFIG, learned[0], 3, 256, FEW, log_prob, 1.0)
        )
        return diffusion.from_pieces(draw(jax.random.key(1)), 3).action.std()

    assert spread(0.1) < 0.7 * spread(1.0)


def test_a_mixture_draws_the_synthetic_share():
    made = jax.tree.map(lambda x: x[:100], recorded().steps)
    mixed = pgd.mixed(recorded(), made, 0.75)
    places = np.asarray(mixed.draw(jax.random.key(0), 20_000))
    assert (places >= 512).mean() == pytest.approx(0.75, abs=0.015)
    assert len(np.unique(places)) > 600
    with pytest.raises(ValueError, match="dataset: it is weighted"):
        pgd.mixed(weigh_by_return(recorded()), made, 0.75)


def test_a_model_is_not_learned_from_a_weighted_dataset():
    dataset = weigh_by_return(recorded())
    hypers = diffusion.Hypers(dataset, jnp.asarray(starts_of_pieces(dataset, 4)))
    with pytest.raises(ValueError, match="dataset: it is weighted"):
        make_train(diffusion.make(CONFIG, WRAPPED), 1)(jax.random.key(0), hypers, LEVEL)


@pytest.mark.slow
def test_an_agent_learns_from_pieces_and_its_first_ones_are_unguided(learned):
    model, _ = learned
    config = pgd.Config(num_pieces=32, num_updates=5, sampling=FEW)
    algorithm = pgd.make(config, TD3_BC, CONFIG, WRAPPED)
    hypers = pgd.Hypers(td3_bc.Hypers(recorded()), model, 5.0)
    task = Task(LEVEL, jnp.int32(3))
    state = begin(algorithm, hypers, task)
    collect = jax.jit(algorithm.collect)
    plain = hypers.replace(guidance=0.0)
    for step, differ in ((0, False), (1, True)):
        at = state._replace(step=jnp.int32(step))
        guided, unguided = collect(at, hypers)[1].action, collect(at, plain)[1].action
        assert bool((guided != unguided).any()) == differ
    after, metrics = jax.jit(lambda s: update(algorithm, s, hypers))(state)
    assert int(after.agent.step) == 5
    assert int(after.agent.task.horizon) == 15
    assert np.isfinite(metrics["log_prob"])


def test_true_steps_of_pendulum_have_no_dynamics_error():
    keys = jax.random.split(jax.random.key(0), 64)
    obs, state = jax.vmap(WRAPPED.reset, in_axes=(0, None))(keys, LEVEL)
    action = jax.random.uniform(jax.random.key(1), (64, 1), minval=-1, maxval=1)
    after, _, reward, *_ = jax.vmap(WRAPPED.step, in_axes=(0, 0, 0, None))(
        keys, state, action, LEVEL
    )
    never = jnp.zeros(64, bool)
    steps = Step(obs, action, reward, never, never, after)
    variance = after.var(0)
    np.testing.assert_allclose(dynamics_error("Pendulum-v1", LEVEL, steps, variance), 0, atol=1e-9)
    wrong = steps._replace(next_obs=after + jnp.sqrt(variance))
    np.testing.assert_allclose(dynamics_error("Pendulum-v1", LEVEL, wrong, variance), 1, rtol=1e-3)


def test_dynamics_that_observations_do_not_say_are_refused():
    with pytest.raises(ValueError, match="env: 'hopper' is not valid; its observations do not"):
        dynamics_error("hopper", LEVEL, recorded().steps, jnp.ones(3))


def test_an_agent_without_likelihoods_is_refused():
    agent = dqn.make(dqn.Config(), envs.make("CartPole-v1")[0])
    with pytest.raises(ValueError, match="agent: algos.dqn is not valid; guidance needs its"):
        pgd.make(pgd.Config(), agent, CONFIG, WRAPPED)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (pgd.Config, {"synthetic": 1.0}, "Config.synthetic: 1.0 is not valid"),
        (diffusion.Config, {"length": 0}, "Config.length: 0 is not valid; .* >= 1"),
    ],
)
def test_bad_settings_are_named(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_model_comes_back_and_is_refused_for_another_dataset(tmp_path, learned):
    model, _ = learned
    diffusion.save(tmp_path / "model", CONFIG, model, "abc")
    config, found = diffusion.load(tmp_path / "model", "abc")
    assert config == CONFIG
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CheckpointError, match="learned from dataset abc, not xyz"):
        diffusion.load(tmp_path / "model", "xyz")
