"""The jobs of offline experiments: their environments, how many updates, and what is drawn."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

import envs
from algos import trajectory_diffusion as diffusion
from purejaxrl.offline.files import describe, save_dataset
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.wrappers import for_network
from tests.purejaxrl.offline.test_files import CARD, steps

with mock.patch("purejaxrl.running.devices.use_cpu_cores"):  # the tests have their own devices
    from experiments import offline, policy_guided_diffusion, trajectory_diffusion


@pytest.fixture
def path(tmp_path):
    """Episodes of returns 1 and 5, of two steps each, which their first observations explain."""
    dataset = Dataset(steps())
    save_dataset(tmp_path / "set.npz", dataset, describe(dataset, CARD))
    return str(tmp_path / "set.npz")


def build(path, algorithm="iql", delay=None, **changes):
    settings = replace(offline.Settings.recommended(algorithm), dataset=path, **changes)
    if delay:
        settings = replace(settings, agent=replace(settings.agent, policy_delay=delay))
    return offline.build(settings)


@pytest.fixture
def with_three_joints(tmp_path, monkeypatch):
    """A dataset whose card says that its environment is Reacher, with three joints."""
    dataset, model = Dataset(steps()), (diffusion.Config(length=2), None)
    card = replace(CARD, env="Reacher-misc", env_settings={"num_joints": 3})
    save_dataset(tmp_path / "reacher.npz", dataset, describe(dataset, card))
    monkeypatch.setattr(diffusion, "load", lambda folder, fingerprint: model)
    return str(tmp_path / "reacher.npz")


def test_policies_act_in_the_environment_of_the_datasets_card(with_three_joints):
    guided = policy_guided_diffusion.Settings.recommended("td3_bc")
    guided = replace(guided, dataset=with_three_joints, model="a folder")
    for job in (build(with_three_joints), policy_guided_diffusion.build(guided)):
        assert job.env.action_space(job.env_params).shape == (3,)


def test_a_model_is_of_the_environment_of_the_datasets_card(with_three_joints):
    config = diffusion.Config(length=2)
    settings = trajectory_diffusion.Settings(dataset=with_three_joints, model=config)
    found = trajectory_diffusion.build(settings).algorithm.made_of
    two, three = (
        diffusion.make(config, for_network(envs.make("Reacher-misc", num_joints=n)[0])).made_of
        for n in (2, 3)
    )
    assert found == three and found != two


@pytest.mark.parametrize(
    ("algorithm", "delay", "num_updates"),
    [("bc", None, 12), ("iql", None, 12), ("td3_bc", None, 6), ("rebrac", None, 6),
     ("td3_bc", 4, 3), ("td3_bc", 12, 1)],
)  # fmt: skip
def test_all_critics_take_as_many_steps(path, algorithm, delay, num_updates):
    """An update of TD3+BC and ReBRAC has `policy_delay` of them."""
    assert build(path, algorithm, delay, updates=12).num_updates == num_updates


def test_fewer_steps_than_one_update_has_are_refused(path):
    with pytest.raises(ValueError, match=r"updates: 12 .* an integer >= policy_delay = 13"):
        build(path, "td3_bc", 13, updates=12)


def test_better_episodes_are_drawn_more_often_by_return_or_by_advantage(path):
    assert build(path).shared["dataset"].cumulative is None
    by_return = build(path, weights="by_return").shared["dataset"].cumulative
    assert by_return[1] < 1e-4 * 2**32
    by_advantage = build(path, weights="by_advantage").shared["dataset"].cumulative
    np.testing.assert_allclose(by_advantage, np.array([0.25, 0.5, 0.75, 1.0]) * 2**32, rtol=1e-6)
