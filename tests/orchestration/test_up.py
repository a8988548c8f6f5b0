"""Following a DAG run, and when `make run` has one to follow: owed by the schedule, by the warehouse, or asked for."""

import os
import socket
import urllib.error
from datetime import UTC, datetime, timedelta

import pytest

from northstar.base.errors import NorthstarError
from northstar.build.code_version import code_version as version_here
from northstar.connections.airflow import AIRFLOW_SERVICES
from northstar.orchestration import services, up
from northstar.orchestration.up import NIGHTLY, PAGE, Api, owed_run, why_run_is_owed
from northstar.runs.hold import end_hold, hold
from northstar.warehouse import db, turn_lock
from tests.support import empty, json_server, utc

AS_OF = utc("2026-03-01T02:30:00")


class FakeApi(Api):
    """Airflow's API as far as `make run` asks it: DAG runs, pauses and due times are attributes."""

    def __init__(self, runs=(), next_run_at=None):
        self.base, self.runs, self.next_run_at = (
            "http://airflow",
            list(runs),
            next_run_at or datetime.now(UTC) + timedelta(hours=5),
        )
        self.paused, self.changed = {NIGHTLY, "hourly_refresh"}, []

    def _call(self, path, body=None, method=None):
        words = path.split("?")[0].split("/")[4:]
        if len(words) == 1 and method == "PATCH":
            self.paused.discard(words[0])
            return {}
        if len(words) == 1:
            return {"is_paused": words[0] in self.paused, "next_dagrun_run_after": self.next_run_at.isoformat()}
        if method == "PATCH":
            self.changed.append((words[2], body["state"]))
            return {}
        if body is not None:
            self.changed.append((words[0], body["conf"]))
            return {"dag_run_id": "by hand"}
        return {"dag_runs": [r for r in self.runs if words[0] in ("~", r["dag_id"])]}


def dag_run(run_id, dag_id=NIGHTLY, run_type="scheduled", queued_at="2026-03-01T02:30:00Z"):
    return {"dag_id": dag_id, "dag_run_id": run_id, "run_type": run_type, "queued_at": queued_at}


def test_an_airflow_that_does_not_answer_is_one_line(warehouse, monkeypatch):
    monkeypatch.setattr(up, "POLL_SECONDS", 0)
    with socket.socket() as taken:
        # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NORTHSTAR_API_PORT", str(taken.getsockname()[1]))
        with pytest.raises(NorthstarError, match=r"Airflow does not answer at .*: `make stop`, then `make run`"):
            Api(warehouse)


def test_a_start_whose_starter_was_killed_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(services, "running_services", lambda _: dict.fromkeys(AIRFLOW_SERVICES))
    monkeypatch.setattr(services, "_await_health", lambda *_: waited.append(True))
    assert services.start_services(None, print) is False
    assert waited == [True]


def test_a_mapped_task_has_several_instances_under_one_name_and_the_pages_end(monkeypatch):
    instances = [{"task_id": "land_source", "state": "success"}] * (PAGE + 1) + [{"task_id": "settle", "state": None}]
    asked = []

    def answer(_, path):
        asked.append(path)
        assert len(asked) < 4, "the same page again and again"
        start = int(path.rpartition("=")[2])
        return {"task_instances": instances[start : start + PAGE], "total_entries": len(instances)}

    monkeypatch.setattr(Api, "_call", answer)
    assert Api.tasks(object.__new__(Api), "dag", "run") == {"land_source": "success", "settle": None}


def test_a_group_that_runs_again_after_its_end_is_told_again(monkeypatch):
    monkeypatch.setattr(up, "POLL_SECONDS", 0)
    # somebody clears a task in Airflow's pages while the run is followed
    looks = iter([("success", "success"), ("success", "running"), ("success", "success"), ("success", "success")])

    class Cleared(Api):
        def __init__(self):
            self.base, self.asked = "http://airflow", 0

        def state(self, dag_id, run_id):
            self.asked += 1
            return "success" if self.asked == 4 else "running"

        def tasks(self, dag_id, run_id):
            return dict(zip(("build.models", "build.tests"), next(looks), strict=True))

    lines = []
    up.follow(Cleared(), NIGHTLY, "run", lines.append)
    assert lines == ["build: 2 of 2 tasks done", "build: 2 of 2 tasks done"]


@pytest.mark.slow
def test_a_question_that_airflow_fails_to_answer_is_asked_again_and_an_order_is_not(monkeypatch):
    monkeypatch.setattr(up, "POLL_SECONDS", 0)
    asked, api = [], object.__new__(Api)
    with json_server(
        lambda *_: {"state": "running"}, lambda path: asked.append(path) or (500 if len(asked) % 3 else None)
    ) as api.base:
        assert api.state("dag", "run") == "running" and len(asked) == 3
        with pytest.raises(urllib.error.HTTPError):
            api._call("/order", {})
        assert len(asked) == 4
    asked.clear()
    with json_server(lambda *_: {}, lambda path: asked.append(path) or 500) as api.base:
        with pytest.raises(urllib.error.HTTPError):
            api.state("dag", "run")
        assert len(asked) == 3


def test_a_schedule_that_owes_nothing_is_let_loose_and_gives_no_run():
    api = FakeApi()
    assert owed_run(api, NIGHTLY) is None
    assert NIGHTLY not in api.paused


def test_a_run_that_is_under_way_is_followed_and_a_backfill_is_not():
    assert owed_run(FakeApi([dag_run("past", run_type="backfill"), dag_run("tonight")]), NIGHTLY) == "tonight"
    assert owed_run(FakeApi([dag_run("past", run_type="backfill")]), NIGHTLY) is None


def test_a_run_that_the_schedule_owes_is_awaited(monkeypatch):
    api = FakeApi(next_run_at=datetime.now(UTC) - timedelta(minutes=1))
    monkeypatch.setattr(up.time, "sleep", lambda _: api.runs.append(dag_run("tonight")))
    assert owed_run(api, NIGHTLY) == "tonight"


def test_a_schedule_whose_run_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(up, "OWED_SECONDS", 0.01)
    monkeypatch.setattr(up.time, "sleep", lambda _: None)
    assert owed_run(FakeApi(next_run_at=datetime.now(UTC) - timedelta(minutes=1)), NIGHTLY) is None


def test_only_runs_from_before_the_start_are_ended_as_interrupted():
    started = utc("2026-03-02T08:00:00")
    api = FakeApi(
        [
            dag_run("old"),
            dag_run("waiting", "hourly_refresh", queued_at=None),
            dag_run("past", run_type="backfill"),
            dag_run("new", queued_at="2026-03-02T08:00:09Z"),
        ]
    )
    assert api.fail_unfinished(started) == [(NIGHTLY, "old"), ("hourly_refresh", "waiting")]
    assert api.changed == [("old", "failed"), ("waiting", "failed")]


@pytest.fixture()
def home(warehouse):
    empty(warehouse)
    yield warehouse
    empty(warehouse)


def note_run(settings, run_id, version=None, state="published", code_version=None, mode="nightly"):
    with db.connect(settings, "owner") as connection:
        connection.execute(
            "insert into audit.runs (run_id, mode, as_of, trigger, state, published_version, code_version) "
            "values (%s, %s, %s, 'cli', %s, %s, %s)",
            [run_id, mode, AS_OF, state, version, code_version or version_here(settings)],
        )


def take_turn(settings, run_id, process_id, is_dag_run=True):
    with db.connect(settings, "owner") as connection:
        connection.execute(
            "insert into audit.writer_lease (run_id, holder, is_dag_run, host, process_id, taken_at) "
            "values (%s, 'nightly_rebuild tonight', %s, %s, %s, clock_timestamp())",
            [run_id, is_dag_run, turn_lock.machine_id(), process_id],
        )


def test_a_version_that_stands_owes_nothing(home):
    note_run(home, 1, state="failed")
    note_run(home, 2, version=1)
    assert why_run_is_owed(home, []) is None
    # what only told of the present is told again at its next time
    assert why_run_is_owed(home, ["evaluate_alerts", "hourly_refresh"]) is None


def test_an_empty_warehouse_owes_its_first_version(home):
    assert why_run_is_owed(home, []) == "nothing has been published yet"
    note_run(home, 1, state="failed")
    assert why_run_is_owed(home, []) == "nothing has been published yet"


def test_other_code_or_rules_owe_a_version(home):
    note_run(home, 1, version=1, code_version="of before")
    assert "version 1 was made by other models or rules" in why_run_is_owed(home, [])


def test_a_run_that_failed_after_the_newest_version_owes_one(home):
    note_run(home, 1, version=1)
    note_run(home, 2, state="failed")
    assert why_run_is_owed(home, []) == "run 2 failed"


def test_a_run_that_was_interrupted_owes_one_and_one_that_is_under_way_does_not(home):
    note_run(home, 1, version=1)
    assert why_run_is_owed(home, [NIGHTLY]) == "the last one was interrupted"
    note_run(home, 2, state="running")
    assert why_run_is_owed(home, []) == "run 2 was interrupted"
    take_turn(home, 2, os.getpid())
    assert why_run_is_owed(home, []) is None


# a scheduler that is gone; a command whose lock is
@pytest.mark.parametrize(("process_id", "is_dag_run"), [(2**22 + 1, True), (None, False)])
def test_a_turn_whose_holder_is_gone_is_no_run_under_way(home, process_id, is_dag_run):
    note_run(home, 1, version=1)
    note_run(home, 2, state="running")
    take_turn(home, 2, process_id, is_dag_run)
    assert why_run_is_owed(home, []) == "run 2 was interrupted"


def test_while_publishing_is_held_a_run_that_failed_owes_none(home):
    note_run(home, 1, version=1)
    note_run(home, 2, state="failed")
    assert why_run_is_owed(home, []) == "run 2 failed"
    hold(home, "wrong rates")
    assert why_run_is_owed(home, []) is None
    end_hold(home)
    assert why_run_is_owed(home, []) == "run 2 failed"


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_hourly_run_that_did_not_end_well_is_made_up_for_by_the_next_hour(home, state):
    note_run(home, 1, version=1)
    note_run(home, 2, state=state, mode="hourly")
    assert why_run_is_owed(home, []) is None


@pytest.fixture()
def started(monkeypatch, home):
    """`up` with everything faked but its decision; gives (api, lines): what was asked of Airflow, what was said."""
    lines, api = [], FakeApi()
    (home.home / "demo").mkdir(exist_ok=True)
    (home.home / "demo" / "_simulation.json").write_text("{}")
    for name in ("bootstrap", "print_headline", "start_pages", "follow"):
        monkeypatch.setattr(up, name, lambda *_, **__: None)
    monkeypatch.setattr(up, "start_services", lambda *_, **__: True)
    monkeypatch.setattr(up, "await_pages", lambda *_: "http://pages")
    monkeypatch.setattr(up, "Api", lambda _: api)
    monkeypatch.setattr(up, "progress", lines.append)
    note_run(home, 1, version=3)
    with db.connect(home, "owner") as connection:
        connection.execute(
            "create table if not exists marts.publications (published_version bigint, as_of timestamptz)"
        )
        connection.execute("grant select on marts.publications to bi_reader")
        connection.execute("insert into marts.publications values (3, %s)", [AS_OF])
    yield api, lines
    with db.connect(home, "owner") as connection:
        connection.execute("drop table marts.publications")


def test_make_run_shows_what_is_published_in_one_line_when_no_run_is_owed(home, started):
    api, lines = started
    up.up(home)
    assert (
        "version 3 of 2026-03-01 02:30 UTC is published; no nightly run is owed (`make run FRESH=1` starts one anyway)"
        in lines
    )
    assert [dag for dag, _ in api.changed if dag == NIGHTLY] == []
    assert api.paused == set(), "the schedules go on"


def test_make_run_runs_the_nightly_job_when_it_is_owed_or_asked_for(home, started):
    api, lines = started
    up.up(home, is_fresh=True)
    note_run(home, 2, state="failed")
    up.up(home)
    assert [line for line in lines if line.startswith("a nightly run starts")] == [
        "a nightly run starts: FRESH=1 asks for one",
        "a nightly run starts: run 2 failed",
    ]
    assert [dag for dag, _ in api.changed if dag == NIGHTLY] == [NIGHTLY, NIGHTLY]


def test_a_nightly_run_that_was_interrupted_is_told_and_made_up_for(home, started):
    api, lines = started
    api.runs = [dag_run("tonight")]
    fail = api.fail_unfinished
    api.fail_unfinished = lambda before: [*fail(before), api.runs.clear()][:1]
    up.up(home)
    assert f"{NIGHTLY} tonight was interrupted when Airflow was stopped" in lines
    assert "a nightly run starts: the last one was interrupted" in lines
