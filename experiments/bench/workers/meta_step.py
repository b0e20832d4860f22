"""Time meta-steps on `all_shortlife`, or a part of a meta-step alone.

Arguments: kind, agents, environments, steps, K, width of the rule, repeats, capacity of the buffer.

- `step`: a meta-step of LPG.
- `remat`: the same, recomputing updates in the backward pass.
- `groove`: a meta-step of GROOVE, with its level buffer and its antagonists.
- `evolution`: a generation of TA-LPG with lives of 10 to 250 updates; the number of agents is the
  number of candidates.
- `arithmetic`: only the matrix products of the rule's recurrent network.
- `buffer`: only the work that a meta-step of GROOVE does with its buffer when one life ends.
"""

from purejaxrl.running.devices import CPU_GROUP, use_cpu_cores

use_cpu_cores()

import json
import sys
import time

import jax
import jax.numpy as jnp
from timing import resources

from algos import groove, lpg, meta_lpg, ta_lpg
from envs import gridworld_levels
from envs.gridworld import GridWorld
from purejaxrl.meta import evolution, gradient
from purejaxrl.running import chunk
from purejaxrl.running.population import populate, seeds
from purejaxrl.ued.buffer import NOT_KEPT, Visits
from purejaxrl.ued.curriculum import Replay, replay
from purejaxrl.ued.scores import algorithmic_regret

META_STEPS = 4
LEVELS = gridworld_levels.LEVELS["all_shortlife"]
ENV = GridWorld(LEVELS.sample)


def peak_mb() -> float:
    return resources()["peak_mb"]


def planned_mb(compiled) -> float:
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def lpg_learner(config: lpg.Config, settings: gradient.Config):
    world = meta_lpg.world(config, ENV, LEVELS.sample_lifetime)
    learner = meta_lpg.by_gradient(settings, config, world)
    return learner, gradient.Hypers(agent=lpg.Hypers(), regularizer=meta_lpg.Regularizer())


def groove_learner(config: lpg.Config, settings: gradient.Config, capacity: int):
    whole = groove.Config(**vars(settings), capacity=capacity)
    learner = groove.make(whole, config, ENV, LEVELS.sample, LEVELS.sample_lifetime)
    return learner, groove.hypers()


def evolution_learner(envs: int, steps: int, width: int, candidates: int):
    config = ta_lpg.Config(num_envs=envs, num_steps=steps, rule_width=width)
    sample_lifetime = gridworld_levels.LEVELS["all_vrandlife"].sample_lifetime
    world = meta_lpg.world(config, ENV, sample_lifetime)
    learner = meta_lpg.by_evolution(evolution.Config(candidates // 2), config, world)
    return learner, evolution.Hypers(agent=lpg.Hypers())


def meta_step(learner, hypers):
    """Compile a chunk of the runner; return a function that runs it, compile seconds, and MB."""
    population = populate(seeds(1), hypers, ())
    plan = chunk.plan_for(learner, population)
    carry = chunk.start(learner, population, plan, META_STEPS)
    began = time.perf_counter()
    program = chunk.compile_chunk(learner, population, plan, META_STEPS, carry)
    compile_s = time.perf_counter() - began

    def run():
        nonlocal carry
        carry, metrics = program(META_STEPS, carry)
        jax.block_until_ready(carry)
        return float(metrics["env_steps"][0].mean())

    return run, compile_s, planned_mb(program.chunk)


def arithmetic(agents: int, envs: int, steps: int, updates: int, width: int):
    """Compile the products h W, dh Wᵀ and hᵀ dh of all steps and updates; return as `meta_step`."""
    share = agents // jax.device_count()
    rows = min(share, CPU_GROUP) * envs
    times = META_STEPS * share * envs * steps * updates // rows
    state, gates = jnp.ones((jax.device_count(), rows, width)), jnp.ones((width, 3 * width)) / width

    def on_device(h):
        def body(_, carry):
            h, total = carry
            product = h @ gates
            back = product @ gates.T
            return 0.5 * (h + back), total + h.T @ product

        return jax.lax.fori_loop(0, times, body, (h, jnp.zeros_like(gates)))

    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=auto)
    spec = jax.sharding.PartitionSpec("devices")
    mapped = jax.shard_map(
        lambda h: jax.tree.map(lambda x: x[None], on_device(h[0])),
        mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False,
    )  # fmt: skip
    began = time.perf_counter()
    compiled = jax.jit(mapped).lower(state).compile()
    compile_s = time.perf_counter() - began
    return lambda: jax.block_until_ready(compiled(state)) and 0, compile_s, planned_mb(compiled)


def buffer_alone(agents: int, capacity: int):
    """Compile a full buffer's work in place: probabilities, draws, one report; as `meta_step`."""
    curriculum = replay(LEVELS.sample, algorithmic_regret, capacity)
    level = ENV.default_params
    buffer = curriculum.init(jax.random.key(0), Replay(), agents)
    buffer = buffer._replace(
        filled=jnp.ones(capacity, bool), score=jax.random.normal(jax.random.key(0), (capacity,))
    )
    levels = jax.tree.map(lambda x: jnp.broadcast_to(x, (agents, *x.shape)), level)
    score, over = jnp.full(agents, 9.0), jnp.arange(agents) == 0

    def once(_, carry):
        key, buffer, slot = carry
        key, sample_key = jax.random.split(key)
        visits = Visits(slot, levels, score, score, over)
        buffer = curriculum.report(buffer, Replay(), visits)
        buffer, draw = curriculum.sample(sample_key, buffer, Replay(), over, None)
        return key, buffer, jnp.where(over, draw.chosen.slot, slot)

    loop = jax.jit(lambda carry: jax.lax.fori_loop(0, META_STEPS, once, carry), donate_argnums=0)
    carry = jax.random.key(0), buffer, jnp.full(agents, NOT_KEPT)
    began = time.perf_counter()
    compiled = loop.lower(carry).compile()
    compile_s = time.perf_counter() - began

    def run():
        nonlocal carry
        carry = jax.block_until_ready(compiled(carry))
        return 0

    return run, compile_s, planned_mb(compiled)


kind, *numbers = sys.argv[1:]
agents, envs, steps, updates, width, repeats, *capacity = map(int, numbers)
jax.block_until_ready(jnp.ones(1))
idle = peak_mb()
config = lpg.Config(num_envs=envs, num_steps=steps, rule_width=width)
settings = gradient.Config(num_agents=agents, num_updates=updates, rematerialize=kind == "remat")
if kind == "arithmetic":
    run, compile_s, program_mb = arithmetic(agents, envs, steps, updates, width)
elif kind == "buffer":
    run, compile_s, program_mb = buffer_alone(agents, *capacity)
elif kind == "evolution":
    run, compile_s, program_mb = meta_step(*evolution_learner(envs, steps, width, agents))
elif kind == "groove":
    run, compile_s, program_mb = meta_step(*groove_learner(config, settings, *capacity))
else:
    run, compile_s, program_mb = meta_step(*lpg_learner(config, settings))
run()
seconds, env_steps = [], []
for _ in range(repeats):
    began = time.perf_counter()
    env_steps.append(run())
    seconds.append((time.perf_counter() - began) / META_STEPS)
print(
    json.dumps(
        {
            "seconds": seconds,
            "compile_s": compile_s,
            "env_steps": env_steps,
            "program_mb": program_mb,
            "idle_mb": idle,
        }
        | resources()
    )
)
