"""The scores of `token_lab.py`: whose they are, of which updates, and who is left out."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from purejaxrl.running.population import grid, name_of, seeds
from purejaxrl.study.stats import interval

ROWS = grid(**{"coefs.kl_coef": [0.0, 0.1]}) * seeds(2, start=7)
UPDATES, EVERY = 20, 10
DIVERGED = 1


@pytest.fixture
def settings(experiment, tmp_path):
    return experiment.Settings(updates=UPDATES, eval_every=EVERY, k=4, out=tmp_path)


def value(name, member, update):
    """Different for every metric, member and update."""
    return 1000.0 * sum(map(ord, name)) + 100 * member + update


@pytest.fixture
def result():
    """Four policies; rows are by update, as those of a run are."""

    def frame(updates, names):
        return pd.DataFrame([
            {"member": member, "update": update, "env_steps": 512 * update}
            | {name: value(name, member, update) for name in names}
            for update in updates for member in range(len(ROWS))
        ])  # fmt: skip

    evaluated = ["return", "pass_at_4", "entropy", "unique_correct", "length", "wrong_length"]
    return SimpleNamespace(
        population=SimpleNamespace(rows=ROWS, names=[name_of(row) for row in ROWS]),
        alive=np.arange(len(ROWS)) != DIVERGED,
        evaluations=frame(range(EVERY, UPDATES + 1, EVERY), evaluated),
        metrics=frame(range(1, UPDATES + 1), ["return", "dead_groups", "kl_to_reference"]),
    )


def test_policies_are_scored_by_their_last_evaluation_and_the_end_of_training(
    experiment, settings, result, capsys
):
    scores = experiment.score("grpo", result, settings)
    sound = [0, 2, 3]
    assert scores["objective"].tolist() == ["grpo kl_coef=0", *["grpo kl_coef=0.1"] * 2]
    assert scores["seed"].tolist() == [7, 7, 8]
    names = {
        "pass@1": "return", "pass@4": "pass_at_4", "entropy": "entropy", "length": "length",
        "unique correct": "unique_correct", "wrong length": "wrong_length",
    }  # fmt: skip
    for column, name in names.items():
        assert scores[column].tolist() == [value(name, i, UPDATES) for i in sound]
    late = {
        "training pass@1": "return", "dead groups": "dead_groups", "KL to start": "kl_to_reference",
    }  # fmt: skip
    for column, name in late.items():  # the last tenth of 20 updates
        assert scores[column].tolist() == [value(name, i, 19.5) for i in sound]
    assert scores["tokens"].tolist() == [512 * UPDATES] * 3
    said = capsys.readouterr()
    assert "grpo, coefs.kl_coef=0,seed=8: diverged" in said.out + said.err


def test_what_the_last_evaluation_lacks_is_not_taken_from_an_earlier_one(
    experiment, settings, result
):
    """A policy without wrong answers has no length of wrong answers."""
    frame = result.evaluations
    frame.loc[(frame["member"] == 0) & (frame["update"] == UPDATES), "wrong_length"] = np.nan
    found = experiment.score("grpo", result, settings)["wrong length"]
    assert np.isnan(found[0]) and np.isfinite(found[1:]).all()


def test_a_table_has_means_over_the_seeds_of_each_combination(experiment, settings, result):
    scores = experiment.score("grpo", result, settings)
    scores["wrong length"] = [np.nan, 3.0, np.nan]
    table = experiment.tabulate(scores).set_index("objective")
    assert table.index.tolist() == ["grpo kl_coef=0", "grpo kl_coef=0.1"]
    assert table.columns.tolist() == scores.columns[2:].tolist()
    for column in table:
        if column != "wrong length":
            values = scores[column].to_numpy()
            expected = [str(interval(values[:1])), str(interval(values[1:]))]
            assert table[column].tolist() == expected
    assert table["wrong length"].tolist() == ["none", str(interval(np.array([3.0])))]


def test_an_objective_without_a_sweep_has_its_own_name(experiment):
    assert experiment.label("spo", seeds(1)[0]) == "spo"
