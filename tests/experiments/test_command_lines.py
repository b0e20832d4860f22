"""Bad command lines: each ends with a message that names field and value, before any training."""

import re

import pytest

from tests.experiments.test_experiments import run_as_script

VALID_SCORES = "it must be one of l1, learnability, maxmc, pvl, random"

BAD = [
    ("groove_meta_train", "--meta-steps 0", "Settings.meta_steps: 0 is not valid"),
    ("groove_meta_train", "--seeds 0", "Settings.seeds: 0 is not valid"),
    ("groove_meta_train", "--score regrets", "unknown score 'regrets'; did you mean: regret"),
    ("groove_meta_train", "--learner.capacity 8", "Config.capacity: 8 is not valid"),
    ("groove_meta_train", "--agent.num-envs 0", "Config.num_envs: 0 is not valid"),
    ("groove_vs_lpg", "--curricula", "Settings.curricula: () is not valid"),
    ("groove_vs_lpg", "--curricula regrets", "unknown curriculum 'regrets'"),
    ("groove_vs_lpg", "--envs", "Settings.envs: () is not valid"),
    ("groove_vs_lpg", "--envs gridworld", "unknown environment 'gridworld'"),
    ("groove_vs_lpg", "--elsewhere.num-agents 0", "Scale.num_agents: 0 is not valid"),
    ("groove_vs_lpg", "--seeds 0", "Settings.seeds: 0 is not valid"),
    ("horizon_generalisation", "--rules", "Settings.rules: () is not valid"),
    ("horizon_generalisation", "--rules lpo", "it must be of algos.lpg or algos.ta_lpg"),
    ("horizon_generalisation", "--rules lpg lpg", "Settings.labels: () is not valid"),
    ("horizon_generalisation", "--rules lpg --labels a b", "Settings.labels: ('a', 'b')"),
    ("horizon_generalisation", "--rules lpg --horizons 5 0", "Settings.horizons: (5, 0)"),
    ("horizon_generalisation", "--rules lpg --horizons", "Settings.horizons: () is not valid"),
    ("horizon_generalisation", "--rules lpg --num-levels 0", "Settings.num_levels: 0"),
    ("horizon_generalisation", "--rules lpg --trained-on 9 3", "Settings.trained_on: (9, 3)"),
    ("lpg_meta_test", "--rule lpo", "it must be of algos.lpg or algos.ta_lpg"),
    ("lpg_meta_test", "--rule gpl", "unknown rule 'gpl'"),
    ("lpg_meta_test", "--rule none.npz", "rule: none.npz does not exist"),
    ("lpg_meta_test", "--env CartPole", "unknown environment 'CartPole'"),
    ("lpg_meta_test", "--env chain-short,x-1", "unknown environment 'x-1'"),
    ("lpg_meta_test", "--num-agents 0", "Settings.num_agents: 0 is not valid"),
    ("lpg_meta_test", "--num-tuning 0", "Settings.num_tuning: 0 is not valid"),
    ("lpg_meta_test", "--num-updates 0", "Settings.num_updates: 0 is not valid"),
    ("lpg_meta_test", "--num-envs -1", "Settings.num_envs: -1 is not valid"),
    ("lpg_meta_test", "--env Pendulum-v1", "is not valid"),
    ("lpg_meta_train", "--meta-steps 0", "Settings.meta_steps: 0 is not valid"),
    ("lpg_meta_train", "--levels smal", "unknown levels 'smal'; did you mean: small"),
    ("lpg_meta_train", "--lifetimes smal", "unknown lifetimes 'smal'"),
    ("lpg_meta_train", "--learner.num-agents 0", "Config.num_agents: 0 is not valid"),
    ("lpo_meta_train", "--generations 0", "Settings.generations: 0 is not valid"),
    ("lpo_meta_train", "--total-steps 10", "total_steps: 10 is not valid"),
    ("lpo_meta_train", "--total-steps inf", "total_steps: inf is not valid"),
    ("lpo_meta_train", "--env Cartpole", "unknown environment 'Cartpole'"),
    ("maze_accel", "--score regret", f"Settings.score: 'regret' is not valid; {VALID_SCORES}"),
    ("maze_accel", "--num-edits 0", "Settings.num_edits: 0 is not valid"),
    ("maze_accel", "--max-walls -1", "max_walls: -1 is not valid"),
    ("maze_dr", "--max-walls 1000", "max_walls: 1000 is not valid"),
    ("maze_dr", "--total-steps nan", "total_steps: nan is not valid"),
    ("maze_plr", "--score regret", f"Settings.score: 'regret' is not valid; {VALID_SCORES}"),
    ("maze_plr", "--learner.capacity 8", "Config.capacity: 8 is not valid"),
    ("objective_atlas", "--objectives", "Settings.objectives: () is not valid"),
    ("objective_atlas", "--objectives lpo lpo", "Settings.labels: () is not valid"),
    ("objective_atlas", "--objectives ppo", "unknown rule 'ppo'"),
    ("objective_atlas", "--objectives lpg --horizons 0", "Settings.horizons: (0,) is not valid"),
    ("objective_atlas", "--objectives lpg --num-agents 0", "Settings.num_agents: 0"),
    ("ppo_vs_lpo", "--drifts lpg", "it must be of algos.lpo or algos.ta_lpo"),
    ("ppo_vs_lpo", "--drifts", "Settings.drifts: () is not valid"),
    ("ppo_vs_lpo", "--drifts lpo lpo", "Settings.drifts: ('lpo', 'lpo') is not valid"),
    ("ppo_vs_lpo", "--envs", "Settings.envs: () is not valid"),
    ("ppo_vs_lpo", "--envs gridworld", "unknown environment 'gridworld'"),
    ("ppo_vs_lpo", "--seeds 0", "Settings.seeds: 0 is not valid"),
    ("ppo_vs_lpo", "--learning-rates 0.1 -1", "Settings.learning_rates: (0.1, -1.0)"),
    ("ppo_vs_lpo", "--total-steps 1e30", "total_steps: 1e+30 is not valid"),
    ("ta_lpg_meta_train", "--generations 0", "Settings.generations: 0 is not valid"),
    ("ta_lpg_meta_train", "--learner.num-pairs 0", "Config.num_pairs: 0 is not valid"),
    ("ta_lpg_vs_lpg", "--contenders", "Settings.contenders: () is not valid"),
    ("ta_lpg_vs_lpg", "--contenders LPG", "unknown contender 'LPG'"),
    ("ta_lpg_vs_lpg", "--horizons 0", "Settings.horizons: (0,) is not valid"),
    ("ta_lpo_meta_train", "--agent.drift-clip 0", "Config.drift_clip: 0.0 is not valid"),
]


@pytest.mark.parametrize(("name", "words", "message"), BAD, ids=lambda x: x.replace(" ", "_"))
def test_a_bad_command_line_ends_with_a_named_error(
    name, words, message, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        run_as_script(name, [*words.split(), "--out", str(out)], monkeypatch)
    assert stopped.value.code == 2
    said = capfd.readouterr()
    assert message in re.sub(r"[│╭╰─╮╯\s]+", " ", said.out + said.err)
    assert not list(out.rglob("metrics"))
