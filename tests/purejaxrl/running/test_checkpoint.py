import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.running import checkpoint
from purejaxrl.running.checkpoint import CheckpointError, Series, load, read_manifest, save

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


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, byte, bit):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def damage(folder):
    flip(max(files(folder / "tree"), key=lambda path: path.stat().st_size), 0, 0)


def test_a_tree_comes_back_as_it_was(saved):
    found, info = load(saved, tree(fill=9.0))
    assert_same(found, tree())
    assert info == INFO


def test_a_typed_key_comes_back_usable(saved):
    found, _ = load(saved, tree())
    assert (jax.random.bits(found.keys[1]) == jax.random.bits(tree().keys[1])).all()


def test_what_to_expect_can_be_said_by_shapes_alone(saved):
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


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def fail_at(monkeypatch, stage, folder):
    """Make saving to this folder fail at a stage."""
    if stage == "arrays":
        monkeypatch.setattr(checkpoint.ocp, "save_pytree", full_disk)
    elif stage == "manifest":
        monkeypatch.setattr(checkpoint, "write_atomically", full_disk)
    else:
        replace = checkpoint.os.replace

        def moves_all_but_the_new_checkpoint(source, target):
            is_new = Path(source).name == f".{folder.name}.partial"
            return full_disk() if is_new else replace(source, target)

        monkeypatch.setattr(checkpoint.os, "replace", moves_all_but_the_new_checkpoint)


@pytest.mark.parametrize("stage", ["arrays", "manifest", "move"])
def test_a_failed_save_leaves_the_previous_checkpoint_intact(copy, monkeypatch, stage):
    fail_at(monkeypatch, stage, copy)
    with pytest.raises(CheckpointError, match=r"could not be written: .*No space left"):
        save(copy, tree(fill=4.0), {})
    monkeypatch.undo()
    assert_same(load(copy, tree())[0], tree())
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("stage", ["arrays", "manifest", "move"])
def test_a_failed_save_of_a_series_leaves_its_checkpoints_intact(tmp_path, monkeypatch, stage):
    series = Series(tmp_path, keep_last=1)
    series.save(1, tree(fill=1.0), 0.0, {})
    fail_at(monkeypatch, stage, series.path(2))
    with pytest.raises(CheckpointError):
        series.save(2, tree(fill=2.0), 9.0, {})
    monkeypatch.undo()
    assert series.updates() == [1]
    assert_same(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=1.0))


def test_a_save_that_was_killed_is_ignored_and_can_be_made_again(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise SystemExit

    series = Series(tmp_path)
    series.save(1, tree(fill=1.0), 0.0, {})
    monkeypatch.setattr(checkpoint, "write_atomically", killed)
    with pytest.raises(SystemExit):
        series.save(2, tree(fill=2.0), 0.0, {})
    monkeypatch.undo()
    assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert series.updates() == [1]
    assert_same(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=1.0))
    series.save(2, tree(fill=3.0), 0.0, {})
    assert_same(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000001", "0000000002"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A series of five, of which the second is best and the last has no score."""
    series = Series(tmp_path_factory.mktemp("series"), keep_last=2)
    for update, score in [(1, 0.0), (2, 7.0), (5, -1.0), (10, 3.0), (100, float("nan"))]:
        series.save(update, tree(fill=update), score, {"steps": 10 * update})
    return series


@pytest.fixture
def series(made, tmp_path):
    """A copy of the series, to damage."""
    return Series(shutil.copytree(made.folder, tmp_path / "series"), keep_last=2)


def test_a_series_keeps_the_last_and_the_best(series):
    assert series.updates() == [2, 10, 100]
    assert series.best() == 2
    assert_same(load(series.path(2), tree())[0], tree(fill=2))


def test_a_new_best_takes_the_old_ones_place(series):
    series.save(101, tree(), 8.0, {})
    assert series.best() == 101
    series.save(102, tree(), 1.0, {})
    assert series.updates() == [101, 102]


def test_the_latest_is_loaded_with_its_info(series):
    found, info = series.load_latest(tree(), warn=pytest.fail)
    assert_same(found, tree(fill=100))
    assert (info["update"], info["steps"]) == (100, 1000)


def test_a_damaged_checkpoint_is_passed_over_and_said(series):
    damage(series.path(100))
    said = []
    found, info = series.load_latest(tree(), said.append)
    assert_same(found, tree(fill=10))
    assert info["update"] == 10
    assert len(said) == 1
    assert str(series.path(100)) in said[0]
    assert "damaged" in said[0]


def test_only_damaged_checkpoints_are_an_error(series):
    for update in series.updates():
        damage(series.path(update))
    said = []
    with pytest.raises(CheckpointError, match=r"none of \[2, 10, 100\] can be used"):
        series.load_latest(tree(), said.append)
    assert len(said) == 3


def test_a_checkpoint_without_a_manifest_is_not_the_best(series):
    (series.path(2) / checkpoint.MANIFEST).unlink()
    assert series.best() == 10


def test_what_is_no_checkpoint_is_ignored(series):
    (series.folder / ".0000000200.partial" / "tree").mkdir(parents=True)
    (series.folder / "notes").mkdir()
    assert series.updates() == [2, 10, 100]
    assert series.load_latest(tree(), warn=pytest.fail)[1]["update"] == 100


def test_an_empty_or_missing_series_has_no_latest_and_no_best(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert Series(folder).load_latest(tree(), warn=pytest.fail) is None
        assert Series(folder).best() is None
        assert Series(folder).updates() == []


def test_no_scores_means_no_best(tmp_path):
    series = Series(tmp_path, keep_last=1)
    for update in (1, 2):
        series.save(update, {"x": jnp.zeros(1)}, float("nan"), {})
    assert series.best() is None
    assert series.updates() == [2]


@pytest.mark.parametrize("keep_last", [0, -1])
def test_at_least_one_checkpoint_is_kept(tmp_path, keep_last):
    with pytest.raises(ValueError, match=f"keep_last: {keep_last} is not valid"):
        Series(tmp_path, keep_last=keep_last)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, "one")
    checkpoint.write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]
