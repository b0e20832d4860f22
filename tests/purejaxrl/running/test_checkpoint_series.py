"""The checkpoints of a run: which are kept, which is loaded."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest

from purejaxrl.running import checkpoint
from purejaxrl.running.checkpoint import CheckpointError, Series, load
from tests.helpers import assert_equal
from tests.purejaxrl.running.damage import fail_at, files, flip


def tree(fill: float = 0.0) -> dict:
    return {"w": jnp.full((2, 3), fill, jnp.float32), "step": jnp.int32(5)}


def damage(folder) -> None:
    flip(max(files(folder / "tree"), key=lambda path: path.stat().st_size), 0, 0)


@pytest.mark.parametrize("stage", ["arrays", "manifest", "move"])
def test_a_failed_save_of_a_series_leaves_its_checkpoints_intact(tmp_path, monkeypatch, stage):
    series = Series(tmp_path, keep_last=1)
    series.save(1, tree(fill=1.0), {})
    fail_at(monkeypatch, stage, series.path(2))
    with pytest.raises(CheckpointError):
        series.save(2, tree(fill=2.0), {})
    monkeypatch.undo()
    assert series.updates() == [1]
    assert_equal(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=1.0))


def test_a_save_that_was_killed_is_ignored_and_can_be_made_again(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise SystemExit

    series = Series(tmp_path)
    series.save(1, tree(fill=1.0), {})
    monkeypatch.setattr(checkpoint, "write_atomically", killed)
    with pytest.raises(SystemExit):
        series.save(2, tree(fill=2.0), {})
    monkeypatch.undo()
    assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    assert series.updates() == [1]
    assert_equal(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=1.0))
    series.save(2, tree(fill=3.0), {})
    assert_equal(series.load_latest(tree(), warn=pytest.fail)[0], tree(fill=3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000001", "0000000002"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A series of five checkpoints, of which the last three are kept."""
    series = Series(tmp_path_factory.mktemp("series"), keep_last=3)
    for update in (1, 2, 5, 10, 100):
        series.save(update, tree(fill=update), {"steps": 10 * update})
    return series


@pytest.fixture
def series(made, tmp_path):
    """A copy of the series, to damage."""
    return Series(shutil.copytree(made.folder, tmp_path / "series"), keep_last=3)


def test_a_series_keeps_the_last(series):
    assert series.updates() == [5, 10, 100]
    assert_equal(load(series.path(5), tree())[0], tree(fill=5))
    series.save(101, tree(), {})
    assert series.updates() == [10, 100, 101]


def test_the_latest_is_loaded_with_its_info(series):
    found, info = series.load_latest(tree(), warn=pytest.fail)
    assert_equal(found, tree(fill=100))
    assert (info["update"], info["steps"]) == (100, 1000)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(series):
    damage(series.path(100))
    said = []
    found, info = series.load_latest(tree(), said.append)
    assert_equal(found, tree(fill=10))
    assert info["update"] == 10
    assert len(said) == 1
    assert str(series.path(100)) in said[0]
    assert "damaged" in said[0]


def test_a_checkpoint_that_cannot_be_read_is_passed_over_with_a_warning(series, monkeypatch):
    def fails(self):
        if series.path(100) in self.parents:
            raise OSError(5, "Input/output error")
        return read(self)

    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", fails)
    said = []
    found, _ = series.load_latest(tree(), said.append)
    assert_equal(found, tree(fill=10))
    assert len(said) == 1 and "cannot be read" in said[0]


def test_only_damaged_checkpoints_are_an_error(series):
    for update in series.updates():
        damage(series.path(update))
    said = []
    with pytest.raises(CheckpointError, match=r"none of \[5, 10, 100\] can be used"):
        series.load_latest(tree(), said.append)
    assert len(said) == 3


def test_other_files_are_ignored(series):
    (series.folder / ".0000000200.partial" / "tree").mkdir(parents=True)
    (series.folder / "notes").mkdir()
    assert series.updates() == [5, 10, 100]
    assert series.load_latest(tree(), warn=pytest.fail)[1]["update"] == 100


def test_an_empty_or_missing_series_has_no_latest(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        assert Series(folder).load_latest(tree(), warn=pytest.fail) is None
        assert Series(folder).updates() == []


@pytest.mark.parametrize("keep_last", [0, -1])
def test_at_least_one_checkpoint_is_kept(tmp_path, keep_last):
    with pytest.raises(ValueError, match=f"keep_last: {keep_last} is not valid"):
        Series(tmp_path, keep_last=keep_last)
