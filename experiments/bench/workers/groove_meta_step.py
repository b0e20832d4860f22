"""Time meta-steps of LPG in the published code, from a checkout of GROOVE on PYTHONPATH.

Arguments: agents, environments, steps, K, width of the rule, repeats, mini-batches. The package
versions are those of the checkout's `setup/` (JAX 0.4.13). A meta-step is what the published
training loop does in one: the gradient step, then new levels for the agents whose life is over. It
also evaluates every agent's return, which ours does not; without that it takes as long.
"""

import json
import resource
import sys
import time

import jax
from environments.level_sampler import LevelSampler
from meta.meta import create_lpg_train_state, make_lpg_train_step

from experiments.parse_args import parse_args

META_STEPS = 4
NAMES = (
    "num_agents",
    "env_workers",
    "train_rollout_len",
    "num_agent_updates",
    "lpg_gru_width",
    "num_mini_batches",
)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


*sizes, repeats, mini_batches = map(int, sys.argv[1:])
values = dict(zip(NAMES, (*sizes, mini_batches), strict=True))
args = parse_args([f"--{name}={value}" for name, value in values.items()])
sampler = LevelSampler(args)
meta_step = make_lpg_train_step(args, sampler)


def body(carry, _):
    key, rule, agents, critics = carry
    key, step_key, sample_key = jax.random.split(key, 3)
    rule, agents, critics, metrics = meta_step(
        rng=step_key, lpg_train_state=rule, agent_states=agents, value_critic_states=critics
    )
    _, agents, critics = sampler.sample(sample_key, None, agents, critics)
    return (key, rule, agents, critics), metrics


def start(key):
    key, rule_key, agents_key = jax.random.split(key, 3)
    rule = create_lpg_train_state(rule_key, args)
    _, agents, critics = sampler.initial_sample(agents_key, None, args.num_agents, True)
    return key, rule, agents, critics


carry = jax.block_until_ready(jax.jit(start)(jax.random.PRNGKey(0)))
idle = peak_mb()
began = time.perf_counter()
program = jax.jit(lambda carry: jax.lax.scan(body, carry, None, META_STEPS), donate_argnums=0)
compiled = program.lower(carry).compile()
compile_s = time.perf_counter() - began


def run():
    global carry
    carry, metrics = jax.block_until_ready(compiled(carry))
    return metrics


run()
seconds = []
for _ in range(repeats):
    began = time.perf_counter()
    run()
    seconds.append((time.perf_counter() - began) / META_STEPS)
steps = args.num_agents * args.env_workers * args.train_rollout_len * (args.num_agent_updates + 1)
print(
    json.dumps(
        {
            "seconds": seconds,
            "compile_s": compile_s,
            "env_steps": [steps] * repeats,
            "peak_mb": peak_mb(),
            "program_mb": float("nan"),  # JAX 0.4.13 does not tell
            "idle_mb": idle,
        }
    )
)
