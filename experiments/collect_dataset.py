"""Record offline datasets with agents of our own, by D4RL's definitions.

python experiments/collect_dataset.py                              # Pendulum
python experiments/collect_dataset.py --env gridworld-small --total-steps 1e5
python experiments/collect_dataset.py --env hopper --backend spring --total-steps 5e5

An expert is trained: SAC where actions are continuous, DQN where they are discrete. Then each of
these is recorded to OUT/NAME.npz, with a card (Fu et al. 2020, arXiv 2004.07219):

random         uniformly random actions
medium         the first policy a third of the way from random actions' return to the expert's
expert         the policy at the end
medium-replay  what the agent saw until it was medium
medium-expert  half and half
random-expert  19 steps of random to one of expert, for `--weights` (Hong et al. 2023)

OUT/cards.csv has all cards, and OUT/training.csv the expert's learning curve.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import dataclasses
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd
from rich.table import Table

import envs
from algos import dqn, sac
from purejaxrl.algorithm import Algorithm, Task, update
from purejaxrl.launch import command, say, updates_for, writable_folder
from purejaxrl.offline.files import Card, check_steps, count_pairs, describe, save_dataset
from purejaxrl.offline.record import cut, join, record, replayed
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.networks import is_discrete
from purejaxrl.parts.rollout import sampled, uniform
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.evaluate import MAX_STEPS, evaluate, play_at_random
from purejaxrl.running.logs import ProgressLine, console
from purejaxrl.validation import (
    check_hypers,
    require,
    require_count,
    require_known,
    require_seed,
)

EPISODES = 64
"""Episodes of an evaluation."""
STAGES = 100
"""Evaluations while the expert learns; medium is one of them."""
ENVS = 10
"""Environments side by side in a recording."""
WARMUP = 1_000
"""Steps of random actions before the expert learns."""
MEDIUM = 1 / 3
"""Normalised return of the medium policy."""


@dataclass(frozen=True)
class Settings:
    """What to record."""

    env: str = "Pendulum-v1"
    """Environment."""
    backend: Literal["spring", "positional", "generalized", "mjx"] = "spring"
    """Brax's physics."""
    total_steps: float = 1e5
    """Environment steps of the expert's training; the replay buffer keeps them all."""
    num_steps: int = 100_000
    """Steps of each dataset, a multiple of 20; medium-replay has what the agent saw."""
    num_batches: int = 2
    """Gradient steps in ten environment steps: the fewer, the longer the agent is medium."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the agent's networks; tables have none."""
    learning_rate: float = 1e-3
    """Step size of everything that the agent learns."""
    seed: int = 0
    """Seed."""
    out: Path | None = None
    """Folder; by default results/datasets/ENV."""

    def __post_init__(self):
        require_known("environment", self.env, envs.names())
        require_count(self, "num_steps", "num_batches")
        require_seed(self)
        fits = self.total_steps >= 2 * WARMUP and self.total_steps % ENVS == 0
        expected = f"a multiple of {ENVS} >= {2 * WARMUP:,}"
        require(fits, self, "total_steps", expected)
        require(self.num_steps % (2 * ENVS) == 0, self, "num_steps", f"a multiple of {2 * ENVS}")
        out = self.out or Path("results/datasets") / self.env
        object.__setattr__(self, "out", writable_folder(out))

    def env_settings(self) -> dict[str, Any]:
        """Return what the environment is made with."""
        return envs.look_up(self.env, {"Brax": {"backend": self.backend}}, {})


class Stage(NamedTuple):
    """An agent while it learns."""

    env_steps: int
    ret: float
    policy: Any


def make_agent(settings: Settings, env: Any) -> tuple[Algorithm, Any]:
    """Make an agent whose buffer keeps everything, and its hyperparameters."""
    sizes = dict(
        num_envs=ENVS, capacity=round(settings.total_steps), warmup_steps=WARMUP, batch_size=128,
        num_batches=settings.num_batches,
    )  # fmt: skip
    if is_discrete(env):
        config = dqn.Config(**sizes, hidden=settings.hidden)
        return dqn.make(config, env), dqn.Hypers(learning_rate=settings.learning_rate)
    config = sac.Config(**sizes, hidden=settings.hidden)
    rate = settings.learning_rate
    return sac.make(config, env), sac.Hypers(actor_rate=rate, critic_rate=rate, alpha_rate=rate)


def train(settings: Settings, algorithm: Algorithm, hypers: Any, env: Any, env_params: Any):
    """Train the expert; returns its stages, and its state at the end."""
    config = algorithm.config
    total = updates_for(settings.total_steps, config.steps_per_update, config.warmup_steps)
    length = max(1, total // STAGES)
    task = Task(env_params, jnp.int32(total))
    state = jax.jit(algorithm.init)(jax.random.key(settings.seed), hypers, task)

    @jax.jit
    def advance(state: Any) -> Any:
        step = lambda state, _: (update(algorithm, state, hypers)[0], None)  # noqa: E731
        return jax.lax.scan(step, state, length=length)[0]

    @jax.jit
    def mean_return(policy: Any, key: jax.Array) -> jax.Array:
        return evaluate(
            algorithm, env, key, policy, env_params,
            num_episodes=EPISODES, greedy=False, max_steps=MAX_STEPS,
        ).ret.mean()  # fmt: skip

    stages, num_stages = [], total // length
    with closing(ProgressLine(num_stages * length, 0, show=True)) as progress:
        for number in range(num_stages + 1):
            state = advance(state) if number else state
            policy = algorithm.policy(state)
            ret = float(mean_return(policy, jax.random.key(number)))
            env_steps = config.warmup_steps + number * length * config.steps_per_update
            stages.append(Stage(env_steps, ret, jax.device_get(policy)))
            progress.evaluation = ret
            progress.advance(number * length, env_steps, math.nan)
    return stages, state


def medium_of(stages: Sequence[Stage], random: float) -> Stage:
    """Return the first stage that is a third of the way from random actions to the expert.

    Args:
        stages: stages of the expert while it learns; the last one is the expert.
        random: the mean return of random actions, less than the expert's.
    """
    least = random + MEDIUM * (stages[-1].ret - random)
    return next(stage for stage in stages if stage.ret >= least)


def main(settings: Settings) -> None:
    env, env_params = envs.make(settings.env, **settings.env_settings())
    env = for_network(env, tables=True)
    algorithm, hypers = make_agent(settings, env)
    check_hypers(hypers)
    settings.out.mkdir(parents=True, exist_ok=True)
    there = sorted(path.name for path in settings.out.glob("*.npz"))
    none = f"a folder without datasets; it has {', '.join(there)}, which runs may depend on"
    require(not there, settings, "out", none)
    sizes = dict(num_steps=settings.num_steps // ENVS, num_envs=ENVS)
    random_key, medium_key, expert_key = jax.random.split(jax.random.key(settings.seed), 3)
    at_random = record(random_key, env, env_params, uniform(env), **sizes)
    check_steps(at_random.steps, f"random steps of {settings.env}")  # before hours of training
    stages, state = train(settings, algorithm, hypers, env, env_params)
    curve = pd.DataFrame({"env_steps": s.env_steps, "return": s.ret} for s in stages)
    curve.to_csv(settings.out / "training.csv", index=False)
    finite = math.isfinite(stages[-1].ret)
    require(finite, settings, "learning_rate", "a step size with which the expert does not diverge")

    played = play_at_random(env, jax.random.key(0), env_params, num_episodes=1024)
    random, expert = float(played.ret.mean()), stages[-1].ret
    require(
        expert > random, settings, "total_steps",
        f"enough for an expert; its return is {expert:.4g}, that of random actions {random:.4g}",
    )  # fmt: skip
    medium = medium_of(stages, random)

    @jax.jit
    def play(key: jax.Array, policy: Any) -> Dataset:
        return record(key, env, env_params, sampled(algorithm.act, policy), **sizes)

    sets = {
        "random": at_random,
        "medium": play(medium_key, medium.policy),
        "expert": play(expert_key, stages[-1].policy),
    }
    sets["medium-replay"] = replayed(state.replay, medium.env_steps, ENVS)
    half, few = settings.num_steps // 2, settings.num_steps // 20
    sets["medium-expert"] = join([cut(sets["medium"], half), cut(sets["expert"], half)])
    few_good = [cut(sets["random"], settings.num_steps - few), cut(sets["expert"], few)]
    sets["random-expert"] = join(few_good)

    pairs = count_pairs(state.replay.contents)
    agent = "DQN" if is_discrete(env) else "SAC"
    words = {
        "random": "uniformly random actions",
        "medium": f"{agent} after {medium.env_steps:,} steps",
        "expert": f"{agent} after {stages[-1].env_steps:,} steps",
        "medium-replay": f"all that {agent} saw in {medium.env_steps:,} steps",
        "medium-expert": "medium and expert, half and half",
        "random-expert": "random and expert, 19 steps to one",
    }
    cards = {}
    for name, dataset in sets.items():
        card = Card(settings.env, words[name], random, expert, settings.env_settings())
        cards[name] = describe(dataset, card, pairs)
        save_dataset(settings.out / f"{name}.npz", dataset, cards[name])
    report(cards, settings.out)


def report(cards: dict[str, Card], out: Path) -> None:
    """Print and save the cards."""
    rows = [{"dataset": name} | dataclasses.asdict(card) for name, card in cards.items()]
    pd.DataFrame(rows).to_csv(out / "cards.csv", index=False)
    table = Table("dataset", "steps", "episodes", "return: least, median, most", "TQ", "SACo")
    for name, card in cards.items():
        least, _, median, _, most = card.return_quantiles
        table.add_row(
            name, f"{card.num_steps:,}", f"{card.num_episodes:,}",
            f"{least:.4g}, {median:.4g}, {most:.4g}", f"{card.quality:.2f}", f"{card.coverage:.2f}",
        )  # fmt: skip
    console.print(table)
    say(f"the datasets are in {out}")


if __name__ == "__main__":
    command(main, Settings)
