"""What `test_hosts.py` trains, in one process or in several: `hosts_training.py OUT WHAT`."""

# ruff: noqa: E402
import sys
from pathlib import Path

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import numpy as np

from purejaxrl.meta import evolution
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.running import processes
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.ued.curriculum import uniform
from tests.helpers import arrays, train
from tests.purejaxrl.meta import small


def train_ppo(out: Path):
    """Train a population of five: over two devices, one place is empty."""
    return train(out, 6, members=5, chunk=4).state


def meta_train(learner, hypers, out: Path):
    """Make three meta-steps of one meta-learner."""
    options = RunOptions(str(out), chunk=2, progress=False)
    return run(learner, populate(seeds(1), hypers, ()), 3, options).state.params


def meta_learn(out: Path):
    """Learn LPG's rule by meta-gradient."""
    return meta_train(small.make(num_agents=4), small.HYPERS, out)


def evolve(out: Path):
    """Evolve LPG's rule on small levels."""
    learner = evolution.make(
        evolution.Config(num_pairs=4, group=2, num_episodes=1),
        World(
            "levels", small.INNER, small.ENV,
            curriculum=uniform(small.LEVELS["small"].sample),
            sample_lifetime=lambda key: small.jnp.int32(4),
            critic=networks.readout(small.ENV.observation_space(), None, 1),
        ),
        init_theta=lambda key: small.lpg.init_rule(key, small.AGENT),
        insert=small.lpg.with_rule,
    )  # fmt: skip
    return meta_train(learner, evolution.Hypers(agent=small.HYPERS.agent, std=0.1), out)


TRAININGS = {"ppo": train_ppo, "lpg": meta_learn, "evolution": evolve}


def main(out: Path, what: str) -> None:
    """Train, and save what was learned to OUT/learned.npz."""
    learned = TRAININGS[what](out / "run")
    if processes.is_first():
        np.savez(out / "learned.npz", *arrays(learned))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
