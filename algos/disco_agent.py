"""A DiscoRL agent's network, and the action values that it estimates from its trajectories."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from algos.disco_rule import Beliefs, advance_lstm, of_action


class Outputs(NamedTuple):
    """What an agent outputs, as logits: A actions, Y predictions."""

    pi: jax.Array  # policy [..., A]
    y: jax.Array  # prediction of a state [..., Y]
    z: jax.Array  # prediction of a state and an action [..., A, Y]
    next_pi: jax.Array  # p, the policy after an action [..., A, A]
    q: jax.Array  # value of an action [..., A, num_bins]

    def beliefs(self) -> Beliefs:
        """Return the distributions that the rule reads."""
        return Beliefs(*map(jax.nn.softmax, (self.pi, self.y, self.z)))


class Agent(nn.Module):
    """Maps observations to `Outputs`; one LSTM step on an action gives the action's features."""

    torso: nn.Module
    num_actions: int
    width: int
    num_predictions: int
    num_bins: int

    @nn.compact
    def __call__(self, obs: Any) -> Outputs:  # noqa: D102
        features = self.torso(obs)
        small = nn.initializers.truncated_normal(0.01)
        cell = nn.Dense(self.width, name="root")(features)
        gates = nn.Dense(4 * self.width, name="root_gates")(jnp.tanh(cell))
        shape = (self.num_actions, 4 * self.width)  # one-hot actions, times their weights
        action_gates = self.param("action_gates", nn.initializers.lecun_normal(), shape)
        of_actions = advance_lstm(gates[..., None, :] + action_gates, cell[..., None, :]).hidden

        def head(size: int, name: str) -> jax.Array:
            hidden = nn.relu(nn.Dense(self.width, name=f"{name}_hidden")(of_actions))
            return nn.Dense(size, name=name)(hidden)

        return Outputs(
            pi=nn.Dense(self.num_actions, kernel_init=small, name="pi")(features),
            y=nn.Dense(self.num_predictions, kernel_init=small, name="y")(features),
            z=head(self.num_predictions, "z"),
            next_pi=head(self.num_actions, "next_pi"),
            q=head(self.num_bins, "q"),
        )


class OneHot(nn.Module):
    """Observations that index a table, as vectors: the row, and the time where there is one."""

    num_rows: int

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:  # noqa: D102
        row, *time = obs if isinstance(obs, tuple) else (obs,)
        time = [x[..., None] for x in time]
        return jnp.concatenate([jax.nn.one_hot(row, self.num_rows), *time], -1)


class Trajectories(NamedTuple):
    """T steps of B trajectories: leaves `[T, B, ...]`, in a replay buffer `[capacity, T, ...]`."""

    obs: Any  # of T + 1 states
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    behaviour: jax.Array  # logits of the policy that acted, [..., A]


def squash(x: jax.Array) -> jax.Array:
    """Compress values by the signed hyperbolic transform (Pohlen et al. 2018, ε = 1e-3)."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1) - 1) + 1e-3 * x


def unsquash(x: jax.Array) -> jax.Array:
    """Invert `squash`."""
    root = (jnp.sqrt(1 + 4e-3 * (1 + 1e-3 + jnp.abs(x))) - 1) / 2e-3
    return jnp.sign(x) * (root**2 - 1)


def bins(num_bins: int) -> jax.Array:
    """Return the squashed values of the bins: integers around 0."""
    return jnp.arange(num_bins) - num_bins // 2


def expected_value(logits: jax.Array) -> jax.Array:
    """Compute values from logits of their bins: `[..., num_bins] -> [...]`."""
    return unsquash((jax.nn.softmax(logits) * bins(logits.shape[-1])).sum(-1))


def two_hot(value: jax.Array, num_bins: int) -> jax.Array:
    """Distribute values over the two nearest bins: `[...] -> [..., num_bins]`."""
    limit = num_bins // 2
    squashed = jnp.clip(squash(value), -limit, limit)
    return nn.relu(1 - jnp.abs(squashed[..., None] - bins(num_bins)))


def retrace(
    reward: jax.Array, discount: jax.Array, trace: jax.Array, q: jax.Array, next_value: jax.Array
) -> jax.Array:
    r"""Estimate the values of the actions taken, off policy (Munos et al. 2016, eq. 4).

    $G_t = r_t + \gamma_t (V_{t+1} + c_{t+1} (G_{t+1} - Q_{t+1}))$, and $c_T = 0$.

    Args:
        reward: `[T, ...]`.
        discount: γ, or 0 where the episode terminated.
        trace: c = λ min(1, π(a|s) / μ(a|s)); where it is 0, earlier steps bootstrap from V.
        q: Q of the actions taken.
        next_value: V of the next states.
    """

    def backward(correction, inputs):
        reward, discount, trace, q, next_value = inputs
        target = reward + discount * (next_value + correction)
        return trace * (target - q), target

    inputs = (reward, discount, trace, q, next_value)
    return jax.lax.scan(backward, jnp.zeros_like(reward[0]), inputs, reverse=True)[1]


class Values(NamedTuple):
    """Estimates of the values of T steps; `slow` ones are those of the target network."""

    value: jax.Array  # V [T + 1, B]
    q_target: jax.Array  # of the actions taken [T, B]
    advantage: jax.Array  # q_target − slow V [T, B]
    slow_q: jax.Array  # [T, B, A]
    slow_advantage: jax.Array  # slow Q − slow V [T, B, A]


def estimate_values(
    online: Outputs, slow: Outputs, seen: Trajectories, gamma: jax.Array, retrace_lambda: jax.Array
) -> Values:
    """Estimate the values of the online policy.

    Args:
        online, slow: outputs of the agent and of its target network, leaves `[T + 1, B, ...]`.
        seen: the trajectories, `[T, B, ...]`.
        gamma, retrace_lambda: scalars.
    """
    pi = jax.nn.softmax(online.pi)
    value, slow_q = (pi * expected_value(online.q)).sum(-1), expected_value(slow.q)
    slow_value, slow_q = (pi * slow_q).sum(-1), slow_q[:-1]
    log_pi, log_mu = (
        of_action(jax.nn.log_softmax(logits), seen.action)
        for logits in (online.pi[:-1], seen.behaviour)
    )
    trace = retrace_lambda * jnp.minimum(1.0, jnp.exp(log_pi - log_mu)) * ~seen.truncated
    slow_q_taken = of_action(slow_q, seen.action)
    discount = gamma * ~seen.terminated
    q_target = retrace(seen.reward, discount, trace, slow_q_taken, slow_value[1:])
    slow_advantage = slow_q - slow_value[:-1, :, None]
    return Values(value, q_target, q_target - slow_value[:-1], slow_q, slow_advantage)


class Scale(NamedTuple):
    """Exponential averages of a signal and of its square, by which it is standardised."""

    mean: jax.Array
    square: jax.Array
    empty: jax.Array  # weight of the zeros with which the averages start

    @classmethod
    def start(cls) -> "Scale":
        """Return the averages before any data."""
        return cls(jnp.float32(0), jnp.float32(0), jnp.float32(1))

    def advance(self, x: jax.Array, weight: jax.Array) -> "Scale":
        """Average in a batch; each entry has a weight."""
        mean = lambda x: (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)  # noqa: E731
        batch = Scale(mean(x), mean(x**2), 0.0)
        return jax.tree.map(lambda old, new: 0.99 * old + (1 - 0.99) * new, self, batch)

    def standardize(self, x: jax.Array) -> jax.Array:
        """Subtract the mean, and divide by the deviation."""
        mean, square = self.mean / (1 - self.empty), self.square / (1 - self.empty)
        return (x - mean) / (jnp.sqrt(jnp.maximum(0.0, square - mean**2) + 1e-12) + 1e-6)
