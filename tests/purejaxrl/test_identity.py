import functools
import importlib
import sys
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import lpg
from envs import maze_levels
from purejaxrl.identity import code_of, fingerprint, is_named, part_name
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued.curriculum import fixed


def loss_with(coefficient):
    def loss(x, hypers):
        return coefficient * x.advantage

    return loss


def with_default(coefficient):
    def loss(log_ratio, advantage, coefficient=coefficient):
        return coefficient * advantage

    return loss


@dataclass
class Penalty:
    weight: float

    def __call__(self, x):
        return self.weight * x

    def method(self, x):
        return x


class Plain:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, x):
        return self.weight * x


class Pair(NamedTuple):
    left: object
    right: object


class Opaque:
    """Holds what cannot be named."""

    def __init__(self, name=None):
        self.generator = np.random.default_rng(0)
        if name:
            self.name = name


LEVELS = jnp.arange(6).reshape(2, 3)
PAIRS = {
    "closure": (loss_with(1.0), loss_with(2.0)),
    "default": (with_default(1.0), with_default(2.0)),
    "partial": (functools.partial(loss_with, 1.0), functools.partial(loss_with, 2.0)),
    "lambda": (lambda x: x + 1, lambda x: x + 2),
    "two lambdas on a line": ((lambda x: x), (lambda y: y * 2)),
    "jitted closure": (jax.jit(loss_with(1.0)), jax.jit(loss_with(2.0))),
    "vmapped closure": (jax.vmap(loss_with(1.0)), jax.vmap(loss_with(2.0))),
    "callable dataclass": (Penalty(1.0), Penalty(2.0)),
    "callable object": (Plain(1.0), Plain(2.0)),
    "bound method": (Penalty(1.0).method, Penalty(2.0).method),
    "flax module": (lpg.Rule(4, 2, 3), lpg.Rule(4, 2, 5)),
    "flax method": (lpg.Rule(4, 2, 3).apply, lpg.Rule(4, 2, 5).apply),
    "array": (np.zeros(3), np.ones(3)),
    "dtype": (np.zeros(3), np.zeros(3, np.float32)),
    "key": (jax.random.key(0), jax.random.key(1)),
    "nested": (Pair(1, {"a": [loss_with(1)]}), Pair(1, {"a": [loss_with(2)]})),
    "environment": (envs.make("gridworld-small")[0], envs.make("gridworld-medium")[0]),
    "observation": (
        envs.make("gridworld-small")[0],
        envs.make("gridworld-small", observation="planes")[0],
    ),
    "wrapped environment": (
        FlattenObservation(envs.make("Breakout-MinAtar")[0]),
        FlattenObservation(envs.make("Asterix-MinAtar")[0]),
    ),
    "sampler": (maze_levels.uniform(25), maze_levels.uniform(60)),
    "class": (int, float),
}


@pytest.mark.parametrize("case", PAIRS)
def test_parts_that_differ_have_names_that_differ(case):
    one, other = map(part_name, PAIRS[case])
    assert is_named(one) and is_named(other)
    assert one != other


@pytest.mark.parametrize("case", PAIRS)
def test_a_name_is_repeatable_and_holds_no_address(case):
    part = PAIRS[case][0]
    assert part_name(part) == part_name(part)
    assert " at 0x" not in part_name(part)


def test_equal_parts_made_twice_have_one_name():
    for make in (loss_with, Penalty, Plain, lambda x: Pair(x, loss_with(x))):
        assert part_name(make(3.0)) == part_name(make(3.0))
    assert part_name(maze_levels.uniform(25)) == part_name(maze_levels.uniform(25))


def test_a_function_of_a_module_is_named_by_module_and_name():
    assert part_name(maze_levels.mutate) == "envs.maze_levels.mutate"
    named = part_name(functools.partial(maze_levels.mutate, num_edits=5))
    assert named == "envs.maze_levels.mutate(num_edits=5)"


def test_what_cannot_be_named_says_so_unless_it_has_a_name():
    assert not is_named(part_name(Opaque()))
    assert not is_named(part_name(functools.partial(loss_with, Opaque())))
    assert is_named(part_name(Opaque("mine")))
    assert part_name(Opaque("mine")) != part_name(Opaque("other"))
    exec(compile("nameless = lambda x: x", "<nowhere>", "exec"), found := {})
    assert not is_named(part_name(found["nameless"]))


def test_a_traced_array_cannot_be_named():
    names = []
    jax.jit(lambda x: names.append(part_name(x)) or x)(1.0)
    assert not is_named(names[0])


def test_an_object_that_holds_itself_is_named():
    one, other = Plain(1.0), Plain(2.0)
    one.itself, other.itself = one, other
    assert is_named(part_name(one)) and part_name(one) != part_name(other)


def test_a_fingerprint_is_of_content_types_and_structure():
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(0)}
    assert fingerprint(tree) == fingerprint(jax.tree.map(lambda x: x, tree))
    others = [
        tree | {"w": tree["w"].at[0, 0].set(1)},
        tree | {"w": tree["w"].reshape(3, 2)},
        tree | {"w": tree["w"].astype(jnp.int32)},
        tree | {"key": jax.random.key(1)},
        {"v": tree["w"], "key": tree["key"]},
    ]
    assert len({fingerprint(x) for x in (tree, *others)}) == 6


def test_fixed_levels_are_named_by_their_content():
    names = [part_name(fixed(levels)) for levels in (LEVELS, LEVELS + 0, LEVELS + 1)]
    assert names[0] == names[1] != names[2]


SOURCE = '''"""A module."""

def double(x):
    """Double a number."""
    return 2 * x
'''


def test_the_code_of_a_module_changes_with_what_it_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    hashes = []
    for i, text in enumerate((SOURCE, SOURCE.replace("Double a", "Twice a") + "# end\n",
                              SOURCE.replace("2", "3"))):  # fmt: skip
        (tmp_path / f"doubling_{i}.py").write_text(text)
        importlib.import_module(f"doubling_{i}")
        hashes += code_of(f"doubling_{i}.double(x=1), nowhere.at_all").values()
        monkeypatch.delitem(sys.modules, f"doubling_{i}")
    assert hashes[0] == hashes[1] != hashes[2]
