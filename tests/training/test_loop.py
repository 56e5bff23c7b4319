"""A company's way: cut as its pace asks, looked at and saved in time, whole whatever happens on the way."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.training import loop as course
from sharplab.training.loop import Course, Pace, complete

RECORD_STEPS = (0, 3, 4, 100)


class Clock:
    """Stands still unless told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


def counting(record_steps=RECORD_STEPS, *, clock=None, seconds=0.0, most_steps=1000):
    """A course on which two lanes count their steps, each of which takes so many seconds, and the pieces of it."""
    pieces = []
    clock = clock or Clock()

    def advance(lanes, start, stop):
        assert start == int(lanes[0])
        pieces.append((start, stop))
        clock.now += seconds * (stop - start)
        return lanes + (stop - start)

    def observe(lanes, trackers):
        return trackers + 1, {"count": lanes, "records": jnp.full(2, trackers)}

    def begin():
        return jnp.zeros(2, jnp.int32), jnp.zeros((), jnp.int32)

    def like():
        return *jax.eval_shape(begin), jax.eval_shape(observe, *jax.eval_shape(begin))[1]

    return Course(begin, advance, observe, like, jax.device_put, tuple(record_steps), most_steps), pieces


def gone(path, *, stop=lambda: False, checkpoint=None):
    """The outcome, the records and the steps that were told."""
    records, steps = {}, []

    def record(step, row):
        assert step not in records
        records[step] = row["count"].tolist()

    outcome = complete(path, progress=steps.append, record=record, stop=stop, checkpoint=checkpoint)
    assert steps == sorted(steps)
    return outcome, records, steps


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.01, 1.0, 4.0, 100.0]),
)
def test_every_step_is_made_once_and_every_record_where_it_belongs(record_steps, most_steps, seconds):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "time", clock)
        path, pieces = counting(record_steps, clock=clock, seconds=seconds, most_steps=most_steps)
        outcome, records, steps = gone(path)
    assert [step for start, stop in pieces for step in range(start, stop)] == list(range(record_steps[-1]))
    assert all(stop - start <= most_steps for start, stop in pieces)
    assert records == {step: [step, step] for step in record_steps}
    assert outcome.curves["count"].tolist() == [[step, step] for step in record_steps]
    assert outcome.curves["records"][:, 0].tolist() == list(range(len(record_steps)))
    assert outcome.seconds == pytest.approx(seconds * record_steps[-1])
    assert steps[-1] == record_steps[-1]


def test_short_chunks_are_whole_after_two_pieces_that_show_the_pace():
    path, pieces = counting((0, 16, 32, 48))
    gone(path)
    assert pieces == [(0, 1), (1, 3), (3, 16), (16, 32), (32, 48)]


def test_a_known_pace_spares_the_first_pieces():
    path, pieces = counting((0, 16, 32))
    outcome = complete(path, progress=print, record=lambda *row: None, stop=lambda: False, pace=Pace(2, 1e-3))
    assert pieces == [(0, 16), (16, 32)]
    assert outcome.pace == Pace(2, 1e-3)


@pytest.mark.parametrize("seconds, longest", [(1.0, 15), (7.0, 2), (60.0, 1)])
def test_pieces_of_slow_steps_are_short_from_the_first_on(monkeypatch, seconds, longest):
    clock = Clock()
    monkeypatch.setattr(course, "time", clock)
    path, pieces = counting((0, 100), clock=clock, seconds=seconds)
    gone(path)
    lengths = [stop - start for start, stop in pieces]
    assert lengths[0] == 1
    assert max(lengths) == longest


def test_a_pace_is_of_the_last_piece():
    assert Pace().after(1, 30.0).after(1, 0.5).piece(100) == 30
    assert not Pace(2, 0.01).is_waited_for(99)
    assert Pace(2, 0.01).is_waited_for(101)


@pytest.mark.parametrize("seconds, ahead", [(0.001, 1), (1.0, 0)])
def test_the_host_is_one_record_ahead_where_chunks_are_short_and_not_where_they_are_long(monkeypatch, seconds, ahead):
    clock, known, unknown = Clock(), [], []
    monkeypatch.setattr(course, "time", clock)
    path, _ = counting((0, 8, 16, 24), clock=clock, seconds=seconds)

    def advance(lanes, start, stop):
        unknown.append(sum(step <= start for step in path.record_steps) - len(known))
        return path.advance(lanes, start, stop)

    complete(
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
        outcome, records, steps = gone(path, stop=lambda questions=questions: next(questions), checkpoint=file)
        assert not told.keys() & records.keys()
        told |= records
        asked += 1
        if outcome is not None:
            break
        assert steps[0] == reached
        reached = steps[-1]
    assert asked > 10
    assert told == {step: [step, step] for step in record_steps}
    assert outcome.curves["count"].tolist() == [[step, step] for step in record_steps]
    assert outcome.curves["records"][:, 1].tolist() == [0, 1, 2, 3]


def test_stopping_where_nothing_is_new_writes_nothing(tmp_path):
    path, _ = counting()
    assert gone(path, stop=lambda: True, checkpoint=tmp_path / "state.npz")[0] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.02, 3.0, 40.0])
def test_no_more_than_a_minute_of_work_is_without_checkpoint_or_one_step(monkeypatch, tmp_path, seconds):
    clock, written = Clock(), [(1000.0, 0)]
    monkeypatch.setattr(course, "time", clock)
    monkeypatch.setattr(course, "write_checkpoint", lambda path, tree: written.append((clock.now, tree["step"])))
    path, _ = counting((0, 5, int(400 / seconds)), clock=clock, seconds=seconds)
    gone(path, checkpoint=tmp_path / "state.npz")
    gaps = np.diff([now for now, _ in written] + [clock.now])
    assert max(gaps) <= max(60.0, 2 * seconds)
    assert min(gaps[:-1]) >= 40.0 or seconds > 15
    assert all(step * seconds == pytest.approx(now - 1000.0) for now, step in written)


def test_a_record_in_a_checkpoint_has_been_told(monkeypatch, tmp_path):
    told, written = [], []
    monkeypatch.setattr(course, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(
        course, "write_checkpoint", lambda path, tree: written.append((int(tree["records"]), len(told)))
    )
    path, _ = counting()
    complete(
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
    monkeypatch.setattr(course, "time", SimpleNamespace(monotonic=clock.monotonic))
    questions = iter([False, False, False, True])
    path, pieces = counting((0, 100), clock=clock, seconds=1.0)
    assert gone(path, stop=lambda: next(questions), checkpoint=tmp_path / "state.npz")[0] is None
    assert pieces[-1][1] < 100
    clock.now += 1e6
    path, _ = counting((0, 100), clock=clock, seconds=1.0)
    assert gone(path, checkpoint=tmp_path / "state.npz")[0].seconds == pytest.approx(100.0)
