"""Whatever command is killed, and whenever: the same command again ends with what it would have ended with.

A seeded part of the campaign in tests.faults.commands, whose own words say how the whole of it is run.
"""

import tempfile
from pathlib import Path

import pytest

from tests.faults.commands import campaign, cases
from tests.faults.ticks import Ticks

SEED = 3
KILLS = {"set-up": 3, "start": 2, "bootstrap": 2, "migration": 2, "upgrade": 1, "backup": 2, "restore": 2, "rollback": 2, "replay": 2,
         "backfill": 1, "maintenance": 1, "stop": 2, "erase": 1, "rotate-key": 1}  # fmt: skip
# what takes minutes, or differs from another by its beginning alone: killed by the whole campaign only
AT_LENGTH_ONLY = {"erase-pending", "make run"}


@pytest.fixture(scope="module")
def told():
    # not below pytest's own private directory: homes are many, and each is removed when it was looked at
    with tempfile.TemporaryDirectory(prefix="northstar-kills-") as directory, campaign(Path(directory), SEED) as told:
        yield told
        print(f"{told.done.total()} kills: {dict(told.done)}")


def test_every_command_of_the_campaign_is_killed_here_too(told):
    assert cases(told.places).keys() == KILLS.keys() | AT_LENGTH_ONLY


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", KILLS)
def test_a_command_that_is_killed_and_called_again_ends_as_in_peace(told, name):
    told.tell(name, KILLS[name])


def test_most_of_the_kills_struck(told):
    # what comes after the last tick is no work any more: a kill may miss it, and is not one
    assert told.done.total() >= sum(KILLS.values()) / 2


def test_a_process_dies_at_its_tick_and_at_no_other(tmp_path, monkeypatch):
    died = []
    monkeypatch.setattr(Ticks, "_die", lambda ticks: died.append(ticks.count))
    ticks = Ticks(str(tmp_path), at=2)
    for _ in range(3):
        ticks.tick()
    assert died == [2]


def test_a_command_that_ends_otherwise_is_no_success(told):
    told._peace("start")
    *before, wanted = told.peace["start"]
    told.peace["start"] = *before, wanted | {"marts.mrr_movements": (1, "other")}
    try:
        with pytest.raises(AssertionError, match=r"start .* after kills at .*marts\.mrr_movements"):
            told.tell("start", 1)
    finally:
        told.peace["start"] = *before, wanted
