"""The build by domain: which models a domain has, when its task ends and how, and what dbt's process notes for it as it goes."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent

from northstar.base.settings import ROOT
from northstar.orchestration import domains as module
from northstar.orchestration.domains import (
    TESTS,
    Build,
    DomainTrigger,
    describe,
    domains,
    judge,
    read_build,
    record_nodes,
)
from northstar.warehouse import db
from tests.support import empty, utc

RUN = "nightly_rebuild scheduled__2026-03-01"


def node(name, status="success", seconds=1.0, rows=None, message="", kind="model"):
    return {"name": name, "status": status, "seconds": seconds, "rows": rows, "message": message, "resource_type": kind}


def test_every_model_and_seed_is_in_exactly_one_domain():
    project, found = ROOT / "dbt_project", [name for names in domains().values() for name in names]
    files = [*(project / "models").rglob("*.sql"), *(project / "seeds").rglob("*.csv")]
    assert len(files) > 100
    assert sorted(found) == sorted(path.stem for path in files)
    assert {"seeds", "staging", "core/revenue", "marts/revenue", TESTS} <= set(domains())


@pytest.mark.parametrize(
    ("domain", "nodes", "has_ended", "ending", "words"),
    [
        ("core/revenue", [], False, None, None),
        ("core/revenue", [node("a")], False, None, None),
        ("core/revenue", [node("a"), node("b"), node("other", "error")], False, TaskSuccessEvent, "2 built"),
        ("core/revenue", [node("a"), node("b", "error", message="no\n  such column")], False, TaskFailedEvent, "model b failed: no such column"),
        ("core/revenue", [node("a", "error"), node("b", "error")], False, TaskFailedEvent, "model a failed and 1 more: "),
        # what is not decided yet may fail as well
        ("core/revenue", [node("a", "error")], False, None, None),
        ("core/revenue", [node("a", "error")], True, TaskFailedEvent, "model a failed: "),
        ("core/revenue", [node("a"), node("b", "skipped")], False, TaskSkippedEvent, "not built, because what they read failed: b"),
        ("core/revenue", [node("a")], True, TaskFailedEvent, "the build ended without b"),
        ("core/revenue", [], True, TaskFailedEvent, "the build ended without a, b"),
        # a test of the same name is no model
        ("core/revenue", [node("a"), node("b", kind="test")], False, None, None),
        (TESTS, [node("t", "pass", kind="test"), node("a")], False, None, None),
        (TESTS, [node("t", "pass", kind="test"), node("a", "error")], True, TaskSuccessEvent, "1 built"),
        (TESTS, [node("t", "fail", message="Got 3 results", kind="test")], True, TaskFailedEvent, "test t failed: Got 3 results"),
    ],
)  # fmt: skip
def test_how_a_domains_task_ends(domain, nodes, has_ended, ending, words):
    verdict = judge(domain, [] if domain == TESTS else ["a", "b"], Build(has_ended, nodes))
    assert verdict == (ending and (ending, words))


def test_the_table_has_state_seconds_and_rows_of_the_domains_models_slowest_first():
    nodes = [node("a", seconds=0.5, rows=12), node("b", "error", seconds=2), node("other"), node("c", "skipped", None)]
    assert describe("core/revenue", ["a", "b", "c"], Build(True, nodes)).split() == [
        *("model", "status", "seconds", "rows"),
        *("-----", "-------", "-------", "----"),
        *("b", "error", "2.00", "-"),
        *("a", "success", "0.50", "12"),
        *("c", "skipped", "0.00", "-"),
    ]  # fmt: skip
    assert describe("core/revenue", ["a"], Build(True)) == "nothing was built"


@pytest.fixture()
def opened(warehouse):
    """A warehouse in which run 1 of RUN is building."""
    empty(warehouse)
    with db.connect(warehouse, "owner") as connection:
        connection.execute(
            "insert into audit.runs (run_id, mode, as_of, trigger, state, stage) values (1, 'nightly', %s, %s, 'running', 'build')",
            [utc("2026-03-01T00:00:00"), RUN],
        )
    yield warehouse
    empty(warehouse)


def change_run(settings, change):
    with db.connect(settings, "owner") as connection:
        connection.execute(f"update audit.runs set {change} where run_id = 1")


def finished(name, status="success", kind="model", response=None, event="NodeFinished"):
    """An event of dbt's, as its callbacks get it."""
    return SimpleNamespace(
        info=SimpleNamespace(name=event),
        data=SimpleNamespace(
            node_info=SimpleNamespace(unique_id=f"{kind}.northstar.{name}", node_name=name, resource_type=kind),
            run_result=SimpleNamespace(
                status=status, execution_time=0.12345, message="SELECT 7", adapter_response=response or {}
            ),
        ),
    )


def test_dbts_process_notes_each_node_as_it_ends(opened):
    with record_nodes(opened, 1) as note:
        note(finished("a", event="NodeStart"))
        note(finished("hook", kind="operation"))
        note(finished("a", response={"rows_affected": 7.0}))
        note(finished("v", response={"rows_affected": -1}))
        note(finished("b", "error"))
        note(finished("b", "success"))
    seen = {n["name"]: (n["status"], float(n["seconds"]), n["rows"]) for n in read_build(opened, RUN).nodes}
    assert seen == {"a": ("success", 0.123, 7), "v": ("success", 0.123, None), "b": ("success", 0.123, None)}


def test_a_server_that_is_gone_keeps_dbt_waiting_for_nothing(opened, monkeypatch):
    monkeypatch.setattr(module.db, "connect", lambda *_, **__: (_ for _ in ()).throw(module.NorthstarError("gone")))
    with record_nodes(opened, 1) as note:
        note(finished("a"))
    assert read_build(opened, RUN) == Build()


@pytest.mark.parametrize("change", ["""stage_seconds = '{"build": 3}', stage = 'audit'""", "state = 'failed'"])
def test_a_build_has_ended_with_its_stage_or_with_its_run(opened, change):
    assert not read_build(opened, RUN).has_ended
    change_run(opened, change)
    assert read_build(opened, RUN).has_ended


def test_nothing_is_known_of_a_run_that_was_never_opened(opened):
    assert read_build(opened, "nightly_rebuild another") == Build()


def test_the_trigger_waits_for_the_domain_tells_its_table_and_ends_its_task(opened, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "load_settings", lambda: opened)
    looks, said = [], []
    monkeypatch.setattr(DomainTrigger, "log", SimpleNamespace(info=said.append, error=said.append))
    monkeypatch.setattr(module, "LOG_SECONDS", 0)
    monkeypatch.setattr(module, "read_build", lambda *given: looks.append(1) or read_build(*given))
    watching = [DomainTrigger("core/revenue", ["a"]), DomainTrigger("core/support", ["b"])]
    for trigger in watching:
        assert DomainTrigger(**trigger.serialize()[1]).serialize() == trigger.serialize()
        trigger._task_instance = SimpleNamespace(dag_id="nightly_rebuild", run_id="scheduled__2026-03-01", task_id="t")

    async def watch():
        ending = asyncio.gather(*[anext(trigger.run()) for trigger in watching])
        await asyncio.sleep(0.5)
        assert not ending.done() and len(looks) <= 11, "both ask with one question"
        with record_nodes(opened, 1) as note:
            note(finished("a", response={"rows_affected": 7}))
            note(finished("b", "error"))
        return await asyncio.wait_for(ending, 10)

    assert [type(event) for event in asyncio.run(watch())] == [TaskSuccessEvent, TaskFailedEvent]
    lines = "\n".join(said).splitlines()
    assert "1 built" in lines and "model b failed: SELECT 7" in lines
    assert ["a", "success", "0.12", "7"] in [line.split() for line in lines]
