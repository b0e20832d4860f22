"""Traces of a run: which chunks are traced, and that a tool can open what is written."""

import gzip
import json

import jax
import pytest

from purejaxrl.running import profile
from purejaxrl.running.runner import RunOptions
from tests.helpers import train


@pytest.mark.parametrize(("asked", "traced"), [(0, []), (1, [1]), (2, [1, 2]), (9, [1, 2, 3])])
def test_the_first_chunk_is_not_traced(asked, traced, monkeypatch, tmp_path):
    tracer, found, on = profile.Tracer(tmp_path, asked), [], []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: on.append(1))
    monkeypatch.setattr(jax.profiler, "stop_trace", on.clear)
    for chunk in range(4):
        tracer.chunk_begins()
        found += [chunk] if on else []
    tracer.close()
    assert found == traced
    assert not on


@pytest.mark.slow
def test_a_run_writes_a_trace_that_perfetto_opens(tmp_path):
    train(tmp_path, 6, profile=1)
    (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace) as file:
        assert json.load(file)["traceEvents"]


def test_a_negative_number_of_chunks_is_refused():
    with pytest.raises(ValueError, match=r"RunOptions.profile: -1 is not valid; it must be .*, or"):
        RunOptions(profile=-1)
