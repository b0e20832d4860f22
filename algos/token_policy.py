"""A policy over tokens: how it is made, how it answers prompts, and how it reads answers.

`sft.py` and `grpo.py` train it, and `token_evaluation.py` evaluates it. A policy is the parameters
of a `TokenPolicy`. Answers are sampled in one scan over their tokens, for all prompts and answers
at once; the prompt is read once for all answers to it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.parts.action_values import of_action
from purejaxrl.parts.transformer import MASKED, Cache, Transformer, repeat
from purejaxrl.validation import require, require_count


class Task(Protocol):
    """What this file reads of a token task; `envs/token_tasks.py` has such tasks."""

    vocabulary: int
    end: int  # the token that ends an answer
    pad: int  # the token that no answer contains
    prompt_length: int
    answer_length: int
    num_difficulties: int
    levels: Any  # leaves [num_levels, ...]; fields prompt, solution, difficulty

    def judge(self, level: Any, tokens: jax.Array) -> Any:
        """Return a judgement with reward, other_rewards, meaning, step_reward and length."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the transformer. Static."""

    num_layers: int = 2
    """Layers of the transformer."""
    width: int = 64
    """Width of the transformer."""
    num_heads: int = 4
    """Attention heads of the transformer; their number divides the width."""

    def __post_init__(self):
        require_count(self, "num_layers", "width", "num_heads")
        divides = self.width % self.num_heads == 0
        require(divides, self, "num_heads", f"a divisor of width = {self.width}")


class Answered(NamedTuple):
    """Answers `[P, G, T]` to P prompts, as they were sampled."""

    tokens: jax.Array  # int32
    mask: jax.Array  # bool, True up to and including the end token, except for shown tokens
    log_prob: jax.Array  # float32, of the tokens
    entropy: jax.Array  # float32, before each token
    value: jax.Array  # float32, before each token


class TokenPolicy(nn.Module):
    """A transformer with a distribution over the next token, and a value."""

    transformer: Transformer
    pad: int

    @nn.compact
    def __call__(
        self, cache: Cache, tokens: jax.Array
    ) -> tuple[Cache, tuple[jax.Array, jax.Array]]:
        """Read tokens int32 `[..., S]`.

        Returns:
            The cache; log-probabilities of the next token after each one, `[..., S, V]`, and values
            `[..., S]`.
        """
        cache, features = self.transformer(cache, tokens, tokens != self.pad)
        logits = nn.Dense(self.transformer.vocabulary)(features)
        never = jnp.arange(logits.shape[-1]) == self.pad
        log_probs = jax.nn.log_softmax(jnp.where(never, MASKED, logits))
        return cache, (log_probs, nn.Dense(1)(features)[..., 0])

    def empty_cache(self, *batch: int) -> Cache:
        """Return the cache before the first token."""
        return self.transformer.empty_cache(*batch)


def make_network(config: NetworkConfig, env: Task) -> TokenPolicy:
    """Make the network for a token task.

    Raises:
        ValueError: if the environment is no token task, or its vocabulary has no end token.
    """
    if not hasattr(env, "judge"):
        raise ValueError(
            f"env: {type(env).__name__} is not valid; it must be a token task, which has a `judge`"
        )
    if not 0 <= env.end < env.vocabulary:
        raise ValueError(
            f"env.end: {env.end} is not valid; answers need an end token, a number from 0 to "
            f"{env.vocabulary - 1}"
        )
    context = env.prompt_length - 1 + env.answer_length
    sizes = config.num_layers, config.width, config.num_heads
    return TokenPolicy(Transformer(env.vocabulary, context, *sizes), env.pad)


def require_solutions(env: Task, who: str) -> None:
    """Raise a ValueError unless every prompt to train on has a reference solution.

    Args:
        env: the task; a solution of padding alone stands for none.
        who: what needs solutions, such as the name of an objective.
    """
    missing = np.flatnonzero((np.asarray(env.levels.solution) == env.pad).all(-1))
    if missing.size:
        raise ValueError(
            f"env.levels.solution: prompt {missing[0]} has none ({missing.size} of "
            f"{len(env.levels.solution)}); {who} needs a reference solution for every prompt"
        )


def init_params(key: jax.Array, network: TokenPolicy) -> Any:
    """Draw the parameters of a policy."""
    return network.init(key, network.empty_cache(1), jnp.zeros((1, 1), jnp.int32))


def answer(
    key: jax.Array,
    network: TokenPolicy,
    params: Any,
    levels: Any,
    num_answers: int,
    env: Task,
    num_shown: jax.Array | int = 0,
) -> Answered:
    """Sample answers.

    Args:
        key: typed key.
        network, params: the policy.
        levels: P prompts.
        num_answers: G, answers to each.
        env: the task.
        num_shown: how many tokens of the reference solution an answer begins with, int32 `[P, G]`.
    """
    prompt = levels.prompt
    cache, _ = network.apply(params, network.empty_cache(len(prompt)), prompt[:, :-1])
    last = jnp.broadcast_to(prompt[:, -1:], (len(prompt), num_answers))
    num_shown = jnp.broadcast_to(num_shown, last.shape)

    def write(carry: tuple, inputs: tuple):
        cache, last, over = carry
        uniform, place, solution = inputs
        cache, (log_probs, value) = network.apply(params, cache, last[..., None])
        log_probs, value = log_probs[..., 0, :], value[..., 0]
        shown = place < num_shown
        token = jnp.where(shown, solution[:, None], sample_token(log_probs, uniform))
        token = jnp.where(over, env.pad, token)
        log_prob = of_action(log_probs, token)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
        mask = ~over & ~shown
        kept = (jnp.where(mask, x, 0.0) for x in (log_prob, entropy, value))
        return (cache, token, over | (token == env.end)), Answered(token, mask, *kept)

    start = repeat(cache, num_answers), last, jnp.zeros(last.shape, bool)
    places = jnp.arange(env.answer_length)
    uniform = jax.random.uniform(key, (env.answer_length, *last.shape))
    _, answered = jax.lax.scan(write, start, (uniform, places, levels.solution.T))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), answered)


def sample_token(log_probs: jax.Array, uniform: jax.Array) -> jax.Array:
    """Sample tokens by inverting their cumulative distribution.

    This takes one random number for each token. Gumbel noise takes one for each word of the
    vocabulary, which was a third of the time of generation.

    Args:
        log_probs: float `[..., V]`.
        uniform: float `[...]` in [0, 1).

    Returns:
        int32 `[...]`; a token of probability 0 is never drawn.
    """
    cumulative = jnp.cumsum(jnp.exp(log_probs), -1)
    reached = jnp.minimum(uniform, 1 - 1e-6) * cumulative[..., -1]  # may not round up to the sum
    below = cumulative <= reached[..., None]
    return below.sum(-1, dtype=jnp.int32)


def read_answers(
    network: TokenPolicy, params: Any, prompt: jax.Array, tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Compute the policy's distributions along given answers.

    Args:
        network, params: the policy.
        prompt: int32 `[P, prompt_length]`.
        tokens: int32 `[P, G, T]`.

    Returns:
        Log-probabilities of every token in every place, `[P, G, T, V]`, and values `[P, G, T]`.
    """
    num_answers = tokens.shape[1]
    cache, _ = network.apply(params, network.empty_cache(len(prompt)), prompt[:, :-1])
    last = jnp.broadcast_to(prompt[:, None, -1:], (*tokens.shape[:2], 1))
    inputs = jnp.concatenate([last, tokens[..., :-1]], axis=-1)
    return network.apply(params, repeat(cache, num_answers), inputs)[1]


def beliefs(
    network: TokenPolicy, params: Any, levels: Any, tokens: jax.Array, pad: int
) -> jax.Array:
    """Compute the probability that an answer becomes the reference solution, after each token.

    It is 0 from the first token on that differs from the solution.

    Args:
        network, params: the policy.
        levels: P prompts.
        tokens: int32 `[P, G, T]`, answers.
        pad: what follows the end of a solution.

    Returns:
        float32 `[P, G, T + 1]`: after the first t tokens.
    """
    place = jnp.arange(tokens.shape[-1])
    solution = jnp.broadcast_to(levels.solution[:, None], tokens.shape)

    def after(t: jax.Array) -> jax.Array:
        mixed = jnp.where(place < t, tokens, solution)
        log_probs, _ = read_answers(network, params, levels.prompt, mixed)
        counts = (place >= t) & (solution != pad)
        return jnp.where(counts, of_action(log_probs, mixed), 0.0).sum(-1)

    each = jax.lax.map(after, jnp.arange(tokens.shape[-1] + 1))
    same = jnp.cumprod(tokens == solution, axis=-1)
    possible = jnp.concatenate([jnp.ones_like(same[..., :1]), same], axis=-1)
    return possible * jnp.exp(jnp.moveaxis(each, 0, -1))


def judge_answers(env: Task, levels: Any, tokens: jax.Array) -> Any:
    """Judge answers `[P, G, T]`; the judgement's leaves are `[P, G, ...]`."""
    return jax.vmap(jax.vmap(env.judge, (None, 0)))(levels, tokens)


def act_by(network: TokenPolicy, env: Task) -> tuple[Any, Any]:
    """Make `act` and `memory` of an `Algorithm`: it acts in the task's environment.

    The memory is the cache, one for each environment, because their answers differ in length.
    """

    def act_one(params: Any, cache: Cache, obs: jax.Array, first: jax.Array, key: jax.Array):
        prompt, written = obs[: env.prompt_length], obs[env.prompt_length :]
        read_prompt, _ = network.apply(params, network.empty_cache(), prompt[:-1])
        cache = jax.tree.map(lambda new, old: jnp.where(first, new, old), read_prompt, cache)
        last = obs[env.prompt_length - 1 + (written != env.pad).sum()]
        cache, (log_probs, _) = network.apply(params, cache, last[None])
        greedy, sampled = log_probs[0].argmax(), jax.random.categorical(key, log_probs[0])
        return (greedy, sampled), cache

    def act(params: Any, memory: Cache, obs: jax.Array, first: jax.Array, key: jax.Array, greedy):
        keys = jax.random.split(key, first.shape[0])
        each = jax.vmap(act_one, in_axes=(None, 0, 0, 0, 0))
        (best, sampled), memory = each(params, memory, obs, first, keys)
        return (best if greedy else sampled), memory

    def memory(num_envs: int) -> Cache:
        one = network.empty_cache()
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *x.shape)), one)

    return act, memory
