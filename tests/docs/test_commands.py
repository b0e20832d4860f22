"""Every command in the documentation exists, and its parser accepts what is shown."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, commands, name

TRIED_ELSEWHERE = {"pip", "source", ".venv/bin/pip"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
COMMANDS = [(page, words) for page in PAGES for words in commands(page)]
EARLIER_COMMANDS_WRITE = {
    "lpg.npz": [
        *(f"results/lpg_meta_train/rule-{seed}.npz" for seed in range(3)),
        "results/distil_rule/rule-0.npz",
        "results/evolve_rule/rule-0.npz",
    ],
    "lpg_gridworlds.npz": [
        "results/evolve_hand_rule/rule-0.npz",
        "results/evolve_ta_hand_rule/rule-0.npz",
        "results/evolve_exploring_rule/rule-0.npz",
        "results/groove_vs_lpg/regret/rules-*/rule-0.npz",  # the shell would expand the star
        "results/groove_vs_lpg/uniform/rules-*/rule-0.npz",
    ],
    "ta_lpg.npz": ["results/ta_lpg_meta_train/rule-0.npz"],
    "lpo.npz": [
        "results/lpo_meta_train/drift-0.npz",
        "results/wide_drifts/drift-0.npz",
        "results/cartpole_lpo/drift-0.npz",
        "results/cartpole_ta_lpo/drift-0.npz",
    ],
    "ta_lpo.npz": ["results/ta_lpo_meta_train/drift-0.npz"],
}
"""Shipped rules, and the files of the documentation that they stand for."""
CHECKOUTS = (
    "PATH/purejaxrl/ppo.py",
    "PATH/purejaxrl/dqn.py",
    "PATH/purejaxql/pqn_gymnax.py",
    "PATH/meta/train.py",
    "PATH/algorithms/iql.py",
    "PATH/examples/maze_plr.py",
    "VENV/bin/python",
    "CHECKOUT/purejaxrl/algorithm.py",
)
"""Files by which a checkout, or a virtual environment, is known."""


def test_every_block_says_its_language():
    """So that none is left out of these tests."""
    unknown = [
        f"{name(page)}:{block.line}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in ("python", "bash", "text")
    ]
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_programs_targets_and_modules_exist(page):
    wrong = []
    for program, *words in commands(page):
        if program == "make":
            ok = {word for word in words if "=" not in word} <= TARGETS
        elif program == "python" and words[0] == "-m":
            ok = importlib.util.find_spec(words[1]) is not None
        elif program == "python":
            ok = (ROOT / words[0]).exists()
        else:
            ok = program in TRIED_ELSEWHERE
        if not ok:
            wrong.append(" ".join([program, *words]))
    assert not wrong


@pytest.fixture
def workplace(tmp_path):
    """A folder that holds what the commands read: rules, and checkouts of this and of peers."""
    for rule, files in EARLIER_COMMANDS_WRITE.items():
        for file in map(tmp_path.joinpath, files):
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "algos/rules" / rule, file)
    for checkout in CHECKOUTS:
        file = tmp_path / checkout
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def test_experiments_accept_the_command_lines_that_are_shown(workplace):
    experiments = [
        (name(page), words[1:])
        for page, words in COMMANDS
        if words[0] == "python" and words[1].startswith("experiments/")
        if "$(python" not in words  # what the shell would substitute
    ]
    assert len(experiments) > 100
    asked = [(words[0], words[1:]) for _, words in experiments]
    done = subprocess.run(
        [sys.executable, ROOT / "tests/docs/parse_commands.py"],
        input=json.dumps(asked), capture_output=True, text=True, cwd=workplace,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PUREJAXRL_CPU_DEVICES": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrong = {
        f"{page}: {' '.join(words)}": error
        for (page, words), error in zip(experiments, json.loads(done.stdout), strict=True)
        if error
    }
    assert not wrong
