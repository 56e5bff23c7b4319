"""The guard of live trackers: all are told everything, and none of them hinders training."""

import threading
import time
from dataclasses import dataclass, field

import pytest

from sharplab.sweep import live
from sharplab.sweep.live import LiveTrackerWarning, guarded
from sharplab.sweep.live_adapters import JsonLines


def follow_a_run(tracker, run_id="cafe", steps=(0, 4, 8)):
    tracker.start(run_id, {"width": 8, "learning_rate": 0.5, "model": "residual_mlp"})
    for step in steps:
        tracker.log(run_id, step, {"train_loss": 2.0 - step / 8, "eval_loss": 3.0 - step / 8})
    tracker.finish(run_id, {"train_loss": 1.0, "diverged": False})


@dataclass
class Remembering:
    """Keeps what it is told; may be slow, or fail at an event."""

    name: str = "remembering"
    fail_in: str = ""
    error: type[BaseException] = OSError
    slow: float = 0.0
    gate: threading.Event | None = None
    told: list = field(default_factory=list)

    def start(self, run_id, settings):
        self._tell("start", run_id, settings)

    def log(self, run_id, step, values):
        self._tell("log", run_id, step, values)

    def finish(self, run_id, summary):
        self._tell("finish", run_id, summary)

    def _tell(self, method, *arguments):
        time.sleep(self.slow)
        if self.gate is not None:
            self.gate.wait()
        if method == self.fail_in:
            raise self.error("the wire is cut")
        self.told.append((method, *arguments))


@pytest.fixture(autouse=True)
def nothing_dropped(monkeypatch):
    monkeypatch.setattr(live, "_dropped", set())


def told_directly():
    tracker = Remembering()
    follow_a_run(tracker)
    return tracker.told


def test_all_trackers_are_told_everything_in_order():
    trackers = [Remembering(), Remembering(slow=0.01)]
    with guarded(trackers, "session") as tracker:
        follow_a_run(tracker)
    for each in trackers:
        assert each.told == told_directly()


def test_without_trackers_nothing_happens():
    with guarded((), "session") as tracker:
        follow_a_run(tracker)


@pytest.mark.parametrize("method", ["start", "log", "finish"])
@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_one_that_fails_is_named_once_and_the_others_are_told_all(method, error):
    failing, sound = Remembering("failing", fail_in=method, error=error), Remembering()
    with pytest.warns(LiveTrackerWarning) as caught, guarded([failing, sound], "session") as tracker:
        follow_a_run(tracker, "cafe")
        follow_a_run(tracker, "beef")
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "failing" in message
    assert method in message and error.__name__ in message and "the wire is cut" in message
    assert len(sound.told) == 2 * len(told_directly())
    assert all(event[0] != method for event in failing.told)


def test_one_that_failed_is_left_out_for_the_rest_of_the_session_and_tried_in_the_next():
    failing, sound = Remembering(fail_in="log"), Remembering()
    with pytest.warns(LiveTrackerWarning), guarded([failing, sound], "first") as tracker:
        follow_a_run(tracker)
    failing.told.clear()
    with guarded([failing, sound], "first") as tracker:
        follow_a_run(tracker)
    assert failing.told == []
    assert sound.told == 2 * told_directly()
    failing.fail_in = ""
    with guarded([failing, sound], "second") as tracker:
        follow_a_run(tracker)
    assert failing.told == told_directly()


def test_one_that_hangs_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.2)
    hanging, sound = Remembering("hanging", gate=threading.Event()), Remembering()
    with pytest.warns(LiveTrackerWarning, match="hanging"), guarded([hanging, sound], "s") as tracker:
        follow_a_run(tracker)
        assert hanging.told == []  # training has not waited for it
    assert hanging.told == []  # nor has the end of the block
    assert sound.told == told_directly()
    hanging.gate.set()


def test_one_that_is_slow_but_comes_back_is_waited_for(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.5)
    slow = Remembering(slow=0.2)
    with guarded([slow], "session") as tracker:
        follow_a_run(tracker)
    assert slow.told == told_directly()


def test_one_that_was_idle_for_long_is_not_taken_for_one_that_hangs(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.1)
    idle = Remembering()
    with guarded([idle], "session") as tracker:
        tracker.start("cafe", {})
        time.sleep(0.3)
        tracker.finish("cafe", {})
    assert [event[0] for event in idle.told] == ["start", "finish"]


def test_one_that_falls_behind_is_left_out_and_its_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(live, "MOST_BEHIND", 5)
    behind, sound = Remembering("behind", slow=0.3), Remembering()
    with pytest.warns(LiveTrackerWarning, match="5 events"), guarded([behind, sound], "s") as tracker:
        for step in range(12):
            tracker.log("cafe", step, {})
            time.sleep(0.002)
    assert [event[2] for event in sound.told] == list(range(12))
    time.sleep(0.4)
    assert len(behind.told) <= 1


def test_runs_that_are_cut_short_are_finished_as_such_and_the_cause_goes_on():
    tracker = Remembering()
    with pytest.raises(KeyboardInterrupt), guarded([tracker], "session") as everyone:
        follow_a_run(everyone, "cafe")
        everyone.start("beef", {})
        everyone.log("beef", 0, {})
        raise KeyboardInterrupt
    assert tracker.told[-1] == ("finish", "beef", {"interrupted": True})
    assert [event[:2] for event in tracker.told].count(("finish", "cafe")) == 1


def test_values_are_those_of_the_moment():
    tracker, values = Remembering(slow=0.05), {"train_loss": 1.0}
    with guarded([tracker], "session") as everyone:
        everyone.log("cafe", 0, values)
        values["train_loss"] = 2.0
    assert tracker.told == [("log", "cafe", 0, {"train_loss": 1.0})]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "live").write_text("a file where the folder should be")
    trackers = [JsonLines(tmp_path / "live")]
    with pytest.warns(LiveTrackerWarning, match="JsonLines.*start"), guarded(trackers, "s") as tracker:
        follow_a_run(tracker)
