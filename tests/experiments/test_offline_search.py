"""The search among policies: what can be refused is refused before any policy plays."""

import numpy as np
import pytest


def test_every_run_is_loaded_before_the_first_one_plays(experiment, tmp_path, monkeypatch):
    loaded, played = [], []

    def load_policies(folder, settings):
        loaded.append(folder.name)
        if folder.name == "b":
            raise ValueError("runs: b holds no policies")

    monkeypatch.setattr(experiment, "load_policies", load_policies)
    monkeypatch.setattr(experiment, "play", lambda found, settings: played.append(found))
    settings = experiment.Settings(runs=(tmp_path / "a", tmp_path / "b"), out=tmp_path)
    with pytest.raises(ValueError, match="b holds no policies"):
        experiment.main(settings)
    assert loaded == ["a", "b"] and not played


def test_policies_that_diverged_do_not_take_part(experiment, tmp_path, monkeypatch):
    class Played:
        ret = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

    monkeypatch.setattr(experiment, "evaluate_members", lambda *_, **__: Played)
    job = type("Job", (), {"algorithm": None, "env": None, "env_params": None})
    found = experiment.Policies(job, None, np.array([True, False, True]))
    returns = experiment.play(found, experiment.Settings(out=tmp_path))
    np.testing.assert_array_equal(returns, [[1, 2], [5, 6]])
