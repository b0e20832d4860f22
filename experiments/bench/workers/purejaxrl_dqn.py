"""Train with PureJaxRL's DQN, from a checkout on PYTHONPATH, with gymnax 0.0.9 and flashbax.

All members at a time (`vmap`), or one after the other (`map`).
"""

import sys
from types import ModuleType

sys.modules["wandb"] = ModuleType("wandb")

import jax

jax.tree_map = jax.tree.map  # its name until jax 0.4.26

import dqn
from timing import measure

_, *numbers, arrangement = sys.argv[1:6]
members, updates, repeats = map(int, numbers)
steps = 1_000 + updates * 10
config = {
    "NUM_ENVS": 10,
    "BUFFER_SIZE": 10_000,
    "BUFFER_BATCH_SIZE": 128,
    "TOTAL_TIMESTEPS": steps,
    "EPSILON_START": 1.0,
    "EPSILON_FINISH": 0.05,
    "EPSILON_ANNEAL_TIME": steps // 2,
    "TARGET_UPDATE_INTERVAL": 500,
    "LR": 2.5e-4,
    "LEARNING_STARTS": 1_000,
    "TRAINING_INTERVAL": 10,
    "LR_LINEAR_DECAY": False,
    "GAMMA": 0.99,
    "TAU": 1.0,
    "ENV_NAME": "CartPole-v1",
    "WANDB_MODE": "disabled",
}
train = dqn.make_train(config)
keys = jax.random.split(jax.random.PRNGKey(0), members)
one_by_one = lambda keys: jax.lax.map(train, keys)  # noqa: E731
mapped = jax.vmap(train) if arrangement == "vmap" else one_by_one
measure(jax.jit(mapped), (keys,), members * steps, repeats)
