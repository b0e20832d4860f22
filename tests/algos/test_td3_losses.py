"""Losses of TD3 and TD3+BC with known critics, actors and observations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import td3, td3_bc
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import for_network
from tests.algos.probes import Params, Probe

ENV = for_network(Probe(lambda state, action: jnp.float32(0), show_always=False, continuous=True))
LEVEL = Params(length=100, max_steps_in_episode=1)  # every step bootstraps
FIXED = dict(gamma=1.0, target_noise_clip=0.15, actor_rate=0.0, critic_rate=0.0, target_rate=1e-9)


def recorded() -> Dataset:
    """Steps as the probe makes them, whose cue is ±1 and then 0; it is recorded as 5 + 2 cue."""
    cue = jnp.tile(jnp.array([-1.0, 1.0]), 32)
    obs, next_obs = (jnp.stack([5 + 2 * x, jnp.ones(64)], -1) for x in (cue, 0 * cue))
    never = jnp.zeros(64, bool)
    return Dataset(Step(obs, jnp.full((64, 1), 0.5), jnp.zeros(64), never, ~never, next_obs))


def agents():
    """By name: agents that draw 8 batches of 64 in an update, and their hyperparameters."""
    sizes = dict(hidden=(2,), batch_size=64)
    online = td3.Config(num_batches=8, capacity=2048, warmup_steps=64, **sizes)
    offline = td3_bc.Config(policy_delay=8, **sizes)
    return {
        "td3": (td3.make(online, ENV), td3.Hypers(**FIXED)),
        "td3_bc": (td3_bc.make(offline, ENV), td3_bc.Hypers(recorded(), **FIXED)),
    }


def critics_with(offsets, params):
    """Parameters of critics |a + cue + b|, one for each offset b."""
    critic = jax.tree.map(jnp.zeros_like, params.critic)
    first, last = critic["params"]["layers_0"]["Dense_0"], critic["params"]["layers_1"]
    reads = jnp.array([[1.0, -1.0], [0.0, 0.0], [1.0, -1.0]])  # cue, one, action
    first["kernel"] = jnp.stack([reads, reads])
    first["bias"] = jnp.array([[b, -b] for b in offsets])  # relu(x + b) + relu(-x - b) = |x + b|
    last["kernel"] = jnp.ones_like(last["kernel"])
    return critic


@pytest.fixture(scope="module", params=["td3", "td3_bc"])
def loss_of_known_critics(request):
    """The mean loss, by the noise, of target critics |a + cue + 0.6| and |a + cue + 0.3|.

    The target actor says 0 and the learned one nearly 1. The learned critics say 0.
    """
    agent, hypers = agents()[request.param]

    @jax.jit
    def loss(std):
        state = agent.init(jax.random.key(0), hypers, Task(LEVEL, jnp.int32(9)))
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        state = state._replace(
            params=zeros._replace(actor=jax.tree.map(jnp.ones_like, zeros.actor)),
            target_params=zeros._replace(critic=critics_with((0.6, 0.3), zeros)),
        )
        return update(agent, state, hypers.replace(target_noise=std))[1]["critic_loss"]

    return loss


@pytest.mark.parametrize("std", [0.0, 10.0])
def test_targets_take_the_lower_critic_at_the_noisy_action_of_the_target_policy(
    std, loss_of_known_critics
):
    """Noise of ±0.15 makes the lower critic 0.3 ± 0.15 at the next observation, whose cue is 0.

    The noise is nearly always at a bound, where its std is large. The loss is the mean squared
    target: 0.09 without noise, (0.15² + 0.45²)/2 with it.
    """
    expected = 0.3**2 if std == 0 else (0.15**2 + 0.45**2) / 2
    np.testing.assert_allclose(loss_of_known_critics(std), expected, rtol=0.15 if std else 1e-5)


@pytest.mark.parametrize(("name", "expected"), [("td3", -1.0), ("td3_bc", -2.5 + 0.5**2)])
def test_the_policy_follows_the_first_learned_critic_at_this_observation(name, expected):
    """The learned actor says 0, and the critics |a + cue| = 1 and |a + cue + 5|.

    The target actor says nearly 1, the target critics 0, and the actions of the dataset are 0.5.
    """
    agent, hypers = agents()[name]

    @jax.jit
    def loss():
        state = agent.init(jax.random.key(0), hypers, Task(LEVEL, jnp.int32(9)))
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        state = state._replace(
            params=zeros._replace(critic=critics_with((0.0, 5.0), zeros)),
            target_params=zeros._replace(actor=jax.tree.map(jnp.ones_like, zeros.actor)),
        )
        return update(agent, state, hypers)[1]["actor_loss"]

    np.testing.assert_allclose(loss(), expected, rtol=1e-5)
