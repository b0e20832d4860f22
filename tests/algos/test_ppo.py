"""PPO on probes, its loss against closed forms, and its properties as a pure function."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from algos import ppo, ppo_rnn
from purejaxrl.algorithm import Task, make_train
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import FlattenObservation
from tests.algos.probes import Params, Probe
from tests.helpers import begin

SMALL = ppo.Config(num_envs=8, num_steps=16, num_minibatches=2, hidden=(16,))
FAST = ppo.Hypers(learning_rate=1e-2, final_rate_fraction=1.0)


def value_of(algorithm_state, config, env, obs):
    critic = networks.ValueNetwork(networks.build_torso("mlp", config.hidden, config.activation))
    return critic.apply(algorithm_state.params.critic, obs)


def train(env, params, updates=60, config=SMALL, hypers=FAST):
    run = jax.jit(make_train(ppo.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


def test_it_learns_to_act_on_what_it_sees():
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    _, metrics = train(env, Params())
    assert metrics["return"][-5:].mean() > 0.9


def test_it_learns_continuous_actions():
    env = Probe(lambda state, a: -((a[0] - state.cue) ** 2), continuous=True)
    _, metrics = train(env, Params(), updates=150)
    assert metrics["return"][-5:].mean() > -0.3 > metrics["return"][0]


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    env = Probe(lambda state, action: jnp.float32(1))
    hypers = FAST.replace(gamma=0.5, gae_lambda=0.5)
    seen = jnp.array([[1.0, 1.0], [-1.0, 1.0]])
    run = jax.jit(make_train(ppo.make(SMALL, env), 150))
    terminating, _ = run(jax.random.key(0), hypers, Params(length=1))
    np.testing.assert_allclose(value_of(terminating, SMALL, env, seen), 1.0, atol=0.05)
    level = Params(length=100, max_steps_in_episode=1)
    truncating, _ = run(jax.random.key(0), hypers, level)
    np.testing.assert_allclose(value_of(truncating, SMALL, env, seen), 2.0, atol=0.1)


def test_the_clipped_surrogate_equals_its_cases():
    hypers = ppo.Hypers(clip_eps=0.2)
    ratio = np.array([0.5, 0.9, 1.1, 1.5, 0.5, 1.5])
    advantage = np.array([1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
    expected = -np.array([0.5, 0.9, 1.1, 1.2, -0.8, -1.5])
    loss = ppo.policy_loss(ppo.LossInputs(jnp.log(ratio), jnp.array(advantage), 0.0), hypers)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_an_infinite_clip_is_the_plain_objective():
    log_ratio, advantage = jnp.array([-3.0, 0.0, 4.0]), jnp.array([2.0, 1.0, -1.5])
    hypers = ppo.Hypers(clip_eps=jnp.inf)

    def loss(log_ratio):
        return ppo.policy_loss(ppo.LossInputs(log_ratio, advantage, 0.0), hypers).sum()

    value, slope = jax.value_and_grad(loss)(log_ratio)
    np.testing.assert_allclose(value, -(np.exp(log_ratio) * advantage).sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, -np.exp(log_ratio) * advantage, rtol=1e-6)


def test_an_infinite_value_clip_is_the_squared_error():
    value, old, target = jnp.array([3.0, -1.0]), jnp.array([0.0, 0.0]), jnp.array([1.0, 1.0])
    np.testing.assert_allclose(ppo.value_loss(value, old, target, jnp.inf), [2.0, 2.0])
    np.testing.assert_allclose(ppo.value_loss(value, old, target, 0.5), [2.0, 2.0])
    np.testing.assert_allclose(ppo.value_loss(jnp.array([1.0]), 0.0, 1.0, 0.5), [0.125])


def loss_by_hand(logits, value, batch):
    """PPO's loss with a value coefficient of 0.7 and an entropy coefficient of 0.3, in float64."""
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ratio = np.exp(log_p[np.arange(8), batch.action] - batch.log_prob)
    advantage = (batch.advantage - batch.advantage.mean()) / batch.advantage.std()
    of_policy = -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage).mean()
    clipped = batch.value + np.clip(value - batch.value, -0.2, 0.2)
    error = np.maximum((value - batch.target) ** 2, (clipped - batch.target) ** 2)
    entropy = -(np.exp(log_p) * log_p).sum(-1).mean()
    return of_policy + 0.7 * 0.5 * error.mean() - 0.3 * entropy


def test_the_total_loss_and_its_slope_are_those_by_hand():
    rng = np.random.default_rng(0)
    logits, value, target = rng.normal(size=(8, 3)), rng.normal(size=8), rng.normal(size=8)
    batch = ppo.Minibatch(
        obs=(), action=rng.integers(3, size=8), log_prob=np.log(rng.uniform(0.1, 0.9, 8)),
        value=value + rng.normal(size=8), advantage=rng.normal(5, 3, 8), target=target,
    )  # fmt: skip
    hypers = ppo.Hypers(clip_eps=0.2, value_clip_eps=0.2, value_coef=0.7, entropy_coef=0.3)

    def loss(x):
        pi = networks.categorical(x[:24].reshape(8, 3))
        return ppo.total_loss(pi, x[24:], batch, hypers, 0.0, ppo.policy_loss)[0]

    def by_hand(x):
        return loss_by_hand(x[:24].reshape(8, 3), x[24:], batch)

    x = np.concatenate([logits.ravel(), value])
    found, slope = jax.value_and_grad(loss)(jnp.float32(x))
    np.testing.assert_allclose(found, by_hand(x), rtol=1e-5)
    np.testing.assert_allclose(slope, optimize.approx_fprime(x, by_hand, 1e-7), atol=1e-5)


def test_gradients_are_clipped_by_their_norm_before_adam():
    """A gradient of norm 10 and one of norm 1 are the same to it, and so Adam's steps are too."""
    adam = ppo.optimizer(ppo.Hypers(learning_rate=0.1, max_grad_norm=1.0), jnp.float32(0))
    params = {"x": jnp.zeros(()), "y": jnp.zeros(())}
    state = adam.init(params)
    for grads in ({"x": 6.0, "y": 8.0}, {"x": 0.6, "y": 0.8}):
        update, state = adam.update(jax.tree.map(jnp.float32, grads), state, params)
        np.testing.assert_allclose([update["x"], update["y"]], -0.1, rtol=1e-4)


def test_the_learning_rate_is_annealed_to_its_end():
    hypers = ppo.Hypers(learning_rate=1.0, final_rate_fraction=0.2, max_grad_norm=1e9)
    params = {"x": jnp.ones(())}
    for age, rate in ((0.0, 1.0), (0.5, 0.6), (1.0, 0.2)):
        adam = ppo.optimizer(hypers, jnp.float32(age))
        update, _ = adam.update({"x": jnp.float32(1e3)}, adam.init(params))
        np.testing.assert_allclose(update["x"], -rate, rtol=1e-5)


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_the_first_step_of_an_epoch_has_ratio_one(normalize_obs):
    """Also where the moments of observations advance between acting and learning."""
    env, params = gymnax.make("CartPole-v1")
    config = dataclasses.replace(
        SMALL, num_epochs=1, num_minibatches=1, normalize_obs=normalize_obs
    )
    _, metrics = train(env, params, 3, config=config)
    np.testing.assert_allclose(metrics["approx_kl"], 0.0, atol=1e-6)
    np.testing.assert_allclose(metrics["policy_loss"], 0.0, atol=1e-5)  # mean advantage is 0


def test_vmapped_over_seeds_and_hyperparameters_equals_looped():
    env, params = gymnax.make("CartPole-v1")
    run = make_train(ppo.make(SMALL, env), 3)
    keys = jax.random.split(jax.random.key(1), 3)
    rates = jnp.array([1e-4, 1e-3, 1e-2])
    hypers = jax.vmap(lambda rate: ppo.Hypers(learning_rate=rate))(rates)
    hypers = jax.tree.map(lambda x: jnp.broadcast_to(x, (3,)), hypers)
    together, _ = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))(keys, hypers, params)
    alone = jax.jit(run)
    for i in range(3):
        state, _ = alone(keys[i], jax.tree.map(lambda x, i=i: x[i], hypers), params)
        for a, b in zip(
            jax.tree.leaves(together.params), jax.tree.leaves(state.params), strict=True
        ):
            np.testing.assert_allclose(a[i], b, atol=2e-6, rtol=0)


@pytest.mark.slow
def test_normalised_observations_and_rewards_are_part_of_the_state():
    env, params = gymnax.make("Pendulum-v1")
    config = dataclasses.replace(SMALL, normalize_obs=True, normalize_reward=True)
    state, _ = train(env, params, 4, config=config)
    seen = 4 * config.batch_size
    np.testing.assert_allclose(state.normalizer.obs.count, seen, rtol=1e-3)
    np.testing.assert_allclose(state.normalizer.reward.moments.count, seen, rtol=1e-3)
    assert 0 < state.normalizer.obs.var[2] < 64  # angular velocity lies in ±8


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [ppo, ppo_rnn], ids=lambda module: module.__name__)
def test_rewards_are_scaled_for_values_alone(algorithm):
    """Scores of levels and meta-objectives read rewards as the environment gives them."""
    env, params = gymnax.make("Pendulum-v1")
    sizes = dict(num_envs=4, num_steps=8, num_minibatches=1)
    hypers, found = algorithm.Hypers(gae_lambda=0.0, gamma=0.0), []
    for scaled in (False, True):
        agent = algorithm.make(algorithm.Config(**sizes, normalize_reward=scaled), env)
        state = begin(agent, hypers, Task(params, jnp.int32(1)))
        state, experience = jax.jit(agent.collect)(state, hypers)
        found.append((experience.transitions.reward, agent.estimate(state, hypers, experience)))
    (reward, plain), (again, estimates) = found
    np.testing.assert_allclose(reward, again, rtol=1e-5)
    scale = jnp.sqrt(state.normalizer.reward.moments.var + 1e-8)
    np.testing.assert_allclose(estimates.target, plain.target / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("torso", ["mlp", "cnn"])
def test_it_trains_on_images(torso):
    env, params = gymnax.make("Breakout-MinAtar")
    env = FlattenObservation(env) if torso == "mlp" else env
    config = dataclasses.replace(SMALL, torso=torso)
    _, metrics = train(env, params, 2, config=config)
    assert np.isfinite(metrics["value_loss"]).all()


@pytest.mark.slow
def test_a_forks_policy_loss_is_minimised():
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))

    def backwards(x, hypers):
        return -ppo.policy_loss(x, hypers)

    run = jax.jit(make_train(ppo.make(SMALL, env, policy_loss=backwards), 60))
    _, metrics = run(jax.random.key(0), FAST, Params())
    assert metrics["return"][-5:].mean() < -0.5


def test_an_unsuitable_torso_is_refused():
    env, _ = gymnax.make("Breakout-MinAtar")
    with pytest.raises(ValueError, match="torso: 'mlp' is not valid for observations of shape"):
        ppo.make(SMALL, env)


def test_make_train_refuses_invalid_hyperparameters_and_lengths():
    env, params = gymnax.make("CartPole-v1")
    algorithm = ppo.make(SMALL, env)
    with pytest.raises(ValueError, match="num_updates: 0 is not valid"):
        make_train(algorithm, 0)
    with pytest.raises(ValueError, match="Hypers.clip_eps: -0.1 is not valid; it must be"):
        make_train(algorithm, 1)(jax.random.key(0), ppo.Hypers(clip_eps=-0.1), params)
