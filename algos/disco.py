"""DiscoRL (Oh et al. 2025, Nature): agents that learn by the discovered rule Disco103.

The rule (`disco_rule.py`) reads what an agent, and a slow copy of it, output on its trajectories.
It returns targets for the policy π and for two predictions: y of a state, z of a state and an
action. Their meaning was discovered, not designed. The agent also predicts action values q, by
retrace, and p, the policy one step later. It minimises

    KL(π̂ ‖ π) + KL(ŷ ‖ y) + KL(ẑ ‖ z) + KL(π(s') ‖ p) + α CE(q̂, q)

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

from algos import disco_rule
from algos.disco_agent import (
    Agent,
    OneHot,
    Outputs,
    Scale,
    Trajectories,
    Values,
    estimate_values,
    two_hot,
)
from algos.disco_rule import LSTMState, Rule, RuleInputs, Targets, of_action
from purejaxrl.algorithm import Algorithm, Metrics, Task, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, torsos
from purejaxrl.parts.divergences import kl_divergence
from purejaxrl.parts.replay import Replay
from purejaxrl.parts.rollout import Experience, Interaction, collect
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

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
        """Make the rule that these settings describe."""
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
    """Hyperparameters, which can be vmapped or swept. Traced."""

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
    """Fraction of itself that the target network keeps at an update."""


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


def init_rule(key: jax.Array, config: Config) -> Any:
    """Draw the parameters of an untrained rule."""
    rule = config.make_rule()
    return rule.init(key, *disco_rule.example(rule))


def build_torso(config: Config, env: Any, torso: nn.Module | None) -> nn.Module:
    """Return the torso, which reads the row of a table as a one-hot vector."""
    features = torsos.torso_for(config, env, torso)
    if features is not None:
        return features
    num_rows = networks.num_rows(env.observation_space(env.default_params))
    mlp = networks.build_torso("mlp", config.hidden, config.activation)
    return nn.Sequential([OneHot(num_rows), mlp])


def trajectories_of(experience: Experience, last_obs: Any) -> Trajectories:
    """Turn a rollout `[T, num_envs, ...]` into trajectories `[num_envs, T, ...]`."""
    seen = experience.transitions
    obs = jax.tree.map(lambda x, last: jnp.concatenate([x, last[None]]), seen.obs, last_obs)
    found = Trajectories(
        obs, seen.action, seen.reward, seen.terminated, seen.truncated, seen.extras
    )
    return jax.tree.map(lambda x: x.swapaxes(0, 1), found)


def rule_inputs(
    online: Outputs, slow: Outputs, seen: Trajectories, values: Values, scale: Scale
) -> RuleInputs:
    """Collect what the rule reads. Truncated steps affect no other step, nor the memory."""
    ends = seen.terminated | seen.truncated
    return RuleInputs(
        action=seen.action,
        reward=seen.reward,
        terminated=seen.terminated,
        reset=ends.at[:-1].set(ends[:-1] | seen.truncated[1:]),
        weight=1.0 - seen.truncated,
        behaviour=jax.nn.softmax(seen.behaviour),
        online=online.beliefs(),
        slow=slow.beliefs(),
        value=values.value,
        advantage=values.advantage,
        advantage_scaled=scale.standardize(values.advantage),
        slow_q=values.slow_q,
        slow_advantage=values.slow_advantage,
        slow_advantage_scaled=scale.standardize(values.slow_advantage),
    )


def divergence(target: jax.Array, logits: jax.Array) -> jax.Array:
    """Compute KL(target ‖ prediction) over the last axis, of logits."""
    return kl_divergence(jax.nn.log_softmax(target), jax.nn.log_softmax(logits))


def losses(out: Outputs, seen: Trajectories, targets: Targets, values: Values) -> Metrics:
    """Compute the terms of the loss, averaged over the steps that are not truncated.

    Args:
        out: the agent's outputs, of T + 1 states: gradients flow through those of the first T.
        seen: the trajectories, `[T, B, ...]`.
        targets: the rule's.
        values: they contain the target of q.
    """
    next_pi = jax.lax.stop_gradient(out.pi[1:])
    out = jax.tree.map(lambda x: x[:-1], out)
    used, taken = ~seen.truncated, lambda x: of_action(x, seen.action)
    mean = lambda x: (x * used).sum() / jnp.maximum(used.sum(), 1)  # noqa: E731
    q_hat = two_hot(values.q_target, out.q.shape[-1])
    next_policy_loss = divergence(next_pi, taken(out.next_pi)) * ~seen.terminated
    return {
        "policy_loss": mean(divergence(targets.pi, out.pi)),
        "y_loss": mean(divergence(targets.y, out.y)),
        "z_loss": mean(divergence(targets.z, taken(out.z))),
        "next_policy_loss": mean(next_policy_loss),
        "value_loss": mean(-(q_hat * jax.nn.log_softmax(taken(out.q))).sum(-1)),
        "entropy": mean(networks.categorical(out.pi).entropy()),
    }


def weigh(losses: Metrics, hypers: Hypers) -> jax.Array:
    """Add up the terms of the loss."""
    same_weight = ("policy_loss", "y_loss", "z_loss", "next_policy_loss")
    total = sum(losses[name] for name in same_weight)
    return total + hypers.value_coef * losses["value_loss"]


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
    agent = Agent(
        torso=build_torso(config, env, torso),
        num_actions=networks.num_actions(env.action_space(env.default_params)),
        width=config.head_width,
        num_predictions=config.num_predictions,
        num_bins=config.num_bins,
    )
    rule = config.make_rule()

    def optimizer(hypers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(),
            optax.clip(1.0),
            optax.scale_by_learning_rate(hypers.learning_rate),
        )

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        networks.check_made_by(init_rule, "Hypers.rule", hypers.rule, config)
        params_key, env_key, key = jax.random.split(key, 3)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        params = agent.init(params_key, interaction.obs)
        state = State(
            params=params,
            target_params=params,
            opt_state=optimizer(hypers).init(params),
            memory=LSTMState.start(config.lifetime_width),
            scale=Scale.start(),
            replay=None,
            interaction=interaction,
            task=task,
            key=key,
            step=jnp.int32(0),
        )
        shapes = jax.eval_shape(lambda: new_trajectories(*collect_experience(state, hypers)))
        return state._replace(replay=Replay.start(shapes, config.replay_capacity))

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        def explore(memory, obs, first, key):
            logits = agent.apply(state.params, obs).pi
            return networks.categorical(logits).sample(seed=key), memory, logits

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        return state._replace(interaction=interaction, key=key), experience

    def new_trajectories(state: State, experience: Experience) -> Trajectories:
        return trajectories_of(experience, state.interaction.obs)

    def replay_trajectories(state: State, experience: Experience) -> tuple[State, Trajectories]:
        """Write the new trajectories, and return the batch, `[T, B, ...]`."""
        key, draw_key = jax.random.split(state.key)
        replay = state.replay.write(new_trajectories(state, experience))
        others = replay.draw(draw_key, config.num_trajectories - config.num_envs)
        seen = replay.read(jnp.concatenate([replay.newest(config.num_envs), others]))
        seen = jax.tree.map(lambda x: x.swapaxes(0, 1), seen)
        return state._replace(replay=replay, key=key), seen

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        state, seen = replay_trajectories(state, experience)
        online, slow = (agent.apply(p, seen.obs) for p in (state.params, state.target_params))
        values = estimate_values(online, slow, seen, hypers.gamma, hypers.retrace_lambda)
        scale = state.scale.advance(values.advantage, 1.0 - seen.truncated)
        inputs = rule_inputs(online, slow, seen, values, scale)
        targets, memory = rule.apply(hypers.rule, inputs, state.memory)

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            found = losses(agent.apply(params, seen.obs), seen, targets, values)
            return weigh(found, hypers), found

        grads, metrics = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer(hypers).update(grads, state.opt_state, state.params)
        state = state._replace(
            params=optax.apply_updates(state.params, updates),
            target_params=optax.incremental_update(
                state.params, state.target_params, 1 - hypers.target_decay
            ),
            opt_state=opt_state,
            memory=memory,
            scale=scale,
            step=state.step + 1,
        )
        env_steps = {"env_steps": jnp.int32(config.batch_size)}
        return state, env_steps | experience.episodes | metrics

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        pi = networks.categorical(agent.apply(policy, obs).pi)
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params, act,
        vital=vital_losses("policy_loss", "value_loss"),
        num_envs=config.num_envs, steps_per_update=config.batch_size, in_place=("replay",),
        made_of=part_names(env, torso),
    )  # fmt: skip
