"""Every reader of a file again, with many damages that are drawn anew each time."""

import pytest
from damage import PLACES, alterations
from hypothesis import given, settings
from readers import READERS, damaged

pytestmark = pytest.mark.faults

SLOW = ("orbax", "store")


@pytest.mark.parametrize("kind", READERS)
def test_no_damage_is_more_than_a_sentence(tmp_path_factory, kind):
    @settings(max_examples=30 if kind in SLOW else 1000, deadline=None, derandomize=False)
    @given(alter=alterations(), which=PLACES)
    def any_damage(alter, which):
        damaged(kind, tmp_path_factory.mktemp("damaged"), alter, which)

    any_damage()
