"""A home of the last version that stored a row for every period: all it published reads the same afterwards, and can be put back."""

import hashlib
import json
from functools import partial

import pytest

from northstar.base.errors import NorthstarError
from northstar.cli import main as cli
from northstar.publish.merge import rollback
from northstar.use.query import query
from northstar.warehouse import db
from northstar.warehouse.published import values
from tests.conftest import HOMES, home, release_before
from tests.support import northstar, run, select, utc, write_rows

# what that version itself read of each version: rows, and a hash of them as text
ABOUT = json.loads((HOMES / "5e1421c.json").read_text())
PUBLISHED = ABOUT["versions"]
EVERY_VALUE = (
    "select metric_id, grain, period_start, application, segment, segment_value, trim_scale(numerator) as numerator, "
    "trim_scale(denominator) as denominator, trim_scale(value) as value, is_complete, null_reason from metric_values order by 1, 2, 3, 4, 5, 6"
)
NEXT = utc("2025-01-19T10:00:00")


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory):
    """Such a home after its next run, which a reader's long query held up at first."""
    # what it had landed already
    again = {"event_id": "e5", "event_name": "page.view", "occurred_at": "2025-01-19T07:30:00Z", "received_at": "2025-01-19T07:30:00Z",
             "account_id": "a", "application": "web"}  # fmt: skip
    source = write_rows(tmp_path_factory.mktemp("nothing_new"), {"events": [again]})
    with home(partial(release_before, release="5e1421c")) as settings:
        settings.keep_secret("pii_key", ABOUT["key of its made-up people"])
        with db.connect(settings, "bi_reader") as reader, pytest.MonkeyPatch.context() as patch:
            patch.setattr(values, "PATIENCE_SECONDS", 1)
            assert reader.execute("select count(*) as n from metric_values").fetchone()["n"] > 10_000
            with pytest.raises(
                NorthstarError,
                match=r"marts\.metric_values changes in this version.* run again when the query has ended",
            ):
                run(settings, source, NEXT)
            # the version before is up, and others read it
            assert _read(settings) == PUBLISHED["5"]
        assert run(settings, source, NEXT) == 6
        yield settings


def _read(settings, version: int | None = None) -> dict:
    rows = query(settings, EVERY_VALUE, version)[1]
    return {"rows": len(rows), "md5": hashlib.md5("\n".join(map(str, rows)).encode()).hexdigest()}


@pytest.mark.parametrize("version", sorted(PUBLISHED))
def test_every_published_version_reads_as_it_did(upgraded, version):
    assert _read(upgraded, int(version)) == PUBLISHED[version]


def test_an_hour_later_nothing_is_restated_and_an_hour_more_is_there(upgraded):
    # but for what no source had measured, which that release showed as 0
    restated = "select distinct reason, new_value from metric_restatements where new_version = 6"
    assert [tuple(row.values()) for row in select(upgraded, restated)] == [("definition", None)]
    newest = select(upgraded, "select row_counts ->> 'metric_values' as told, (select count(*) from metric_values) as there, "
                    "(select count(*) from metric_points) as points from publications order by published_version desc limit 1")[0]  # fmt: skip
    assert int(newest["told"]) == newest["there"] > PUBLISHED["5"]["rows"] > 5 * newest["points"]


def test_a_mart_that_is_new_is_there_from_the_next_version_on(upgraded):
    rows = "select application, opening_mrr, new_mrr, closing_mrr from mrr_bridge where grain = 'month' and segment = 'plan_tier' order by 1"
    assert query(upgraded, rows)[1] == [("all", 0, 70, 70), ("web", 0, 70, 70)] == query(upgraded, rows, 6)[1]
    assert query(upgraded, rows, 5)[1] == []
    # marks: the run that failed before, and the release's other models
    marks = "select kind from marks where kind not in ('deployment', 'incident') order by 1"
    assert (
        query(upgraded, marks)[1] == [("definition_change",), ("failed_publication",)] == query(upgraded, marks, 6)[1]
    )
    assert query(upgraded, marks, 5)[1] == []
    with db.connect(upgraded, "owner") as connection:
        indexes = connection.execute(
            "select indexname as name from pg_indexes where indexname like '%by_account_id'"
        ).fetchall()
    # by which the pages of customers look rows up
    assert {
        f"{mart}_by_account_id"
        for mart in ("fct_payments", "fct_refunds", "fct_tickets", "fct_sessions", "mrr_movements")
    } <= {i["name"] for i in indexes}


def test_a_version_from_before_can_be_put_back_and_what_cannot_be_made_again_is_said(upgraded):
    told = northstar(upgraded, "verify", "--version", "3")
    assert (
        told.returncode == 1
        and told.stderr.count("\n") == 1
        and "version 3 was made by other models or rules" in told.stderr
    )
    assert rollback(upgraded, 3) == (7, 3)
    assert _read(upgraded) == PUBLISHED["3"] == _read(upgraded, 7)
    assert rollback(upgraded, 6) == (8, 6)


def test_status_and_doctor_speak_of_a_home_that_is_not_upgraded_yet(capsys):
    with home(partial(release_before, release="5e1421c")) as settings:
        with db.connect(settings, "owner") as connection:
            connection.execute(
                "insert into audit.writer_lease (run_id, holder, host, process_id, taken_at, lease_until) "
                "values (9, 'cli', 'elsewhere', 1, clock_timestamp(), clock_timestamp())"
            )
        words = ["--home", str(settings.home), "--debug"]
        assert cli.main(["status", *words]) in (0, None)
        assert "published   version" in capsys.readouterr().out
        cli.main(["doctor", *words])
        assert "versions" in capsys.readouterr().out
