"""What the devices compute: a chunk of updates of every member of a population.

`update` is scanned on the device. A member whose parameters or losses stop being finite is frozen
at its last good state, and leaves the others alone.

The members that the devices run at the same time have arrays of their own, which a chunk takes and
gives back in place. So a replay buffer is neither copied nor selected, however large it is.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import (
    Algorithm,
    Metrics,
    Task,
    advance_where,
    check_metrics,
    is_finite,
    missing,
    update,
)
from purejaxrl.identity import is_key
from purejaxrl.running import processes
from purejaxrl.running.devices import Layout, layout
from purejaxrl.running.evaluate import Best, Evaluator, keep_best
from purejaxrl.running.population import Population

QUICK_COMPILATION = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


class Carry(NamedTuple):
    """What a checkpoint holds, leaves `[num_members, ...]`."""

    state: Any
    alive: jax.Array  # bool
    best: Best | tuple = ()  # where policies are evaluated


class Members(NamedTuple):
    """What members train with: lists of the leaves of `Hypers`, and how to put them together."""

    own: list[jax.Array]  # [num_members, ...]
    shared: list[jax.Array]
    structure: "Structure"


class Structure(NamedTuple):
    """The structure of `Hypers`, and which of its leaves all members share. Static."""

    treedef: Any
    is_shared: tuple[bool, ...]

    def __call__(self, own: list, shared: list) -> Any:
        """Put leaves together."""
        sources = iter(own), iter(shared)
        return self.treedef.unflatten(next(sources[s]) for s in self.is_shared)


def members_of(population: Population) -> Members:
    """Tell the hyperparameters that members share from their own."""
    leaves, treedef = jax.tree.flatten(population.hypers)
    is_shared = tuple(jax.tree.leaves(population.is_shared))
    own = [x for x, shared in zip(leaves, is_shared, strict=True) if not shared]
    shared = [x for x, shared in zip(leaves, is_shared, strict=True) if shared]
    return Members(own, shared, Structure(treedef, is_shared))


class Program(NamedTuple):
    """A compiled chunk, and where a population lies on the devices."""

    plan: Layout
    own: list  # hyperparameters of the members that run together, as `Members.own`
    shared: list
    room: int  # most updates in a chunk
    episode_means: tuple[str, ...]  # of the algorithm
    chunk: Any  # compiled (length, shared, carry, own) -> (carry, metrics); the carry is donated
    evaluation: Any  # jitted (when, members, best) -> (best, metrics); best is donated

    def __call__(self, length: int, carry: Sequence[Carry]) -> tuple[list[Carry], Metrics]:
        """Make `length` updates of every member, at most `room`.

        Returns:
            The carry, and metrics `[num_members, length]` on the host.
        """
        done = [
            self.chunk(jnp.int32(length), self.shared, one, own)
            for one, own in zip(carry, self.own, strict=True)
        ]
        metrics = self.gather([metrics for _, metrics in done])
        carry = [self._place_empty(one) for one, _ in done]
        return carry, {name: x[:, :length] for name, x in metrics.items()}

    def _place_empty(self, carry: Carry) -> Carry:
        """Shard empty arrays as the program expects them, because it returns them replicated."""
        shardings = self.chunk.input_shardings[0][2]
        place = lambda x, sharding: x if x.size else processes.put(x, sharding)  # noqa: E731
        return jax.tree.map(place, carry, shardings)

    def evaluate(self, update: int, carry: Sequence[Carry]) -> tuple[list[Carry], Metrics]:
        """Evaluate every member's policy, and keep the best ones.

        Returns:
            The carry, and metrics `[num_members]` on the host.
        """
        when = jax.random.fold_in(jax.random.key(0), update), jnp.int32(update)
        done = [self.evaluation(when, (one.state, one.alive), one.best) for one in carry]
        after = [one._replace(best=best) for one, (best, _) in zip(carry, done, strict=True)]
        return after, self.gather([metrics for _, metrics in done])

    def gather(self, groups: Sequence[Any]) -> Any:
        """Call `gather` with the layout of this program."""
        return gather(self.plan, groups)

    @property
    def num_bytes(self) -> int:
        """Memory that it takes on all devices together: state, experience, temporaries."""
        memory = self.chunk.memory_analysis()
        size = memory.argument_size_in_bytes * self.plan.groups + memory.temp_size_in_bytes
        return size * self.plan.mesh.size


def gather(plan: Layout, groups: Sequence[Any]) -> Any:
    """Copy trees to every host, leaves `[num_members, ...]`, without the padding."""
    join = lambda *x: _concatenate(x)[: plan.num_members]  # noqa: E731
    return jax.tree.map(join, *processes.fetch(list(groups)))


def _concatenate(parts: Sequence[Any]) -> Any:
    if is_key(parts[0]):
        return jnp.concatenate(parts)
    return np.concatenate(parts)


def plan_for(
    algorithm: Algorithm,
    population: Population,
    group: int | None = None,
    devices: list[jax.Device] | None = None,
) -> Layout:
    """Lay members over the devices, or a meta-learner's agents; see `devices.layout`."""
    num_agents = algorithm.agents.num_agents if algorithm.agents else None
    return layout(population.size, devices, group, num_agents)


def start(
    algorithm: Algorithm,
    population: Population,
    plan: Layout,
    horizon: int,
    evaluated: bool = False,
) -> list[Carry]:
    """Start every member, on the devices.

    On a CPU members start one by one. So a member starts alike however many there are, and no QR
    decomposition is batched, which could deadlock. On accelerators they start side by side, each on
    its device; a meta-learner's members run one by one there, too.

    Args:
        algorithm: what to run.
        population: the members to train.
        plan: where they lie.
        horizon: length of their lives, in updates.
        evaluated: whether the best policies are kept.
    """
    own, shared, structure = members_of(population)
    partition, part = _partition(algorithm), plan.of_one_group
    begin = functools.partial(_start_member, algorithm, structure, evaluated)
    start_together = part.jit(part.map(begin, num_shared=2))  # compiled once for all groups
    everything, started = (population.keys, own, population.env_params), []
    for index in plan.together:
        members = jax.tree.map(lambda x, index=index: x[index], everything)
        if plan.on_cpu or algorithm.agents:
            carry = _start_one_by_one(algorithm, structure, evaluated, horizon, shared, members)
            started.append(part.place(carry, partition))
        else:
            placed = jnp.int32(horizon), part.replicate(shared), part.place(members)
            started.append(start_together(*placed))
    return started


def abstract(algorithm: Algorithm, population: Population, evaluated: bool) -> Carry:
    """Return the shapes and types of a checkpoint."""
    own, shared, structure = members_of(population)
    members = population.keys, own, population.env_params
    begin = functools.partial(_start_one_by_one, algorithm, structure, evaluated)
    return jax.eval_shape(begin, 1, shared, members)


def place(algorithm: Algorithm, plan: Layout, carry: Carry, horizon: int) -> list[Carry]:
    """Lay loaded members over the devices, and set their horizon.

    The horizon changes when a run is extended.
    """
    task = carry.state.task
    task = task._replace(horizon=np.full_like(task.horizon, horizon))
    carry = carry._replace(state=carry.state._replace(task=task))
    partition = _partition(algorithm)
    return [
        plan.of_one_group.place(jax.tree.map(lambda x, index=index: x[index], carry), partition)
        for index in plan.together
    ]


def compile_chunk(
    algorithm: Algorithm,
    population: Population,
    plan: Layout,
    room: int,
    carry: Sequence[Carry],
    *,
    evaluator: Evaluator | None = None,
    optimize: bool = True,
) -> Program:
    """Compile a chunk of at most `room` updates.

    The length of a chunk is traced, so that one compilation serves every chunk, the last one too.

    Args:
        algorithm: what to run.
        population: the members to train.
        plan: where they lie.
        room: most updates in a chunk.
        carry: as `start` returns it, for its shapes.
        evaluator: how policies are evaluated, if they are.
        optimize: on a CPU, False takes about 40 % of the time to compile (PPO on CartPole: 2.3 s
            instead of 5.9 s). The program needs the same memory, and is up to six times slower.
    """
    members, part = members_of(population), plan.of_one_group
    own = [part.place([x[index] for x in members.own]) for index in plan.together]
    shared = part.replicate(members.shared)
    chunk = part.jit(_chunk, static_argnums=(0, 1, 2, 3), donate_argnums=6)
    lowered = chunk.lower(
        algorithm, part, members.structure, room, jnp.int32(0), shared, carry[0], own[0]
    )
    quick = not optimize and plan.on_cpu
    compiled = lowered.compile(QUICK_COMPILATION if quick else None)
    evaluate = functools.partial(_evaluate, algorithm, part, evaluator)
    return Program(
        plan,
        own,
        shared,
        room,
        tuple(algorithm.episode_means),
        compiled,
        part.jit(evaluate, donate_argnums=2),
    )


def member_update(algorithm: Algorithm, carry: Carry, hypers: Any) -> tuple[Carry, Metrics]:
    """Update one member, unless it is frozen: then its state stays, and its metrics are NaN or 0.

    The metrics gain `alive`. Tracing this function raises the errors of `check_metrics`.
    """
    state, metrics = update(algorithm, carry.state, hypers)
    check_metrics(algorithm, metrics)
    metrics = jax.tree.map(jnp.asarray, metrics)
    alive = carry.alive & is_finite(algorithm.vital(state, metrics))
    state = advance_where(algorithm, alive, state, carry.state)
    metrics = {name: jnp.where(alive, x, missing(x)) for name, x in metrics.items()}
    return carry._replace(state=state, alive=alive), metrics | {"alive": alive}


def _start_member(
    algorithm: Algorithm,
    structure: Structure,
    evaluated: bool,
    horizon: jax.Array,
    shared: list,
    member: tuple,
) -> Carry:
    key, own, env_params = member
    task = Task(env_params, jnp.asarray(horizon, jnp.int32))
    state = algorithm.init(key, structure(own, shared), task)
    state = jax.tree.map(_without_weak_type, state)  # as a checkpoint will restore it
    best = Best.start(algorithm.policy(state)) if evaluated else ()
    return Carry(state, jnp.bool_(True), best)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _start_one_by_one(
    algorithm: Algorithm,
    structure: Structure,
    evaluated: bool,
    horizon: jax.Array,
    shared: list,
    members: tuple,
) -> Carry:
    begin = functools.partial(_start_member, algorithm, structure, evaluated, horizon, shared)
    return jax.lax.map(begin, members)


def _without_weak_type(x: jax.Array) -> jax.Array:
    return x if is_key(x) else jax.lax.convert_element_type(x, x.dtype)


def _partition(algorithm: Algorithm) -> Carry:
    """How a member's carry is laid over the other mesh axes than `members`."""
    return Carry(algorithm.agents.partition if algorithm.agents else None, None, None)


def _chunk(
    algorithm: Algorithm,
    plan: Layout,
    structure: Structure,
    room: int,
    length: jax.Array,
    shared: list,
    carry: Carry,
    own: list,
) -> tuple[Carry, Metrics]:
    """Run `length` updates of every member; metrics `[members, room]`, the first `length` filled.

    The predicate of the loop has no member axis: a batched one would select over the whole carry.
    """

    def member(length: jax.Array, shared: list, carry: Carry, own: list):
        hypers = structure(own, shared)
        shapes = jax.eval_shape(lambda: member_update(algorithm, carry, hypers)[1])
        empty = jax.tree.map(lambda x: jnp.zeros((room, *x.shape), x.dtype), shapes)

        def step(i, loop):
            carry, seen = loop
            carry, metrics = member_update(algorithm, carry, hypers)
            return carry, jax.tree.map(lambda all, x: all.at[i].set(x), seen, metrics)

        return jax.lax.fori_loop(0, length, step, (carry, empty))

    laid = _partition(algorithm)
    mapped = plan.map(member, (laid, None), (laid, None), num_shared=2)
    return mapped(length, shared, carry, own)


def _evaluate(
    algorithm: Algorithm,
    plan: Layout,
    evaluator: Evaluator,
    when: tuple[jax.Array, jax.Array],
    members: tuple,
    best: Best,
) -> tuple[Best, Metrics]:
    """Evaluate members; returns the best policies so far, and metrics `[members]`."""
    member = functools.partial(keep_best, algorithm, evaluator)
    laid = _partition(algorithm)[:2]
    return plan.map(member, (laid, None), num_shared=1)(when, members, best)
