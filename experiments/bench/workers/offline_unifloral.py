"""Train with unifloral's IQL or TD3+BC, from a checkout's `algorithms` on PYTHONPATH.

Its files are scripts. Their networks and their step are used as they are, on our dataset; what they
log to and D4RL are stubbed. All members are trained at a time (`vmap`), or one after the other.
"""

import importlib
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
from offline_data import make_dataset
from timing import measure

for absent in ("d4rl", "gym", "wandb"):
    sys.modules[absent] = ModuleType(absent)
name, *numbers, arrangement = sys.argv[1:6]
members, updates, repeats = map(int, numbers)
peer = importlib.import_module(name)
steps = make_dataset().steps
dataset = peer.Transition(
    steps.obs, steps.action, steps.reward, steps.next_obs, steps.terminated.astype(jnp.float32)
)
args = peer.Args(num_updates=updates)
moments = dataset.obs.mean(axis=0), dataset.obs.std(axis=0)
obs, action = dataset.obs[0], dataset.action[0]
critics = peer.DualQNetwork(*moments)
if name == "iql":
    value, actor = peer.StateValueFunction(*moments), peer.TanhGaussianActor(1, *moments)
    networks = {
        "actor": (actor, [obs]), "dual_q": (critics, [obs, action]),
        "dual_q_target": (critics, [obs, action]), "value": (value, [obs]),
    }  # fmt: skip
    step = peer.make_train_step(args, actor.apply, critics.apply, value.apply, dataset)
else:
    actor = peer.DeterministicTanhActor(1, *moments)
    networks = {
        "actor": (actor, [obs]), "actor_target": (actor, [obs]),
        "dual_q": (critics, [obs, action]), "dual_q_target": (critics, [obs, action]),
    }  # fmt: skip
    step = peer.make_train_step(args, actor.apply, critics.apply, dataset)


def train(key):
    """Train a member."""
    parts = {
        field: peer.create_train_state(args, key, network, inputs)
        for field, (network, inputs) in networks.items()
    }
    return jax.lax.scan(step, (key, peer.AgentTrainState(**parts)), None, updates)


keys = jax.random.split(jax.random.PRNGKey(0), members)
one_by_one = lambda keys: jax.lax.map(train, keys)  # noqa: E731
measure(
    jax.jit(jax.vmap(train) if arrangement == "vmap" else one_by_one),
    (keys,),
    members * updates,
    repeats,
)
