"""The mesh axis `agents`, over which `run` shards the agents of a meta-learner.

Outside of `run` the axis does not exist: then one device has all agents, and nothing is exchanged.
"""

from typing import Any

import jax

AXIS = "agents"


def is_sharded() -> bool:
    """Whether the code that is being traced runs under the mesh axis. Static."""
    try:
        jax.lax.axis_size(AXIS)
    except NameError:  # what JAX raises for an axis that is not bound
        return False
    return True


def num_shards() -> int:
    """Return the number of devices that share the agents. Static."""
    return jax.lax.axis_size(AXIS) if is_sharded() else 1


def shard_index() -> jax.Array | int:
    """Return this device's index among those that share the agents."""
    return jax.lax.axis_index(AXIS) if is_sharded() else 0


def sum_over_shards(tree: Any) -> Any:
    """Sum a tree over the devices."""
    return jax.lax.psum(tree, AXIS) if is_sharded() else tree


def gather_agents(tree: Any) -> Any:
    """Join the agents of all devices: leaves `[num_agents / num_shards, ...]` to `[num_agents]`."""
    return jax.lax.all_gather(tree, AXIS, tiled=True) if is_sharded() else tree


def local_agents(tree: Any, count: int) -> Any:
    """Take this device's `count` agents out of all: the inverse of `gather_agents`."""
    start = shard_index() * count
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, count), tree)
