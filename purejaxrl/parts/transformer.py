"""A small causal transformer (Vaswani et al. 2017) that reads a sequence in pieces.

A `Cache` keeps the attention keys and values of the tokens that were read before. During generation
a piece is one token; where a loss is computed, it is a whole sequence. The same function serves
both. The layers normalise before they compute (Xiong et al. 2020, arXiv 2002.04745).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

MASKED = -1e9
"""Attention logit of a masked token: finite, so that a row of masked tokens gives no NaN."""


class Cache(NamedTuple):
    """What a transformer remembers of sequences, with the axes of the batch first."""

    keys: tuple[jax.Array, ...]  # of each layer, float32 [..., num_heads, context, head_width]
    values: tuple[jax.Array, ...]  # of each layer, the same shape
    readable: jax.Array  # bool [..., context], False where nothing, or padding, was read
    length: jax.Array  # int32 [], tokens read so far, padding included; the same for a whole batch


class Transformer(nn.Module):
    """A causal transformer over tokens, at most `context` of them. It has about 100,000 weights."""

    vocabulary: int
    context: int
    num_layers: int = 2
    width: int = 64
    num_heads: int = 4

    @nn.compact
    def __call__(
        self, cache: Cache, tokens: jax.Array, readable: jax.Array | None = None
    ) -> tuple[Cache, jax.Array]:
        """Read the next tokens of sequences.

        Args:
            cache: what was read before.
            tokens: int32 `[..., S]`.
            readable: bool `[..., S]`, False for padding, to which no token attends; by default all
                are readable.

        Returns:
            The cache with these tokens, and features, float32 `[..., S, width]`.

        Raises:
            ValueError: if there are more tokens than the whole context. It is not
                checked that the tokens fit into it after the `cache.length` earlier ones.
        """
        num_tokens = tokens.shape[-1]
        if num_tokens > self.context:
            raise ValueError(
                f"context: {self.context} is not valid; it must be at least {num_tokens}, the "
                "number of tokens"
            )
        readable = jnp.ones(tokens.shape, bool) if readable is None else readable
        place = cache.length + jnp.arange(num_tokens)
        known = jax.lax.dynamic_update_slice_in_dim(cache.readable, readable, cache.length, -1)
        visible = known[..., None, :] & (jnp.arange(self.context) <= place[:, None])

        embedding = nn.initializers.normal(0.02)
        x = nn.Embed(self.vocabulary, self.width, embedding_init=embedding)(tokens)
        x += nn.Embed(self.context, self.width, embedding_init=embedding)(place)
        keys, values = [], []
        for layer in range(self.num_layers):
            kept = cache.keys[layer], cache.values[layer]
            (key, value), x = Block(self.num_heads)(x, kept, cache.length, visible)
            keys.append(key)
            values.append(value)
        cache = Cache(tuple(keys), tuple(values), known, cache.length + num_tokens)
        return cache, nn.LayerNorm()(x)

    def empty_cache(self, *batch: int) -> Cache:
        """Return the cache before the first token, leaves `[*batch, ...]`."""
        head_width = self.width // self.num_heads
        zeros = jnp.zeros((*batch, self.num_heads, self.context, head_width))
        layers = (zeros,) * self.num_layers
        return Cache(layers, layers, jnp.zeros((*batch, self.context), bool), jnp.int32(0))


class Block(nn.Module):
    """One layer: attention over what is visible, then a perceptron, both added to the input."""

    num_heads: int

    @nn.compact
    def __call__(  # noqa: D102
        self, x: jax.Array, kept: tuple, length: jax.Array, visible: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        width = x.shape[-1]
        projected = nn.Dense(3 * width)(nn.LayerNorm()(x))
        query, *new = (split_heads(one, self.num_heads) for one in jnp.split(projected, 3, -1))
        put = jax.lax.dynamic_update_slice_in_dim
        key, value = (put(old, one, length, -2) for old, one in zip(kept, new, strict=True))
        x += nn.Dense(width)(join_heads(attend(query, key, value, visible)))
        hidden = nn.relu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
        return (key, value), x + nn.Dense(width)(hidden)


def split_heads(x: jax.Array, num_heads: int) -> jax.Array:
    """Split features among heads: `[..., S, width]` to `[..., num_heads, S, head_width]`."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], num_heads, -1), -2, -3)


def join_heads(x: jax.Array) -> jax.Array:
    """Invert `split_heads`."""
    x = jnp.moveaxis(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


def attend(query: jax.Array, key: jax.Array, value: jax.Array, visible: jax.Array) -> jax.Array:
    r"""Compute $\mathrm{softmax}(q k^\top / \sqrt d)\, v$ in each head.

    Args:
        query: float `[..., num_heads, S, head_width]`.
        key, value: float `[..., num_heads, context, head_width]`.
        visible: bool `[..., S, context]`.

    Returns:
        float `[..., num_heads, S, head_width]`.
    """
    logits = query @ jnp.swapaxes(key, -1, -2) / jnp.sqrt(query.shape[-1])
    return jax.nn.softmax(jnp.where(visible[..., None, :, :], logits, MASKED)) @ value


class TokenTorso(nn.Module):
    """A torso for environments that show a whole sequence of tokens, padded on both sides.

    It reads observations int `[..., length]` again at every step, and returns the features of the
    last token that is no padding, float32 `[..., width]`.
    """

    vocabulary: int
    pad: int  # the token that stands for padding
    num_layers: int = 2
    width: int = 64
    num_heads: int = 4

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:  # noqa: D102
        sizes = self.num_layers, self.width, self.num_heads
        transformer = Transformer(self.vocabulary, obs.shape[-1], *sizes)
        readable = obs != self.pad
        cache = transformer.empty_cache(*obs.shape[:-1])
        _, features = transformer(cache, obs, readable)
        last = jnp.where(readable, jnp.arange(obs.shape[-1]), 0).max(-1)
        return jnp.take_along_axis(features, last[..., None, None], -2)[..., 0, :]


def repeat(cache: Cache, num: int) -> Cache:
    """Repeat each sequence of a cache, `[N, ...]` to `[N, num, ...]`, for several continuations."""
    again = lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], num, *x.shape[1:]))  # noqa: E731
    return Cache(*jax.tree.map(again, cache[:-1]), cache.length)
