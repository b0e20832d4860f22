"""Bad input ends with an error that names the field and its value, before anything trains.

`COMMANDS` are command lines of every experiment and tool. In them, `{empty}` is an empty folder,
`{file}` a file, `{damaged}` the beginning of a rule's file, `{run}` a run of PPO and `{learner}` a
run of a meta-learner. `CALLS` are calls of public functions that no other test covers.
"""

import importlib
import re
import runpy
import sys
from pathlib import Path

import jax
import pytest

import envs
from algos import lpo, ppo, rules
from purejaxrl.algorithm import make_train
from purejaxrl.parts.wrappers import ScaleAction
from purejaxrl.running import devices, record, runner
from purejaxrl.running.commandline import plan_runs, rebuild
from purejaxrl.running.population import seeds
from purejaxrl.running.runner import RunOptions
from tests.helpers import CONFIG, ENV, PPO

FOLDER = Path(__file__).parents[1] / "experiments"
MODULES = {"envs": "envs", "watch": "purejaxrl.study.watch"}  # what `python -m` runs
OF_STUDENTS = r"it must be one of l1, learnability, maxmc, pvl, random"
DISCRETE = r"'Pendulum-v1' is not valid: action_space: Box\(1,\) .* must be Discrete"
NO_FOLDER = r"out: .* is not valid; it must be a folder to write to"

PLR = "--curriculum plr"

COMMANDS = [
    ("differentiate_rule", "--rule lpo", r"unknown rule 'lpo'; did you mean: lpg"),
    ("differentiate_rule", "--worlds nowhere", r"unknown world 'nowhere'"),
    ("differentiate_rule", "--meta-steps 0", r"Settings.meta_steps: 0 is not valid"),
    ("distil_rule", "--worlds random-mpd", r"unknown world 'random-mpd'; did you mean: random-mdp"),
    ("distil_rule", "--worlds", r"worlds: \[\] is not valid"),
    ("distil_rule", "--steps 0", r"Settings.steps: 0 is not valid"),
    ("distil_rule", "--learner.num-agents 3", r"num_agents: 3 is not valid; .* multiple of 12"),
    ("distil_rule", "--hypers.by-student 2", r"Hypers.by_student: 2.0 is not valid"),
    ("drift_robustness", "--drifts lpg", r"unknown setting .* of rule 'lpg' 'num_minibatches'"),
    ("drift_robustness", "--drifts", r"Settings.drifts: \(\) is not valid"),
    ("drift_robustness", "--drifts {empty}", r"rule: .* holds no rule"),
    ("drift_robustness", "--envs gridworld", r"unknown environment 'gridworld'"),
    ("drift_robustness", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("drift_robustness", "--learning-rates 1 1", r"learning_rate: \(1.0, 1.0\) .* all different"),
    ("drift_robustness", "--total-steps 10", r"total_steps: 10 is not valid"),
    ("drift_robustness", "--out {file}", NO_FOLDER),
    ("envs", "nothing", r"unknown environment 'nothing'; did you mean: chain-long"),
    ("envs", "[/b]", r"unknown environment '\[/b\]'"),
    ("envs", "gridworld-small --levels 0", r"Settings.levels: 0 is not valid"),
    ("envs", "gridworld-small --seed -1", r"Settings.seed: -1 is not valid"),
    ("envs", "gridworld-small --levels 1 --out {file}/x.png", r"error: .*File exists"),
    ("evolve_hand_rule", "--worlds nowhere", r"unknown world 'nowhere'"),
    ("evolve_hand_rule", "--generations 0", r"Settings.generations: 0 is not valid"),
    ("evolve_hand_rule", "--learner.num-pairs 3", r"num_pairs: 3 is not valid; .* multiple of 12"),
    ("evolve_rule", "--rule residual", r"unknown rule 'residual'; did you mean: residual_lpg"),
    ("evolve_rule", "--rule none.npz", r"rule: none.npz does not exist"),
    ("evolve_rule", "--rule {damaged}", r"rule: .* is not valid: damaged"),
    ("evolve_rule", "--worlds nowhere", r"unknown world 'nowhere'"),
    ("evolve_rule", "--validation-lives 0", r"Settings.validation_lives: 0 is not valid"),
    ("evolve_rule", "--validation-lives 3", r"num_pairs: 3 is not valid; .* multiple of 12"),
    ("groove_meta_train", "--meta-steps 0", r"Settings.meta_steps: 0 is not valid"),
    ("groove_meta_train", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("groove_meta_train", "--score regrets", r"unknown score 'regrets'; did you mean: regret"),
    ("groove_meta_train", "--learner.capacity 8", r"Config.capacity: 8 is not valid"),
    ("groove_meta_train", "--learner.num-agents 0", r"Config.num_agents: 0 is not valid"),
    ("groove_meta_train", "--agent.num-envs 0", r"Config.num_envs: 0 is not valid"),
    ("groove_static", "--levels smal", r"unknown levels 'smal'; did you mean: small"),
    ("groove_static", "--rule none.npz", r"rule: none.npz does not exist"),
    (
        "groove_static",
        "--rule lpo --envs gridworld-small",
        r"observation_space: Dict\(row, time\) is not valid",
    ),
    ("groove_static", "--num-levels 0", r"Settings.num_levels: 0 is not valid"),
    ("groove_static", "--num-levels 8", r"num_chosen: 16 is not valid; .* <= num_levels = 8"),
    ("groove_static", "--num-replicates 0", r"Settings.num_replicates: 0 is not valid"),
    ("groove_static", "--rules 0", r"Settings.rules: 0 is not valid"),
    ("groove_static", "--agent.num-envs 0", r"Config.num_envs: 0 is not valid"),
    ("groove_static", "--envs gridworld", r"unknown environment 'gridworld'"),
    ("groove_static", "--envs gridworld-small Pendulum-v1", DISCRETE),
    ("groove_static", "--out {file}", NO_FOLDER),
    ("groove_vs_lpg", "--curricula", r"Settings.curricula: \(\) is not valid"),
    ("groove_vs_lpg", "--curricula regrets", r"unknown curriculum 'regrets'"),
    ("groove_vs_lpg", "--curricula pvl pvl", r"curricula: \('pvl', 'pvl'\) .* all different"),
    ("groove_vs_lpg", "--envs", r"Settings.envs: \(\) is not valid"),
    ("groove_vs_lpg", "--envs gridworld", r"unknown environment 'gridworld'"),
    ("groove_vs_lpg", "--envs gridworld-small Pendulum-v1", DISCRETE),
    ("groove_vs_lpg", "--elsewhere.num-agents 0", r"Scale.num_agents: 0 is not valid"),
    ("groove_vs_lpg", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("groove_vs_lpg", "--out {file}", NO_FOLDER),
    ("horizon_generalisation", "--rules", r"Settings.rules: \(\) is not valid"),
    ("horizon_generalisation", "--rules lpo", r"observation_space: Dict\(row, time\) is not valid"),
    ("horizon_generalisation", "--rules {empty}", r"rule: .* holds no rule"),
    ("horizon_generalisation", "--rules lpg lpg", r"Settings.labels: \(\) is not valid"),
    ("horizon_generalisation", "--rules lpg --labels a b", r"Settings.labels: \('a', 'b'\)"),
    ("horizon_generalisation", "--rules lpg --horizons 5 0", r"Settings.horizons: \(5, 0\)"),
    ("horizon_generalisation", "--rules lpg --horizons", r"Settings.horizons: \(\) is not valid"),
    (
        "horizon_generalisation",
        "--rules lpg --horizons 3000000000",
        r"\(3000000000,\) is not",
    ),
    ("horizon_generalisation", "--rules lpg --num-levels 0", r"Settings.num_levels: 0"),
    ("horizon_generalisation", "--rules lpg --trained-on 9 3", r"Settings.trained_on: \(9, 3\)"),
    ("horizon_generalisation", "--rules lpg --learning-rate nan", r"learning_rate: nan is not"),
    ("horizon_generalisation", "--rules lpg --out {file}/x", NO_FOLDER),
    ("lpg_meta_test", "--rule lpo", r"'gridworld-all_shortlife' is not valid: observation_space"),
    ("lpg_meta_test", "--tune nothing", r"invalid choice 'nothing'"),
    ("lpg_meta_test", "--tuning-rounds -1", r"Settings.tuning_rounds: -1 is not valid"),
    ("lpg_meta_test", "--rule gpl", r"unknown rule 'gpl'"),
    ("lpg_meta_test", "--rule none.npz", r"rule: none.npz does not exist"),
    ("lpg_meta_test", "--rule {damaged}", r"rule: .* is not valid: damaged"),
    ("lpg_meta_test", "--env CartPole", r"unknown environment 'CartPole'"),
    ("lpg_meta_test", "--env chain-short,x-1", r"unknown environment 'x-1'"),
    ("lpg_meta_test", "--env chain-short,Pendulum-v1", DISCRETE),
    ("lpg_meta_test", "--num-agents 0", r"Settings.num_agents: 0 is not valid"),
    ("lpg_meta_test", "--num-tuning 0", r"Settings.num_tuning: 0 is not valid"),
    ("lpg_meta_test", "--num-updates 0", r"Settings.num_updates: 0 is not valid"),
    ("lpg_meta_test", "--num-updates 3000000000", r"num_updates: 3000000000 is not .* < 2\*\*31"),
    ("lpg_meta_test", "--num-envs -1", r"Settings.num_envs: -1 is not valid"),
    ("lpg_meta_test", "--out {file}", NO_FOLDER),
    ("lpg_meta_train", "--meta-steps 0", r"Settings.meta_steps: 0 is not valid"),
    ("lpg_meta_train", "--meta-steps 3000000000", r"meta_steps: 3000000000 is not .* < 2\*\*31"),
    ("lpg_meta_train", "--levels smal", r"unknown levels 'smal'; did you mean: small"),
    ("lpg_meta_train", "--lifetimes smal", r"unknown lifetimes 'smal'"),
    ("lpg_meta_train", "--learner.num-agents 0", r"Config.num_agents: 0 is not valid"),
    ("lpg_meta_train", "--hypers.agent.learning-rate nan", r"Hypers.learning_rate: nan is not"),
    ("lpo_meta_train", "--drift tlpo", r"unknown drift 'tlpo'; did you mean: lpo"),
    ("lpo_meta_train", "--agent.drift-clip 0", r"Config.drift_clip: 0.0 is not valid"),
    ("lpo_meta_train", "--generations 0", r"Settings.generations: 0 is not valid"),
    ("lpo_meta_train", "--worlds Cartpole", r"unknown environment 'Cartpole'"),
    ("lpo_meta_train", "--worlds", r"worlds: \[\] is not valid"),
    ("lpo_meta_train", "--epochs 4 0", r"epochs: \(4, 0\) is not valid"),
    ("lpo_meta_train", "--learner.num-pairs 13", r"num_pairs: 13 is not valid; .* multiple of 12"),
    ("lpo_meta_train", "--lives.total-steps 10 5e4", r"total_steps: 10 is not valid"),
    ("lpo_meta_train", "--lives.total-steps 5e4 inf", r"total_steps: inf is not valid"),
    ("lpo_meta_train", "--lives.total-steps nan nan", r"total_steps: nan is not valid"),
    ("lpo_meta_train", "--lives.total-steps 5e4 2e4", r"\(50000.0, 20000.0\) is not valid"),
    ("lpo_meta_train", "--lives.rates 0.1 0.01", r"Lives.rates: \(0.1, 0.01\) is not valid"),
    ("lpo_meta_train", "--lives.horizons 0.5 9", r"Lives.horizons: \(0.5, 9.0\) is not valid"),
    ("lpo_meta_train", "--hypers.std 0", r"Hypers.std: 0.0 is not valid"),
    ("maze", "--curriculum acel", r"unknown curriculum 'acel'; did you mean: accel"),
    ("maze", "--max-walls 1000", r"max_walls: 1000 is not valid"),
    ("maze", "--total-steps nan", r"total_steps: nan is not valid"),
    ("maze", "--learner.score l1", r"Unrecognized options: --learner.score"),
    ("maze", f"{PLR} --learner.score regret", rf"score: 'regret' is not valid; {OF_STUDENTS}"),
    ("maze", f"{PLR} --learner.capacity 8", r"capacity: 8 is not valid; .* >= 32"),
    ("maze", f"{PLR} --hypers.curriculum.temperature 0", r"Replay.temperature: 0.0 is not valid"),
    ("maze", "--curriculum accel --learner.num-edits 0", r"Accel.num_edits: 0 is not valid"),
    ("maze", "--curriculum accel --max-walls -1", r"max_walls: -1 is not valid"),
    ("maze", "--curriculum sfl --learner.every 0", r"Sfl.every: 0 is not valid"),
    ("maze", "--curriculum sfl --learner.score pvl", r"score: 'pvl' .* learnability, true_regret"),
    ("maze", "--curriculum sfl --learner.num-kept 9999", r"Sfl.num_kept: 9999 is not valid"),
    ("maze", "--curriculum paired --learner.regret max", r"regret: 'max' is not valid"),
    ("maze", "--curriculum clutr", r"Clutr.autoencoder: '' is not valid; it must be the folder"),
    ("maze", "--curriculum clutr --learner.autoencoder {empty}", r"checkpoint .*empty"),
    ("maze_autoencoder", "--steps 0", r"Settings.steps: 0 is not valid"),
    ("maze_autoencoder", "--tokens.max-walls 168", r"max_walls: 168 is not valid; .* 167"),
    ("maze_autoencoder", "--latent 0", r"Config.latent: 0 is not valid"),
    ("maze_autoencoder", "--hypers.kl-coef -1", r"Hypers.kl_coef: -1.0 is not valid"),
    ("objective_atlas", "--objectives", r"Settings.objectives: \(\) is not valid"),
    ("objective_atlas", "--objectives lpo lpo", r"Settings.labels: \(\) is not valid"),
    ("objective_atlas", "--objectives ppo", r"unknown rule 'ppo'"),
    ("objective_atlas", "--objectives lpg --horizons 0", r"Settings.horizons: \(0,\) is not valid"),
    ("objective_atlas", "--objectives lpg --num-agents 0", r"Settings.num_agents: 0"),
    ("objective_atlas", "--objectives lpo --clip-eps inf", r"Settings.clip_eps: inf is not valid"),
    ("objective_atlas", "--objectives lpo --labels ../x", r"Settings.labels: \('../x',\)"),
    ("objective_atlas", "--objectives lpo --out {file}/x", NO_FOLDER),
    ("dqn", "--total-steps 9000", r"total_steps: 9000 is not valid; .* from 10,010, .* warm-up"),
    ("pqn", "--env Pendulum-v1", r"action_space: Box.* is not valid; it must be Discrete"),
    ("sac", "--agent.batch-size 2000", r"Config.batch_size: 2000 .* at most warmup_steps"),
    ("td3", "--env CartPole-v1", r"action_space: Discrete\(2\) is not valid; it must be a Box"),
    ("ppo", "--total-steps inf", r"total_steps: inf is not valid"),
    ("ppo", "--total-steps 1e30", r"total_steps: 1e\+30 is not valid; .* from 512"),
    ("ppo", "--total-steps nan", r"total_steps: nan is not valid"),
    ("ppo", "--env CartPole-v1,Cartpole", r"unknown environment 'Cartpole'"),
    ("ppo", "--agent.hidden 4.5", r"'4.5'.*--agent.hidden"),
    ("ppo", "--agent.hidden 0", r"Config.hidden: \(0,\) is not valid"),
    ("ppo", "--agent.torso cnn", r"torso: 'cnn' is not valid"),
    ("ppo", "--group 2.5", r"'2.5'.*--group"),
    ("ppo", "--group 0", r"RunOptions.group: 0 is not valid"),
    ("ppo", "--chunk 0", r"RunOptions.chunk: 0 is not valid"),
    ("ppo", "--chunk 3000000000 --dry-run", r"RunOptions.chunk: 3000000000 is not valid"),
    ("ppo", "--seeds -1", r"Settings.seeds: -1 is not valid"),
    ("ppo", "--only nobody", r"unknown member 'nobody'; did you mean: seed=0"),
    ("ppo", "--hypers.gamma 0.9,1.5", r"'gamma=1.5,seed=0': Hypers.gamma: 1.5 is not valid"),
    ("ppo", "--hypers.learning-rate nan", r"Hypers.learning_rate: nan is not valid"),
    ("ppo", "--hypers.gama 0.9", r"Unrecognized options: --hypers.gama"),
    ("ppo", "--out {file}", r"out: .* cannot be written: .*File exists"),
    ("ppo", "--out /dev/null/x", r"out: /dev/null/x cannot be written: .*Not a directory"),
    ("ppo", "--out {run}", r"out: .* already holds a run; continue it with --resume"),
    ("ppo", "--resume --hypers.gamma 0.5 --out {run}", r"hypers.gamma: 0.5 is not .* has 0.99"),
    ("ppo", "--resume --env Acrobot-v1 --out {run}", r"env: 'Acrobot-v1' is not valid; the run in"),
    ("ppo_rnn_memory", "--memory-length 0", r"Settings.memory_length: 0 is not valid"),
    ("ppo_rnn_memory", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("ppo_vs_lpo", "--drifts lpg", r"unknown setting .* of rule 'lpg' 'num_minibatches'"),
    ("ppo_vs_lpo", "--drifts", r"Settings.drifts: \(\) is not valid"),
    ("ppo_vs_lpo", "--drifts lpo lpo", r"Settings.drifts: \('lpo', 'lpo'\) is not valid"),
    ("ppo_vs_lpo", "--envs", r"Settings.envs: \(\) is not valid"),
    ("ppo_vs_lpo", "--envs gridworld", r"unknown environment 'gridworld'"),
    ("ppo_vs_lpo", "--envs CartPole-v1 CartPole-v1", r"Settings.envs: .* all different"),
    ("ppo_vs_lpo", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("ppo_vs_lpo", "--learning-rates 0.1 -1", r"Hypers.learning_rate: -1.0 is not valid"),
    ("ppo_vs_lpo", "--learning-rates 1 1", r"learning_rate: \(1.0, 1.0\) .* all different"),
    ("ppo_vs_lpo", "--agent.num-minibatches 3", r"Config.num_minibatches: 3 is not valid"),
    ("ppo_vs_lpo", "--total-steps 1e30", r"total_steps: 1e\+30 is not valid"),
    ("quickstart", "--total-steps nan", r"total_steps: nan is not valid"),
    ("quickstart", "--agent.num-minibatches 3", r"Config.num_minibatches: 3 is not valid"),
    ("rule_tournament", "--contenders", r"Settings.contenders: \(\) is not valid"),
    ("rule_tournament", "--contenders A2C PPOO", r"unknown contender 'PPOO'; did you mean: PPO"),
    ("rule_tournament", "--contenders {empty}", r"rule: .* holds no rule"),
    ("rule_tournament", "--contenders PPO A2C A2C", r"labels: \(\) .*, all different"),
    ("rule_tournament", "--contenders PPO A2C --labels x/y z", r"labels: .* name of a folder"),
    ("rule_tournament", "--contenders A2C lpg", r"reference: 'PPO' is not valid; .* A2C, lpg"),
    ("rule_tournament", "--baseline a2c", r"baseline: 'a2c' is not valid; it must be one of A2C"),
    ("rule_tournament", "--envs", r"Settings.envs: \(\) is not valid"),
    ("rule_tournament", "--envs garnets", r"unknown environment 'garnets'; did you mean: garnet"),
    ("rule_tournament", "--envs Catch-bsuite", r"total_steps: None .* none for 'Catch-bsuite'"),
    ("rule_tournament", "--envs Pendulum-v1 --total-steps 1e5", DISCRETE),
    ("rule_tournament", "--envs garnet --total-steps 1000", r"'garnet' .* a number >= 1024"),
    ("rule_tournament", "--total-steps inf", r"Scale.total_steps: inf is not valid"),
    ("rule_tournament", "--num-agents 0", r"Scale.num_agents: 0 is not valid"),
    ("rule_tournament", "--envs garnet --num-envs 0", r"Settings.num_envs: 0 is not valid"),
    ("rule_tournament", "--envs garnet --hidden 0", r"Config.hidden: \(0,\) is not valid"),
    ("rule_tournament", "--learning-rates -1", r"Hypers.learning_rate: -1.0 is not valid"),
    ("rule_tournament", "--column greedy --greedy-episodes 0", r"column: 'greedy' is not valid"),
    ("rule_tournament", "--out {file}", NO_FOLDER),
    ("ta_lpg_meta_train", "--generations 0", r"Settings.generations: 0 is not valid"),
    ("ta_lpg_meta_train", "--learner.num-pairs 0", r"Config.num_pairs: 0 is not valid"),
    ("ta_lpg_vs_lpg", "--contenders", r"Settings.contenders: \(\) is not valid"),
    ("ta_lpg_vs_lpg", "--contenders LPG", r"unknown contender 'LPG'"),
    ("ta_lpg_vs_lpg", "--horizons 0", r"Settings.horizons: \(0,\) is not valid"),
    ("ued_tournament", "--contenders", r"Settings.contenders: \(\) is not valid"),
    ("ued_tournament", "--contenders dr slf", r"unknown method 'slf'; did you mean: sfl"),
    ("ued_tournament", "--contenders sfl", r"baseline: 'dr' is not valid; it must be one of sfl"),
    ("ued_tournament", "--contenders dr clutr", r"Clutr.autoencoder: '' is not valid"),
    ("ued_tournament", "--total-steps 1", r"total_steps: 1 is not valid"),
    ("ued_tournament", "--num-levels 15", r"num_levels: 15 is not valid; .* multiple of 10"),
    ("ued_tournament", "--shares 0", r"shares: \(0.0,\) is not valid"),
    ("ued_tournament", "--rate 2", r"rate: 2.0 is not valid"),
    ("ued_tournament", "--seeds 0", r"Settings.seeds: 0 is not valid"),
    ("watch", "{empty}", r"out: .* holds no run"),
    ("watch", "{empty} --steps 0", r"Settings.steps: 0 is not valid"),
    ("watch", "{empty} --seed -1", r"Settings.seed: -1 is not valid"),
    ("watch", "{run} --member seed=7", r"unknown member 'seed=7'; did you mean: seed=0"),
    ("watch", "{run}", r"checkpoints: .* holds none"),
    ("watch", "{learner}", r"out: .* holds a run without an environment to watch"),
]


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


GRIDWORLD, _ = envs.make("gridworld-small")
CALLS = {
    "make_train(agent, 2.5)": (lambda: make_train(PPO, 2.5), "num_updates: 2.5 is not valid"),
    "make_train(agent, 2**31)": (
        lambda: make_train(PPO, 2**31),
        r"num_updates: 2147483648 is not valid; .* < 2\*\*31",
    ),
    "ppo.make on a grid-world": (
        lambda: ppo.make(CONFIG, GRIDWORLD),
        r"observation_space: Dict\(row, time\) is not valid; it must be a Box",
    ),
    "lpo.make on a grid-world": (
        lambda: lpo.make(lpo.Config(), GRIDWORLD),
        r"observation_space: Dict\(row, time\) is not valid; it must be a Box",
    ),
    "ppo.Config(hidden=(4.5,))": (
        lambda: ppo.Config(hidden=(4.5,)),
        r"Config.hidden: \(4.5,\) is not valid",
    ),
    "RunOptions(group=2.5)": (lambda: RunOptions(group=2.5), "RunOptions.group: 2.5 is not valid"),
    "RunOptions(out='')": (lambda: RunOptions(out=""), "RunOptions.out: '' is not valid"),
    "ScaleAction(CartPole)": (lambda: ScaleAction(ENV), "Discrete"),
    "seeds(2.5)": (lambda: seeds(2.5), "seeds: 2.5 is not valid"),
    "rebuild of an empty folder": (lambda: rebuild("nowhere"), "out: nowhere holds no run"),
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
