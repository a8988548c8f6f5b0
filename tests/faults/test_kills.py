"""Whatever is killed, and whenever: the next plain run publishes what an undisturbed one would have, and readers notice nothing."""

import pytest

from tests.conftest import home
from tests.faults.campaign import compare, tell_in_peace, tell_with_kills
from tests.faults.story import story
from tests.support import empty

pytestmark = pytest.mark.usefixtures("one_key")
KILLS, SEED = 20, 6


@pytest.mark.timeout(2400)
def test_a_job_that_is_killed_anywhere_leads_to_the_same_marts(warehouse, tmp_path):
    empty(warehouse)
    steps = story(tmp_path / "company", SEED)
    peace = tell_in_peace(warehouse, steps, tmp_path / "peace")
    assert len({str(f) for f in peace.fingerprints}) == len(steps), "a step that changes nothing shows nothing"
    with home() as disturbed:
        done = tell_with_kills(disturbed, steps, tmp_path / "disturbed", peace, KILLS, SEED, print)
    print(dict(done))
    assert done.total() >= KILLS * 0.9
    assert {stage for _, stage, _ in done} == {"extract", "build", "audit", "publish"}


def test_marts_that_differ_in_one_cell_are_not_the_same():
    wanted = {"marts.mrr_movements": (2, "17"), "staging.events": (5, "3")}
    with pytest.raises(AssertionError, match=r"marts\.mrr_movements"):
        compare(wanted, wanted | {"marts.mrr_movements": (2, "18")}, "here")
