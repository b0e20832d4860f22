import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from algos import ppo
from purejaxrl.running.population import grid, name_of, populate, seeds, with_field
from purejaxrl.validation import hyper


class Critic(struct.PyTreeNode):
    rate: float = hyper(0.1, above=0)


class Hypers(struct.PyTreeNode):
    learning_rate: float = hyper(1e-3, above=0)
    gamma: float = hyper(0.99, at_least=0, at_most=1)
    critic: Critic = Critic()


class Level(struct.PyTreeNode):
    gravity: float = 9.8
    walls: tuple = (1, 2)


def test_seeds_are_consecutive():
    assert seeds(3) == ({"seed": 0}, {"seed": 1}, {"seed": 2})
    assert seeds(2, start=5) == ({"seed": 5}, {"seed": 6})


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_there_is_at_least_one_seed(count):
    with pytest.raises(ValueError, match=f"seeds: {count} is not valid"):
        seeds(count)


@pytest.mark.parametrize(("count", "start"), [(3, -1), (1, 2**32), (2, 2**32 - 1), (1, 0.5)])
def test_seeds_are_those_that_give_different_keys(count, start):
    with pytest.raises(ValueError, match=f"start: {start} is not valid"):
        seeds(count, start=start)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70, 2.0, np.int64(-1), True])
def test_a_row_with_an_invalid_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed: .* is not valid; .* >= 0 and < 2\*\*32"):
        populate([{"seed": seed}], Hypers(), None)


def test_large_seeds_have_the_keys_that_jax_gives_them():
    for seed in (2**31, 2**32 - 1):
        assert populate(seeds(1, start=seed), Hypers(), None).keys[0] == jax.random.key(seed)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.array(0.1, np.float32), jnp.float32(0.1), np.float32([0.1])],
    ids=["numpy scalar", "numpy array", "jax scalar", "one entry"],
)
def test_values_become_python_numbers_of_equal_value(value):
    [row] = grid(gamma=[value])
    assert type(row["gamma"]) is float
    assert row["gamma"] == np.float32(0.1)
    [row] = populate([{"gamma": value, "seed": np.int64(3)}], Hypers(), None).rows
    assert json.loads(json.dumps(row)) == {"gamma": float(np.float32(0.1)), "seed": 3}


def test_an_integer_is_the_float_of_equal_value():
    one, other = (populate(grid(gamma=values), Hypers(), None) for values in ([0, 1], [0.0, 1.0]))
    assert [type(row["gamma"]) for row in one.rows] == [float, float]
    assert one.hypers.gamma.dtype == other.hypers.gamma.dtype == np.float32


def test_a_grid_needs_lists():
    with pytest.raises(ValueError, match="gamma: 0.1 is not valid; it must be a list of numbers"):
        grid(gamma=0.1)


@pytest.mark.parametrize("value", [np.zeros(2), jnp.zeros((1, 2)), "0.1", None, [0.1], Critic()])
def test_a_value_that_is_not_one_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"gamma: .* is not valid; a row needs one number"):
        grid(gamma=[value])


def test_a_field_that_is_not_one_number_cannot_be_set_by_a_row():
    for hypers in (Hypers(), Hypers(critic=jnp.zeros(3))):
        with pytest.raises(ValueError, match="critic: is not one number"):
            populate(grid(critic=[0.5]), hypers, None)


def test_a_grid_is_every_combination():
    rows = grid(learning_rate=[1.0, 2.0], gamma=[0.5, 0.75, 1.0])
    assert len(rows) == 6
    assert {(row["learning_rate"], row["gamma"]) for row in rows} == {
        (a, b) for a in (1.0, 2.0) for b in (0.5, 0.75, 1.0)
    }


def test_a_product_is_every_combination_and_a_sum_one_after_the_other():
    a, b = seeds(2), grid(gamma=[0.5, 1.0])
    assert a * b == tuple({"seed": s, "gamma": g} for s in (0, 1) for g in (0.5, 1.0))
    assert a + b == (*a, *b)
    assert len(a * b * grid(learning_rate=[1.0, 2.0])) == 8


def test_a_product_that_would_set_a_name_twice_is_refused():
    with pytest.raises(ValueError, match=r"\['gamma'\] would be set twice"):
        grid(gamma=[0.5]) * grid(gamma=[0.6])


def test_a_name_says_what_the_row_sets():
    assert name_of({"learning_rate": 1e-3, "seed": 3}) == "learning_rate=0.001,seed=3"
    assert name_of({"gamma": 1 / 3}) == "gamma=0.333333"
    assert name_of({}) == ""


def test_members_carry_what_their_rows_set_and_the_rest_by_default():
    population = populate(
        seeds(2) * grid(gamma=[0.5, 1.0], **{"critic.rate": [0.25]}), Hypers(), Level()
    )
    assert population.size == 4
    assert population.names[1] == "seed=0,gamma=1,critic.rate=0.25"
    assert len(set(population.names)) == 4
    np.testing.assert_array_equal(population.hypers.gamma, [0.5, 1.0, 0.5, 1.0])
    np.testing.assert_array_equal(population.hypers.critic.rate, np.full(4, 0.25))
    np.testing.assert_array_equal(population.hypers.learning_rate, np.full(4, 1e-3, np.float32))


def test_the_level_is_shared_by_all_members():
    level = populate(seeds(3), Hypers(), Level()).env_params
    np.testing.assert_array_equal(level.gravity, np.full(3, 9.8, np.float32))
    np.testing.assert_array_equal(level.walls[1], [2, 2, 2])


def test_every_array_leaf_has_the_members_axis_first():
    population = populate(seeds(3), Hypers(), Level())
    for leaf in jax.tree.leaves((population.keys, population.hypers, population.env_params)):
        assert leaf.shape == (3,)


def test_the_same_seed_gives_the_same_key():
    population = populate(seeds(3, start=1) * grid(gamma=[0.5, 1.0]), Hypers(), None)
    for row, key in zip(population.rows, population.keys, strict=True):
        assert key == jax.random.key(row["seed"])
    assert len({tuple(jax.random.key_data(key).tolist()) for key in population.keys}) == 3


def test_without_a_seed_it_is_zero():
    assert populate(grid(gamma=[0.5]), Hypers(), None).keys[0] == jax.random.key(0)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        populate([], Hypers(), None)
    with pytest.raises(ValueError, match="gamma: no values"):
        grid(gamma=[])


def test_two_members_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two members are called 'seed=1'"):
        populate(seeds(2) + seeds(1, start=1), Hypers(), None)


def test_an_unknown_field_gets_a_suggestion():
    with pytest.raises(
        ValueError, match=r"Hypers field 'learnin_rate'; did you mean: learning_rate"
    ):
        populate(grid(learnin_rate=[1.0]), Hypers(), None)


def test_an_unknown_nested_field_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"Critic field 'rat'; did you mean: rate"):
        populate(grid(**{"critic.rat": [1.0]}), Hypers(), None)


def test_an_invalid_value_is_refused_by_member_field_value_and_range():
    with pytest.raises(ValueError) as error:
        populate(seeds(1, start=7) * grid(gamma=[0.5, 1.5]), Hypers(), None)
    message = str(error.value)
    assert "Hypers.gamma: 1.5 is not valid" in message
    assert ">= 0 and <= 1" in message
    assert "seed=7,gamma=1.5" in message


def test_all_members_are_stacked_as_one_by_one():
    """`jnp.stack` on 4,096 scalars took more than a minute; values, dtypes and weak types stay."""
    hypers = Hypers(learning_rate=jnp.float32(1e-3))
    rows = grid(gamma=[0.5, 1.0]) + grid(learning_rate=[1, 0.1]) + seeds(1)
    members = [
        functools.reduce(lambda member, name: with_field(member, name, row[name]),
                         (name for name in row if name != "seed"), hypers) for row in rows
    ]  # fmt: skip
    one_by_one = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *members)
    together = populate(rows, hypers, None).hypers
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
        np.testing.assert_array_equal(a, b)


def test_many_members_do_not_take_long():
    began = time.process_time()
    populate(seeds(4096), Hypers(), Level())
    assert time.process_time() - began < 5  # 0.1 s; it was 27 s


def test_a_static_setting_cannot_differ_between_members():
    with pytest.raises(ValueError, match=r"num_envs: a field of algos.ppo.Config is static"):
        populate(grid(num_envs=[4, 8]), ppo.Hypers(), ())


def test_hyperparameters_of_a_module_that_is_not_imported_are_populated():
    """Such as those of a class that `exec` made."""
    made = {"__name__": "nowhere", "Hypers": Hypers}
    exec("class Mine(Hypers):\n    kl_coef: float = 1.0", made)
    assert populate(grid(kl_coef=[0.5, 2.0]), made["Mine"](), ()).size == 2


def test_with_field_replaces_only_that_field():
    assert with_field(Hypers(), "gamma", 0.5) == Hypers(gamma=0.5)
    assert with_field(Hypers(), "critic.rate", 0.5) == Hypers(critic=Critic(0.5))
    assert with_field(Hypers(), "critic", Critic(0.75)).critic.rate == 0.75


def test_with_field_refuses_to_reach_into_a_number():
    with pytest.raises(ValueError, match=r"gamma\.x: 'gamma' has no fields of its own"):
        with_field(Hypers(), "gamma.x", 0.5)


@pytest.fixture(scope="module")
def population():
    return populate(seeds(2) * grid(gamma=[0.5, 1.0]), Hypers(), Level(jnp.arange(3.0)))


def test_a_selection_keeps_a_whole_member(population):
    kept = population.select("seed=1,gamma=0.5")
    assert kept.rows == (population.rows[2],)
    assert kept.names == ("seed=1,gamma=0.5",)
    assert (kept.keys == population.keys[2:3]).all()
    np.testing.assert_array_equal(kept.hypers.gamma, [0.5])
    assert kept.env_params.gravity.shape == (1, 3)


@pytest.mark.parametrize(("part", "index"), [("seed=1", 1), ("gamma=1,seed=0", 2), ("gamma=1", 2)])
def test_the_parts_of_a_name_that_one_member_has_are_enough(part, index):
    rows = seeds(2) * grid(gamma=[0.5]) + seeds(1) * grid(gamma=[1.0]) + seeds(1, start=12)
    population = populate(rows, Hypers(), None)
    assert population.select(part).rows == (rows[index],)


def test_the_parts_of_a_name_that_several_members_have_are_refused(population):
    with pytest.raises(ValueError, match="member 'seed=1' is not valid; 2 members fit it"):
        population.select("seed=1")


def test_a_selection_of_an_unknown_member_gets_a_suggestion(population):
    with pytest.raises(
        ValueError, match=r"unknown member 'seed=1,gamma=0.4'; did you mean: .*0\.5"
    ):
        population.select("seed=1,gamma=0.4")


def test_files_are_called_after_seeds_or_after_whole_names_where_a_seed_occurs_twice():
    assert populate(seeds(2, start=3), Hypers(), None).labels == ("3", "4")
    swept = populate(seeds(2) * grid(gamma=[0.9, 0.99]), Hypers(), None)
    assert swept.labels == swept.names and len(set(swept.labels)) == 4
