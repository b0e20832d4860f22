"""The jobs of `offline.py`: how many updates there are, and what is drawn how often."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from purejaxrl.offline.files import describe, save_dataset
from purejaxrl.parts.dataset import Dataset
from tests.purejaxrl.offline.test_files import CARD, steps

with mock.patch("purejaxrl.running.devices.use_cpu_cores"):  # the tests have their own devices
    from experiments import offline


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
