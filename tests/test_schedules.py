"""Learning-rate schedules by name."""

import pytest

from sharplab.schedules import SCHEDULES, find_schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_begin_at_1_and_are_one_object_per_name_and_steps(name):
    schedule = find_schedule(name, 8)
    assert schedule is find_schedule(name, 8)
    assert schedule is None if name == "constant" else schedule(0) == 1


def test_own_schedules_are_found_by_module():
    own, ours = find_schedule("own_objects:linear@2", 8), find_schedule("linear", 8)
    assert [own(step) for step in range(8)] == [ours(step) for step in range(8)]


@pytest.mark.parametrize(
    ("name", "said"), [("cosin", "schedule 'cosin'.*'cosine'"), ("own_objects:make_number", "make_number' .*int")]
)
def test_what_is_no_schedule_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        find_schedule(name, 8)
