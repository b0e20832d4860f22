"""Disco103's meta-network: the rule that DiscoRL discovered (Oh et al. 2025, Nature).

It reads an agent's trajectories, and outputs targets for the agent's policy and for its predictions
y and z. What y and z mean was left to the discovery. One LSTM runs backwards over each trajectory;
another advances once per update, over the agent's whole lifetime. Every layer over actions
treats them alike, so one rule serves any number of actions.

Source: doi 10.1038/s41586-025-09761-x, and the published code at `google-deepmind/disco_rl`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Beliefs(NamedTuple):
    """The distributions that a network of the agent outputs: T + 1 states of B trajectories."""

    pi: jax.Array  # the policy [T + 1, B, A]
    y: jax.Array  # predictions of a state [T + 1, B, Y]
    z: jax.Array  # predictions of a state and an action [T + 1, B, A, Y]


class RuleInputs(NamedTuple):
    """What the rule reads: T steps of B trajectories with A actions, and the state after them."""

    action: jax.Array  # int32 [T, B]
    reward: jax.Array  # [T, B]
    terminated: jax.Array  # bool [T, B]
    reset: jax.Array  # bool [T, B]: the state is zeroed before this step is read, backwards
    weight: jax.Array  # [T, B]: 0 leaves a step out of the memory of the lifetime
    behaviour: jax.Array  # μ, the policy that acted [T, B, A]
    online: Beliefs  # of the agent
    slow: Beliefs  # of its target network
    value: jax.Array  # V [T + 1, B]
    advantage: jax.Array  # of the actions taken [T, B]
    advantage_scaled: jax.Array  # the same, divided by a running deviation
    slow_q: jax.Array  # Q by the target network [T, B, A]
    slow_advantage: jax.Array  # Q − V by the target network [T, B, A]
    slow_advantage_scaled: jax.Array


class Targets(NamedTuple):
    """The rule's outputs: logits of what the agent should output, at each of the T steps."""

    pi: jax.Array  # [T, B, A]
    y: jax.Array  # [T, B, Y]
    z: jax.Array  # of the action taken [T, B, Y]


class LSTMState(NamedTuple):
    """State of an LSTM, leaves `[..., width]`."""

    hidden: jax.Array
    cell: jax.Array

    @classmethod
    def start(cls, *shape: int) -> "LSTMState":
        """Return the state at the start: zeros."""
        return cls(jnp.zeros(shape), jnp.zeros(shape))


def advance_lstm(gates: jax.Array, cell: jax.Array) -> LSTMState:
    """Advance an LSTM in Haiku's layout: gates in the order i, g, f, o, and 1 added to f.

    Args:
        gates: a linear function of input and hidden state, `[..., 4 * width]`.
        cell: the cell before, `[..., width]`.
    """
    i, g, f, o = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(cell), cell)


def signed_log(x: jax.Array) -> jax.Array:
    """Compute sign(x) log(1 + |x|), whose derivative at 0 is 0 here, as in the published code."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def of_action(x: jax.Array, action: jax.Array) -> jax.Array:
    """Take the entries of the actions taken: `[T, B, A, ...]` to `[T, B, ...]`."""
    index = jnp.expand_dims(action, tuple(range(2, x.ndim)))
    return jnp.take_along_axis(x, index, axis=2).squeeze(2)


class ActionLayer(nn.Module):
    """A layer over actions that treats them alike: `[T, B, A, d] -> [T, B, A, features]`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        mean = jnp.broadcast_to(x.mean(2, keepdims=True), x.shape)
        return nn.relu(nn.Dense(self.features)(jnp.concatenate([x, mean], -1)))


class Features(nn.Module):
    """What a recurrent network reads of `RuleInputs`: 27 numbers a step, and 2 for each action."""

    def setup(self):  # noqa: D102
        self.embed_y = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])
        self.embed_z = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])
        self.mix_actions = nn.Sequential([ActionLayer(16), ActionLayer(2)])

    def __call__(self, x: RuleInputs) -> tuple[jax.Array, jax.Array]:  # noqa: D102
        z, slow_z = (self.embed_z(beliefs.z)[..., 0] for beliefs in (x.online, x.slow))
        y, slow_y = (self.embed_y(beliefs.y)[..., 0] for beliefs in (x.online, x.slow))
        now_and_next = lambda x: (x[:-1], x[1:])  # noqa: E731

        def of_z(z: jax.Array) -> list[jax.Array]:
            expected = (x.online.pi * z).sum(-1)
            taken = of_action(z[:-1], x.action)
            return [taken, *now_and_next(expected), *now_and_next(z.max(-1))]

        pi, slow_pi = x.online.pi[:-1], x.slow.pi[:-1]
        of_each_action = [
            pi,
            x.behaviour,
            slow_pi,
            z[:-1],
            slow_z[:-1],
            signed_log(x.slow_q),
            signed_log(x.slow_advantage),
            x.slow_advantage_scaled,
            jax.nn.one_hot(x.action, pi.shape[-1]),
        ]
        actions = self.mix_actions(jnp.stack(of_each_action, -1))
        of_step = [
            of_action(pi, x.action),
            of_action(x.behaviour, x.action),
            signed_log(x.reward),
            1.0 - x.terminated,
            *now_and_next(signed_log(x.value)),
            signed_log(x.advantage),
            x.advantage_scaled,
            of_action(slow_pi, x.action),
            *now_and_next(y),
            *now_and_next(slow_y),
            *of_z(z),
            *of_z(slow_z),
        ]
        of_actions = [actions.mean(2), of_action(actions, x.action)]
        return jnp.concatenate([jnp.stack(of_step, -1), *of_actions], -1), actions


class Rule(nn.Module):
    """The learned algorithm: `RuleInputs` and a memory to `Targets` and the next memory.

    The memory is the state of the lifetime's LSTM, zero when an agent's life begins. A linear
    function of it multiplies the outputs of the trajectories' LSTM.
    """

    width: int = 256
    lifetime_width: int = 128
    num_predictions: int = 600

    @nn.compact
    def __call__(self, x: RuleInputs, memory: LSTMState) -> tuple[Targets, LSTMState]:  # noqa: D102
        features, actions = Features(name="features")(x)
        states = self.read_backwards(features, x.reset)
        states *= nn.Dense(self.width, name="lifetime_gate")(memory.hidden)
        for_each = jnp.broadcast_to(states[:, :, None], (*actions.shape[:3], self.width))
        hidden = ActionLayer(16, name="pi_hidden")(jnp.concatenate([for_each, actions], -1))
        targets = Targets(
            pi=nn.Dense(1, name="pi")(hidden)[..., 0],
            y=nn.Dense(self.num_predictions, name="y")(states),
            z=nn.Dense(self.num_predictions, name="z")(states),
        )

        lifetime = Features(name="lifetime_features")
        seen = [
            lifetime(x)[0],
            nn.Dense(1, name="summary")(states),
            lifetime.embed_y(jax.nn.softmax(targets.y)),
        ]
        seen = nn.Dense(16, name="lifetime_embed")(jnp.concatenate(seen, -1))
        mean = (seen * x.weight[..., None]).sum((0, 1)) / jnp.maximum(x.weight.sum(), 1.0)
        gates = nn.Dense(4 * self.lifetime_width, name="lifetime")
        return targets, advance_lstm(gates(jnp.concatenate([mean, memory.hidden])), memory.cell)

    def read_backwards(self, features: jax.Array, reset: jax.Array) -> jax.Array:
        """Run the trajectories' LSTM from the last step to the first: `[T, B, width]`."""
        inputs = nn.Dense(4 * self.width, name="trajectory")(features)
        init = nn.initializers.lecun_normal()
        weights = self.param("trajectory_state", init, (self.width, 4 * self.width))

        def step(state: LSTMState, seen: tuple[jax.Array, jax.Array]):
            inputs, reset = seen
            hidden, cell = jax.tree.map(lambda x: jnp.where(reset[:, None], 0.0, x), state)
            state = advance_lstm(inputs + hidden @ weights, cell)
            return state, state.hidden

        start = LSTMState.start(features.shape[1], self.width)
        return jax.lax.scan(step, start, (inputs, reset), reverse=True)[1]


def example(rule: Rule) -> tuple[RuleInputs, LSTMState]:
    """Return inputs of a rule, one step of one trajectory with two actions, and a memory."""
    state, step = jnp.zeros((2, 1)), jnp.zeros((1, 1))
    actions, size = jnp.zeros((1, 1, 2)), rule.num_predictions
    beliefs = Beliefs(jnp.zeros((2, 1, 2)), jnp.zeros((2, 1, size)), jnp.zeros((2, 1, 2, size)))
    inputs = RuleInputs(
        step.astype(jnp.int32), step, step > 0, step > 0, step, actions, beliefs, beliefs, state,
        step, step, actions, actions, actions,
    )  # fmt: skip
    return inputs, LSTMState.start(rule.lifetime_width)
