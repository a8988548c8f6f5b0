"""A warehouse that grew by hourly runs, from rows that came late, twice or corrected, equals one that was built at once."""

import random
from datetime import timedelta

import pytest

from northstar.build.manifest import read_manifest
from northstar.publish.certificates import input_contents
from northstar.use.query import query
from northstar.warehouse import db
from tests.dbt_project.every_period import differing
from tests.deliveries import company_rows, corrections
from tests.support import empty, query_as, run, select, utc, write_rows

END = utc("2026-03-01T00:00:00")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1])
def test_hourly_runs_over_late_repeated_and_corrected_rows_equal_one_full_build(
    tmp_path_factory, tmp_path, warehouse, seed
):
    settings, chance = warehouse, random.Random(seed)
    tables = company_rows(
        tmp_path / "company",
        seed=seed,
        months=2,
        accounts=50,
        applications=("web", "coaching", "tutoring"),
        end=END,
        monitored_days=7,
    )
    changed = corrections(tables, chance)
    # the rates come first: without them the audit rightly stops the publish
    arrivals: list[dict] = [{"fx_rates": tables["fx_rates"]}, {}, {}]
    for name, rows in tables.items():
        if name == "fx_rates":
            continue
        for row in rows:
            # most rows arrive in the order of time, some late, some twice
            arrivals[chance.choice([0, 0, 1])].setdefault(name, []).append(row)
            if chance.random() < 0.02:
                arrivals[1].setdefault(name, []).append(row)
    arrivals[2] = changed
    as_ofs = [
        utc("2026-02-03T05:00:00"),
        utc("2026-02-28T23:00:00"),
        END + timedelta(hours=1),
    ]
    empty(settings)
    source = tmp_path / "source"
    for number, (rows, as_of) in enumerate(zip(arrivals, as_ofs, strict=True)):
        write_rows(source, rows, f"batch{number}")
        run(settings, source, as_of, "hourly")
        assert differing(settings, f"hourly {number}") == []
    with db.connect(settings, "owner") as connection:
        rejected = connection.execute("select entity, count(*) as rows from quarantine.rows group by 1").fetchall()
    # what the simulator plants, and no whole entity
    assert {r["entity"] for r in rejected} <= {"events", "subscriptions", "charges"} and all(
        r["rows"] < 20 for r in rejected
    ), rejected
    run(settings, source, as_ofs[-1], "nightly")
    grown, whole = select(settings, "select * from certificates order by published_version desc limit 2")[::-1]
    assert grown["published_version"] == 3
    # the hashes that grew by what came and went are those of the whole
    for mart, output in whole["outputs"].items():
        assert grown["outputs"][mart] == output, f"{mart}: {differing_rows(settings, mart, 3)}"
    assert not select(settings, "select 1 from metric_restatements where new_version = 4 limit 1")
    with db.connect(settings, "transformer") as connection:
        assert grown["inputs"] == input_contents(connection, None, grown["built_batch_id"])


def differing_rows(settings, mart: str, version: int) -> str:
    """What a mart had at a version and has not now, and the other way round, as text."""

    def rows(at):
        return {
            str([v.normalize() if hasattr(v, "normalize") else v for v in row])
            for row in query(settings, f"select * from {mart}", at)[1]
        }

    then, now = rows(version), rows(version + 1)
    missing, surplus = sorted(now - then), sorted(then - now)
    return f"{len(missing)} rows missing, {len(surplus)} too many:\n" + "\n".join([*missing[:4], "--", *surplus[:4]])


def resting(settings) -> dict[str, tuple]:
    """{model: (rows, a digest of them)} of the models that say that they do not depend on time."""
    found = {}
    with db.connect(settings, "owner") as connection:
        for node in read_manifest(settings)["nodes"].values():
            if node["config"].get("time_dependent") is False:
                rows = f"select count(*), sum(('x' || left(md5(t::text), 15))::bit(60)::bigint) from {node['schema']}.{node['alias']} as t"
                found[node["name"]] = tuple(connection.execute(rows).fetchone().values())
    return found


def statuses(settings) -> dict[str, str]:
    """{model: what the last run did with it: success or unchanged}."""
    query = "select name, status from audit.model_runs where run_id = (select max(run_id) from audit.model_runs)"
    return {row["name"]: row["status"] for row in query_as(settings, "transformer", query)}


def assert_built_at_once(settings, source, as_of) -> None:
    """Check that a full build of the same rows at the same time leaves all marts as the last run published them."""
    run(settings, source, as_of)
    grown, whole = select(settings, "select outputs from certificates order by published_version desc limit 2")[::-1]
    assert [mart for mart, output in whole["outputs"].items() if grown["outputs"][mart] != output] == []


def test_a_model_that_does_not_depend_on_time_is_left_until_what_it_reads_changes(warehouse, tmp_path):
    # in the midst of every period, so that each is still open
    end = utc("2026-02-18T14:00:00")
    tables = company_rows(
        tmp_path / "company", seed=11, months=2, accounts=50, applications=("web", "coaching"), end=end, monitored_days=7
    )  # fmt: skip
    late = {name: [tables[name].pop() for _ in range(20)] for name in ("api_requests", "charges")}
    again = [tables["charges"].pop() for _ in range(5)]
    # history begins earlier with it
    late["charges"][0] |= {"created_at": "2025-06-03T10:00:00Z"}
    empty(warehouse)
    source = write_rows(tmp_path / "source", tables)
    run(warehouse, source, end)
    whole = resting(warehouse)
    write_rows(source, late, "late")
    run(warehouse, source, end + timedelta(hours=1), "hourly")
    built = statuses(warehouse)
    assert {built[name] for name in ("request_hours", "metrics_signals", "fct_payments", "cohort_cash", "periods")} == {
        "success"
    }
    left = {name for name, status in built.items() if status == "unchanged"}
    assert {"event_hours", "fct_sessions", "active_by_period", "account_mrr", "spend_days", "metrics_ai"} <= left
    hourly = resting(warehouse)
    assert {name for name in whole if hourly[name] != whole[name]}.isdisjoint(left)
    # once more in the same hour, in which nothing is open, lasting or due that was not before
    write_rows(source, {"charges": again}, "again")
    run(warehouse, source, end + timedelta(hours=1), "hourly")
    built = statuses(warehouse)
    assert {
        built[name] for name in ("fct_payments", "metrics_payments", "customers", "alerts", "changed_hours", "periods")
    } == {"success"}
    assert {
        built[name] for name in ("fct_tickets", "metrics_support", "mrr_by_account", "funnel_stages", "sprints")
    } == {"unchanged"}
    assert_built_at_once(warehouse, source, end + timedelta(hours=1))
    # a calendar that begins earlier has periods that all models may know
    write_rows(
        source,
        {"charges": [{**again[0], "charge_id": "first", "currency": "USD", "created_at": "2025-04-03T10:00:00Z"}]},
        "first",
    )
    run(warehouse, source, end + timedelta(hours=1), "hourly")
    built = statuses(warehouse)
    assert {
        built[name] for name in ("fct_tickets", "metrics_support", "mrr_by_account", "dim_periods", "target_periods")
    } == {"success"}
    assert_built_at_once(warehouse, source, end + timedelta(hours=1))
    hourly = resting(warehouse)
    # as one full build of the same rows has it, six weeks later
    run(warehouse, source, end + timedelta(days=42))
    later = resting(warehouse)
    assert [name for name in later if later[name] != hourly[name]] == []
    assert len(later) > 60 and sum(rows > 0 for rows, _ in later.values()) > 60


def test_what_changed_in_a_period_that_is_not_built_again_still_counts_in_later_ones(warehouse, tmp_path):
    def ticket(name, day):
        at = f"2026-02-{day}T10:00:00Z"
        return {
            "ticket_id": name,
            "application": "web",
            "status": "open",
            "priority": "high",
            "created_at": at,
            "updated_at": at,
        }

    empty(warehouse)
    with db.connect(warehouse, "transformer") as connection:
        # as an older version left it, whose model had another key: a full run starts a new log
        connection.execute("create table core._changed__ticket_transitions (old_key text)")
    write_rows(tmp_path, {"tickets": [ticket("first", "02"), ticket("stays", "04"), ticket("solved", "10")]}, "early")
    run(warehouse, tmp_path, utc("2026-02-20T00:00:00"))
    # the 2nd is built again for its response, the 11th and all days after it for what was solved; the 4th is not
    late = [("first", "public_reply", "02T11"), ("solved", "solved", "11T10")]
    events = [
        {
            "ticket_event_id": name,
            "ticket_id": name,
            "event_type": kind,
            "actor_type": "agent",
            "occurred_at": f"2026-02-{at}:00:00Z",
        }
        for name, kind, at in late
    ]
    write_rows(tmp_path, {"ticket_events": events}, "late")
    run(warehouse, tmp_path, utc("2026-02-20T01:00:00"), "hourly")
    found = select(
        warehouse,
        "select value::int as value from metric_values where metric_id = 'open_tickets' and grain = 'day' and application = 'web' "
        "and segment = '' and period_start in ('2026-02-03', '2026-02-05', '2026-02-10', '2026-02-11', '2026-02-19') order by period_start",
    )
    assert [row["value"] for row in found] == [1, 2, 3, 2, 2]


def test_a_late_first_mrr_in_another_application_moves_the_company_wide_cohort(warehouse, tmp_path):
    def item(application, since, until=None):
        return {"subscription_item_id": application, "subscription_id": application, "account_id": "a", "application": application,
                "plan_id": "p", "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 5000, "currency": "USD",
                "status": "active", "valid_from": since, "valid_to": until, "updated_at": since}  # fmt: skip

    def cohorts():
        rows = select(
            warehouse,
            "select distinct application, cohort_month::text as month from cohort_retention where cohort_kind = 'paying'",
        )
        return {(row["application"], row["month"]) for row in rows}

    empty(warehouse)
    write_rows(tmp_path, {"subscriptions": [item("web", "2025-03-05T00:00:00Z")]}, "early")
    run(warehouse, tmp_path, utc("2025-05-01T00:00:00"))
    assert cohorts() == {("web", "2025-03-01"), ("all", "2025-03-01")}
    write_rows(tmp_path, {"subscriptions": [item("coaching", "2025-01-05T00:00:00Z", "2025-02-05T00:00:00Z")]}, "late")
    run(warehouse, tmp_path, utc("2025-05-01T01:00:00"), "hourly")
    assert cohorts() == {("web", "2025-03-01"), ("coaching", "2025-01-01"), ("all", "2025-01-01")}
