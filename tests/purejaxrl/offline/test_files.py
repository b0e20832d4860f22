"""Files of datasets: what is saved is what is loaded, and what is wrong is named."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.offline.files import (
    Card,
    count_pairs,
    describe,
    load_card,
    load_dataset,
    save_dataset,
)
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.transitions import Step
from tests.helpers import assert_equal

CARD = Card("Pendulum-v1", "a test", random_return=-2.0, expert_return=8.0)


def steps(**changes):
    """Four steps in two episodes, of returns 1 and 5."""
    obs = jnp.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 5.0]])
    whole = Step(
        obs, jnp.array([[0.5], [-0.5], [0.5], [1.0]]), jnp.array([0.0, 1.0, 2.0, 3.0]),
        jnp.array([False, True, False, False]), jnp.array([False, False, False, True]), obs + 1,
    )  # fmt: skip
    return whole._replace(**changes)


def test_a_dataset_comes_back_with_its_card(tmp_path):
    dataset = Dataset(steps())
    card = describe(dataset, CARD, num_reference_pairs=8)
    save_dataset(tmp_path / "set.npz", dataset, card)
    loaded, found = load_dataset(tmp_path / "set.npz", "Pendulum-v1")
    assert_equal(loaded, dataset)
    assert dataclasses.asdict(found) | {"return_quantiles": card.return_quantiles} == (
        dataclasses.asdict(card)
    )


class Pair(NamedTuple):
    number: jax.Array
    share: jax.Array


@pytest.mark.parametrize("kind", [lambda *x: x, Pair])
def test_observations_of_several_arrays_come_back(tmp_path, kind):
    """As plain tuples, also those that are recorded as named ones, as in grid-worlds."""
    obs = kind(jnp.arange(4), jnp.linspace(0.0, 1.0, 4))
    dataset = Dataset(steps(obs=obs, next_obs=obs))
    save_dataset(tmp_path / "set.npz", dataset, describe(dataset, CARD))
    plain = Dataset(steps(obs=tuple(obs), next_obs=tuple(obs)))
    assert_equal(load_dataset(tmp_path / "set.npz")[0], plain)


def test_a_card_says_how_good_a_dataset_is():
    card = describe(Dataset(steps()), CARD, num_reference_pairs=8)
    assert (card.num_steps, card.num_episodes) == (4, 2)
    assert card.return_quantiles == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert card.quality == pytest.approx((3 - -2) / 10)
    assert card.coverage == pytest.approx(4 / 8)
    assert card.score(3.0) == pytest.approx(50.0)


def test_an_episode_that_the_recording_cut_does_not_count_as_a_return():
    """The episodes have 2, 2 and 1 steps; the last one was cut, and its return is no return."""
    longer = jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), steps())
    card = describe(Dataset(longer._replace(terminated=longer.terminated.at[4].set(False))), CARD)
    assert card.num_episodes == 3
    assert card.return_quantiles[2] == 3.0


def test_equal_pairs_are_counted_once():
    same = steps(obs=jnp.zeros((4, 2)), action=jnp.array([[0.5], [0.5], [0.5], [1.0]]))
    assert count_pairs(same) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": jnp.array([0.0, jnp.nan, 0, 0])}, r"reward is not finite at \(1,\)"),
        ({"obs": jnp.full((4, 2), jnp.inf)}, r"obs is not finite at \(0, 0\)"),
        ({"action": jnp.array([[0.0], [1.5], [0], [0]])}, r"step 1, \[1.5\], is not in \[-1, 1\]"),
        ({"truncated": jnp.zeros(4, bool)}, "its last step must be terminated or truncated"),
        ({"obs": jnp.array([[0.0, 7], [1, 7], [2, 7], [3, 7]])}, "entry 1 .* is 7.0 at every"),
        ({"action": jnp.zeros(4)}, r"action of shape \(4,\) is not valid; it must be \(4, 1\)"),
        ({"action": jnp.zeros((4, 1), int)}, r"action of shape \(4, 1\) .* must be \(4,\)"),
        ({"reward": jnp.zeros((4, 1))}, r"reward of shape \(4, 1\) .* must be \(4,\)"),
        ({"terminated": jnp.ones(4, jnp.int8)}, "terminated of dtype int8 .* must be bool"),
        ({"next_obs": jnp.zeros((4, 3))}, r"next_obs, .*\(4, 3\).*, must be like obs, .*\(4, 2\)"),
    ],
)
def test_bad_steps_are_named(tmp_path, changes, message):
    dataset = Dataset(steps(**changes))
    with pytest.raises(ValueError, match=message):
        save_dataset(tmp_path / "set.npz", dataset, CARD)
    assert not (tmp_path / "set.npz").exists()


def test_an_empty_dataset_is_refused(tmp_path):
    empty = Dataset(jax.tree.map(lambda x: x[:0], steps()))
    with pytest.raises(ValueError, match="holds no steps"):
        save_dataset(tmp_path / "set.npz", empty, CARD)


def test_equal_references_are_refused():
    with pytest.raises(ValueError, match="expert_return: 1.0 is not valid; it must be greater"):
        Card("Pendulum-v1", "a test", random_return=1.0, expert_return=1.0)


def test_bad_files_are_named(tmp_path):
    path, dataset = tmp_path / "set.npz", Dataset(steps())
    with pytest.raises(ValueError, match="there is no such file"):
        load_dataset(path)
    save_dataset(path, dataset, describe(dataset, CARD))
    with pytest.raises(ValueError, match="was recorded in 'Pendulum-v1', not in 'hopper'"):
        load_dataset(path, "hopper")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged, or no dataset"):
        load_dataset(path)
    np.savez(path, rule=np.zeros(3))
    with pytest.raises(ValueError, match="is damaged, or no dataset"):
        load_dataset(path)


@pytest.mark.parametrize(
    "about", ["[1]", "{}", '{"version": 1}', '{"version": 1, "card": {"x": 1}}']
)
def test_a_file_without_a_card_is_no_dataset(tmp_path, about):
    np.savez(tmp_path / "set.npz", about=np.array(about))
    with pytest.raises(ValueError, match="is damaged, or no dataset"):
        load_card(tmp_path / "set.npz")


def test_observations_of_many_arrays_come_back_in_their_order(tmp_path):
    seen = steps()
    many = tuple(seen.reward + i for i in range(11))
    dataset = Dataset(seen._replace(obs=many, next_obs=many))
    save_dataset(tmp_path / "set.npz", dataset, describe(dataset, CARD))
    found, _ = load_dataset(tmp_path / "set.npz")
    for expected, array in zip(many, found.steps.obs, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_steps_that_the_card_does_not_describe_are_refused(tmp_path):
    card = describe(Dataset(steps()), CARD)
    save_dataset(tmp_path / "set.npz", Dataset(steps(reward=jnp.ones(4))), card)
    with pytest.raises(ValueError, match="not those that its card describes"):
        load_dataset(tmp_path / "set.npz")
