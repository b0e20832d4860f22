"""Rules on disk: the shipped ones fit their configs, and damaged or hostile files are refused."""

import importlib
import json
import random
import sys
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import lpg, ppo, ta_lpg
from algos.ppo import LossInputs
from algos.rules import (
    FOLDER,
    KINDS,
    Kind,
    load_rule,
    load_rules,
    save_population,
    save_rule,
)
from purejaxrl.running.evaluate import Best
from purejaxrl.running.population import Population, seeds
from purejaxrl.running.result import Result
from tests.helpers import init_rule

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.npz"))
CONFIG = lpg.Config(num_envs=2, num_predictions=3, rule_width=4, rule_embedding=4)
RULE = init_rule(jax.random.key(0), CONFIG)
INPUTS = "params/inputs"


@pytest.fixture
def path(tmp_path):
    """A sound file of a small rule."""
    save_rule(tmp_path / "rule.npz", CONFIG, RULE)
    return tmp_path / "rule.npz"


def read(path):
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def describe(edit):
    """A damage to the description: `edit(about)` changes it or returns another."""

    def damage(path):
        entries = read(path)
        about = json.loads(str(entries["about"]))
        about = edit(about) or about
        np.savez(
            path, **entries | {"about": about if isinstance(about, str) else json.dumps(about)}
        )

    return damage


def without(name):
    return lambda path: np.savez(path, **{k: x for k, x in read(path).items() if k != name})


def with_array(name, array):
    return lambda path: np.savez(path, **read(path) | {name: array})


def with_value(value):
    weights = np.array(RULE["params"]["inputs"])
    weights[0, 0] = value
    return with_array(INPUTS, weights)


def truncate(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def write_one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def configure(**fields):
    return describe(lambda about: about["config"].update(fields))


DAMAGES = {
    "empty": (truncate(0), "damaged, or no archive"),
    "truncated": (truncate(2_000), "damaged, or no archive"),
    "text": (lambda path: path.write_text("a rule"), "damaged, or no archive"),
    "one plain array": (write_one_array, "it is one array"),
    "pickled array": (with_array(INPUTS, np.array([{}])), "damaged, or no archive .*pickle"),
    "no description": (without("about"), "no entry 'about'"),
    "description is not JSON": (describe(lambda about: "{"), "'about' must be JSON"),
    "description is a list": (describe(lambda about: [1]), "'version' in 'about' is None"),
    "no version": (describe(lambda about: about.pop("version") and None), "'version' .* is None"),
    "another version": (describe(lambda about: about | {"version": 2}), "version 2 is not known"),
    "no algorithm": (describe(lambda about: about.pop("algorithm") and None), "'algorithm'"),
    "unknown algorithm": (
        describe(lambda about: about | {"algorithm": "algos.gpl"}),
        "algorithm 'algos.gpl' is not known; it must be one of algos.lpg, ",
    ),
    "no config": (describe(lambda about: about.pop("config") and None), "'config' .* is None"),
    "unknown config field": (configure(depth=2), "field 'depth'; it must be one of num_envs, "),
    "config value out of range": (configure(num_envs=0), "Config.num_envs: 0 is not valid"),
    "config value of another type": (configure(rule_width="4"), "it must be of type int"),
    "nested config value": (configure(hidden=["4"]), "is not valid"),
    "config of a wider rule": (configure(rule_width=5), r"has shape \(.*\); its config needs"),
    "config of a gigantic rule": (configure(rule_width=10**12), "rule_width: 1000000000000 is not"),
    "array missing": (without(INPUTS), f"missing: {INPUTS}"),
    "array too many": (with_array("extra", np.ones(2)), "not of this config: extra"),
    "array of another shape": (with_array(INPUTS, np.ones((2, 2))), r"has shape \(2, 2\)"),
    "array of strings": (with_array(INPUTS, np.full((6, 12), "1")), "it must be of floats"),
    "NaN": (with_value(np.nan), f"array {INPUTS} holds NaN or infinity"),
    "infinity": (with_value(np.inf), f"array {INPUTS} holds NaN or infinity"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name(path, damage):
    damage, message = DAMAGES[damage]
    damage(path)
    with pytest.raises(ValueError, match=message) as error:
        load_rule(path)
    assert str(error.value).startswith(f"rule: {path}")


def test_a_file_cannot_have_code_imported(path, tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise SystemExit('code of a downloaded file ran')")
    monkeypatch.syspath_prepend(tmp_path)
    describe(lambda about: about | {"algorithm": "hostile"})(path)
    with pytest.raises(ValueError, match="algorithm 'hostile' is not known"):
        load_rule(path)
    assert "hostile" not in sys.modules


def test_flipped_bits_are_refused_or_without_effect(path):
    """The archive's checksums cover its entries; the rest of it may differ, the rule may not."""
    sound, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            rule = load_rule(path)
        except ValueError:
            continue
        assert rule.config == CONFIG
        jax.tree.map(np.testing.assert_array_equal, rule.params, RULE)


def test_a_rule_comes_back_as_it_was(path):
    rule = load_rule(path)
    assert (rule.name, rule.kind, rule.config) == ("rule", KINDS[0], CONFIG)
    jax.tree.map(np.testing.assert_array_equal, rule.params, RULE)


def test_config_fields_that_a_file_lacks_have_their_defaults(path):
    """So that files stay readable when a config gets another field."""
    describe(lambda about: about["config"].pop("optimizer") and None)(path)
    assert load_rule(path).config == CONFIG


@pytest.mark.parametrize(
    ("config", "params", "message"),
    [
        (ppo.Config(), RULE, "unknown algorithm of a rule 'algos.ppo'"),
        (ta_lpg.Config(), RULE, "its config needs"),
        (CONFIG, jax.tree.map(lambda x: x * jnp.nan, RULE), "holds NaN"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, config, params, message):
    with pytest.raises(ValueError, match=message):
        save_rule(tmp_path / "rule.npz", config, params)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [("lpgg", "unknown rule 'lpgg'; did you mean: lpg"), ("none.npz", "does not exist")],
)
def test_an_unknown_name_is_an_error(name, message):
    with pytest.raises(ValueError, match=message):
        load_rule(name)


def test_a_folder_comes_in_order_of_name(tmp_path):
    for seed in (2, 0, 1):
        rule = init_rule(jax.random.key(seed), CONFIG)
        save_rule(tmp_path / f"rule-{seed}.npz", CONFIG, rule)
    for seed, rule in enumerate(load_rules(tmp_path)):
        expected = init_rule(jax.random.key(seed), CONFIG)
        jax.tree.map(np.testing.assert_array_equal, rule.params, expected)
    with pytest.raises(ValueError, match="holds no rule"):
        load_rules(tmp_path.parent)


def test_six_learned_algorithms_are_shipped():
    assert SHIPPED == ["disco103", "lpg", "lpg_gridworlds", "lpo", "ta_lpg", "ta_lpo"]
    expected = ["disco", "optimistic_lpg", "lpg", "lpo", "ta_lpg", "ta_lpo"]
    expected = [f"algos.{name}" for name in expected]
    assert [rule.kind.name for rule in load_rules(FOLDER)] == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rule_fits_its_config_and_has_a_card(name):
    rule = load_rule(name)
    algorithm = importlib.import_module(rule.kind.name)
    assert type(rule.config) is algorithm.Config
    init = getattr(algorithm, "init_drift", None) or algorithm.init_rule
    expected = jax.eval_shape(lambda: init(jax.random.key(0), rule.config))
    found = jax.eval_shape(lambda: rule.params)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(rule.params))
    assert f"# Model card: `{name}`" in rule.card.read_text()


@pytest.mark.parametrize("name", ["lpo", "ta_lpo"])
def test_a_drift_that_began_without_a_clip_restrains_large_ratios(name):
    """At the end of life a good action costs something where its ratio is 1.5, as with PPO."""
    rule = load_rule(name)
    assert rule.config.drift_clip == np.inf
    inputs = LossInputs(jnp.log(jnp.array([1.5])), jnp.ones(1), 1.0)
    drift, start = (
        one.network.apply(one.params, inputs) for one in (rule, rule.untrained(jax.random.key(0)))
    )
    assert start == 0 and drift > 0.1


def test_an_untrained_rule_differs_in_its_parameters_only(path):
    rule = load_rule(path)
    other = rule.untrained(jax.random.key(0))
    assert (other.kind, other.config, other.card) == (rule.kind, rule.config, None)
    drawn = lpg.init_rule(jax.random.key(0), rule.config)
    jax.tree.map(np.testing.assert_array_equal, other.params, drawn)


def test_an_algorithm_of_your_own_is_registered_in_one_line(tmp_path):
    mine = types.ModuleType("mine")
    mine.make, mine.Hypers, mine.init_rule = lpg.make, lpg.Hypers, lpg.init_rule
    mine.Config = type("Config", (lpg.Config,), {"__module__": "mine"})
    config = mine.Config(rule_width=4)
    with pytest.raises(ValueError, match="unknown algorithm of a rule 'mine'"):
        save_rule(tmp_path / "rule.npz", config, RULE)
    before = KINDS.copy()
    KINDS.append(Kind(mine, "rule"))
    try:
        save_rule(tmp_path / "rule.npz", config, init_rule(jax.random.key(0), config))
        rule = load_rule(tmp_path / "rule.npz")
        assert type(rule.config) is mine.Config and rule.kind.name == "mine"
    finally:
        KINDS[:] = before


class Learned(NamedTuple):
    """The part of a meta-learner's state that holds its rules."""

    params: Any


def test_a_population_of_rules_is_saved_by_seed_without_those_that_diverged(tmp_path, capsys):
    state = Learned(jax.tree.map(lambda x: jnp.stack([x, x + jnp.nan, x + 1]), RULE))
    members = Population(tuple(seeds(3, start=5)), None, None, None)
    result = Result(state, np.array([True, False, True]), members, tmp_path)
    assert [path.name for path in save_population(result, CONFIG)] == ["rule-5.npz", "rule-7.npz"]
    saved = load_rule(tmp_path / "rule-7.npz").params
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), saved, RULE)
    assert "rule-6: nothing is saved, because its training diverged" in capsys.readouterr().err


def test_the_best_rules_are_saved_and_the_last_ones_where_none_was_evaluated(tmp_path):
    state = Learned(jax.tree.map(lambda x: jnp.stack([x, x]), RULE))
    members = Population(tuple(seeds(2)), None, None, None)
    better = jax.tree.map(lambda x: jnp.stack([x + 1, x + 1]), RULE)
    best = Best(better, np.array([0.6, -np.inf]), np.array([40, 0]))
    save_population(Result(state, np.array([True, True]), members, tmp_path, best), CONFIG)
    for seed, expected in enumerate([jax.tree.map(lambda x: x + 1, RULE), RULE]):
        saved = load_rule(tmp_path / f"rule-{seed}.npz").params
        jax.tree.map(np.testing.assert_array_equal, saved, expected)
