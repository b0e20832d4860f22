"""Several processes as one run, on one machine or on many (`jax.distributed`).

Every process runs the same experiment, and all their devices compute one program. Only the host's
work differs: process 0 writes metrics and shows progress, and tells the others its results and
errors. All processes must call the functions that exchange data, in the same order. In a single
process these cost nothing.
"""

import contextlib
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SHORT = 256
"""Results of up to this many bytes are sent in a single broadcast."""
TOGETHER = 2**26
"""Bytes that are copied to every device at a time before the hosts read them."""


class Lost(RuntimeError):
    """Another process of the run has ended, or cannot be reached."""


def is_first() -> bool:
    """Whether this is process 0, which writes metrics and shows progress."""
    return jax.process_index() == 0


def require_single(what: str) -> None:
    """Raise a ValueError where several processes train together."""
    if jax.process_count() > 1:
        raise ValueError(
            f"num_processes: {jax.process_count()} is not valid; {what} is made by one process"
        )


def on_first(function: Callable, *arguments: Any) -> Any:
    """Call a function in process 0, and return its result in all processes.

    Args:
        function: its result can be pickled.
        arguments: the function's arguments.

    Raises:
        Exception: in all processes, what the function raises in process 0.
    """
    if jax.process_count() == 1:
        return function(*arguments)
    result, error = None, None
    if is_first():
        try:
            result = function(*arguments)
        except (Exception, SystemExit) as raised:
            error = raised
    result, error = pickle.loads(_bytes_of_first(pickle.dumps((result, error))))
    if error:
        raise error
    return result


def _bytes_of_first(content: bytes) -> bytes:
    """Broadcast bytes: their number and the first of them, and then the rest if there is one."""
    head = len(content).to_bytes(8) + content[:SHORT]
    head = _broadcast(head.ljust(8 + SHORT, b"\0"))
    size, start = int.from_bytes(head[:8]), head[8:]
    rest = _broadcast(content[SHORT:].ljust(size - SHORT, b"\0")) if size > SHORT else b""
    return (start + rest)[:size]


def _broadcast(content: bytes) -> bytes:
    found = multihost_utils.broadcast_one_to_all(np.frombuffer(content, np.uint8))
    return np.asarray(found).tobytes()


@contextlib.contextmanager
def lost_in_words() -> Iterator[None]:
    """Say that a process was lost where JAX says that the devices could not exchange arrays.

    Raises:
        Lost: if a computation of several processes fails.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        is_of_devices = not isinstance(error, ValueError) or "Gloo" in str(error)
        if jax.process_count() == 1 or not is_of_devices:
            raise
        raise Lost(f"another process was lost, or the devices failed: {error}") from error


def any_of(flag: object) -> bool:
    """Whether a flag is true in any process."""
    if jax.process_count() == 1:
        return bool(flag)
    return bool(multihost_utils.process_allgather(np.bool_(bool(flag))).any())


def put(tree: Any, shardings: Any) -> Any:
    """Shard arrays, of which every process has a full copy, over the devices of all processes.

    Args:
        tree: the arrays.
        shardings: `NamedSharding`s, a prefix of the tree.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def lay(sharding: NamedSharding, part: Any) -> Any:
        one = lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])  # noqa: E731
        return jax.tree.map(one, part)

    return jax.tree.map(lay, shardings, tree)


def fetch(tree: Any) -> Any:
    """Copy full arrays to the host of every process.

    The devices get them too on the way, a few at a time.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    leaves, structure = jax.tree.flatten(tree)
    found: list[Any] = []
    while len(found) < len(leaves):
        left = leaves[len(found) :]
        room = np.cumsum([x.nbytes for x in left]) <= TOGETHER
        some = left[: max(1, int(room.sum()))]
        found += jax.device_get(_replicate(some[0].sharding.mesh)(some))
    return structure.unflatten(found)


@functools.cache
def _replicate(mesh: Mesh) -> Callable:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
