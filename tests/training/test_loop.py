"""A run batch's way: cut as its timing asks, looked at and saved in time, whole whatever happens on the way."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.training import loop as program
from sharplab.training.loop import BatchProgram, StepTiming, train_batch

RECORD_STEPS = (0, 3, 4, 100)


class Clock:
    """Stands still unless told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


def counting(record_steps=RECORD_STEPS, *, clock=None, seconds=0.0, most_steps=1000):
    """A program on which two runs count their steps, each of which takes so many seconds, and the segments of it."""
    segments = []
    clock = clock or Clock()

    def advance(runs, start, stop):
        assert start == int(runs[0])
        segments.append((start, stop))
        clock.now += seconds * (stop - start)
        return runs + (stop - start)

    def observe(runs, trackers):
        return trackers + 1, {"count": runs, "records": jnp.full(2, trackers)}

    def begin():
        return jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32)

    def like():
        return *jax.eval_shape(begin), jax.eval_shape(observe, *jax.eval_shape(begin))[1]

    return BatchProgram(begin, advance, observe, like, jax.device_put, tuple(record_steps), most_steps), segments


def gone(path, *, stop=lambda: False, checkpoint=None):
    """The trained, the records and the steps that were told."""
    records, steps = {}, []

    def record(step, row):
        assert step not in records
        records[step] = row["count"].tolist()

    trained = train_batch(path, progress=steps.append, record=record, stop=stop, checkpoint=checkpoint)
    assert steps == sorted(steps)
    return trained, records, steps


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.01, 1.0, 4.0, 100.0]),
)
def test_every_step_is_made_once_and_every_record_where_it_belongs(record_steps, most_steps, seconds):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "time", clock)
        path, segments = counting(record_steps, clock=clock, seconds=seconds, most_steps=most_steps)
        trained, records, steps = gone(path)
    assert [step for start, stop in segments for step in range(start, stop)] == list(range(record_steps[-1]))
    assert all(stop - start <= most_steps for start, stop in segments)
    assert records == {step: [step, step] for step in record_steps}
    assert trained.curves["count"].tolist() == [[step, step] for step in record_steps]
    assert trained.curves["records"][:, 0].tolist() == list(range(len(record_steps)))
    assert trained.seconds == pytest.approx(seconds * record_steps[-1])
    assert steps[-1] == record_steps[-1]


def test_short_chunks_are_whole_after_two_pieces_that_show_the_pace():
    path, segments = counting((0, 16, 32, 48))
    gone(path)
    assert segments == [(0, 1), (1, 3), (3, 16), (16, 32), (32, 48)]


def test_a_known_pace_spares_the_first_pieces():
    path, segments = counting((0, 16, 32))
    trained = train_batch(
        path, progress=print, record=lambda *row: None, stop=lambda: False, timing=StepTiming(2, 1e-3)
    )
    assert segments == [(0, 16), (16, 32)]
    assert trained.timing == StepTiming(2, 1e-3)


@pytest.mark.parametrize("seconds, longest", [(1.0, 15), (7.0, 2), (60.0, 1)])
def test_pieces_of_slow_steps_are_short_from_the_first_on(monkeypatch, seconds, longest):
    clock = Clock()
    monkeypatch.setattr(program, "time", clock)
    path, segments = counting((0, 100), clock=clock, seconds=seconds)
    gone(path)
    lengths = [stop - start for start, stop in segments]
    assert lengths[0] == 1
    assert max(lengths) == longest


def test_a_pace_is_of_the_last_piece():
    assert StepTiming().after(1, 30.0).after(1, 0.5).segment(100) == 30
    assert not StepTiming(2, 0.01).is_waited_for(99)
    assert StepTiming(2, 0.01).is_waited_for(101)


@pytest.mark.parametrize("seconds, ahead", [(0.001, 1), (1.0, 0)])
def test_the_host_is_one_record_ahead_where_chunks_are_short_and_not_where_they_are_long(monkeypatch, seconds, ahead):
    clock, known, unknown = Clock(), [], []
    monkeypatch.setattr(program, "time", clock)
    path, _ = counting((0, 8, 16, 24), clock=clock, seconds=seconds)

    def advance(runs, start, stop):
        unknown.append(sum(step <= start for step in path.record_steps) - len(known))
        return path.advance(runs, start, stop)

    train_batch(
        replace(path, advance=advance),
        progress=lambda step: None,
        record=lambda step, row: known.append(step),
        stop=lambda: False,
    )
    assert unknown[-1] == ahead
    assert max(unknown) == ahead


def test_stopping_at_every_question_and_going_on_leaves_nothing_out_and_tells_nothing_twice(tmp_path):
    file, told, reached, asked = tmp_path / "state.npz", {}, 0, 0
    record_steps = (0, 3, 4, 20)
    for _ in range(100):
        path, _ = counting(record_steps)
        questions = iter([False, True])
        trained, records, steps = gone(path, stop=lambda questions=questions: next(questions), checkpoint=file)
        assert not told.keys() & records.keys()
        told |= records
        asked += 1
        if trained is not None:
            break
        assert steps[0] == reached
        reached = steps[-1]
    assert asked > 10
    assert told == {step: [step, step] for step in record_steps}
    assert trained.curves["count"].tolist() == [[step, step] for step in record_steps]
    assert trained.curves["records"][:, 1].tolist() == [0, 1, 2, 3]


def test_stopping_where_nothing_is_new_writes_nothing(tmp_path):
    path, _ = counting()
    assert gone(path, stop=lambda: True, checkpoint=tmp_path / "state.npz")[0] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.02, 3.0, 40.0])
def test_no_more_than_a_minute_of_work_is_without_checkpoint_or_one_step(monkeypatch, tmp_path, seconds):
    clock, written = Clock(), [(1000.0, 0)]
    monkeypatch.setattr(program, "time", clock)
    monkeypatch.setattr(program, "write_checkpoint", lambda path, tree: written.append((clock.now, tree["step"])))
    path, _ = counting((0, 5, int(400 / seconds)), clock=clock, seconds=seconds)
    gone(path, checkpoint=tmp_path / "state.npz")
    gaps = np.diff([now for now, _ in written] + [clock.now])
    assert max(gaps) <= max(60.0, 2 * seconds)
    assert min(gaps[:-1]) >= 40.0 or seconds > 15
    assert all(step * seconds == pytest.approx(now - 1000.0) for now, step in written)


def test_a_record_in_a_checkpoint_has_been_told(monkeypatch, tmp_path):
    told, written = [], []
    monkeypatch.setattr(program, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(
        program, "write_checkpoint", lambda path, tree: written.append((int(tree["records"]), len(told)))
    )
    path, _ = counting()
    train_batch(
        path,
        progress=lambda step: None,
        record=lambda step, row: told.append(step),
        stop=lambda: False,
        checkpoint=tmp_path / "state.npz",
    )
    assert len(written) == 5
    assert all(in_it == known for in_it, known in written)


def test_seconds_are_those_of_all_sittings(monkeypatch, tmp_path):
    clock = Clock()
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=clock.monotonic))
    questions = iter([False, False, False, True])
    path, segments = counting((0, 100), clock=clock, seconds=1.0)
    assert gone(path, stop=lambda: next(questions), checkpoint=tmp_path / "state.npz")[0] is None
    assert segments[-1][1] < 100
    clock.now += 1e6
    path, _ = counting((0, 100), clock=clock, seconds=1.0)
    assert gone(path, checkpoint=tmp_path / "state.npz")[0].seconds == pytest.approx(100.0)
