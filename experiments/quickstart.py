"""A population of PPO agents on CartPole, seeds × learning rates, from one command.

It trains them side by side, draws their learning curves, evaluates the final policies on new
episodes, saves the best policy, acts with it, and writes a GIF of it. Started again, it continues
where it stopped.

python experiments/quickstart.py
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import sys
from dataclasses import dataclass

import jax
import numpy as np
from rich import print

import envs
from algos import ppo
from purejaxrl.launch import Experiment, Job, RunFlags, launch, updates_for
from purejaxrl.running import processes
from purejaxrl.running.evaluate import evaluate_members, load_policy, save_policy
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.tables import describe
from purejaxrl.study.watch import watch

LEARNING_RATES = "2.5e-4,1e-3,4e-3"


@dataclass(frozen=True)
class Settings(Experiment):
    """What to train."""

    total_steps: float = 5e5
    """Environment steps per agent."""
    seeds: int = 8
    """Agents per learning rate."""
    agent: ppo.Config = ppo.Config()
    """PPO's static settings."""
    hypers: ppo.Hypers = ppo.Hypers()
    """PPO's hyperparameters."""
    run: RunFlags = RunOptions(out="results/quickstart", resume=True)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return "PPO on CartPole"


def build(settings: Settings) -> Job:
    env, env_params = envs.make("CartPole-v1")
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    return Job(ppo.make(settings.agent, env), env_params, num_updates, env)


def main() -> None:
    processes.require_single("a policy that is saved")
    argv = sys.argv[1:]
    given = {word.partition("=")[0].replace("_", "-") for word in argv}
    if "--hypers.learning-rate" not in given:
        argv += ["--hypers.learning-rate", LEARNING_RATES]
    for settings, job, result in launch(Settings, build, argv):
        env, env_params = job.env, job.env_params
        for greedy, how in ((True, "most likely actions"), (False, "sampled actions")):
            played = evaluate_members(
                job.algorithm, env, jax.random.key(1), result.state, env_params, greedy=greedy
            )
            returns = np.where(result.alive, played.ret.mean(axis=1), np.nan)
            print(f"evaluation, {how}: {describe(returns)} over {result.alive.sum()} agents")
        if not result.alive.any():
            print("all agents diverged: there is no policy to save")
            continue
        best = int(np.nanargmax(returns))
        folder = result.out / "policy"
        save_policy(folder, job.algorithm, job.algorithm.policy(result.member(best)))
        policy = load_policy(folder, job.algorithm, settings.hypers, env_params)
        obs, _ = env.reset(jax.random.key(2), env_params)
        action, _ = policy(obs)
        name = result.population.names[best]
        print(f"saved the policy of {name} to {folder}; on {np.round(obs, 3)} it chooses {action}")
        print(f"learning curves: {result.out / 'curves.png'}")
        picture = watch(
            job.algorithm, env, result.member(best), env_params, result.out / f"watch-{name}"
        )
        print(f"what it does: {picture}")


if __name__ == "__main__":
    main()
