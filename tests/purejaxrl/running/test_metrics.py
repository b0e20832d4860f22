"""Metrics on disk: damage is found, parts are merged, and a kill loses and doubles nothing."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from purejaxrl.running import checkpoint, metrics
from purejaxrl.running.metrics import MetricsError, MetricsStore, read_metrics
from purejaxrl.running.tables import tabulate
from tests.purejaxrl.running.damage import files, flip, full_disk

CHUNK = 4
ROWS = ({"seed": 0, "gamma": 0.5}, {"seed": 1, "gamma": None})


def table(first: int, chunk: int = CHUNK):
    updates = np.arange(first, first + chunk)
    values = np.stack([updates + 0.5, -updates]).astype(np.float32)
    return tabulate(ROWS, {"return": values, "alive": values >= 0}, updates + 1)


def store_of(out, chunks: int, chunk: int = CHUNK) -> MetricsStore:
    store = MetricsStore(out / "metrics")
    for i in range(chunks):
        store(table(i * chunk, chunk), i * chunk)
    return store


def expected(updates: int) -> pd.DataFrame:
    frame = table(0, updates).to_pandas()
    return frame.sort_values(["member", "update"], ignore_index=True)


def assert_holds(out, updates: int) -> None:
    pd.testing.assert_frame_equal(read_metrics(out), expected(updates), check_exact=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run of 27 chunks: two merged parts and seven of one chunk."""
    out = tmp_path_factory.mktemp("written")
    store_of(out, 27)
    return out


@pytest.fixture
def out(written, tmp_path):
    """A copy of the run, to damage."""
    return shutil.copytree(written, tmp_path / "out")


def test_a_table_has_one_row_per_member_and_update():
    frame = table(8).to_pandas()
    assert list(frame.columns) == ["member", "update", "seed", "gamma", "return", "alive"]
    assert frame["update"].tolist() == [9, 10, 11, 12] * 2
    assert frame["seed"].tolist() == [0] * 4 + [1] * 4
    assert frame["return"].tolist() == [8.5, 9.5, 10.5, 11.5, -8, -9, -10, -11]
    np.testing.assert_array_equal(frame["gamma"], [0.5] * 4 + [np.nan] * 4)


def test_what_was_written_is_read_and_pandas_reads_it_too(out):
    assert_holds(out, 27 * CHUNK)
    frame = pd.read_parquet(out / "metrics").sort_values(["member", "update"], ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected(27 * CHUNK), check_exact=True)


def test_parts_are_merged_ten_at_a_time(out):
    assert len(files(out)) == 2 + 7
    names = sorted(path.name for path in files(out))
    assert names[0].startswith("part-0000000000-0000000040-")
    assert names[2].startswith("part-0000000080-0000000084-")


@pytest.mark.parametrize("chunks", [1, 10, 99, 250])
def test_there_are_few_parts_however_long_the_run(tmp_path, chunks):
    store_of(tmp_path, chunks, chunk=1)
    assert len(files(tmp_path)) <= 9 * len(str(chunks))
    assert_holds(tmp_path, chunks)


def test_parts_of_any_sizes_are_merged(tmp_path):
    rng = np.random.default_rng(0)
    store, done = MetricsStore(tmp_path / "metrics"), 0
    for _ in range(150):
        chunk = int(rng.integers(1, 30))
        store(table(done, chunk), done)
        done += chunk
    assert len(files(tmp_path)) < 40
    assert_holds(tmp_path, done)


def test_a_merge_holds_few_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "ROW_GROUP", 12)
    store_of(tmp_path, 10)
    [part] = files(tmp_path)
    assert pq.ParquetFile(part).num_row_groups == 5  # 80 rows, two parts of 8 rows in each
    assert_holds(tmp_path, 40)


def test_no_flipped_bit_is_silent(out):
    rng = np.random.default_rng(0)
    parts = files(out)
    for i in range(300):
        path = parts[i % len(parts)]
        whole = path.read_bytes()
        flip(path, int(rng.integers(len(whole))), int(rng.integers(8)))
        with pytest.raises(MetricsError, match=f"{path.name}: damaged"):
            read_metrics(out)
        path.write_bytes(whole)
    assert_holds(out, 27 * CHUNK)


def test_a_truncated_part_is_found(out):
    path = files(out)[3]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MetricsError, match=f"{path.name}: damaged.*restore them from a copy"):
        read_metrics(out)


@pytest.mark.parametrize(("part", "missing"), [(0, "1 to 40"), (1, "41 to 80"), (2, "81 to 84")])
def test_a_missing_part_is_reported_by_its_updates(out, part, missing):
    files(out)[part].unlink()
    with pytest.raises(MetricsError, match=f"updates {missing} are missing"):
        read_metrics(out)
    with pytest.raises(MetricsError, match=f"updates {missing} are missing"):
        MetricsStore(out / "metrics").check(108)


def test_a_missing_last_part_is_reported_if_a_checkpoint_is_newer(out):
    files(out)[-1].unlink()
    assert_holds(out, 104)  # as after a kill: the run had not come further
    checkpoint.Series(out / "checkpoints").save(108, {"x": np.zeros(1)}, {})
    with pytest.raises(MetricsError, match="updates 105 to 108 are missing"):
        read_metrics(out)


def test_no_metrics_at_all_are_an_error(tmp_path):
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    with pytest.raises(MetricsError, match="there are none"):
        read_metrics(tmp_path / "run")
    with pytest.raises(MetricsError, match="holds no run; its folders with runs are run"):
        read_metrics(tmp_path)
    with pytest.raises(MetricsError, match="nowhere: does not exist"):
        read_metrics(tmp_path / "nowhere")


def test_a_file_of_another_name_and_a_part_that_overlaps_are_errors(out):
    copied = shutil.copy(files(out)[0], out / "metrics" / "part-0000000000.parquet")
    with pytest.raises(MetricsError, match="part-0000000000.parquet: is not a part"):
        read_metrics(out)
    copied.rename(out / "metrics" / f"part-0000000010-0000000050-{'0' * 16}.parquet")
    with pytest.raises(MetricsError, match="updates 11 to 50, some of which another part holds"):
        read_metrics(out)


def test_a_check_looks_no_further_than_the_checkpoint(out):
    store = MetricsStore(out / "metrics")
    flip(files(out)[-1], 100, 0)
    store.check(104)
    with pytest.raises(MetricsError, match="damaged"):
        store.check(105)
    with pytest.raises(MetricsError, match="updates 109 to 112 are missing"):
        flip(files(out)[-1], 100, 0)
        store.check(112)


@pytest.mark.parametrize("update", [0, 1, 16, 40, 41, 79, 80, 84, 104, 108])
def test_a_rewind_drops_exactly_the_rows_after_an_update(out, update):
    store = MetricsStore(out / "metrics")
    store.rewind(update)
    if update:
        assert_holds(out, update)
    else:
        assert files(out) == []
    for first in range(update, 108):
        store(table(first, 1), first)
    assert_holds(out, 108)


def test_a_rewind_does_not_give_damage_a_new_checksum(out):
    path = files(out)[1]
    flip(path, 100, 0)
    with pytest.raises(MetricsError, match=f"{path.name}: damaged"):
        MetricsStore(out / "metrics").rewind(60)


def test_a_merge_does_not_give_damage_a_new_checksum_and_does_not_hide_a_gap(tmp_path):
    store = store_of(tmp_path, 9)
    path = files(tmp_path)[4]
    flip(path, 100, 0)
    with pytest.raises(MetricsError, match=f"{path.name}: damaged"):
        store(table(36), 36)
    path.unlink()
    with pytest.raises(MetricsError, match="updates 17 to 20 are missing"):
        store(table(40), 40)


class Killed(BaseException):
    """SIGKILL: nothing is cleaned up after it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Kill the process before its n-th change of the folder: a rename, a removal, a write."""

    def arm(n: int) -> None:
        calls = iter(range(n))

        def before(function):
            def call(*args, **kwargs):
                if next(calls, None) is None:
                    raise Killed
                return function(*args, **kwargs)

            return call

        path = type(checkpoint.local_path("."))
        for name in ("replace", "unlink", "write_bytes"):
            monkeypatch.setattr(path, name, before(getattr(path, name)))
        monkeypatch.setattr(metrics.os, "fsync", before(lambda _: None))
        monkeypatch.setattr(metrics.pq.ParquetWriter, "write_table",
                            before(metrics.pq.ParquetWriter.write_table))  # fmt: skip

    return arm


@pytest.mark.parametrize("n", range(17))
def test_a_kill_at_any_moment_of_a_write_and_a_merge_loses_and_doubles_nothing(
    tmp_path, kill_at, monkeypatch, n
):
    store = store_of(tmp_path, 9)
    kill_at(n)
    killed = False
    try:
        store(table(36), 36)  # the tenth part: merged
    except Killed:
        killed = True
    monkeypatch.undo()
    assert killed == (n < 16)  # 1 part, 5 steps of a merge, 10 removals
    assert_holds(tmp_path, 36 if n < 3 else 40)
    store = MetricsStore(tmp_path / "metrics")
    store.check(36)
    store.rewind(36)
    store(table(36), 36)
    assert_holds(tmp_path, 40)
    assert len([path for path in files(tmp_path) if path.suffix != ".parquet"]) == 0


@pytest.mark.parametrize("n", range(13))
def test_a_kill_at_any_moment_of_a_rewind_loses_and_doubles_nothing(out, kill_at, monkeypatch, n):
    kill_at(n)
    killed = False
    try:
        MetricsStore(out / "metrics").rewind(50)
    except Killed:
        killed = True
    monkeypatch.undo()
    assert killed == (n < 12)  # 7 removals, 4 steps of a rewrite, 1 of the scratch file
    store = MetricsStore(out / "metrics")
    store.check(50)
    store.rewind(50)
    assert_holds(out, 50)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    store = store_of(tmp_path, 9)
    monkeypatch.setattr(metrics.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store(table(36), 36)
    assert not (tmp_path / "metrics" / ".partial").exists()
    assert_holds(tmp_path, 40)


def test_a_part_that_vanishes_while_reading_was_merged(tmp_path, monkeypatch):
    store = store_of(tmp_path, 9)
    verify = metrics._verify

    def merged_meanwhile(part):
        monkeypatch.setattr(metrics, "_verify", verify)
        store(table(36), 36)
        verify(part)

    monkeypatch.setattr(metrics, "_verify", merged_meanwhile)
    assert_holds(tmp_path, 40)


@pytest.mark.parametrize("name", ["a [1] b", "[!x]", "a*b?", "ä 木"])
def test_any_folder_name_works(tmp_path, name):
    store_of(tmp_path / name, 11)
    assert_holds(tmp_path / name, 44)


def test_a_tilde_is_the_home_folder(out, monkeypatch):
    monkeypatch.setenv("HOME", str(out.parent))
    pd.testing.assert_frame_equal(read_metrics("~/out"), expected(108))
