"""A run of an experiment may be made longer or moved, and is never continued as another."""

import importlib
import sys
from pathlib import Path

import jax
import pytest

from purejaxrl.identity import is_named
from purejaxrl.running import record
from purejaxrl.running.commandline import plan_runs
from tests.helpers import mostly_slow

FOLDER = Path(__file__).parents[2] / "experiments"
LONGER = {
    "differentiate_rule": "--meta-steps",
    "distil_rule": "--steps",
    "dqn": "--total-steps",
    "evolve_hand_rule": "--generations",
    "evolve_rule": "--generations",
    "groove_meta_train": "--meta-steps",
    "lpg_meta_train": "--meta-steps",
    "lpo_meta_train": "--generations",
    "maze": "--total-steps",
    "maze --curriculum plr": "--total-steps",
    "maze --curriculum accel": "--total-steps",
    "maze_autoencoder": "--steps",
    "ppo": "--total-steps",
    "ppo_rnn_memory": "--total-steps",
    "pqn": "--total-steps",
    "quickstart": "--total-steps",
    "sac": "--total-steps",
    "td3": "--total-steps",
    "ta_lpg_meta_train": "--generations",
}
CHANGED = [
    ("groove_meta_train", "--levels all"),
    ("groove_meta_train", "--learner.slots 4"),
    ("groove_meta_train", "--score pvl"),
    ("lpg_meta_train", "--levels all"),
    ("lpg_meta_train", "--lifetimes all_vrandlife"),
    ("lpo_meta_train", "--drift ta_lpo"),
    ("lpo_meta_train", "--worlds Acrobot-v1"),
    ("lpo_meta_train", "--epochs 4"),
    ("lpo_meta_train", "--lives.total-steps 2e4 1e5"),
    ("lpo_meta_train", "--lives.horizons 100 100"),
    ("maze", "--max-walls 25"),
    ("maze", "--curriculum plr"),
    ("maze --curriculum plr", "--max-walls 25"),
    ("maze --curriculum plr", "--learner.score maxmc"),
    ("maze --curriculum accel", "--learner.num-edits 6"),
    ("ppo", "--env Acrobot-v1"),
    ("ppo", "--agent.num-steps 64"),
    ("ppo_rnn_memory", "--memory-length 5"),
    ("ta_lpg_meta_train", "--lifetimes all_shortlife"),
]


QUICK = {
    "dqn", "lpg_meta_train", "maze_autoencoder", "ppo", "ppo_rnn_memory", "pqn", "quickstart",
    "sac", "td3",
}  # fmt: skip
"""Tried at every change; the others are marked slow."""


@pytest.fixture(autouse=True)
def same_devices(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    yield
    for path in FOLDER.glob("*.py"):  # other tests run the files anew
        sys.modules.pop(path.stem, None)


def identity(command, words):
    name, *first = command.split()
    module = importlib.import_module(name)
    (plan,) = plan_runs(module.Settings, module.build, first + words.split())
    found = record.identity(plan.job.algorithm, plan.population, plan.job.evaluator)
    assert all(map(is_named, found["made_of"])) and is_named(found["evaluator"] or "")
    return found


@pytest.mark.parametrize("name", mostly_slow(LONGER, QUICK))
def test_a_longer_run_in_another_folder_is_the_same_run(name):
    longer = identity(name, f"{LONGER[name]} 1000000 --out elsewhere --chunk 128")
    assert not record.first_difference(identity(name, ""), longer)


@pytest.mark.parametrize(
    ("name", "words"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] not in QUICK)) for case in CHANGED],
    ids=lambda x: x.replace(" ", "_"),
)
def test_a_changed_setting_makes_another_run(name, words):
    """Also where policies are not evaluated: the name of what evaluates them is not enough."""
    before, now = (identity(name, x) | {"evaluator": None} for x in ("", words))
    assert record.first_difference(before, now)
