"""What is shipped: every rule and drift loads, fits its config, and has a card that says so."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import lpo
from algos.rules import FOLDER, load_rule, load_rules

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.npz"))


def test_four_learned_algorithms_are_shipped():
    assert SHIPPED == ["lpg", "lpo", "ta_lpg", "ta_lpo"]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_fits_its_config_and_has_a_card(name):
    config, params = load_rule(name)
    algorithm = importlib.import_module(f"algos.{name}")
    assert type(config) is algorithm.Config
    init = getattr(algorithm, "init_drift", None) or algorithm.init_rule
    expected = jax.eval_shape(lambda: init(jax.random.key(0), config))
    found = jax.eval_shape(lambda: params)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
    assert f"# Model card: `{name}`" in (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize("name", ["lpo", "ta_lpo"])
def test_a_drift_learned_from_nothing_holds_good_actions_back(name):
    """Where PPO clips, it costs something to make a good action more likely at the end of life."""
    config, params = load_rule(name)
    assert config.drift_clip == np.inf
    drift = config.make_drift().apply(params, jnp.log(jnp.array([1.5])), jnp.ones(1), 1.0)
    start = config.make_drift().apply(
        lpo.init_drift(jax.random.key(0), config), jnp.log(jnp.array([1.5])), jnp.ones(1), 1.0
    )
    assert start == 0 and drift > 0.1


def test_a_folder_of_rules_is_all_of_them():
    assert [type(config).__module__ for config, _ in load_rules(FOLDER)] == [
        f"algos.{name}" for name in SHIPPED
    ]
