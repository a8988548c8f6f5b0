"""Our own materializations: a metric model may be a plain table, and what dbt knows of the database is enough for them."""

import re
import shutil
from dataclasses import replace

import pytest

from northstar.runs import job
from northstar.warehouse import db
from tests.support import WORKERS, empty, published, query_as, run, select, silent, utc, write_rows


def conversation(number: int, at: str, is_natural: bool) -> dict:
    return {"conversation_id": f"c{number}", "application": "web", "account_id": "a", "channel": "web", "started_at": at, "ended_at": at,
            "ended_naturally": is_natural, "updated_at": at}  # fmt: skip


@pytest.fixture
def with_a_plain_table(warehouse, tmp_path):
    """The warehouse, built by a project in which a metric model is a table."""
    root = tmp_path / "checkout"
    shutil.copytree(warehouse.root / "dbt_project", root / "dbt_project")
    (root / "expectations").symlink_to(warehouse.root / "expectations")
    model = root / "dbt_project" / "models" / "core" / "conversations" / "metrics_conversations.sql"
    text, plain = model.read_text(), "materialized='table', unique_key=metric_key(), meta={'mart': 'metric_points'}"
    text = re.sub(r"materialized='incremental'.*?(?=\n\) }})", plain, text, count=1, flags=re.DOTALL)
    assert plain in text and "affected_by" not in text
    model.write_text(text)
    empty(warehouse)
    return replace(warehouse, root=root)


def rate(settings) -> dict:
    rows = select(
        settings,
        "select numerator::int as n, denominator::int as d from metric_values where metric_id = 'conversation_completion_rate' "
        "and grain = 'day' and period_start = '2026-02-10' and application = 'web' and segment = ''",
    )
    return (rows[0]["n"], rows[0]["d"])


def test_an_hour_changes_a_metric_that_is_a_plain_table(with_a_plain_table, tmp_path):
    settings, at = with_a_plain_table, "2026-02-10T10:00:00Z"

    def go(rows, name, as_of, mode):
        source = write_rows(tmp_path / "source", {"conversations": rows}, name)
        return job.run(settings, mode, utc(as_of), str(source), silent, worker=WORKERS.get(settings.home))

    assert go([conversation(1, at, True)], "first", "2026-02-20T00:00:00", "nightly") == 1
    assert rate(settings) == (1, 1)
    assert go([conversation(2, at, False)], "late", "2026-02-20T01:00:00", "hourly") == 2
    assert rate(settings) == (1, 2)
    assert go([conversation(3, at, False)], "later", "2026-02-20T02:00:00", "hourly") == 3
    assert rate(settings) == (1, 3)
    restated = select(
        settings,
        "select distinct new_version from metric_restatements where metric_id = 'conversation_completion_rate'",
    )
    assert sorted(r["new_version"] for r in restated) == [2, 3]


def test_a_table_that_somebody_dropped_is_built_anew_in_the_next_hour(warehouse, tmp_path):
    empty(warehouse)
    source = write_rows(tmp_path, {"conversations": [conversation(1, "2026-02-10T10:00:00Z", True)]})
    run(warehouse, source, utc("2026-02-20T00:00:00"))
    run(warehouse, source, utc("2026-02-20T01:00:00"), "hourly")
    count = "select count(*) as n from core.accounts_by_period"
    (standing,) = query_as(warehouse, "transformer", count)
    with db.connect(warehouse, "owner") as connection:
        connection.execute("drop table core.accounts_by_period")
    before = published(warehouse)
    run(warehouse, source, utc("2026-02-20T01:00:00"), "hourly")
    assert query_as(warehouse, "transformer", count) == [standing]
    assert published(warehouse) == before
