"""Every experiment, from its command line to its files, at the smallest scale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments"

PPO = "--agent.num-envs 2 --agent.num-steps 8 --agent.num-minibatches 2 --total-steps 64"
LPG = "--agent.num-envs 2 --agent.rule-width 4 --seeds 2"
MAZE = "--total-steps 40000 --seeds 1"
CLIP = (
    "--agent.num-envs 2 --agent.num-steps 8 --agent.drift-width 4 --config.num-pairs 4 "
    "--config.max-steps 50 --total-steps 64 --generations 2 --seeds 2"
)

COMMANDS = {
    "groove_meta_train": "--config.agent.num-envs 2 --config.agent.rule-width 4 --seeds 2 "
    "--config.learner.num-agents 8 --config.capacity 16 --meta-steps 3",
    "groove_vs_lpg": "--curricula uniform regret --envs gridworld-small --meta-steps 2 --seeds 1 "
    "--on-levels.num-agents 4 --on-levels.num-tuning 2 --on-levels.num-updates 20",
    "horizon_generalisation": "--rules lpg --horizons 2 4 --num-levels 4 --num-episodes 2",
    "lpg_meta_test": "--env gridworld-small --num-agents 4 --num-tuning 2 --num-updates 6",
    "lpg_meta_train": f"{LPG} --config.num-agents 4 --meta-steps 3",
    "lpo_meta_train": CLIP,
    "maze_accel": MAZE,
    "maze_dr": MAZE,
    "maze_plr": MAZE,
    "objective_atlas": "--objectives lpg lpo ta_lpo --horizons 4 --num-agents 4",
    "ppo": f"{PPO} --seeds 2 --env Breakout-MinAtar,Pendulum-v1,gridworld-small,inverted_pendulum",
    "ppo_rnn_memory": f"{PPO} --seeds 2",
    "ppo_vs_lpo": "--envs Catch-bsuite --total-steps 4096 --seeds 4 --num-tuning 2",
    "quickstart": f"{PPO} --seeds 2",
    "ta_lpg_meta_train": f"{LPG} --config.num-pairs 4 --lifetimes all_shortlife --generations 2",
    "ta_lpg_vs_lpg": "--meta-steps 2 --generations 2 --seeds 1 --num-envs 2 --rule-width 4 "
    "--horizons 2 4 --num-levels 4",
    "ta_lpo_meta_train": CLIP,
}
HELPERS = {"maze_held_out"}


def test_there_is_a_command_for_every_experiment():
    assert {path.stem for path in FOLDER.glob("*.py")} == COMMANDS.keys() | HELPERS


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_it_runs_to_its_end_and_leaves_what_it_says(name, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, FOLDER / f"{name}.py", *COMMANDS[name].split(), "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(out.rglob("*.png")), "an experiment draws"
