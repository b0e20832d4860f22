"""Every experiment, from its command line to the files that it promises, at the smallest scale."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.helpers import mostly_slow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments"

PPO = "--agent.num-envs 2 --agent.num-steps 8 --agent.num-minibatches 2 --total-steps 64"
LPG = "--agent.num-envs 2 --agent.rule-width 4 --seeds 2"
MAZE = "--total-steps 40000 --seeds 1"
CLIP = (
    "--agent.num-envs 2 --agent.num-steps 8 --agent.drift-width 4 --learner.num-pairs 4 "
    "--learner.max-steps 50 --worlds CartPole-v1 Catch-bsuite --lives.total-steps 64 128 "
    "--generations 2 --seeds 2 --validation-lives 4 --eval-every 1"
)
REPLAY = (
    "--agent.num-envs 2 --agent.capacity 64 --agent.warmup-steps 16 --agent.batch-size 4 "
    "--agent.hidden 4 --total-steps 64 --chunk 4 --log-every 2 --eval-every 4 --seeds 2"
)
RUN = ("run.json", "metrics", "checkpoints", "curves.png", "curves.csv")
COMPARISON = ("scores.csv", "table.csv", "scores.png")

COMMANDS = {
    "differentiate_rule": "--worlds random-mdp Catch-bsuite --agent.num-envs 2 --agent.hidden 4 "
    "--learner.num-agents 3 --learner.num-updates 1 --validation-lives 3 --meta-steps 2 --seeds 2 "
    "--eval-every 1",
    "distil_rule": "--worlds random-mdp Catch-bsuite --student.num-envs 2 --student.rule-width 4 "
    "--student.hidden 4 --learner.num-agents 6 --steps 3 --seeds 2",
    "dqn": f"{REPLAY} --agent.target-every 2",
    "drift_robustness": "--drifts lpo --envs Catch-bsuite --total-steps 20480 --seeds 2 "
    "--learning-rates 1e-3 1e-2",
    "evolve_hand_rule": "--worlds random-mdp Catch-bsuite --agent.num-envs 2 --agent.hidden 4 "
    "--learner.num-pairs 3 --learner.max-steps 50 --validation-lives 3 --generations 2 --seeds 2 "
    "--rule ta_residual_lpg --eval-every 1",
    "evolve_rule": "--worlds random-mdp Catch-bsuite --agent.num-envs 2 --agent.hidden 4 --seeds 2 "
    "--learner.num-pairs 3 --learner.max-steps 50 --validation-lives 3 --generations 2 "
    "--eval-every 1",
    "groove_meta_train": f"{LPG} --learner.num-agents 8 --learner.capacity 16 --meta-steps 3",
    "groove_static": "--num-levels 8 --num-chosen 4 --horizon 3 --num-episodes 2 --rules 2 "
    "--meta-steps 2 --learner.num-agents 2 --learner.num-updates 1 --agent.num-envs 2 "
    "--agent.rule-width 4 --envs gridworld-small --tune step-size --on-levels.num-agents 4 "
    "--on-levels.num-tuning 2 --on-levels.num-updates 20 --on-levels.tuning-rounds 0 "
    "--on-levels.greedy-episodes 0",
    "groove_vs_lpg": "--curricula uniform regret --envs gridworld-small --meta-steps 2 --seeds 1 "
    "--learner.num-agents 4 --learner.capacity 8 --learner.num-episodes 2 "
    "--on-levels.num-agents 4 --on-levels.num-tuning 2 --on-levels.num-updates 20 "
    "--on-levels.tuning-rounds 0 --on-levels.greedy-episodes 0",
    "guided_point_mass": "--num-paths 8 --updates 8 --model.width 4 --model.length 3 "
    "--model.batch-size 4 --guidance 0 1",
    "horizon_generalisation": "--rules lpg --horizons 2 4 --num-levels 4 --num-episodes 2",
    "lpg_meta_test": "--env gridworld-small --num-agents 4 --num-tuning 2 --num-updates 6 "
    "--num-envs 4 --tuning-rounds 0 --greedy-episodes 2",
    "lpg_meta_train": f"{LPG} --learner.num-agents 4 --meta-steps 3",
    "lpo_meta_train": f"{CLIP} --drift ta_lpo",
    "maze": f"{MAZE} --curriculum dr,plr,plr_regret,mixed_regret,accel,sfl,sfl_regret,frontier,"
    "paired,paired_regret",
    "maze_autoencoder": "--tokens.size 4 --tokens.max-walls 4 --steps 16 --latent 4 --hidden 8 "
    "--embedding 4 --batch-size 4 --seeds 2",
    "objective_atlas": "--objectives lpg lpo ta_lpo --horizons 4 --num-agents 4",
    "ppo": f"{PPO} --seeds 2 --env Breakout-MinAtar,Pendulum-v1,gridworld-small,inverted_pendulum",
    "pqn": "--agent.num-envs 2 --agent.num-steps 8 --agent.num-minibatches 2 --agent.hidden 4 "
    "--total-steps 64 --seeds 2",
    "ppo_rnn_memory": f"{PPO} --seeds 2",
    "ppo_vs_lpo": "--envs Catch-bsuite --total-steps 4096 --seeds 4 --num-tuning 1 "
    "--tune step-size --tuning-rounds 0 --greedy-episodes 0",
    "quickstart": f"{PPO} --seeds 2",
    "sac": REPLAY,
    "rule_tournament": "--contenders A2C PPO evolved lpg --envs CartPole-v1 bandit-contextual "
    "--total-steps 8192 --num-agents 3 --num-tuning 1 --tune step-size --tuning-rounds 0 "
    "--hidden 8 --num-envs 2 --greedy-episodes 2",
    "td3": REPLAY,
    "token_lab": "--objectives grpo,spo --updates 2 --eval-every 1 --warm-updates 2 --seeds 2 "
    "--num-test 4 --num-samples 2 --k 2 --agent.num-prompts 4 --agent.num-answers 2 "
    "--agent.width 8 --agent.num-heads 2",
    "ued_tournament": "--contenders dr sfl --seeds 2 --total-steps 60000 --num-levels 20 "
    "--attempts 1 --agent.num-envs 4 --agent.num-steps 256 --agent.num-minibatches 1 "
    "--agent.hidden 8 --agent.memory-size 4 --shares 0.5 1",
    "ta_lpg_meta_train": f"{LPG} --learner.num-pairs 4 --lifetimes all_shortlife --generations 2",
    "ta_lpg_vs_lpg": "--meta-steps 2 --generations 2 --seeds 1 --num-envs 2 --rule-width 4 "
    "--horizons 2 4 --num-levels 4",
}
PROMISED = {  # files besides those of a run; where there is no entry, those are all
    "differentiate_rule": (*RUN, "rule-0.npz", "rule-1.npz", "evaluations"),
    "distil_rule": (*RUN, "rule-0.npz", "rule-1.npz", "fit.csv"),
    "drift_robustness": ("scores.csv", "suite.csv", "suite.png", "step_sizes.png"),
    "evolve_hand_rule": (*RUN, "settings.csv", "rule-0.npz", "rule-1.npz"),
    "evolve_rule": (*RUN, "rule-0.npz", "rule-1.npz", "evaluations"),
    "groove_meta_train": (*RUN, "rule-0.npz", "rule-1.npz"),
    "groove_static": (
        *(*COMPARISON, "relative.csv", "relative.png"),
        *("levels.npz", "levels.csv", "levels.png", "regrets.csv"),
    ),
    "groove_vs_lpg": (*COMPARISON, "relative.csv", "relative.png"),
    "guided_point_mass": ("paths.csv", "paths.png"),
    "horizon_generalisation": ("scores.csv", "table.csv", "horizons.png"),
    "lpg_meta_test": tuple(f"gridworld-small/{x}" for x in (*COMPARISON, "curves.png")),
    "lpg_meta_train": (*RUN, "rule-0.npz", "rule-1.npz"),
    "lpo_meta_train": (*RUN, "drift-0.npz", "drift-1.npz", "evaluations"),
    "maze": tuple(f"**/{x}" for x in (*RUN, "held_out.csv", "held_out.png")),
    "maze_autoencoder": (*RUN, "evaluations", "model-0", "model-1"),
    "objective_atlas": ("rules.png", "rules.csv", "lpo.png", "ta_lpo.png"),
    "ppo": tuple(f"*/{x}" for x in RUN),  # a folder for each environment
    "ppo_vs_lpo": (*COMPARISON, "Catch-bsuite/curves.png"),
    "rule_tournament": (
        *("scores.csv", "suite.csv", "environments.csv", "suite.png", "life.csv", "life.png"),
    ),
    "ta_lpg_meta_train": (*RUN, "rule-0.npz", "rule-1.npz"),
    "token_lab": (
        *("scores.csv", "table.csv", "curves.csv", "curves.png", "weights.csv", "weights.png"),
        *("warm_start-*/run.json", "grpo-*/run.json", "spo-*/run.json"),
    ),
    "ued_tournament": (
        *("scores.csv", "table.csv", "curves.csv", "tournament.png"),
        *("levels_dr.png", "levels_sfl.png", "levels.csv"),
    ),
    "ta_lpg_vs_lpg": ("LPG-gradient/rules-*/rule-0.npz", "scores.csv", "table.csv", "horizons.png"),
}


CHAINED = {
    "collect_dataset", "dynamics_error", "offline", "offline_search", "policy_guided_diffusion",
    "trajectory_diffusion",
}  # fmt: skip
"""Experiments that read what another has written: `test_offline_experiments.py` runs them."""


def test_there_is_a_command_for_every_experiment():
    assert {path.stem for path in FOLDER.glob("*.py")} == COMMANDS.keys() | CHAINED


def run_as_script(name: str, words: list[str], monkeypatch) -> None:
    """Run an experiment as `python experiments/NAME.py` does, in this process."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


QUICK = {  # the cheapest command of an experiment of every family; the slow tests have all of them
    "lpg_meta_train": "--agent.num-envs 2 --agent.num-steps 64 --agent.rule-width 4 "
    "--learner.num-agents 2 --learner.num-updates 1 --meta-steps 4 --seeds 2",
    "maze": "--agent.num-envs 2 --agent.num-steps 16 --agent.num-minibatches 1 "
    "--agent.num-epochs 1 --agent.hidden 8 --agent.memory-size 4 --total-steps 64 --seeds 1",
    "rule_tournament": "--contenders A2C --reference A2C --envs bandit-contextual --num-envs 2 "
    "--total-steps 2000 --num-agents 2 --num-tuning 1 --tune step-size --tuning-rounds 0 "
    "--hidden 4 --learning-rates 0.01 --greedy-episodes 0",
}


@pytest.mark.parametrize("name", mostly_slow(QUICK, {"rule_tournament"}))
def test_an_experiment_of_every_family_writes_its_files(name, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run_as_script(name, [*QUICK[name].split(), "--out", str(out)], monkeypatch)
    for pattern in PROMISED[name]:
        assert list(out.glob(pattern)), pattern


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_an_experiment_runs_to_its_end(name, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, FOLDER / f"{name}.py", *COMMANDS[name].split(), "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for pattern in PROMISED.get(name, RUN):
        assert list(out.glob(pattern)), pattern
