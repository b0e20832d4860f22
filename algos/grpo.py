"""GRPO (Shao et al. 2024, arXiv 2402.03300) and other objectives: RL from verified rewards.

An update asks P prompts, samples G answers to each, has them verified, and makes gradient steps on
an objective. The objective is an argument: GRPO, Dr. GRPO, DAPO and many more are in `objectives/`.
It says how much better an answer was than the others (`advantage`), what each token contributes
(`weight`), how that is averaged (`loss`), and where needed which prompts are asked, with what
hints, and which answers are learned from (`sampler`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from algos import token_policy
from algos.objectives import (
    OBJECTIVES,
    Answers,
    Inputs,
    Objective,
    Policy,
    check_objective,
    compute_loss,
    with_advantages,
)
from algos.token_policy import Answered, TokenPolicy
from purejaxrl.algorithm import Algorithm, Metrics, Task, age_of, vital_losses
from purejaxrl.identity import part_names
from purejaxrl.parts import networks, optimizers
from purejaxrl.parts.action_values import of_action
from purejaxrl.parts.minibatches import minibatch_epochs
from purejaxrl.validation import hyper, require, require_count

GIVEN = (
    "other_rewards", "step_reward", "ref_log_probs", "value", "belief", "demonstration",
    "demonstration_mask",
)  # fmt: skip
"""Optional fields of `Answers`, which are filled where an objective needs them."""
FROM_SOLUTIONS = {"belief", "demonstration"}
"""The fields that are made from a prompt's reference solution."""


@dataclass(frozen=True)
class Config(token_policy.NetworkConfig):
    """Settings that decide a shape or a length. Static."""

    num_prompts: int = 16
    """Prompts of an update, P."""
    num_answers: int = 8
    """Answers to each prompt, G. Where an objective prescribes another number, the number of
    prompts changes, so that there are equally many answers in all."""
    num_epochs: int = 1
    """Passes over the answers of an update."""
    num_minibatches: int = 4
    """Gradient steps per pass; divides the number of prompts."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "num_prompts", "num_answers", "num_epochs", "num_minibatches")
        divides = self.num_prompts % self.num_minibatches == 0
        expected = f"a divisor of num_prompts = {self.num_prompts}"
        require(divides, self, "num_minibatches", expected)

    def sizes(self, objective: Objective) -> tuple[int, int]:
        """Return P and G for an objective.

        Raises:
            ValueError: if its groups are not of a size that divides the answers of an update, or
                its prompts cannot be divided among the gradient steps.
        """
        num_answers = objective.num_answers or self.num_answers
        total = self.num_prompts * self.num_answers
        num_prompts = total // num_answers
        if total % num_answers or num_prompts % self.num_minibatches:
            raise ValueError(
                f"objective: {objective.name} is not valid; it has groups of {num_answers}, so "
                f"num_prompts * num_answers = {total} must be a multiple of num_minibatches * "
                f"{num_answers} = {self.num_minibatches * num_answers}"
            )
        return num_prompts, num_answers


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    start: Any = None
    """Parameters of the policy that training starts from. It is also the reference policy, which
    divergences are measured from. `sft.py` makes one."""
    coefs: Any = None
    """Coefficients of the objective: `objective.coefs`, perhaps with some fields changed."""
    learning_rate: float = hyper(1e-4, at_least=0)
    """Adam's step size."""
    max_grad_norm: float = hyper(1.0, above=0, infinite=True)
    """Global norm to which gradients are clipped; inf for no clipping."""


class State(NamedTuple):
    """A policy in training. The task's `env_params` are the prompts to train on."""

    params: Any
    opt_state: Any
    sampler: Any  # statistics of the objective's sampler
    kl: jax.Array  # float32, KL per token from the policy that sampled last
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


class Experience(NamedTuple):
    """What an update learns from."""

    answers: Answers
    first_try: dict[str, jax.Array]  # metrics of the answers without hints, float32 []
    num_tokens: jax.Array  # int32, tokens that were sampled


def optimizer(hypers: Hypers) -> optax.GradientTransformation:
    """Make Adam with clipped gradients."""
    clip = optimizers.clip_by_global_norm(hypers.max_grad_norm)
    return optax.chain(clip, optimizers.adam(hypers.learning_rate))


def pack(
    network: TokenPolicy,
    env: Any,
    needs: tuple[str, ...],
    hypers: Hypers,
    levels: Any,
    which: jax.Array,
    answered: Answered,
    hint: jax.Array,
) -> Answers:
    """Verify answers, and collect what objectives read of them.

    Args:
        network, env: the policy's network and the task.
        needs: optional fields to fill.
        hypers: the reference policy is in them.
        levels: P prompts.
        which: int32 `[P]`, indices of the prompts in the list.
        answered: answers to them.
        hint: float32 `[P, G]`, the share of the solution that was shown.
    """
    judged = token_policy.judge_answers(env, levels, answered.tokens)
    log_probs, _ = token_policy.read_answers(network, hypers.start, levels.prompt, answered.tokens)
    optional = {
        "other_rewards": judged.other_rewards,
        "step_reward": judged.step_reward,
        "ref_log_probs": log_probs,
        "value": answered.value,
        "demonstration": levels.solution,
        "demonstration_mask": levels.solution != env.pad,
    }
    return Answers(
        tokens=answered.tokens,
        mask=answered.mask,
        old_log_prob=answered.log_prob,
        ref_log_prob=jnp.where(answered.mask, of_action(log_probs, answered.tokens), 0.0),
        reward=judged.reward,
        prompt=which,
        difficulty=levels.difficulty,
        answer=judged.meaning,
        hint=hint,
        entropy=answered.entropy,
        **{name: optional[name] for name in needs if name in optional},
    )


def read_policy(network: TokenPolicy, params: Any, prompt: jax.Array, answers: Answers) -> Policy:
    """Compute the policy on answers to prompts int32 `[P, prompt_length]`."""
    log_probs, value = token_policy.read_answers(network, params, prompt, answers.tokens)
    policy = Policy(of_action(log_probs, answers.tokens), log_probs, value)
    if answers.demonstration is None:
        return policy
    demonstration = answers.demonstration[:, None]
    log_probs, _ = token_policy.read_answers(network, params, prompt, demonstration)
    return policy._replace(demonstration_log_probs=log_probs[:, 0])


def summarise(answers: Answers) -> dict[str, jax.Array]:
    """Return metrics of a first try: pass@1, the share of dead groups, and the length.

    A group is dead, and teaches nothing, if all its answers have the same reward. The share is NaN
    for groups of one answer.
    """
    is_dead = answers.reward.max(1) == answers.reward.min(1)
    has_groups = answers.reward.shape[1] > 1
    return {
        "return": answers.reward.mean(),
        "dead_groups": is_dead.mean() if has_groups else jnp.float32(jnp.nan),
        "length": answers.mask.sum(-1).mean(),
    }


def make(config: Config, env: Any, objective: Objective = OBJECTIVES["grpo"]) -> Algorithm:
    """Make reinforcement learning on a token task.

    Args:
        config: static settings.
        env: the task. The level of a run is a list of prompts, leaves `[num_prompts, ...]`, such as
            `env.levels`.
        objective: what is maximised.

    Raises:
        ValueError: if the environment is no token task or has no end token, or the objective does
            not fit the size of the groups, or needs a reference solution that a prompt lacks.
    """
    num_prompts, num_answers = config.sizes(objective)
    check_objective(objective, num_answers, GIVEN)
    network = token_policy.make_network(config, env)
    if FROM_SOLUTIONS & {*objective.needs}:
        token_policy.require_solutions(env, objective.name)
    act, memory = token_policy.act_by(network, env)
    expected = jax.eval_shape(lambda: token_policy.init_params(jax.random.key(0), network))
    sampler, needs = objective.sampler, objective.needs

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        if type(hypers.coefs) is not type(objective.coefs):
            raise ValueError(
                f"Hypers.coefs: {hypers.coefs!r} is not valid; objective {objective.name!r} needs "
                f"coefficients like its own, {objective.coefs!r}"
            )
        networks.check_params("Hypers.start", hypers.start, expected, "such as sft.py trains")
        params = jax.tree.map(jnp.asarray, hypers.start)
        total = task.env_params.prompt.shape[0]
        return State(
            params=params,
            opt_state=optimizer(hypers).init(params),
            sampler=sampler.init(total, env.num_difficulties),
            kl=jnp.float32(0),
            task=task,
            key=key,
            step=jnp.int32(0),
        )

    def collect(state: State, hypers: Hypers) -> tuple[State, Experience]:
        """Ask prompts, and sample and verify answers, again where there are hints."""
        keys = jax.random.split(state.key, 3 + sampler.num_hints)
        key, choose_key, answer_key, *hint_keys = keys
        everything = state.task.env_params
        which = sampler.choose(
            choose_key, state.sampler, everything.difficulty,
            num_prompts * sampler.more_prompts, hypers.coefs,
        )  # fmt: skip
        levels = jax.tree.map(lambda x: x[which], everything)

        def ask(key: jax.Array, hint: jax.Array) -> Answers:
            num_shown = jnp.ceil(hint * (levels.solution != env.pad).sum(-1)[:, None])
            num_shown = jnp.minimum(num_shown, (levels.solution == env.end).argmax(-1)[:, None])
            answered = token_policy.answer(
                key, network, state.params, levels, hint.shape[1], env, num_shown
            )
            return pack(network, env, needs, hypers, levels, which, answered, hint)

        no_hint = jnp.zeros((len(which), num_answers * sampler.more_answers))
        answers = ask(answer_key, no_hint)
        first_try, num_tokens = summarise(answers), answers.mask.sum(dtype=jnp.int32)
        for hint_key in hint_keys if sampler.hint else ():
            hint = sampler.hint(
                Inputs(answers, state.sampler, age_of(state), state.kl), hypers.coefs
            )
            again = ask(hint_key, hint)
            num_tokens += jnp.where(hint[..., None] > 0, again.mask, False).sum(dtype=jnp.int32)
            answers = merge(hint > 0, again, answers)
        if "belief" in needs:
            known = token_policy.beliefs(network, state.params, levels, answers.tokens, env.pad)
            answers = answers._replace(belief=known)
        answers = sampler.keep(answers, num_prompts, num_answers, hypers.coefs)
        return state._replace(key=key), Experience(answers, first_try, num_tokens)

    def loss(
        params: Any, answers: Answers, prompt: jax.Array, state: State, hypers: Hypers
    ) -> tuple[jax.Array, Metrics]:
        policy = read_policy(network, params, prompt, answers)
        x = Inputs(answers, state.sampler, age_of(state), state.kl, policy)
        return compute_loss(objective, hypers.coefs, x)

    def learn(state: State, hypers: Hypers, experience: Experience) -> tuple[State, Metrics]:
        x = Inputs(experience.answers, state.sampler, age_of(state), state.kl)
        x = x._replace(answers=with_advantages(objective, hypers.coefs, x))
        prompt = state.task.env_params.prompt[x.answers.prompt]
        adam = optimizer(hypers)

        def descend(carry: tuple, minibatch: tuple[Answers, jax.Array]):
            params, opt_state = carry
            grads, metrics = jax.grad(loss, has_aux=True)(params, *minibatch, state, hypers)
            updates, opt_state = adam.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        key, shuffle_key = jax.random.split(state.key)
        (params, opt_state), metrics = minibatch_epochs(
            shuffle_key, descend, (state.params, state.opt_state), (x.answers, prompt),
            config.num_epochs, config.num_minibatches,
        )  # fmt: skip
        kl = metrics["approx_kl"][-1]  # of the last step, whose policy is farthest from the sampler
        observed = sampler.observe(x._replace(kl=kl), hypers.coefs)
        state = State(params, opt_state, observed, kl, state.task, key, state.step + 1)
        num_asked = num_prompts * num_answers * sampler.more_prompts * sampler.more_answers
        count = {"episodes": jnp.int32(num_asked)}
        steps = {"env_steps": experience.num_tokens}
        return state, steps | count | experience.first_try | jax.tree.map(jnp.mean, metrics)

    return Algorithm(
        config, init, collect, learn, lambda state: state.params, act, memory,
        vital=vital_losses("policy_loss"),
        made_of=part_names(env, objective),
    )  # fmt: skip


def merge(condition: jax.Array, a: Answers, b: Answers) -> Answers:
    """Select answers of two trees by a condition, bool `[P, G]`; their prompts are the same."""

    def select(x: jax.Array, y: jax.Array) -> jax.Array:
        if x.shape[:2] != condition.shape:
            return y
        return jnp.where(condition.reshape(*condition.shape, *[1] * (x.ndim - 2)), x, y)

    return jax.tree.map(select, a, b)
