"""Time an insertion of 10 steps and a draw of 128: our buffer, flashbax's, or rejax's way to draw.

rejax draws without replacement, by `jax.random.choice` with probabilities over the whole buffer.
"""

import sys

import jax
import jax.numpy as jnp
from timing import measure

contender, *numbers = sys.argv[1:5]
capacity, members, repeats = map(int, numbers)
NEW, DRAWN = 10, 128
iterations = 50_000_000 // capacity if contender == "rejax" else 20_000


def new_steps(i: jax.Array) -> dict:
    """Return steps of CartPole."""
    obs = jnp.full((NEW, 4), i, jnp.float32)
    action, reward = jnp.zeros(NEW, jnp.int32), obs[:, 0]
    return {"obs": obs, "action": action, "reward": reward, "done": reward > 5, "next_obs": obs}


if contender == "ours":
    from purejaxrl.parts.replay import Replay

    start = lambda: Replay.start(new_steps(0), capacity)  # noqa: E731
    insert = lambda state, new: state.write(new)  # noqa: E731
    draw = lambda state, key: state.read(state.draw(key, DRAWN))  # noqa: E731
elif contender == "flashbax":
    import flashbax

    buffer = flashbax.make_item_buffer(capacity, DRAWN, DRAWN, add_batches=True)
    start = lambda: buffer.init(jax.tree.map(lambda x: x[0], new_steps(0)))  # noqa: E731
    insert = buffer.add
    draw = lambda state, key: buffer.sample(state, key).experience  # noqa: E731
else:

    def start() -> tuple:
        empty = lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype)  # noqa: E731
        return jax.tree.map(empty, new_steps(0)), jnp.int32(0)

    def insert(state: tuple, new: dict) -> tuple:
        contents, written = state
        at = (written + jnp.arange(NEW)) % capacity
        return jax.tree.map(lambda x, y: x.at[at].set(y), contents, new), written + NEW

    def draw(state: tuple, key: jax.Array) -> dict:
        contents, written = state
        valid = 1.0 * (jnp.arange(capacity) < written)
        drawn = jax.random.choice(key, capacity, (DRAWN,), replace=False, p=valid / valid.sum())
        return jax.tree.map(lambda x: x[drawn], contents)


def loop(state, key):
    """Insert and draw, and add up what was drawn, so that it is not left out."""

    def step(i, carry):
        state, total, key = carry
        key, draw_key = jax.random.split(key)
        state = insert(state, new_steps(i))
        drawn = jax.tree.leaves(draw(state, draw_key))
        return state, total + sum(jnp.sum(1.0 * x) for x in drawn), key

    return jax.lax.fori_loop(0, iterations, step, (state, jnp.float32(0), key))[:2]


def run(keys):
    """Start every member, insert and draw; to start is a small part of many iterations."""
    return jax.vmap(lambda key: loop(start(), key)[1])(keys)


keys = jax.random.split(jax.random.key(0), members)
measure(jax.jit(run), (keys,), members * iterations, repeats)
