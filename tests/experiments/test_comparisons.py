"""Comparisons: scores belong to the contender they name; agents that diverged do not count."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import envs
from algos import lpg, lpo
from algos.rules import save_rule
from purejaxrl.running.population import populate, seeds
from purejaxrl.study import compare
from tests.experiments.test_experiments import FOLDER


@pytest.fixture
def experiment(monkeypatch):
    """Import an experiment, `(name) -> module`."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    return importlib.import_module


def test_two_drifts_in_one_folder_have_two_scores(tmp_path):
    config = lpo.Config(
        num_envs=2, num_steps=8, num_minibatches=1, num_epochs=2, hidden=(4,), drift_width=4
    )
    env, level = envs.make("CartPole-v1")
    algorithm = lpo.make(config, env)
    first = lpo.init_drift(jax.random.key(0), config)
    second = jax.tree.map(lambda x: x + 1.0, first)

    def params(drift, out, num_updates=3):
        population = populate(seeds(2), lpo.Hypers(drift=drift, learning_rate=0.1), level)
        result = compare.train(algorithm, population, num_updates, out)
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(result.state.params)])

    shared = tmp_path / "shared" / "LPO"
    one, two = params(first, shared), params(second, shared)
    assert (one != two).any()
    np.testing.assert_array_equal(two, params(second, tmp_path / "alone" / "LPO"))
    folders = set(shared.parent.iterdir())
    np.testing.assert_array_equal(one, params(first, shared))  # of its own run, not trained again
    assert set(shared.parent.iterdir()) == folders and len(folders) == 2
    params(first, shared, num_updates=2)  # shorter: another run
    assert len(list(shared.parent.iterdir())) == 3


def test_scores_of_horizons_are_kept_by_the_rules_content(experiment, tmp_path, monkeypatch):
    module = experiment("horizon_generalisation")
    config = lpg.Config(num_envs=2, rule_width=4)
    tested = []

    def make_lives(config, env, settings):
        def lives(rule, keys, levels, horizon):
            tested.append(horizon)
            return jnp.full(settings.num_levels, rule["params"]["inputs"].sum()) * horizon

        return lives

    monkeypatch.setattr(module, "make_lives", make_lives)
    monkeypatch.setattr(module.lpg_meta_test, "optimum", lambda env, levels: None)  # quick

    def scores(seed, **changes):
        rule = lpg.init_rule(jax.random.key(seed), config)
        save_rule(tmp_path / "rule.npz", config, rule)
        settings = dict(levels="small", horizons=(2, 3), num_levels=2, out=tmp_path / "out")
        settings = module.Settings((str(tmp_path / "rule.npz"),), **settings | changes)
        return module.test(settings)["score"].to_numpy(), rule["params"]["inputs"].sum()

    for seed in range(2):
        found, total = scores(seed)
        np.testing.assert_allclose(found, total * np.array([2, 2, 3, 3]), rtol=1e-6)
    assert tested == [2, 3, 2, 3]
    scores(0)
    assert tested == [2, 3, 2, 3]  # all known
    scores(0, horizons=(3, 4))
    assert tested == [2, 3, 2, 3, 4]
    scores(0, hypers=lpg.Hypers(learning_rate=0.1))
    assert tested == [2, 3, 2, 3, 4, 2, 3]


@pytest.mark.parametrize(
    ("scores", "rate"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], 0.2),
        ([[1.0, 9.0], [1.0, np.nan]], 0.1),  # an agent diverged at 0.2
        ([[np.nan, np.nan], [np.nan, -5.0]], 0.2),  # none is sound; the fewest agents failed at 0.2
        ([[np.nan, np.nan], [np.nan, np.nan]], 0.1),
    ],
)
def test_a_step_size_where_agents_fail_is_the_last_choice(experiment, scores, rate):
    assert experiment("lpg_meta_test").choose_rate((0.1, 0.2), np.array(scores)) == rate


def test_tables_leave_out_agents_that_diverged_and_count_them(experiment):
    module = experiment("lpg_meta_test")
    sound = module.Tested(None, np.array([1.0, 3.0, 2.0]), np.array([True] * 3), 0.1, None)
    failed = sound._replace(
        scores=np.array([np.nan, 5.0, np.nan]), alive=np.array([False, True, True])
    )
    dead = sound._replace(scores=np.full(3, np.nan), alive=np.array([False] * 3))
    tested = {"LPG": failed, "untrained": dead, "A2C": sound}
    table = module.tabulate(tested, None).set_index("contender")
    assert table["agents"].tolist() == [1, 0, 3]
    assert table["diverged"].tolist() == [1, 3, 0]
    assert table.loc["LPG", "return"] == "5 [5, 5]"
    assert table.loc["untrained", "return"] == "none"


def test_learned_clips_that_diverged_are_counted(experiment):
    module = experiment("ppo_vs_lpo")
    rows = [("PPO", 1.0, True), ("PPO", 2.0, True), ("LPO", np.nan, False), ("LPO", 3.0, True)]
    frame = pd.DataFrame(rows, columns=["contender", "score", "alive"])
    frame = frame.assign(env="Catch-bsuite", drift=0, learning_rate=0.1)
    table = module.tabulate(frame).set_index("contender")
    assert table["agents"].tolist() == [2, 1]
    assert table["diverged"].tolist() == [0, 1]
    assert table.loc["LPO", "return"] == "3 [3, 3]"
