"""DiscoRL (Oh et al. 2025, Nature): agents that learn by the discovered rule Disco103.

The rule (`disco_rule.py`) reads what an agent, and a slow copy of it, output on its trajectories.
It returns targets for the policy π and for two predictions: y of a state, z of a state and an
action. What they mean was discovered. The agent also predicts action values q, by retrace, and the
policy one step later. It minimises KL(π̂ ‖ π) + KL(ŷ ‖ y) + KL(ẑ ‖ z) + KL(π(s') ‖ p) + α CE(q̂, q).

Trajectories come from a replay buffer; each update uses the newest ones and others at random. The
step at which a time limit cuts an episode is left out: its true next observation is not stored, so
it has no target. Steps before it bootstrap from the last observation acted on.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from algos.disco_rule import (
    Beliefs,
    LSTMState,
    Rule,
    RuleInputs,
    Targets,
    advance_lstm,
    of_action,
)
from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, torsos
from purejaxrl.parts.rollout import Experience, Interaction, collect
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_envs: int = 2
    """Environments that one agent acts in at a time."""
    num_steps: int = 29
    """Steps in each environment between updates: the length of a trajectory."""
    num_trajectories: int = 64
    """Trajectories of an update: the `num_envs` newest, and others from the replay buffer."""
    replay_capacity: int = 1024
    """Trajectories in the replay buffer."""
    torso: networks.TorsoKind = "mlp"
    """Kind of network under the heads; observations that index a table enter it as one-hot."""
    hidden: tuple[int, ...] = (512, 512)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    head_width: int = 128
    """Width of the LSTM over actions, and of the heads on it."""
    num_predictions: int = 600
    """Categories of the predictions y and z."""
    num_bins: int = 601
    """Bins of an action value: an odd number of integers around 0, in a squashed space."""
    rule_width: int = 256
    """Width of the rule's LSTM over trajectories."""
    lifetime_width: int = 128
    """Width of the rule's LSTM over an agent's lifetime."""

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def make_rule(self) -> Rule:
        """Make the rule that this describes."""
        return Rule(self.rule_width, self.lifetime_width, self.num_predictions)

    def __post_init__(self):
        require_count(
            self, "num_envs", "num_steps", "num_trajectories", "replay_capacity", "head_width",
            "num_predictions", "num_bins", "rule_width", "lifetime_width",
        )  # fmt: skip
        networks.check_network(self)
        at_least = f"an integer >= num_envs, {self.num_envs}"
        require(self.num_trajectories >= self.num_envs, self, "num_trajectories", at_least)
        multiple = f"a multiple of num_envs, {self.num_envs}"
        require(self.replay_capacity % self.num_envs == 0, self, "replay_capacity", multiple)
        require(self.num_bins % 2 == 1, self, "num_bins", "odd")


class Hypers(struct.PyTreeNode):
    """What training can be vmapped or swept over. Traced."""

    rule: Any = None
    """Parameters of the `Rule`."""
    learning_rate: float = hyper(3e-4, at_least=0)
    """Adam's step size; the first thing to tune, from 1e-2 down."""
    gamma: float = hyper(0.997, at_least=0, at_most=1)
    """Discount per step."""
    retrace_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the action values' traces."""
    value_coef: float = hyper(0.2, at_least=0)
    """α, weight of the loss of action values."""
    target_decay: float = hyper(0.9, at_least=0, at_most=1)
    """What the target network keeps of itself at an update."""


class Outputs(NamedTuple):
    """What an agent outputs, as logits: A actions, Y predictions."""

    pi: jax.Array  # policy [..., A]
    y: jax.Array  # [..., Y]
    z: jax.Array  # [..., A, Y]
    next_pi: jax.Array  # p, the policy after an action [..., A, A]
    q: jax.Array  # value of an action [..., A, num_bins]

    def beliefs(self) -> Beliefs:
        """Return the distributions that the rule reads."""
        return Beliefs(*map(jax.nn.softmax, (self.pi, self.y, self.z)))


class Agent(nn.Module):
    """Observations to `Outputs`. An LSTM's step on an action gives the features of the action."""

    torso: nn.Module
    num_actions: int
    width: int
    num_predictions: int
    num_bins: int

    @nn.compact
    def __call__(self, obs: Any) -> Outputs:  # noqa: D102
        features = self.torso(obs)
        small = nn.initializers.truncated_normal(0.01)
        linear = lambda size: nn.Dense(size, kernel_init=small)(features)  # noqa: E731
        head = lambda size: nn.Sequential([nn.Dense(self.width), nn.relu, nn.Dense(size)])  # noqa: E731

        cell = nn.Dense(self.width, name="root")(features)
        gates = nn.Dense(4 * self.width, name="root_gates")(jnp.tanh(cell))
        of_actions = self.param(
            "action_gates", nn.initializers.lecun_normal(), (self.num_actions, 4 * self.width)
        )
        after, _ = advance_lstm(gates[..., None, :] + of_actions, cell[..., None, :])
        return Outputs(
            pi=linear(self.num_actions),
            y=linear(self.num_predictions),
            z=head(self.num_predictions)(after),
            next_pi=head(self.num_actions)(after),
            q=head(self.num_bins)(after),
        )


class OneHot(nn.Module):
    """Observations that index a table, as vectors `[..., num_rows]`, and the time if there is one."""

    num_rows: int

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:  # noqa: D102
        row, *time = obs if isinstance(obs, tuple) else (obs,)
        time = [x[..., None] for x in time]
        return jnp.concatenate([jax.nn.one_hot(row, self.num_rows), *time], -1)


class Trajectories(NamedTuple):
    """Experience of T steps: leaves `[n, T, ...]`."""

    obs: Any  # [n, T + 1, ...]
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    logits: jax.Array  # of the policy that acted [n, T, A]


class Replay(NamedTuple):
    """The latest trajectories."""

    contents: Trajectories  # [capacity, ...]
    written: jax.Array  # int32, trajectories written so far


class Scale(NamedTuple):
    """Exponential averages of a signal, by which it is standardised."""

    mean: jax.Array
    square: jax.Array
    unseen: jax.Array  # weight of the averages' start

    def advance(self, x: jax.Array, weight: jax.Array, decay: float = 0.99) -> "Scale":
        """Average in a batch, each entry with its weight."""
        mean = lambda x: (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)  # noqa: E731
        new = Scale(mean(x), mean(x**2), 0.0)
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, self, new)

    def standardize(self, x: jax.Array) -> jax.Array:
        """Subtract the mean, and divide by the deviation."""
        mean, square = self.mean / (1 - self.unseen), self.square / (1 - self.unseen)
        return (x - mean) / (jnp.sqrt(jnp.maximum(0.0, square - mean**2) + 1e-12) + 1e-6)


class State(NamedTuple):
    """An agent on a level."""

    params: Any
    target_params: Any
    opt_state: Any
    memory: LSTMState  # the rule's, of this agent's life
    scale: Scale  # of advantages
    replay: Replay
    interaction: Interaction
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


def squash(x: jax.Array) -> jax.Array:
    """Compress values by the signed hyperbolic transform (Pohlen et al. 2018, eq. 7)."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1) - 1) + 1e-3 * x


def unsquash(x: jax.Array) -> jax.Array:
    """Invert `squash`."""
    root = (jnp.sqrt(1 + 4e-3 * (1 + 1e-3 + jnp.abs(x))) - 1) / 2e-3
    return jnp.sign(x) * (root**2 - 1)


def bins(num_bins: int) -> jax.Array:
    """Return the integers that stand for the categories of a value, in squashed space."""
    return jnp.arange(num_bins) - num_bins // 2


def expected_value(logits: jax.Array) -> jax.Array:
    """Compute values from logits over bins: `[..., num_bins] -> [...]`."""
    return unsquash((jax.nn.softmax(logits) * bins(logits.shape[-1])).sum(-1))


def two_hot(value: jax.Array, num_bins: int) -> jax.Array:
    """Distribute values over the two nearest bins: `[...] -> [..., num_bins]`."""
    limit = num_bins // 2
    squashed = jnp.clip(squash(value), -limit, limit)
    return nn.relu(1 - jnp.abs(squashed[..., None] - bins(num_bins)))


def retrace(
    reward: jax.Array, discount: jax.Array, trace: jax.Array, q: jax.Array, next_value: jax.Array
) -> jax.Array:
    r"""Estimate action values off policy (Munos et al. 2016, eq. 4).

    $G_t = r_t + \gamma_t (V_{t+1} + c_{t+1} (G_{t+1} - Q_{t+1}))$, with $c = 0$ after the last step.

    Args:
        reward: `[T, ...]`.
        discount: γ, 0 where the episode terminated.
        trace: c, `λ min(1, π(a|s) / μ(a|s))`; 0 cuts the trace of the steps before.
        q: Q of the actions taken.
        next_value: V of the next state.
    """

    def backward(correction, inputs):
        reward, discount, trace, q, next_value = inputs
        target = reward + discount * (next_value + correction)
        return trace * (target - q), target

    inputs = (reward, discount, trace, q, next_value)
    return jax.lax.scan(backward, jnp.zeros_like(reward[0]), inputs, reverse=True)[1]


class Values(NamedTuple):
    """Estimates of T steps of B trajectories; `slow` ones are those of the target network."""

    value: jax.Array  # V [T + 1, B]
    q_target: jax.Array  # of the actions taken [T, B]
    advantage: jax.Array  # the same, minus the slow V
    slow_q: jax.Array  # [T, B, A]
    slow_advantage: jax.Array  # slow Q − slow V [T, B, A]


def estimate_values(
    online: Outputs, slow: Outputs, seen: Trajectories, hypers: Hypers
) -> Values:
    """Estimate values under the policy of today; arrays of `seen` are `[T, B, ...]`."""
    pi = jax.nn.softmax(online.pi)
    value, slow_q = (pi * expected_value(online.q)).sum(-1), expected_value(slow.q)
    slow_value, slow_q = (pi * slow_q).sum(-1), slow_q[:-1]
    log_pi, log_mu = (
        of_action(jax.nn.log_softmax(logits), seen.action)
        for logits in (online.pi[:-1], seen.logits)
    )
    trace = hypers.retrace_lambda * jnp.minimum(1.0, jnp.exp(log_pi - log_mu)) * ~seen.truncated
    taken = of_action(slow_q, seen.action)
    discount = hypers.gamma * ~seen.terminated
    q_target = retrace(seen.reward, discount, trace, taken, slow_value[1:])
    slow_advantage = slow_q - slow_value[:-1, :, None]
    return Values(value, q_target, q_target - slow_value[:-1], slow_q, slow_advantage)


def trajectories_of(experience: Experience, last_obs: Any) -> Trajectories:
    """Turn a rollout `[T, n, ...]` into trajectories `[n, T, ...]`."""
    seen = experience.transitions
    obs = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), seen.obs, last_obs)
    found = Trajectories(
        obs, seen.action, seen.reward, seen.terminated, seen.truncated, seen.extras
    )
    return jax.tree.map(lambda x: x.swapaxes(0, 1), found)


def write(replay: Replay, new: Trajectories) -> Replay:
    """Write trajectories over the oldest ones."""
    capacity, num_new = replay.contents.action.shape[0], new.action.shape[0]
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
        x, new, replay.written % capacity, 0
    )
    return Replay(jax.tree.map(put, replay.contents, new), replay.written + num_new)


def draw(key: jax.Array, replay: Replay, num_new: int, num_drawn: int) -> Trajectories:
    """Take the newest trajectories, and others at random, with replacement: `[T, B, ...]`."""
    capacity = replay.contents.action.shape[0]
    newest = (replay.written - num_new + jnp.arange(num_new)) % capacity
    others = jax.random.randint(key, (num_drawn,), 0, jnp.minimum(replay.written, capacity))
    index = jnp.concatenate([newest, others])
    return jax.tree.map(lambda x: x[index].swapaxes(0, 1), replay.contents)


def init_rule(key: jax.Array, config: Config) -> Any:
    """Draw the parameters of an untrained rule."""
    a, y, step = jnp.zeros((2, 1, 2)), jnp.zeros((2, 1, config.num_predictions)), jnp.zeros((1, 1))
    beliefs = Beliefs(a, y, jnp.zeros((*a.shape, config.num_predictions)))
    inputs = RuleInputs(
        step.astype(int), step, step > 0, step > 0, step, a[1:], beliefs, beliefs, a[..., 0],
        step, step, a[1:], a[1:], a[1:],
    )  # fmt: skip
    return config.make_rule().init(key, inputs, LSTMState.start(config.lifetime_width))


def check_rule(field: str, params: Any, config: Config) -> None:
    """Raise a ValueError unless parameters are those of the config's rule."""
    expected = jax.eval_shape(lambda: init_rule(jax.random.key(0), config))
    source = "as `init_rule` makes it for this config; `load_rule` returns a rule and its config"
    networks.check_params(field, params, expected, source)


def make(config: Config, env: Any, torso: nn.Module | None = None) -> Algorithm:
    """Make a DiscoRL agent for a gymnax environment with discrete actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, under all heads; by
            default the one that the config names.

    Raises:
        ValueError: if the torso cannot read the observations, or actions are not discrete. So
            does `init`, if the parameters in `hypers.rule` are not those of the config's rule.
    """
    space = env.observation_space(env.default_params)
    torso_or_table = torsos.torso_for(config, env, torso)
    num_actions = networks.num_actions(env.action_space(env.default_params))
    features = torso_or_table or nn.Sequential(
        [
            OneHot(networks.num_rows(space)),
            networks.build_torso("mlp", config.hidden, config.activation),
        ]
    )
    agent = Agent(
        features, num_actions, config.head_width, config.num_predictions, config.num_bins
    )
    rule = config.make_rule()

    def optimize(hypers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(), optax.clip(1.0), optax.scale(-jnp.asarray(hypers.learning_rate))
        )

    def start_replay(obs: Any) -> Replay:
        zeros = lambda *shape: jnp.zeros((config.replay_capacity, *shape))  # noqa: E731
        steps = config.num_steps
        contents = Trajectories(
            obs=jax.tree.map(lambda x: zeros(steps + 1, *x.shape[1:]).astype(x.dtype), obs),
            action=zeros(steps).astype(jnp.int32),
            reward=zeros(steps),
            terminated=zeros(steps) > 0,
            truncated=zeros(steps) > 0,
            logits=zeros(steps, num_actions),
        )
        return Replay(contents, jnp.int32(0))

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        check_rule("Hypers.rule", hypers.rule, config)
        params_key, env_key, key = jax.random.split(key, 3)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        params = agent.init(params_key, interaction.obs)
        return State(
            params=params,
            target_params=params,
            opt_state=optimize(hypers).init(params),
            memory=LSTMState.start(config.lifetime_width),
            scale=Scale(jnp.float32(0), jnp.float32(0), jnp.float32(1)),
            replay=start_replay(interaction.obs),
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        def explore(memory, obs, first, key):
            logits = agent.apply(state.params, obs).pi
            return memory, jax.random.categorical(key, logits), logits

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def loss(
        params: Any, seen: Trajectories, targets: Targets, values: Values, next_pi: jax.Array,
        hypers: Hypers,
    ) -> tuple[jax.Array, Metrics]:  # fmt: skip
        out = agent.apply(params, jax.tree.map(lambda x: x[:-1], seen.obs))
        taken = lambda x: of_action(x, seen.action)  # noqa: E731
        mean = lambda x: (x * ~seen.truncated).sum() / jnp.maximum((~seen.truncated).sum(), 1)  # noqa: E731

        def divergence(target: jax.Array, logits: jax.Array) -> jax.Array:
            log_p, log_q = jax.nn.log_softmax(target), jax.nn.log_softmax(logits)
            return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

        q_hat = two_hot(values.q_target, config.num_bins)
        metrics = {
            "policy_loss": mean(divergence(targets.pi, out.pi)),
            "y_loss": mean(divergence(targets.y, out.y)),
            "z_loss": mean(divergence(targets.z, taken(out.z))),
            "next_policy_loss": mean(divergence(next_pi, taken(out.next_pi)) * ~seen.terminated),
            "value_loss": mean(-(q_hat * jax.nn.log_softmax(taken(out.q))).sum(-1)),
        }
        total = sum(metrics.values()) + (hypers.value_coef - 1) * metrics["value_loss"]
        return total, metrics | {"entropy": mean(networks.categorical(out.pi).entropy())}

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        draw_key, key = jax.random.split(state.key)
        replay = write(state.replay, trajectories_of(experience, state.interaction.obs))
        num_others = config.num_trajectories - config.num_envs
        seen = draw(draw_key, replay, config.num_envs, num_others)

        online, slow = (agent.apply(p, seen.obs) for p in (state.params, state.target_params))
        values = estimate_values(online, slow, seen, hypers)
        used = 1.0 - seen.truncated
        scale = state.scale.advance(values.advantage, used)
        ends = seen.terminated | seen.truncated
        inputs = RuleInputs(
            action=seen.action,
            reward=seen.reward,
            terminated=seen.terminated,
            reset=ends.at[:-1].set(ends[:-1] | seen.truncated[1:]),
            weight=used,
            behaviour=jax.nn.softmax(seen.logits),
            online=online.beliefs(),
            target=slow.beliefs(),
            value=values.value,
            advantage=values.advantage,
            advantage_scaled=scale.standardize(values.advantage),
            target_q=values.slow_q,
            target_advantage=values.slow_advantage,
            target_advantage_scaled=scale.standardize(values.slow_advantage),
        )
        targets, memory = rule.apply(hypers.rule, inputs, state.memory)
        grads, metrics = jax.grad(loss, has_aux=True)(
            state.params, seen, targets, values, online.pi[1:], hypers
        )
        updates, opt_state = optimize(hypers).update(grads, state.opt_state, state.params)
        state = state._replace(
            params=optax.apply_updates(state.params, updates),
            target_params=optax.incremental_update(
                state.params, state.target_params, 1 - hypers.target_decay
            ),
            opt_state=opt_state,
            memory=memory,
            scale=scale,
            replay=replay,
            key=key,
            step=state.step + 1,
        )
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | experience.episodes | metrics

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        pi = networks.categorical(agent.apply(policy, obs).pi)
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    def vital(state: State, metrics: Metrics):
        return state.params, metrics["policy_loss"], metrics["value_loss"]

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params, act, vital=vital,
        num_envs=config.num_envs, steps_per_update=config.batch_size, in_place=("replay",),
        made_of=part_names(env, torso),
    )  # fmt: skip
