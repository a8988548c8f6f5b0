"""What landing makes of a connector that trips."""

import pytest

from northstar.base.errors import NorthstarError, SourceDown, SourceFailed, SourceUnavailable
from northstar.extract import stage
from northstar.extract.landing import source as sources
from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Page, Source
from northstar.extract.sources.http import Refused
from northstar.runs.lifecycle import close_run, open_run
from tests.support import empty, query_as, silent, utc

AT = "2026-01-01T00:00:00Z"
ACCOUNT = {"account_id": "a", "account_type": "customer", "created_at": AT, "updated_at": AT}


class Connector:
    """One account; what it says of its totals is `trouble`."""

    def __init__(self, trouble: Exception, is_broken: bool = False):
        self.trouble, self.is_broken = trouble, is_broken

    def read(self, entity, state):
        if self.is_broken:
            raise KeyError(f"in the answer for {entity}")
        yield Page([ACCOUNT], {"at": AT})

    def totals(self, entity, state):
        raise self.trouble


def landed(settings, monkeypatch, connector, name="crm", entities=("accounts",)):
    monkeypatch.setattr(sources, "open_source", lambda *_: connector)
    said: list[str] = []
    found = land_source(settings, 1, Source(name, "sql", entities=entities), said.append)
    return found, said


def test_totals_that_cannot_be_asked_fail_no_source_whose_rows_have_landed(warehouse, monkeypatch):
    empty(warehouse)
    for trouble in (SourceDown("crm: it did not answer in time"), KeyError("count")):
        found, said = landed(warehouse, monkeypatch, Connector(trouble))
        assert found.error is None and any("crm, accounts: not reconciled, " in line for line in said), said
    assert query_as(warehouse, "loader", "select account_id from staging.accounts") == [{"account_id": "a"}]


def test_a_connector_without_totals_is_not_reconciled_and_lands(warehouse, monkeypatch):
    class Plain:
        def read(self, entity, state):
            yield Page([ACCOUNT], {"at": AT})

    empty(warehouse)
    found, said = landed(warehouse, monkeypatch, Plain())
    assert found.error is None and found.landed.inserted == 1
    assert "  crm, accounts: not reconciled, the connector gives no totals" in said


def test_a_source_that_is_called_as_a_service_leaves_the_service_its_log(warehouse, monkeypatch):
    empty(warehouse)
    service = warehouse.logs / "postgres.log"
    before = service.read_text()
    found, _ = landed(
        warehouse, monkeypatch, Connector(KeyError("x"), is_broken=True), "postgres", ("accounts", "charges")
    )
    assert "its connector failed, KeyError" in found.error and "source_postgres.log" in found.error
    assert service.read_text().startswith(before)
    log = (warehouse.logs / "source_postgres.log").read_text()
    assert "in the answer for accounts" in log and "in the answer for charges" in log


@pytest.mark.parametrize(
    ("trouble", "kind", "wait"),
    [
        (SourceDown("crm: it answered 429 and asks to wait for 600 s", 600.0), SourceUnavailable, 600),
        (KeyError("count"), SourceUnavailable, None),
        (Refused("crm: it answered 401: Invalid key", 401), SourceFailed, None),
        (NorthstarError("source crm: the query has no column id"), SourceFailed, None),
    ],
)
def test_what_fails_a_source_is_told_by_whether_it_may_pass(warehouse, monkeypatch, trouble, kind, wait):
    class Failing(Connector):
        def read(self, entity, state):
            raise self.trouble

    empty(warehouse)
    monkeypatch.setattr(sources, "open_source", lambda *_: Failing(trouble))
    monkeypatch.setattr(stage, "read_sources", lambda _: {"crm": Source("crm", "sql", entities=("accounts",))})
    run_id = open_run(warehouse, "hourly", utc("2026-01-01T00:00:00"))
    try:
        with pytest.raises(kind, match="crm") as failure:
            stage.land_source(warehouse, run_id, "crm", silent)
        assert failure.type is kind and getattr(failure.value, "wait_seconds", None) == wait
    finally:
        close_run(warehouse, run_id)
