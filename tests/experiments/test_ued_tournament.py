"""The tournament of curricula: what its students play after training."""

from types import SimpleNamespace

import numpy as np


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
