"""One meta-step of LPG on `all_shortlife`, or its recurrent arithmetic alone.

Arguments: step, remat or arithmetic; agents, environments, steps, K, width of the rule, repeats.
"""

from purejaxrl.devices import CPU_GROUP, use_cpu_cores

use_cpu_cores()

import json
import resource
import sys
import time

import jax
import jax.numpy as jnp

from algos import lpg
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl import networks
from purejaxrl.meta import gradient
from purejaxrl.population import populate, seeds
from purejaxrl.runner import Carry, RunOptions, _chunk, _start, plan_for

META_STEPS = 4


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def meta_step(agents: int, envs: int, steps: int, updates: int, width: int, remat: bool):
    """A compiled chunk of the runner, as a function without arguments, and its compile time."""
    levels = LEVELS["all_shortlife"]
    env = GridWorld(levels.sample)
    config = lpg.Config(num_envs=envs, num_steps=steps, rule_width=width)
    learner = gradient.make(
        gradient.Config(num_agents=agents, num_updates=updates, rematerialize=remat),
        lpg.make(config, env),
        networks.readout(env.observation_space(), None, 1),
        init_theta=lambda key: lpg.init_rule(key, config),
        insert=lpg.with_rule,
        sample_level=levels.sample,
        sample_lifetime=levels.sample_lifetime,
    )
    hypers = gradient.Hypers(agent=lpg.Hypers(), regularizer=lpg.Regularizer())
    population = populate(seeds(1), hypers, ())
    plan = plan_for(learner, population, RunOptions())
    state = plan.place(_start(learner, population), Carry(learner.partition, None))
    hypers = plan.place(population.hypers)
    began = time.perf_counter()
    chunk = plan.jit(_chunk, static_argnums=(0, 1, 2), donate_argnums=4)
    length = jnp.int32(META_STEPS)
    compiled = chunk.lower(learner, plan, META_STEPS, length, state, hypers).compile()
    compile_s = time.perf_counter() - began

    def run():
        nonlocal state
        state, metrics = compiled(length, state, hypers)
        jax.block_until_ready(state)
        return int(metrics["env_steps"][0, 0])

    return run, compile_s


def arithmetic(agents: int, envs: int, steps: int, updates: int, width: int):
    """The products h W, dh Wᵀ and hᵀ dh of all steps and updates, on every device."""
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
    return lambda: jax.block_until_ready(compiled(state)) and 0, compile_s


kind, *numbers = sys.argv[1:]
*shapes, repeats = map(int, numbers)
jax.block_until_ready(jnp.ones(1))
idle = peak_mb()
build = arithmetic if kind == "arithmetic" else meta_step
run, compile_s = build(*shapes) if kind == "arithmetic" else build(*shapes, kind == "remat")
run()
seconds, env_steps = [], 0
for _ in range(repeats):
    began = time.perf_counter()
    env_steps = run()
    seconds.append((time.perf_counter() - began) / META_STEPS)
print(
    json.dumps(
        {
            "seconds": seconds,
            "compile_s": compile_s,
            "env_steps": env_steps,
            "peak_mb": peak_mb(),
            "idle_mb": idle,
        }
    )
)
