"""From an expert to datasets, to offline agents, to a diffusion model and guided agents."""

from unittest import mock

import jax
import numpy as np
import pandas as pd
import pytest

from purejaxrl.launch import command, launch
from purejaxrl.offline.files import load_dataset

with mock.patch("purejaxrl.running.devices.use_cpu_cores"):  # the tests have their own devices
    from experiments import (
        collect_dataset,
        dynamics_error,
        offline,
        offline_search,
        policy_guided_diffusion,
        trajectory_diffusion,
    )

SHORT = ["--no-progress", "--chunk", "64", "--log-every", "1"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Small datasets of Pendulum."""
    out = tmp_path_factory.mktemp("datasets")
    words = ["--total-steps", "3000", "--num-steps", "4000", "--hidden", "16", "--out", str(out)]
    command(collect_dataset.main, collect_dataset.Settings, words)
    return out


def test_datasets_are_recorded_with_their_cards(datasets):
    cards = pd.read_csv(datasets / "cards.csv").set_index("dataset")
    names = ["random", "medium", "expert", "medium-replay", "medium-expert", "random-expert"]
    assert list(cards.index) == names
    assert (cards.drop("medium-replay")["num_steps"] == 4000).all()
    for name in cards.index:
        dataset, card = load_dataset(datasets / f"{name}.npz", "Pendulum-v1")
        assert card.num_steps == dataset.num_steps
        assert name == "medium-replay" or card.num_episodes == 20


def test_datasets_are_not_overwritten(datasets):
    words = ["--total-steps", "3000", "--num-steps", "4000", "--out", str(datasets)]
    with pytest.raises(SystemExit, match="2"):
        command(collect_dataset.main, collect_dataset.Settings, words)
    assert load_dataset(datasets / "random.npz", "Pendulum-v1")


@pytest.mark.parametrize("algorithm", offline.ALGORITHMS)
def test_offline_agents_learn_and_their_scores_are_written(algorithm, datasets, tmp_path):
    words = ["--algorithm", algorithm, "--dataset", str(datasets / "medium.npz"), "--seeds", "2"]
    words += ["--updates", "128", "--agent.hidden", "8", "--out", str(tmp_path), *SHORT]
    launch(offline.Settings, offline.build, words, save=offline.write)
    scores, card = pd.read_csv(tmp_path / "scores.csv"), load_dataset(datasets / "medium.npz")[1]
    assert list(scores["seed"]) == [0, 1]
    np.testing.assert_allclose(scores["score"], card.score(scores["return"]))


def test_a_policy_is_looked_for_among_those_of_a_run(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    run, out = tmp_path / "bc", tmp_path / "search"
    words = ["--algorithm", "bc", "--dataset", str(datasets / "medium.npz"), "--seeds", "3"]
    words += ["--updates", "64", "--agent.hidden", "8", "--out", str(run), *SHORT]
    launch(offline.Settings, offline.build, words, save=offline.write)
    words = ["--runs", str(run), "--stored-episodes", "4", "--policies", "3", "--episodes", "9"]
    words += ["--trials", "10", "--out", str(out)]
    command(offline_search.main, offline_search.Settings, words)
    found = pd.read_csv(out / "search.csv")
    assert list(found["episodes"]) == list(range(1, 10))
    assert (out / "search.png").exists()


def test_another_dataset_is_refused_where_a_run_is_resumed(datasets, tmp_path):
    def words(name, updates):
        return [
            "--algorithm", "bc", "--dataset", str(datasets / f"{name}.npz"), "--seeds", "1",
            "--updates", updates, "--agent.hidden", "8", "--out", str(tmp_path), *SHORT,
            "--resume",
        ]  # fmt: skip

    launch(offline.Settings, offline.build, words("medium", "64"), save=offline.write)
    with pytest.raises(SystemExit):
        launch(offline.Settings, offline.build, words("expert", "128"), save=offline.write)
    launch(offline.Settings, offline.build, words("medium", "128"), save=offline.write)


def test_guided_agents_learn_from_a_model(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("PUREJAXRL_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    words = ["--dataset", str(datasets / "medium.npz"), "--updates", "64", "--model.width", "16"]
    model, guided = tmp_path / "model", tmp_path / "guided"
    launch(
        trajectory_diffusion.Settings, trajectory_diffusion.build,
        [*words, "--out", str(model), *SHORT], save=trajectory_diffusion.write,
    )  # fmt: skip
    assert len(pd.read_csv(model / "samples.csv")) == 6
    words = ["--dataset", str(datasets / "medium.npz"), "--model", str(model / "model-0")]
    words += ["--draws", "2", "--seeds", "1", "--agent.hidden", "8", "--hypers.guidance", "0,1"]
    words += ["--learner.num-pieces", "32", "--learner.num-updates", "8", "--no-progress"]
    module = policy_guided_diffusion
    launch(module.Settings, module.build, [*words, "--out", str(guided)], save=module.write)
    assert len(pd.read_csv(guided / "scores.csv")) == 2
    pieces = pd.read_csv(guided / "pieces.csv")
    assert len(pieces) == 2 * len(module.GUIDANCE)
    assert pieces["dynamics_error"].notna().all()

    out = tmp_path / "errors"
    words = ["--run", str(guided), "--num-pieces", "16", "--updates", "64", "--out", str(out)]
    command(dynamics_error.main, dynamics_error.Settings, [*words, "--model.hidden", "8"])
    errors = pd.read_csv(out / "errors.csv")
    assert len(errors) == 3 * 2 * 16  # kinds, policies, steps of a piece
    assert (errors["error"] > 0).all()
    assert (out / "errors.png").exists()
