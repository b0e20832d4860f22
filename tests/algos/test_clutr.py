"""CLUTR: the autoencoder of levels, and a teacher whose one action is a latent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import clutr, paired, ppo
from envs import maze, maze_levels
from envs.maze_tokens import MazeTokens, wall_f1
from purejaxrl.algorithm import Task, is_finite, make_train, update
from purejaxrl.identity import is_named
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.checkpoint import CheckpointError, save
from purejaxrl.ued import student as students
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.student import OwnLevel
from tests.helpers import assert_equal

KEY, NUM_ENVS = jax.random.key(0), 3
TOKENS = MazeTokens(size=3, max_walls=3, max_steps=6)
SAMPLE = maze_levels.uniform(3, size=3, max_steps=6)
CONFIG = clutr.Config(
    TOKENS.vocabulary, TOKENS.length, latent=4, embedding=8, hidden=8, batch_size=4
)
TOKENS_SHAPE = jnp.zeros((CONFIG.length, 1), jnp.int32)
PARAMS = jax.jit(clutr.Autoencoder(CONFIG).init)(KEY, TOKENS_SHAPE)
WRITTEN = jax.vmap(lambda key: TOKENS.write(SAMPLE(key)))(jax.random.split(KEY, 64))
MODEL = jax.jit(partial(clutr.locate, CONFIG))(PARAMS, WRITTEN)


def sample_tokens(key):
    return TOKENS.write(SAMPLE(key))


def latents(config=CONFIG, model=MODEL, tokens=TOKENS):
    return clutr.Latents(config, model, tokens.read, tokens.allowed())


def test_standardised_actions_have_the_moments_of_the_latents_of_random_levels():
    mean, std = clutr.Autoencoder(CONFIG).apply(PARAMS, WRITTEN.T, method="encode")
    noise = np.random.default_rng(0).standard_normal((2000, *mean.shape))
    drawn = (mean + std * noise).reshape(-1, CONFIG.latent)
    np.testing.assert_allclose(MODEL.latent(jnp.zeros(CONFIG.latent)), drawn.mean(0), atol=0.01)
    steps = jax.vmap(MODEL.latent)(jnp.eye(CONFIG.latent)) - MODEL.mean
    np.testing.assert_allclose(steps.T @ steps, np.cov(drawn.T), rtol=0.05, atol=0.02)


def test_reading_takes_the_likeliest_allowed_token_after_those_that_were_read():
    """Token by token is as the decoder sees whole sequences."""
    z = jax.random.normal(KEY, (5, 4)) * 3
    allowed = TOKENS.allowed()
    found = jax.jit(lambda: clutr.read(CONFIG, allowed, PARAMS, z))()
    logits = clutr.Autoencoder(CONFIG).apply(PARAMS, z, found.T, method="decode")
    expected = jnp.where(allowed[:, None], logits, -jnp.inf).argmax(-1).T
    np.testing.assert_array_equal(found, expected)
    assert allowed[np.arange(CONFIG.length), np.asarray(found)].all()


def test_the_loss_is_the_evidence_lower_bound_with_its_weight():
    algorithm = clutr.make_autoencoder(CONFIG, sample_tokens)
    hypers = clutr.Hypers(kl_coef=0.5)

    @jax.jit
    def begin():
        state = algorithm.init(KEY, hypers, Task((), jnp.int32(5)))
        return state, *algorithm.collect(state, hypers)

    start, state, tokens = begin()
    after, metrics = jax.jit(lambda s, t: algorithm.learn(s, hypers, t))(state, tokens)
    network = clutr.Autoencoder(CONFIG)
    mean, std = network.apply(start.params, tokens.T, method="encode")
    noise_key, _ = jax.random.split(state.key)
    z = mean + std * jax.random.normal(noise_key, mean.shape)
    logits = network.apply(start.params, z, tokens.T, method="decode")
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens.T[..., None], -1)
    error = -chosen.sum() / CONFIG.batch_size
    kl = (0.5 * (mean**2 + std**2 - 1) - jnp.log(std)).sum() / CONFIG.batch_size
    np.testing.assert_allclose(metrics["error"], error, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss"], error + 0.5 * kl, rtol=1e-4)
    assert after.step == 1 and all(map(is_named, algorithm.made_of))


def test_an_autoencoder_whose_loss_is_infinite_has_diverged():
    algorithm = clutr.make_autoencoder(CONFIG, sample_tokens)
    state = clutr.State(PARAMS, (), Task((), jnp.int32(5)), KEY, jnp.int32(1))
    assert is_finite(algorithm.vital(state, {"loss": 1.0}))
    assert not is_finite(algorithm.vital(state, {"loss": jnp.inf}))
    assert algorithm.steps_per_update == 0


@pytest.mark.slow
def test_the_walls_of_mazes_that_it_never_saw_are_found_again():
    tokens = MazeTokens(size=5, max_walls=6)
    sample = maze_levels.uniform(6, size=5)
    config = clutr.Config(
        tokens.vocabulary, tokens.length, latent=24, embedding=32, hidden=96, batch_size=64
    )
    algorithm = clutr.make_autoencoder(config, lambda key: tokens.write(sample(key)))
    hypers = clutr.Hypers(learning_rate=3e-3, kl_coef=0.05)
    state, metrics = jax.jit(make_train(algorithm, 4000))(KEY, hypers, ())
    levels = jax.vmap(sample)(jax.random.split(jax.random.key(99), 500))
    written = jax.vmap(tokens.write)(levels)
    found = clutr.reconstruct(config, tokens.allowed(), state.params, written)
    assert wall_f1(jax.vmap(tokens.read)(found).walls, levels.walls) >= 0.95
    assert metrics["error"][-1] < 0.2 * metrics["error"][0]


@pytest.mark.slow
def test_a_teacher_chooses_latents_and_is_paid_the_regret_of_their_levels():
    env = OwnLevel(FlattenObservation(maze.Maze()))
    config = ppo.Config(NUM_ENVS, num_steps=14, num_minibatches=1, num_epochs=1, hidden=(4,))
    agent, builder = ppo.make(config, env), Builder(latents(), noise_size=2)
    teacher = ppo.make(ppo.Config(NUM_ENVS, 1, 1, 1, hidden=(4,)), builder)
    student = students.make(agent, env, paired.curriculum(teacher, agent, env, builder))
    assert all(map(is_named, student.made_of))
    hypers = paired.hypers(ppo.Hypers(), ppo.Hypers())
    state = jax.jit(lambda: student.init(KEY, hypers, Task((), jnp.int32(5))))()
    state, experience = jax.jit(lambda s: student.collect(s, hypers))(state)
    seen = experience.extras.draw.lesson.teacher.transitions
    assert seen.action.shape == (1, NUM_ENVS, 4) and seen.terminated.all()
    z = jax.vmap(MODEL.latent)(jnp.clip(seen.action[0], -4, 4))
    expected = jax.vmap(TOKENS.read)(clutr.read(CONFIG, TOKENS.allowed(), PARAMS, z))
    assert_equal(experience.extras.draw.chosen.level, expected)
    _, metrics = jax.jit(lambda s, e: student.learn(s, hypers, e))(state, experience)
    assert np.isfinite(metrics["regret"])


def test_an_autoencoder_is_saved_and_loaded(tmp_path):
    clutr.save(tmp_path / "model", CONFIG, MODEL)
    config, model = clutr.load(tmp_path / "model")
    assert config == CONFIG
    assert_equal(model, MODEL)
    save(tmp_path / "other", PARAMS)
    with pytest.raises(CheckpointError, match="other: it holds no autoencoder"):
        clutr.load(tmp_path / "other")


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="6 tokens of 10 kinds are not valid; levels have 8"):
        latents(tokens=MazeTokens(size=4, max_walls=5))
    with pytest.raises(ValueError, match="autoencoder: None is not valid"):
        latents(model=None)
    with pytest.raises(ValueError, match=r"Config.length: 9 is not valid; levels have \(6,\)"):
        clutr.make_autoencoder(clutr.Config(10, 9), sample_tokens)
    with pytest.raises(ValueError, match="Config.latent: 0 is not valid"):
        clutr.Config(10, 6, latent=0)


def test_a_contract_of_types_is_kept():
    algorithm = clutr.make_autoencoder(CONFIG, sample_tokens)
    begin = partial(algorithm.init, KEY, clutr.Hypers(), Task((), jnp.int32(5)))
    before = jax.eval_shape(begin)
    after, metrics = jax.eval_shape(lambda s: update(algorithm, s, clutr.Hypers()), before)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )
    assert {"env_steps", "episodes", "return"} <= metrics.keys()
