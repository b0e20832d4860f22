"""What the devices compute: a chunk of updates of every member of a population.

`update` is scanned on the device. A member whose parameters or losses stop being finite is frozen
at its last good state, and leaves the others alone.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import Algorithm, Metrics, Task, advance_where, update
from purejaxrl.running.devices import Layout, layout
from purejaxrl.running.population import Population

QUICK_COMPILATION = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


class Carry(NamedTuple):
    """What a checkpoint holds, leaves `[num_members, ...]`."""

    state: Any
    alive: jax.Array  # bool


class Program(NamedTuple):
    """A compiled chunk, and where a population lies on the devices."""

    plan: Layout
    hypers: Any
    room: int  # most updates in a chunk
    chunk: Any  # compiled (length, carry, hypers) -> (carry, metrics); the carry is donated

    def __call__(self, length: int, carry: Carry) -> tuple[Carry, Metrics]:
        """Make `length` updates of every member, at most `room`.

        Returns:
            The carry, and metrics `[num_members, length]` on the host.
        """
        carry, metrics = self.chunk(jnp.int32(length), carry, self.hypers)
        metrics = jax.device_get(self.plan.trim(metrics))
        return carry, {name: values[:, :length] for name, values in metrics.items()}

    @property
    def num_bytes(self) -> int:
        """Memory that it takes on all devices together: state, experience, temporaries."""
        memory = self.chunk.memory_analysis()
        size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return size * self.plan.mesh.size


def plan_for(
    algorithm: Algorithm,
    population: Population,
    group: int | None = None,
    devices: list[jax.Device] | None = None,
) -> Layout:
    """Lay members over the devices, or a meta-learner's agents; see `devices.layout`."""
    num_agents = algorithm.agents.num_agents if algorithm.agents else None
    return layout(population.size, devices, group, num_agents)


def start(algorithm: Algorithm, population: Population) -> Carry:
    """Start members one by one: alike however many there are, and no batched QR to deadlock."""
    return _start_members(algorithm, population.keys, population.hypers, population.env_params)


def place(algorithm: Algorithm, plan: Layout, carry: Carry, horizon: int) -> Carry:
    """Lay members over the devices, and tell them their horizon."""
    task = carry.state.task
    task = task._replace(horizon=np.full_like(task.horizon, horizon))
    carry = carry._replace(state=carry.state._replace(task=task))
    return plan.place(carry, Carry(algorithm.agents and algorithm.agents.partition, None))


def compile_chunk(
    algorithm: Algorithm,
    population: Population,
    plan: Layout,
    room: int,
    carry: Carry,
    *,
    optimize: bool = True,
) -> Program:
    """Compile a chunk of at most `room` updates.

    The length of a chunk is traced, so that one compilation serves every chunk, the last one too.

    Args:
        algorithm: what to run.
        population: whom to train.
        plan: where they lie.
        room: most updates in a chunk.
        carry: as `place` returns it, for its shapes.
        optimize: False compiles for a CPU in about 40 % of the time (PPO on CartPole: 2.3 s instead
            of 5.9 s) a program that needs the same memory and is up to six times slower.
    """
    hypers = plan.place(population.hypers)
    chunk = plan.jit(_chunk, static_argnums=(0, 1, 2), donate_argnums=4)
    lowered = chunk.lower(algorithm, plan, room, jnp.int32(0), carry, hypers)
    quick = not optimize and plan.mesh.devices.flat[0].platform == "cpu"
    compiled = lowered.compile(QUICK_COMPILATION if quick else None)
    return Program(plan, hypers, room, compiled)


def member_update(algorithm: Algorithm, carry: Carry, hypers: Any) -> tuple[Carry, Metrics]:
    """Update one member, unless it is frozen: then its state stays, and its metrics are NaN or 0.

    The metrics gain `alive`.
    """
    state, metrics = update(algorithm, carry.state, hypers)
    leaves = jax.tree.leaves(algorithm.vital(state, metrics))
    alive = carry.alive & jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves]))
    state = advance_where(algorithm, alive, state, carry.state)
    metrics = {name: jnp.where(alive, x, _nothing(x)) for name, x in metrics.items()}
    return Carry(state, alive), metrics | {"alive": alive}


def _nothing(metric: jax.Array) -> Any:
    floating = jnp.issubdtype(metric.dtype, jnp.floating)
    return jnp.array(jnp.nan if floating else 0, metric.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _start_members(algorithm: Algorithm, *members: Any) -> Carry:
    def one(member: tuple) -> Carry:
        key, hypers, env_params = member
        state = algorithm.init(key, hypers, Task(env_params, jnp.int32(1)))
        strong = jax.tree.map(_without_weak_type, state)  # as a checkpoint will restore it
        return Carry(strong, jnp.bool_(True))

    return jax.lax.map(one, members)


def _without_weak_type(x: jax.Array) -> jax.Array:
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key else jax.lax.convert_element_type(x, x.dtype)


def _chunk(
    algorithm: Algorithm, plan: Layout, room: int, length: jax.Array, carry: Carry, hypers: Any
) -> tuple[Carry, Metrics]:
    """Run `length` updates of every member; metrics `[padded, room]`, the first `length` filled."""

    def member(carry: Carry, hypers: Any):
        shapes = jax.eval_shape(lambda: member_update(algorithm, carry, hypers)[1])
        empty = jax.tree.map(lambda x: jnp.zeros((room, *x.shape), x.dtype), shapes)

        def step(i, loop):
            carry, seen = loop
            carry, metrics = member_update(algorithm, carry, hypers)
            return carry, jax.tree.map(lambda all, x: all.at[i].set(x), seen, metrics)

        return jax.lax.fori_loop(0, length, step, (carry, empty))

    laid = Carry(algorithm.agents and algorithm.agents.partition, None)
    return plan.map(member, (laid, None), (laid, None))(carry, hypers)
