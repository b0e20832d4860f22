"""Bad input ends with an error that names the field and its value, before anything trains.

`bad_command_lines.py` has the command lines. `CALLS` are calls of public functions that no other
test covers.
"""

import importlib
import re
import runpy
import sys
from pathlib import Path

import jax
import pytest

import envs
from algos import ppo, rules
from purejaxrl.algorithm import make_train
from purejaxrl.running import devices, record, runner
from purejaxrl.running.commandline import plan_runs
from purejaxrl.running.runner import RunOptions
from tests.bad_command_lines import COMMANDS
from tests.helpers import PPO

FOLDER = Path(__file__).parents[1] / "experiments"
MODULES = {"envs": "envs", "watch": "purejaxrl.study.watch"}  # what `python -m` runs


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Make what the tables name in braces."""
    folder = tmp_path_factory.mktemp("places")
    paths = {name: folder / name for name in ("empty", "file", "damaged.npz", "run", "learner")}
    for name in ("empty", "run", "learner"):
        paths[name].mkdir()
    paths["file"].touch()
    paths["damaged.npz"].write_bytes((rules.FOLDER / "lpg.npz").read_bytes()[:300])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
        for name, experiment in (("run", "ppo"), ("learner", "lpg_meta_train")):
            module, words = importlib.import_module(experiment), ["--seeds", "1"]
            (plan,) = plan_runs(module.Settings, module.build, words)
            identity = record.identity(plan.job.algorithm, plan.population, plan.job.evaluator)
            command = {"experiment": module.__file__, "words": words}
            record.claim(paths[name], False, identity, command=command)
            (paths[name] / record.SAVED).touch()
    yield {name.removesuffix(".npz"): str(path) for name, path in paths.items()}
    for path in FOLDER.glob("*.py"):  # other tests run the files anew
        sys.modules.pop(path.stem, None)


@pytest.fixture(autouse=True)
def without_training(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("bad input is trained on")

    monkeypatch.setattr(runner, "compile_chunk", refuse)
    monkeypatch.setattr(devices.Layout, "jit", refuse)


def test_there_is_a_bad_command_line_for_every_experiment():
    experiments = {path.stem for path in FOLDER.glob("*.py")}
    assert {name for name, _, _ in COMMANDS} == experiments | MODULES.keys()


@pytest.mark.parametrize(("name", "words", "message"), COMMANDS, ids=lambda x: x.replace(" ", "_"))
def test_a_bad_command_line_ends_with_a_named_error(
    name, words, message, places, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "out"
    words = words.format(**places).split()
    words += [] if "--out" in words or name == "watch" else ["--out", str(out)]
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    monkeypatch.delitem(sys.modules, "purejaxrl.study.watch", raising=False)  # run_module warns
    with pytest.raises(SystemExit) as stopped:
        if name in MODULES:
            runpy.run_module(MODULES[name], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert stopped.value.code == 2
    said = capfd.readouterr()
    assert re.search(message, re.sub(r"[│╭╰─╮╯\s]+", " ", said.out + said.err))
    assert not out.exists()


CALLS = {
    "make_train(agent, 2.5)": (lambda: make_train(PPO, 2.5), "num_updates: 2.5 is not valid"),
    "make_train(agent, 2**31)": (
        lambda: make_train(PPO, 2**31),
        r"num_updates: 2147483648 is not valid; .* < 2\*\*31",
    ),
    "ppo.Config(num_minibatches=4)": (
        lambda: ppo.Config(num_envs=1, num_steps=4, num_minibatches=4),
        r"Config.num_minibatches: 4 is not valid; .* less than num_envs \* num_steps = 4",
    ),
    "RunOptions(group=2.5)": (lambda: RunOptions(group=2.5), "RunOptions.group: 2.5 is not valid"),
    "RunOptions(out='')": (lambda: RunOptions(out=""), "RunOptions.out: '' is not valid"),
    "envs.make of an observation": (
        lambda: envs.make("gridworld-small", observation="pixels"),
        "unknown observation 'pixels'; did you mean: planes",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_bad_argument_of_a_public_function_is_named(call):
    function, message = CALLS[call]
    with pytest.raises(ValueError, match=message):
        function()
