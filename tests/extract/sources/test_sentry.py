"""Sentry as a source, against answers in the shape that its API reference describes."""

from datetime import UTC, datetime

import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.source import land_source, source_states
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.sentry import Sentry
from northstar.warehouse import db
from tests.support import empty, json_server, silent

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC).timestamp()
OPTIONS = {"organization": "acme", "projects": {"web": "shop", "api": "shop"}, "history_days": 2}


def event(number: int, at: str, user=None, **tags) -> dict:
    return {
        "id": f"{number:032x}", "eventID": f"{number:032x}", "groupID": str(number % 2), "dateCreated": f"2025-03-{at}Z",
        "title": "ValueError: ada@example.org", "user": user, "tags": [{"key": k, "value": v} for k, v in tags.items()],
    }  # fmt: skip


class Tracker:
    """A server with each project's events, newest first, in pages of two."""

    def __init__(self, **events):
        self.events, self.windows = events, []

    def __call__(self, path, query):
        parts = path.removeprefix("/http/api/0/").removeprefix("/api/0/").strip("/").split("/")
        if parts[0] == "organizations":
            day = query["start"][:10]
            count = sum(e["dateCreated"].startswith(day) for events in self.events.values() for e in events)
            return {"groups": [{"by": {"outcome": "accepted"}, "totals": {"sum(quantity)": count}}]}
        slug = parts[2]
        if len(parts) == 3:
            return {"slug": slug, "id": "17"}
        self.windows.append((slug, query["start"], query["end"]))
        found = [e for e in self.events[slug] if query["start"] <= e["dateCreated"][:19] < query["end"]]
        found.sort(key=lambda e: e["dateCreated"], reverse=True)
        place = int(query.get("cursor", "0:0:0").split(":")[1])
        more = "true" if place + 2 < len(found) else "false"
        url = f"http://{self.host}{path}?start={query['start']}&end={query['end']}&cursor=0:{place + 2}:0"
        return (
            200,
            found[place : place + 2],
            {"Link": f'<{url}>; rel="next"; results="{more}"; cursor="0:{place + 2}:0"'},
        )


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands from a Tracker at NOW (or later), and returns the result."""
    empty(warehouse)

    def landing(tracker, now=NOW, **options):
        with json_server(tracker) as address:
            tracker.host = address.removeprefix("http://")
            monkeypatch.setenv("AIRFLOW_CONN_SENTRY", address.replace("http://", "http://:token@") + "/http")
            monkeypatch.setattr(Sentry.__init__, "__defaults__", (lambda: now,))
            source = Source("errors", "sentry", "sentry", ("error_events",), options={**OPTIONS, **options})
            assert open_source(warehouse, source).check() == "Sentry: may read the error events of web, api"
            result = land_source(warehouse, None, source, silent)
            totals = open_source(warehouse, source).totals("error_events", None)
        assert result.error is None, result.error
        return result, totals

    return landing


def test_events_land_day_by_day_and_go_on_from_there(warehouse, land):
    tracker = Tracker(
        web=[event(1, "02T10:00:00", level="fatal"), event(2, "02T10:00:01", {"id": "7"}, level="error", service="checkout"),
             event(3, "03T11:00:00", environment="staging"), event(4, "02T10:00:02", level="warning")],
        api=[event(5, "03T11:30:00", level="error")],
    )  # fmt: skip
    result, totals = land(tracker)
    assert result.landed.inserted == 5
    assert next(iter(totals.values()))[0] == 3
    with db.connect(warehouse, "loader") as connection:
        rows = connection.execute(
            "select error_id, application, service, level, fingerprint, is_user_facing from staging.error_events order by error_id"
        ).fetchall()
        assert [tuple(r.values())[1:] for r in rows] == [
            ("shop", "web", "fatal", "1", False), ("shop", "checkout", "error", "0", True), ("shop", "web", "error", "1", False),
            ("shop", "web", "warning", "0", False), ("shop", "api", "error", "1", False),
        ]  # fmt: skip
        expression = next(iter(totals.values()))[1]
        assert connection.execute(f"select {expression} as n from staging.error_events").fetchone()["n"] == 3
    assert source_states(warehouse, "errors") == {"error_events": {"since": int(NOW)}}

    # an hour later: a day is read again, a telephone that was offline is heard
    tracker.windows.clear()
    tracker.events["api"].append(event(6, "02T12:30:00", level="error"))
    tracker.events["api"].append(event(7, "03T12:30:00", level="error"))
    assert land(tracker, NOW + 3600)[0].landed.inserted == 2
    assert {w[1] for w in tracker.windows} == {"2025-03-02T12:00:00", "2025-03-03T12:00:00"}


def test_other_environments_are_left_out(warehouse, land):
    tracker = Tracker(
        web=[event(1, "02T10:00:00", environment="staging"), event(2, "02T10:00:00", environment="production")], api=[]
    )
    result, totals = land(tracker, environments=["production"])
    assert result.landed.inserted == 1 and totals == {}


def test_a_source_without_projects_is_refused(warehouse, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SENTRY", "http://:token@localhost/http")
    with pytest.raises(NorthstarError, match="give `organization`, and `projects`"):
        open_source(warehouse, Source("errors", "sentry", "sentry", options={"organization": "acme"}))
