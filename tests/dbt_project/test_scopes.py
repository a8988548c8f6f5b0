"""What a changed row touches is derived from what a model reads, and a model of which it cannot be derived is not built."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from northstar.base.settings import ROOT
from northstar.runs import job
from northstar.warehouse import db
from tests.dbt_project.small_project import small_project
from tests.support import WORKERS, empty, query_as, select, silent, utc, write_rows

BEFORE, NOW = "2026-02-20T00:00:00+00:00", "2026-02-20T01:00:00+00:00"
CONTEXT = {
    "rules": {},
    "is_full": False,
    "since_batch_id": 1,
    "previous_as_of": BEFORE,
    "as_of": NOW,
    "restate_from": None,
}
# the days on which an account sent events, and who they were
DAYS = """{{ config(
    materialized='incremental', unique_key=['account_id', 'active_on'], affected_by=['account_id', 'active_on'], touches=['active_on'],
    indexes=[{'columns': ['account_id', 'active_on']}], scope_of={
        'stg_accounts': {'through': 'stg_events', 'on': 'account_id', 'active_on': 'related.occurred_at::date'},
    }
) }}
select events.account_id, occurred_at::date as active_on, min(accounts.country) as country, count(*) as events
from {{ ref('stg_events') }} as events left join {{ ref('stg_accounts') }} as accounts on events.account_id = accounts.account_id
where events.account_id is not null and {{ only_affected('events.account_id, occurred_at::date') }} group by 1, 2
"""
# by account, through the keys that changed; and by day, through what they touched
TOTALS = """{{ config(
    materialized='incremental', unique_key='account_id', affected_by=['account_id'], indexes=[{'columns': ['account_id'], 'unique': true}]
) }}
select account_id, sum(events) as events from {{ ref('days') }} where {{ only_affected('account_id') }} group by 1
"""
BY_DAY = """{{ config(
    materialized='incremental', unique_key='counted_on', affected_by=['counted_on'], indexes=[{'columns': ['counted_on'], 'unique': true}]
) }}
select active_on as counted_on, count(*) as accounts from {{ ref('days') }} where {{ only_affected('active_on') }} group by 1
"""
MODELS = {"days": DAYS, "totals": TOTALS, "by_day": BY_DAY}


@pytest.fixture
def project(warehouse, tmp_path, monkeypatch):
    """A project of three models over events and accounts, in an empty warehouse."""
    empty(warehouse)
    # as a run's, which puts its own in its place
    with db.connect(warehouse, "transformer") as connection:
        connection.execute(
            "create or replace function core.as_of() returns timestamptz language sql immutable parallel safe return "
            f"timestamptz '{NOW}'"
        )
    project = small_project(warehouse, tmp_path, CONTEXT, ("events", "accounts"))
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    for name, text in MODELS.items():
        project.write(f"core/{name}.sql", text)
    yield project
    empty(warehouse)


def land(warehouse, statement: str) -> None:
    with db.connect(warehouse, "owner") as connection:
        connection.execute(statement)


def event(number: int, account: str, day: int, batch: int) -> str:
    return (
        "insert into staging.events (event_id, event_name, occurred_at, received_at, account_id, application, _batch_id, _loaded_at) values "
        f"('e{number}', 'page.viewed', '2026-02-{day:02} 10:00+00', '2026-02-19 10:00+00', '{account}', 'web', {batch}, '2026-02-19')"
    )


def test_derived_scopes_find_what_came_what_moved_and_what_is_seen_through_another_input(project, warehouse):
    def rows():
        return {name: query_as(warehouse, "transformer", f"select * from core.{name} order by 1, 2") for name in MODELS}

    def build(*words):
        for name in ("stg_events", "stg_accounts", *MODELS):
            assert "Error" not in project.build(name, *words)

    for number, (account, day) in enumerate([("a", 1), ("a", 2), ("b", 2), ("c", 5), ("d", 6)]):
        land(warehouse, event(number, account, day, 1))
    land(
        warehouse,
        "insert into staging.accounts (account_id, account_type, application, country, created_at, updated_at, _batch_id, _loaded_at) "
        "values ('c', 'user', 'web', 'DE', '2026-01-01', '2026-01-01', 1, '2026-02-19')",
    )
    build("--full-refresh")
    # an event comes, one moves to another day, and an account another country
    land(warehouse, event(7, "b", 9, 2))
    land(
        warehouse,
        "insert into staging._replaced (entity, batch_id, row) select 'events', 2, to_jsonb(e) from staging.events as e where event_id = 'e0'; "
        "update staging.events set occurred_at = '2026-02-12 10:00+00', _batch_id = 2 where event_id = 'e0'; "
        "update staging.accounts set country = 'FR', _batch_id = 2",
    )
    # what nothing touches is left alone, whatever stands there
    land(warehouse, "update core.days set events = 99 where account_id = 'd'")
    build()
    grown = rows()
    assert [row["events"] for row in grown["days"] if row["account_id"] == "d"] == [99]
    build("--full-refresh")
    whole = rows()
    assert [row for row in grown["days"] if row["account_id"] != "d"] == [
        row for row in whole["days"] if row["account_id"] != "d"
    ]
    assert grown["by_day"] == whole["by_day"] and grown["totals"] == whole["totals"]
    assert {str(row["counted_on"]) for row in whole["by_day"]} >= {"2026-02-09", "2026-02-12"}


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("'through': 'stg_events'", "'through': 'days'", "stg_accounts touches: it does not read days, through which"),
        ("affected_by=['account_id'", "affected_by=['visitor'", "stg_events touches: it has no visitor"),
        ("affected_by=['account_id', 'active_on'", "affected_by=['grain', 'period_start'",
         "stg_accounts touches: a model by period knows 'onward' and false"),
    ],
)  # fmt: skip
def test_a_model_whose_scope_cannot_be_derived_is_not_built(project, was, now, told):
    assert was in DAYS
    project.write("core/days.sql", DAYS.replace(was, now))
    assert f"model days does not say what a changed row of {told}" in project.build("days", "--full-refresh")


def test_a_scope_names_what_the_model_reads_and_finds_no_row_through_itself(project):
    for said, told in {
        "'stg_event': {}": "model days: scope_of names stg_event, which it does not read; it reads stg_events, stg_accounts",
        "'stg_events': {'through': 'stg_events', 'on': 'account_id'}": "what a changed row of stg_events touches: its rows are found there as they are",
    }.items():
        project.write("core/days.sql", re.sub(r"'stg_accounts': \{.*\},\n", said + "\n", DAYS))
        assert told in project.build("days", "--full-refresh")


def test_a_log_without_the_scopes_columns_is_not_enough(project):
    project.write("core/by_day.sql", BY_DAY.replace("'counted_on'", "'country'"))
    project.write("core/days.sql", DAYS.replace("touches=['active_on'],", ""))
    told = "model by_day does not say what a changed row of days touches: it has no country in its unique_key"
    assert told in project.build("by_day", "--full-refresh")


def test_what_is_written_by_hand_stands_with_its_domain_and_for_a_model():
    models = {path.stem: path for path in (ROOT / "dbt_project" / "models").rglob("*.sql")}
    written = {}
    for path in (ROOT / "dbt_project" / "macros").rglob("*.sql"):
        for name in re.findall(r"macro affected__(\w+)\(", path.read_text()):
            written[name] = path
    assert written
    for name, path in written.items():
        assert path == Path(ROOT / "dbt_project" / "macros" / "affected" / f"{models[name].parent.name}.sql"), name
        text = models[name].read_text()
        assert "affected_by=" in text, name
        # what is wholly by hand has nothing beside it that has no effect
        assert "scope_of=" not in text or "derived_scope()" in path.read_text(), name


def test_the_model_that_the_page_adds_is_right_after_a_correction(warehouse, tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "dbt_project", checkout / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (checkout / "expectations").symlink_to(ROOT / "expectations")
    page = (ROOT / "docs" / "how_models_are_incremental.md").read_text()
    script = "\n".join(re.findall(r"^    (cat >.*?^    (?:SQL|YAML)$)", page, re.MULTILINE | re.DOTALL))
    subprocess.run(["bash", "-euc", re.sub("^    ", "", script, flags=re.MULTILINE)], cwd=checkout, check=True)
    settings = replace(warehouse, root=checkout)
    empty(warehouse)

    def charge(number, day, code):
        at = f"2026-02-{day:02}T10:00:00Z"
        return {"charge_id": f"ch{number}", "account_id": "a", "application": "web", "amount": 900, "currency": "USD", "status": "failed",
                "failure_code": code, "created_at": at, "updated_at": at}  # fmt: skip

    def go(rows, name, as_of, mode):
        write_rows(tmp_path / "source", {"charges": rows}, name)
        job.run(settings, mode, utc(as_of), str(tmp_path / "source"), silent, worker=WORKERS.get(settings.home))
        found = select(
            settings, "select failed_on::text as day, failure_code, attempts from failures_by_day order by 1, 2"
        )
        return [tuple(row.values()) for row in found]

    charges = [charge(17, 2, "expired"), charge(18, 2, "expired"), charge(19, 4, None)]
    assert go(charges, "first", "2026-02-20T00:00:00", "nightly") == [
        ("2026-02-02", "expired", 2),
        ("2026-02-04", "(unknown)", 1),
    ]
    corrected = charge(17, 3, "stolen") | {"updated_at": "2026-02-19T00:00:00Z"}
    wanted = [("2026-02-02", "expired", 1), ("2026-02-03", "stolen", 1), ("2026-02-04", "(unknown)", 1)]
    assert go([corrected], "second", "2026-02-20T01:00:00", "hourly") == wanted
    assert go([], "third", "2026-02-20T02:00:00", "nightly") == wanted
