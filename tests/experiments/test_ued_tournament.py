"""The scores of `ued_tournament.py`: whose they are, their signs, and who is left out.

Every second maze is hard. At the first attempts students solve the others only; at the second ones,
they solve a share of the hard ones and half of the others.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

NAN = np.nan
HARD = {"dr": [0.2, NAN, 0.4], "sfl": [0.9, 0.6, 0.6], "accel": [NAN] * 3}
"""What the students of a method solve of hard mazes; NaN: they diverged."""
HELD_OUT = {
    "dr": [[0.1, 0.3], [NAN, NAN], [0.3, 0.5]],
    "sfl": [[0.1, 0.1], [0.0, 0.2], [0.0, 0.2]],
    "accel": [[NAN, NAN]] * 3,
}
"""What they solve of both held-out mazes."""
SOLVED = {
    "dr": [(0.1, 0.5), (0.9, 0.9), (0.7, 0.2)],
    "sfl": [(0.2, 0.4), (0.2, 0.3), (0.1, 0.6)],
    "accel": [(0.9, 0.9)] * 3,
}
"""What they solve along training; the frozen policy of a student that diverged does not count."""


@pytest.fixture
def settings(experiment, tmp_path):
    return experiment.Settings(
        tuple(HARD), seeds=3, first_seed=100, num_levels=20, shares=(0.5, 1.0), out=tmp_path
    )


@pytest.fixture
def tested(experiment):
    found = {}
    for name in HARD:
        hard = np.array(HARD[name])[:, None]
        sound = np.where(np.isnan(hard), NAN, 1.0)
        evaluations = pd.DataFrame([
            {"member": member, "env_steps": 100 * (i + 1), "solved": SOLVED[name][member][i],
             "alive": not np.isnan(HARD[name][member])}
            for i in (0, 1) for member in range(3)
        ])  # fmt: skip
        first = np.tile(np.hstack([0.0 * sound, sound]), 10)
        second = np.tile(np.hstack([hard, 0.5 * sound]), 10)
        found[name] = experiment.Tested(first, second, np.array(HELD_OUT[name]), evaluations)
    return found


def test_a_table_has_means_and_their_differences_from_the_baseline(experiment, settings, tested):
    table = experiment.tabulate(tested, settings).set_index(["measure", "method"])
    assert table.index.get_level_values(0).unique().tolist() == [
        "worst 50 %", "worst 100 %", "held-out",
    ]  # fmt: skip
    value = lambda text: float(text.split()[0])  # noqa: E731
    expected = {"worst 50 %": (0.3, 0.7), "worst 100 %": (0.4, 0.6), "held-out": (0.3, 0.1)}
    for measure, (dr, sfl) in expected.items():
        assert value(table.loc[(measure, "dr"), "solved"]) == pytest.approx(dr)
        assert value(table.loc[(measure, "sfl"), "solved"]) == pytest.approx(sfl)
        assert value(table.loc[(measure, "sfl"), "less dr's"]) == pytest.approx(sfl - dr)
        assert table.loc[(measure, "accel"), "solved"] == "all diverged"
        assert table.loc[measure, "less dr's"].isna().tolist() == [True, False, True]


def test_nothing_is_compared_with_a_baseline_that_diverged(experiment, settings, tested):
    settings = replace(settings, baseline="accel")
    table = experiment.tabulate(tested, settings)
    assert "less accel's" not in table and (table["solved"] == "all diverged").sum() == 3


def test_every_student_has_its_own_scores(experiment, settings, tested):
    scores = experiment.score_students(tested, settings).set_index(["method", "seed"])
    assert scores.index.tolist() == [(name, seed) for name in HARD for seed in (100, 101, 102)]
    np.testing.assert_allclose(scores["cvar_0.5"], np.concatenate([*HARD.values()]))
    np.testing.assert_allclose(scores["cvar_1"], (scores["cvar_0.5"] + 0.5) / 2)
    np.testing.assert_allclose(scores["held_out"], [0.2, NAN, 0.4, 0.1, 0.1, 0.1, NAN, NAN, NAN])
    assert scores["steps_to_rate"].tolist() == [
        200, np.inf, 100, np.inf, np.inf, 200, np.inf, np.inf, np.inf,
    ]  # fmt: skip


def test_the_worst_mazes_are_chosen_by_one_set_of_attempts_and_reported_by_another(
    experiment, monkeypatch, tmp_path
):
    played = []

    def solve_rates(algorithm, env, state, levels, *, seed=0, **_):
        played.append((levels, seed))
        return np.full((2, 3), seed / 10)

    monkeypatch.setattr(experiment, "solve_rates", solve_rates)
    monkeypatch.setattr(experiment, "solvable_mazes", lambda *_: "random")
    monkeypatch.setattr(experiment, "held_out_mazes", lambda: "held out")
    settings = experiment.Settings(out=tmp_path)
    one = experiment.Contender("dr", "random levels", None, None, 1)
    alive = np.array([True, False])
    result = SimpleNamespace(state=None, alive=alive, out=tmp_path, evaluations=None)
    tested = experiment.play(one, result, settings)
    assert [levels for levels, _ in played] == ["random", "random", "held out"]
    seeds = [seed for _, seed in played]
    assert len(set(seeds)) == 3
    found = np.stack(tested[:3])
    np.testing.assert_array_equal(found[:, 0, 0], np.array(seeds) / 10)
    assert np.isnan(found[:, 1]).all()  # it diverged
    np.testing.assert_array_equal(experiment.play(one, result, settings)[:3], found)
    assert len(played) == 3  # what was played is kept
