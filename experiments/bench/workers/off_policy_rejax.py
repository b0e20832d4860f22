"""Train with rejax's DQN, PQN or SAC, in its own virtual environment: it needs gymnax 0.0.9.

All members at a time (`vmap`), or one after the other (`map`).
"""

import sys

import jax
import rejax
from timing import measure

name, *numbers, arrangement = sys.argv[1:6]
members, updates, repeats = map(int, numbers)
SHARED = dict(skip_initial_evaluation=True, gamma=0.99, max_grad_norm=10.0)
REPLAY = dict(num_envs=10, buffer_size=10_000, fill_buffer=1_000, batch_size=128, num_epochs=1)
SETTINGS = {
    "dqn": dict(
        env="CartPole-v1",
        learning_rate=2.5e-4,
        target_update_freq=500,
        **REPLAY,
    ),
    "pqn": dict(
        env="CartPole-v1",
        learning_rate=1e-4,
        num_envs=32,
        num_steps=64,
        num_minibatches=16,
        num_epochs=4,
    ),
    "sac": dict(
        env="Pendulum-v1",
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        learning_rate=3e-4,
        **REPLAY | dict(num_envs=4, buffer_size=50_000, batch_size=256, num_epochs=4),
    ),
}
WIDTHS = {"dqn": (120, 84), "pqn": (256, 256)}
"""Widths cannot be set through `create`, which already passes its own."""
STEPS = {"dqn": 10, "pqn": 32 * 64, "sac": 4}
WARMUP = {"dqn": 1_000, "pqn": 0, "sac": 1_000}
steps = WARMUP[name] + updates * STEPS[name]
settings = SHARED | SETTINGS[name] | dict(total_timesteps=steps, eval_freq=steps)
algorithm = rejax.get_algo(name).create(**settings)
algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: ())
if name in WIDTHS:
    algorithm = algorithm.replace(agent=algorithm.agent.clone(hidden_layer_sizes=WIDTHS[name]))
keys = jax.random.split(jax.random.PRNGKey(0), members)
one_by_one = lambda keys: jax.lax.map(algorithm.train, keys)  # noqa: E731
train = jax.vmap(algorithm.train) if arrangement == "vmap" else one_by_one
measure(jax.jit(train), (keys,), members * steps, repeats)
