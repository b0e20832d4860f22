"""Learned policy gradient (Oh et al. 2020, arXiv 2007.08794), in the form of GROOVE's section 2.2.

A *rule*, a recurrent network that runs backwards in time, reads an agent's experience and outputs
how its policy and its categorical prediction y should change. What y means is for the rule to
discover. This file has the agent that learns by a rule; `lpg_rule.py` has the rule. The rule is a
leaf of `Hypers`; `meta_lpg.py` learns it.

An update minimises −log π(a|s) π̂ + α KL(y(s) ‖ ŷ), averaged over the experience; π̂ and ŷ are the
rule's outputs. The gradient of that loss does not pass through the rule, but a meta-gradient does.
It also passes through the y that the rule reads: ŷ of one update becomes y of the next, and only
this gradient can give y a meaning. The published code stops that gradient, gives π̂ the opposite
sign, leaves γ out of the rule's inputs, and treats time limits as terminations.

An update may pass over its experience several times. Then π̂ takes the place of the advantage
in PPO's objective (Schulman et al. 2017, eq. 7). With one pass, that has the gradient of
−log π(a|s) π̂.

Rewards are divided by the running standard deviation of the discounted return before the rule reads
them, so that one rule serves environments of any scale of reward.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from algos import ppo
from algos.lpg_rule import Rule, RuleInputs, Target, check_target
from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers, torsos
from purejaxrl.parts.divergences import kl_divergence
from purejaxrl.parts.normalize import RewardScale, advance_scale, scale_rewards
from purejaxrl.parts.optimizers import optimizer
from purejaxrl.parts.rollout import Experience, Interaction, Transition, collect
from purejaxrl.validation import hyper, require_choice, require_count


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_envs: int = 64
    """Environments that one agent acts in at a time."""
    num_steps: int = 20
    """Steps in each environment between updates."""
    num_epochs: int = 1
    """Passes over the experience of an update, each with a gradient step; 1 as published."""
    num_predictions: int = 8
    """Categories of the agent's prediction y."""
    rule_width: int = 256
    """Width of the rule's recurrent state."""
    rule_embedding: int = 16
    """Width of the rule's embedding of y."""
    torso: networks.TorsoKind = "mlp"
    """Kind of torso. Policy and prediction each have their own; tables have none."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the torso's dense layers."""
    activation: networks.Activation = "relu"
    """Nonlinearity of the torso."""
    optimizer: optimizers.Kind = "adam"
    """Kind of the agent's optimizer; GROOVE uses SGD with its tables."""
    normalize_reward: bool = True
    """Divide rewards by the running standard deviation of the discounted return; the published
    code does not."""

    @property
    def batch_size(self) -> int:
        """Environment steps per update."""
        return self.num_envs * self.num_steps

    def make_rule(self) -> "Rule":
        """Make the rule that these settings describe."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)

    def __post_init__(self):
        require_count(
            self, "num_envs", "num_steps", "num_epochs", "num_predictions", "rule_width",
            "rule_embedding",
        )  # fmt: skip
        networks.check_network(self)
        require_choice(self, "optimizer", get_args(optimizers.Kind))


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped, swept or meta-learned. Traced."""

    rule: Any = None
    """Parameters of the `Rule`."""
    learning_rate: float = hyper(0.05, at_least=0)
    """The agent's step size. With Adam 0.05 to 0.3 suits tables, and 5e-4 to 1e-2 networks; with
    SGD 40 suits tables."""
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    """Discount per step, which the rule reads."""
    prediction_coef: float = hyper(0.5, at_least=0)
    """α, weight of the prediction's update; with Adam it hardly matters."""
    entropy_coef: float = hyper(0.0, at_least=0)
    """Weight of an entropy bonus beside the rule's π̂; 0 as published."""
    clip_eps: float = hyper(0.2, above=0, infinite=True)
    """Clip range of the policy ratio, which matters from an update's second pass on."""


def init_rule(key: jax.Array, config: Config) -> Any:
    """Draw the parameters of an untrained rule."""
    one, y = jnp.zeros((1, 1)), jnp.zeros((1, 1, config.num_predictions))
    return config.make_rule().init(key, RuleInputs(one, one, one > 0, one[0, 0], one, y, y))


def with_rule(rule: Any, hypers: Hypers) -> Hypers:
    """Put a rule into hyperparameters: the `insert` of a meta-learner."""
    return hypers.replace(rule=rule)


class Params(NamedTuple):
    """An agent's parameters."""

    actor: Any
    predictor: Any


class State(NamedTuple):
    """An agent on a level."""

    params: Params
    opt_state: Any
    interaction: Interaction
    reward_scale: RewardScale | None
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Networks(NamedTuple):
    """An agent's networks: flax modules."""

    actor: nn.Module  # observations to logits [..., num_actions]
    predictor: nn.Module  # observations to logits [..., num_predictions]

    def policy(self, params: Params, obs: Any) -> Any:
        """Return π(·|obs), a distrax distribution."""
        return networks.categorical(self.actor.apply(params.actor, obs))

    def log_prediction(self, params: Params, obs: Any) -> jax.Array:
        """Return log y(obs), `[..., num_predictions]`."""
        return jax.nn.log_softmax(self.predictor.apply(params.predictor, obs))


def make_networks(config: Config, env: Any, torso: nn.Module | None = None) -> Networks:
    """Make an agent's networks; arguments and errors as of `make`."""
    space = env.observation_space(env.default_params)
    features = torsos.torso_for(config, env, torso)
    num_actions = networks.num_actions(env.action_space(env.default_params))
    actor = networks.readout(space, features, num_actions, 0.01)
    return Networks(actor, networks.readout(space, features, config.num_predictions))


def rule_inputs(nets: Networks, state: State, hypers: Hypers, seen: Transition) -> RuleInputs:
    """Compute the rule's inputs from experience; rewards are scaled if the agent scales them.

    Args:
        nets: the agent's networks.
        state: the agent.
        hypers: its hyperparameters.
        seen: the experience, `[num_steps, num_envs, ...]`.
    """
    terminated = seen.terminated.astype(jnp.float32)
    next_prediction = jnp.exp(nets.log_prediction(state.params, seen.final_obs))
    return RuleInputs(
        reward=scale_rewards(state.reward_scale, seen.reward),
        terminated=terminated,
        done=seen.terminated | seen.truncated,
        gamma=jnp.asarray(hypers.gamma),
        prob=nets.policy(state.params, seen.obs).prob(seen.action),
        prediction=jnp.exp(nets.log_prediction(state.params, seen.obs)),
        next_prediction=next_prediction * (1 - terminated)[..., None],
        age=age_of(state),
        horizon=state.task.horizon.astype(jnp.float32),
    )


def make(config: Config, env: Any, rule: Any = None, torso: nn.Module | None = None) -> Algorithm:
    """Make LPG for a gymnax environment with discrete actions.

    Args:
        config: static settings.
        env: gymnax 1.x environment; its spaces are read at its default parameters.
        rule: has `apply(hypers.rule, RuleInputs) -> Target`; the config's `Rule` by default.
        torso: maps observations `[..., *obs_shape]` to features `[..., width]`, one each for
            policy and prediction; by default a table, or the torso that the config names.

    Raises:
        ValueError: if the torso cannot read the observations, or actions are not discrete. So
            does `init`, if the parameters in `hypers.rule` are not those of the config's rule.
    """
    if isinstance(rule, type):
        raise ValueError(f"rule: the class {rule.__name__} is not valid; it must be an instance")
    if rule is not None and not callable(getattr(rule, "apply", None)):
        raise ValueError(f"rule: {rule!r} is not valid; it must have `apply(params, RuleInputs)`")
    reads_hypers = rule is None
    nets = make_networks(config, env, torso)
    rule = rule or config.make_rule()

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        if reads_hypers:
            networks.check_made_by(init_rule, "Hypers.rule", hypers.rule, config)
        actor_key, predictor_key, env_key, key = jax.random.split(key, 4)
        interaction = Interaction.start(env_key, env, task.env_params, config.num_envs)
        obs = interaction.obs
        params = Params(nets.actor.init(actor_key, obs), nets.predictor.init(predictor_key, obs))
        return State(
            params=params,
            opt_state=optimizer(config.optimizer, hypers.learning_rate).init(params),
            interaction=interaction,
            reward_scale=RewardScale.start(config.num_envs) if config.normalize_reward else None,
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect_experience(state: State, hypers: Hypers) -> tuple[State, Experience]:
        def explore(memory, obs, first, key):
            return nets.policy(state.params, obs).sample(seed=key), memory, ()

        key, rollout_key = jax.random.split(state.key)
        interaction, experience = collect(
            rollout_key, env, state.task.env_params, state.interaction, explore,
            config.num_steps, hypers.gamma,
        )  # fmt: skip
        state = state._replace(interaction=interaction, key=key)
        if config.normalize_reward:
            seen = experience.transitions
            done = seen.terminated | seen.truncated
            scale = advance_scale(state.reward_scale, seen.reward, done, hypers.gamma)
            state = state._replace(reward_scale=scale)
        return state, experience

    def loss(
        params: Params, target: Target, old_log_prob: jax.Array, seen: Transition, hypers: Hypers
    ) -> tuple[jax.Array, Metrics]:
        pi, log_y = nets.policy(params, seen.obs), nets.log_prediction(params, seen.obs)
        log_ratio = pi.log_prob(seen.action) - old_log_prob
        inputs = ppo.LossInputs(log_ratio, target.pi, age=0.0)  # the clip does not read the age
        metrics = {
            "policy_loss": ppo.policy_loss(inputs, hypers).mean(),
            "prediction_loss": kl_divergence(log_y, target.log_y).mean(),
        }
        total = (
            metrics["policy_loss"]
            + hypers.prediction_coef * metrics["prediction_loss"]
            - hypers.entropy_coef * pi.entropy().mean()
        )
        return total, metrics

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        seen = experience.transitions
        target = rule.apply(hypers.rule, rule_inputs(nets, state, hypers, seen))
        check_target(target, config.num_predictions, seen.reward)
        old_log_prob = nets.policy(state.params, seen.obs).log_prob(seen.action)
        descent = optimizer(config.optimizer, hypers.learning_rate)

        def one_pass(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Metrics]:
            params, opt_state = carry
            grads, metrics = jax.grad(loss, has_aux=True)(
                params, target, old_log_prob, seen, hypers
            )
            updates, opt_state = descent.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        start = state.params, state.opt_state
        if config.num_epochs == 1:  # a scan of one step costs compile time
            (params, opt_state), metrics = one_pass(start, None)
        else:
            (params, opt_state), metrics = jax.lax.scan(one_pass, start, None, config.num_epochs)
            metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= experience.episodes | {
            "pi_hat_square": (target.pi**2).mean(),
            "y_hat_square": (jnp.exp(target.log_y) ** 2).sum(-1).mean(),
            "env_steps": jnp.int32(config.batch_size),
        }
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    def log_prob(state: State, experience: Experience) -> tuple[jax.Array, Metrics]:
        seen = experience.transitions
        pi, log_y = nets.policy(state.params, seen.obs), nets.log_prediction(state.params, seen.obs)
        y_entropy = -(jnp.exp(log_y) * log_y).sum(-1).mean()
        entropies = {"entropy": pi.entropy().mean(), "prediction_entropy": y_entropy}
        return pi.log_prob(seen.action), entropies

    def act(policy: Any, memory, obs, first, key, greedy: bool):
        pi = networks.categorical(nets.actor.apply(policy, obs))
        return (pi.mode() if greedy else pi.sample(seed=key)), memory

    return Algorithm(
        config, init, collect_experience, learn, lambda state: state.params.actor, act,
        vital=vital_losses("policy_loss", "prediction_loss"), log_prob=log_prob,
        num_envs=config.num_envs,
        steps_per_update=config.batch_size, made_of=part_names(env, rule, torso),
    )  # fmt: skip
