import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import ppo
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.transformer import TokenTorso, Transformer, repeat

V, LENGTH = 7, 9
NET = Transformer(V, LENGTH, width=16, num_heads=2)
TOKENS = jax.random.randint(jax.random.key(1), (3, LENGTH), 0, V)
PARAMS = jax.jit(NET.init)(jax.random.key(0), NET.empty_cache(3), TOKENS)
read = jax.jit(NET.apply)


def features(tokens: jax.Array, readable: jax.Array | None = None) -> jax.Array:
    return read(PARAMS, NET.empty_cache(*tokens.shape[:-1]), tokens, readable)[1]


def in_pieces(tokens: jax.Array, sizes: list[int], readable: jax.Array) -> jax.Array:
    cache, seen, start = NET.empty_cache(len(tokens)), [], 0
    for size in sizes:
        piece = slice(start, start + size)
        cache, found = read(PARAMS, cache, tokens[:, piece], readable[:, piece])
        seen.append(found)
        start += size
    return jnp.concatenate(seen, axis=1)


def plain_forward(params: dict, tokens: np.ndarray) -> np.ndarray:
    """Attention of one sequence, written with loops over heads."""
    weights = jax.tree.map(np.asarray, params["params"])

    def norm(x, p):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p["scale"] + p["bias"]

    def dense(x, p):
        return x @ p["kernel"] + p["bias"]

    embeddings = weights["Embed_0"]["embedding"], weights["Embed_1"]["embedding"]
    x = embeddings[0][tokens] + embeddings[1][: len(tokens)]
    for layer in range(2):
        p = weights[f"Block_{layer}"]
        q, k, v = np.split(dense(norm(x, p["LayerNorm_0"]), p["Dense_0"]), 3, axis=-1)
        heads = []
        for h in range(2):
            at = slice(8 * h, 8 * (h + 1))
            logits = q[:, at] @ k[:, at].T / np.sqrt(8)
            logits[np.triu_indices(len(tokens), 1)] = -np.inf
            chance = np.exp(logits - logits.max(-1, keepdims=True))
            heads.append(chance / chance.sum(-1, keepdims=True) @ v[:, at])
        x = x + dense(np.concatenate(heads, -1), p["Dense_1"])
        x = x + dense(np.maximum(dense(norm(x, p["LayerNorm_1"]), p["Dense_2"]), 0), p["Dense_3"])
    return norm(x, weights["LayerNorm_0"])


def test_it_is_the_transformer_of_the_textbook():
    for i in range(3):
        expected = plain_forward(PARAMS, np.asarray(TOKENS[i]))
        np.testing.assert_allclose(features(TOKENS)[i], expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [4, 5]])
def test_reading_with_a_cache_equals_reading_at_once(sizes):
    readable = jnp.arange(LENGTH) >= jnp.array([0, 2, 3])[:, None]
    whole = features(TOKENS, readable)
    pieces = in_pieces(TOKENS, sizes, readable)
    seen = readable[..., None]  # the features of padding mean nothing
    np.testing.assert_allclose(jnp.where(seen, pieces, 0), jnp.where(seen, whole, 0), atol=1e-5)


def test_no_token_sees_a_later_one():
    changed = TOKENS.at[:, 5].set((TOKENS[:, 5] + 1) % V)
    before, after = features(TOKENS), features(changed)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (jnp.abs(before[:, 5:] - after[:, 5:]).max(-1) > 1e-4).all()


def test_nothing_depends_on_what_padding_holds():
    readable = jnp.arange(LENGTH) >= 3
    other = TOKENS.at[:, :3].set((TOKENS[:, :3] + 1) % V)
    both = (features(x, jnp.broadcast_to(readable, x.shape)) for x in (TOKENS, other))
    before, after = both
    np.testing.assert_array_equal(before[:, 3:], after[:, 3:])


def test_it_has_about_100_000_weights():
    net = Transformer(20, 15)
    shapes = jax.eval_shape(net.init, jax.random.key(0), net.empty_cache(1), TOKENS[:1])
    assert 95_000 < sum(x.size for x in jax.tree.leaves(shapes)) < 105_000


def test_a_repeated_cache_goes_on_as_the_one_that_it_repeats():
    cache, _ = read(PARAMS, NET.empty_cache(3), TOKENS[:, :4])
    _, alone = read(PARAMS, cache, TOKENS[:, 4:])
    twice = jnp.broadcast_to(TOKENS[:, None, 4:], (3, 2, LENGTH - 4))
    _, found = read(PARAMS, repeat(cache, 2), twice)
    for i in range(2):
        np.testing.assert_allclose(found[:, i], alone, atol=1e-5)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="context: 9 is not valid; it must be at least 10"):
        features(jnp.zeros((1, LENGTH + 1), jnp.int32))


def test_ppo_takes_it_as_a_torso():
    env, level = envs.make("token-sort", max_digits=3, num_prompts=60, held_out=10)
    torso = TokenTorso(env.vocabulary, env.pad, 1, 8, 2)
    assert isinstance(torso, nn.Module)
    config = ppo.Config(num_envs=2, num_steps=4, num_epochs=1, num_minibatches=1)
    agent = ppo.make(config, env, torso=torso)

    def train() -> dict:
        state = agent.init(jax.random.key(0), ppo.Hypers(), Task(level, jnp.int32(1)))
        return update(agent, state, ppo.Hypers())[1]

    assert jax.eval_shape(train)["policy_loss"].shape == ()


def test_the_torso_returns_the_features_of_the_last_token():
    torso = TokenTorso(V + 1, V, 1, 8, 2)
    obs = jnp.array([[V, 1, 2, V, V], [V, 1, 2, 3, V]])
    params = jax.jit(torso.init)(jax.random.key(0), obs)
    apply = jax.jit(torso.apply)
    whole, cut = apply(params, obs), apply(params, obs.at[1, 3].set(V))
    np.testing.assert_allclose(whole[0], cut[0], atol=1e-6)
    np.testing.assert_allclose(cut[1], cut[0], atol=1e-6)
    assert jnp.abs(whole[1] - cut[1]).max() > 1e-4
