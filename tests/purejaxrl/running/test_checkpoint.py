"""Checkpoints: what is saved comes back, and damage is found."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.running import checkpoint
from purejaxrl.running.checkpoint import CheckpointError, load, read_manifest, save
from tests.purejaxrl.running.damage import fail_at, files, flip

INFO = {"update": 3, "score": 1.5, "name": "a run"}


class Tree(NamedTuple):
    params: dict
    keys: jax.Array
    step: jax.Array


def tree(fill=0.0):
    return Tree(
        {"w": jnp.full((2, 3), fill, jnp.float32), "b": jnp.arange(3.0)},
        jax.random.split(jax.random.key(7), 2),
        jnp.int32(5),
    )


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        if jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    save(folder, tree(), INFO)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A checkpoint to damage."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def test_a_tree_comes_back_as_it_was(saved):
    found, info = load(saved, tree(fill=9.0))
    assert_same(found, tree())
    assert info == INFO


def test_a_typed_key_comes_back_usable(saved):
    found, _ = load(saved, tree())
    assert (jax.random.bits(found.keys[1]) == jax.random.bits(tree().keys[1])).all()


def test_shapes_are_enough_to_say_what_to_expect(saved):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree())
    assert_same(load(saved, shapes)[0], tree())


def test_unusual_leaves_come_back(tmp_path):
    leaves = {
        "bool": jnp.array([True, False]),
        "bfloat16": jnp.array([1.5, -2.0], jnp.bfloat16),
        "uint8": jnp.arange(3, dtype=jnp.uint8),
        "not finite": jnp.array([jnp.nan, jnp.inf, -jnp.inf, -0.0]),
        "many": [jnp.int32(i) for i in range(12)],  # more than one digit
        "other key": jax.random.key(1, impl="rbg"),
        "none": None,
        "host": np.float64(0.1),
    }
    save(tmp_path / "c", leaves)
    found, info = load(tmp_path / "c", leaves)
    assert_same(found, leaves)
    assert np.signbit(found["not finite"][-1])
    assert info == {}


def test_an_empty_array_comes_back(tmp_path):
    leaves = {"empty": jnp.zeros((0, 3)), "full": jnp.ones(2)}
    save(tmp_path / "c", leaves)
    assert_same(load(tmp_path / "c", leaves)[0], leaves)


def test_saving_replaces_what_was_there(copy):
    save(copy, tree(fill=4.0), {"score": 2.0})
    found, info = load(copy, tree())
    assert_same(found, tree(fill=4.0))
    assert info == {"score": 2.0}


def test_saving_leaves_nothing_beside_the_checkpoint(tmp_path):
    save(tmp_path / "c", tree())
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_flipped_bit_in_any_file_is_found(copy):
    assert len(files(copy)) > 2
    for path in files(copy):
        whole = path.read_bytes()
        for byte in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            flip(path, byte, bit=byte % 8)
            with pytest.raises(CheckpointError, match=str(copy)):
                load(copy, tree())
            path.write_bytes(whole)
    assert_same(load(copy, tree())[0], tree())


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(copy):
    path = copy / checkpoint.MANIFEST
    whole = path.read_bytes()
    missed = []
    for byte in range(len(whole)):
        flip(path, byte, bit=byte % 3)
        try:
            load(copy, tree())
            missed.append(whole[max(0, byte - 10) : byte + 10])
        except CheckpointError:
            pass
        path.write_bytes(whole)
    assert not missed


def test_any_truncated_file_is_found(copy):
    for path in files(copy):
        whole = path.read_bytes()
        for size in {0, len(whole) // 2, len(whole) - 1} if whole else ():
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError):
                load(copy, tree())
        path.write_bytes(whole)


def test_a_missing_or_extra_file_is_found(copy):
    for path in files(copy):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(CheckpointError):
            load(copy, tree())
        path.write_bytes(whole)
    (copy / "tree" / "extra").write_text("")
    with pytest.raises(CheckpointError, match="damaged"):
        load(copy, tree())


def test_no_checkpoint_is_an_error_that_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="nothing: has no readable manifest"):
        load(tmp_path / "nothing", tree())


def test_a_manifest_that_is_not_one_is_an_error(copy):
    for text in ("", "[]", "3", "null", "{}", '{"format": 1}', "\xff"):
        (copy / checkpoint.MANIFEST).write_text(text, encoding="latin-1")
        with pytest.raises(CheckpointError):
            load(copy, tree())


def test_another_format_is_an_error_that_says_which(copy):
    manifest = read_manifest(copy)
    (copy / checkpoint.MANIFEST).write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(
        CheckpointError, match=f"format 99 is not valid.* reads {checkpoint.FORMAT}"
    ):
        load(copy, tree())


@pytest.mark.parametrize(
    "other",
    [
        tree()._replace(params={"w": jnp.zeros((2, 3))}),
        tree()._replace(params={"w": jnp.zeros((3, 2)), "b": jnp.zeros(3)}),
        tree()._replace(step=jnp.float32(5)),
        tree()._replace(keys=jax.random.key_data(tree().keys)),
        tree()._replace(keys=jax.random.split(jax.random.key(7, impl="rbg"), 2)),
        tree()._replace(params={"w": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}),
        tuple(tree()),
    ],
    ids=["fewer leaves", "shape", "dtype", "untyped key", "key kind", "other name", "other node"],
)
def test_another_structure_is_an_error(saved, other):
    with pytest.raises(CheckpointError, match="holds other arrays than asked for"):
        load(saved, other)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path / "file" / "c", tree())
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("stage", ["arrays", "manifest", "move"])
def test_a_failed_save_leaves_the_previous_checkpoint_intact(copy, monkeypatch, stage):
    fail_at(monkeypatch, stage, copy)
    with pytest.raises(CheckpointError, match=r"could not be written: .*No space left"):
        save(copy, tree(fill=4.0), {})
    monkeypatch.undo()
    assert_same(load(copy, tree())[0], tree())
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_previous_one(copy, monkeypatch):
    def replace(source, target):
        if target == copy:
            raise KeyboardInterrupt
        real(source, target)

    real = os.replace
    monkeypatch.setattr(checkpoint.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save(copy, tree(fill=4.0), {})
    monkeypatch.undo()
    assert_same(load(copy, tree())[0], tree())
    save(copy, tree(fill=5.0), {})
    assert_same(load(copy, tree())[0], tree(fill=5.0))
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_process_that_is_lost_during_a_save_is_no_fault_of_the_folder(copy, monkeypatch):
    def lose(*arguments):
        raise ValueError("INTERNAL: [Gloo] Read error: Connection reset by peer")

    monkeypatch.setattr(checkpoint.processes, "on_first", lose)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(checkpoint.processes.Lost, match="another process was lost"):
        save(copy, tree(fill=4.0), {})
    monkeypatch.undo()
    assert_same(load(copy, tree())[0], tree())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, "one")
    checkpoint.write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a [1] b", "[!x]", "a*b", "a?b", "ä ß 木", "{a,b}", "%20#~"])
def test_any_folder_name_can_be_saved_to_and_loaded_from(tmp_path, name):
    save(tmp_path / name / "c", tree(), INFO)
    found, info = load(tmp_path / name / "c", tree(fill=9.0))
    assert_same(found, tree())
    assert info == INFO


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save("~/c", tree())
    assert (tmp_path / "c" / checkpoint.MANIFEST).exists()
    assert_same(load("~/c", tree(fill=9.0))[0], tree())
