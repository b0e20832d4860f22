"""The interface of a token objective: what it sees, and the four parts that it is made of.

P prompts have G answers each, padded to T tokens of a vocabulary of V. An algorithm does this with
an objective, once per update:

    prompts = sampler.choose(key, state, difficulty, num, coefs)
    ...sample answers; where `sampler.hint` asks for it, sample them again, `num_hints` times...
    answers = sampler.keep(answers, num_prompts, num_answers, coefs)
    answers = with_advantages(objective, coefs, Inputs(answers, state, age, kl))
    ...minimise compute_loss(objective, coefs, x), with x.policy under the current parameters...
    state = sampler.observe(Inputs(answers, state, age, kl), coefs)
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Answers(NamedTuple):
    """Answers that were sampled: constants for the gradient. The first axis is the prompt.

    Only some objectives read the fields that may be None; they name them in `Objective.needs`.
    """

    tokens: jax.Array  # int32 [P, G, T]
    mask: jax.Array  # bool [P, G, T], True up to and including the end token, except for hints
    old_log_prob: jax.Array  # float32 [P, G, T], of the tokens under the policy that sampled them
    ref_log_prob: jax.Array  # float32 [P, G, T], of the tokens under the reference policy
    reward: jax.Array  # float32 [P, G], 1 for a correct answer and 0 for a wrong one
    prompt: jax.Array  # int32 [P], which of the task's prompts it is
    difficulty: jax.Array  # int32 [P], bin of the prompt
    answer: jax.Array  # int32 [P, G], equal for equal answers to a prompt
    hint: jax.Array  # float32 [P, G], share of the solution that the prompt showed
    entropy: jax.Array  # float32 [P, G, T], of the policy that sampled, before each token
    other_rewards: jax.Array | None = None  # float32 [P, G, R], beside correctness: length, format
    step_reward: jax.Array | None = None  # float32 [P, G, T], 1 where a token belongs to a solution
    ref_log_probs: jax.Array | None = None  # float32 [P, G, T, V], of all tokens, by the reference
    value: jax.Array | None = None  # float32 [P, G, T], reward expected before each token
    belief: jax.Array | None = None  # float32 [P, G, T + 1], π(true answer | first t tokens)
    demonstration: jax.Array | None = None  # int32 [P, D], tokens of a reference solution
    demonstration_mask: jax.Array | None = None  # bool [P, D]
    advantage: jax.Array | None = None  # float32 [P, G, T], from `with_advantages`


DEMONSTRATION = ("demonstration", "demonstration_mask")
"""What an objective needs that reads reference solutions, see `Objective.needs`."""


class Policy(NamedTuple):
    """The current policy on the same tokens: what the gradient flows through."""

    log_prob: jax.Array  # float32 [P, G, T], of the sampled tokens
    log_probs: jax.Array  # float32 [P, G, T, V], of all tokens
    value: jax.Array | None = None  # float32 [P, G, T]
    demonstration_log_probs: jax.Array | None = None  # float32 [P, D, V]


class Inputs(NamedTuple):
    """What the parts of an objective read."""

    answers: Answers
    state: Any = ()  # the sampler's, before this update
    age: jax.Array | float = 0.0  # float32 [] in [0, 1], fraction of the updates done
    kl: jax.Array | float = 0.0
    """float32 [], mean KL(π_old ‖ π) per token in the update before. In `observe` it is that of
    this update, before its last gradient step; so it is 0 where an update has only one."""
    policy: Policy | None = None  # None where no gradient is taken


Part = Callable[[Inputs, Any], jax.Array]
"""`(x, coefs) -> array`: `[P, G, T]`, or what broadcasts to it."""
Loss = Callable[[jax.Array, Inputs, Any], jax.Array]
"""`(surrogate [P, G, T], x, coefs) -> float32 []`."""


def no_state(num_prompts: int, num_bins: int) -> tuple:
    """Start without statistics."""
    return ()


def same_state(x: Inputs, coefs: Any) -> Any:
    """Return the state as it was."""
    return x.state


def choose_uniformly(
    key: jax.Array, state: Any, difficulty: jax.Array, num: int, coefs: Any
) -> jax.Array:
    """Choose prompts, all equally often."""
    return jax.random.randint(key, (num,), 0, difficulty.shape[0])


def keep_all(answers: Answers, num_prompts: int, num_answers: int, coefs: Any) -> Answers:
    """Keep all answers."""
    return answers


class Sampler(NamedTuple):
    """Which prompts are asked, with what hints, and which answers are learned from.

    Its state is a pytree of statistics, by prompt or by bin of difficulty.
    """

    init: Callable[[int, int], Any] = no_state  # (num_prompts, num_bins) -> state
    observe: Callable[[Inputs, Any], Any] = same_state  # (x, coefs) -> state, after the update
    choose: Callable[..., jax.Array] = choose_uniformly
    # ^ (key, state, difficulty [num_prompts], num, coefs) -> int32 [num], the prompts to ask
    hint: Part | None = None
    # ^ (x, coefs) -> [P, G], from a first try: the share of the solution to show in a second one,
    #   which replaces the first wherever the share is above 0
    num_hints: int = 1  # tries with a hint, one after the other
    keep: Callable[..., Answers] = keep_all
    # ^ (answers, num_prompts, num_answers, coefs) -> as many prompts and answers to each
    more_prompts: int = 1  # this many times num_prompts are asked
    more_answers: int = 1  # this many times num_answers are sampled


class Objective(NamedTuple):
    """An objective: an advantage, a weight, a loss and a sampler. `coefs` are traced."""

    name: str
    coefs: Any  # default coefficients, a dataclass pytree of floats with their valid ranges
    advantage: Part  # x.policy is None; the result is `answers.advantage`
    weight: Part  # what each token contributes: the surrogate
    loss: Loss  # to be minimised
    sampler: Sampler = Sampler()
    needs: tuple[str, ...] = ()  # fields of `Answers` that must be there
    fewest_answers: int = 2  # smallest group that it is defined for
    num_answers: int | None = None  # size of the group, where the method prescribes one


def with_advantages(objective: Objective, coefs: Any, x: Inputs) -> Answers:
    """Return the answers of a whole batch with their advantages, 0 after the end."""
    mask = x.answers.mask
    advantage = jnp.where(mask, objective.advantage(x, coefs), 0.0)
    return x.answers._replace(advantage=advantage)


def check_objective(objective: Objective, num_answers: int, given: Collection[str]) -> None:
    """Check that an objective fits a group and a task, before anything is traced.

    Args:
        objective: what to minimise.
        num_answers: answers to each prompt that are learned from.
        given: the fields of `Answers` that can be filled.

    Raises:
        ValueError: naming the field, its value and what is valid.
    """
    if num_answers < objective.fewest_answers:
        raise ValueError(
            f"num_answers: {num_answers!r} is not valid; {objective.name} needs an integer "
            f">= {objective.fewest_answers}"
        )
    for field in objective.needs:
        if field not in given:
            raise ValueError(
                f"objective: {objective.name!r} is not valid; it needs {field!r}, and the task "
                f"gives {', '.join(sorted(given)) or 'none'}"
            )
