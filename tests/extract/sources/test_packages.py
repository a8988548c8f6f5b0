"""Package statistics as a source, against answers in the shape of pypistats' and npm's own."""

from datetime import date, timedelta

import pytest

from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.packages import Packages
from northstar.warehouse import db
from tests.support import empty, json_server, silent

TODAY = date(2025, 3, 10)


def counts(path: str, query: dict):
    """100 a day and the day of the month; mirrors would add a thousand."""
    days = [TODAY - timedelta(days=n) for n in range(600, -1, -1)]
    parts = path.split("/")
    if "overall" in parts:
        kept = [d for d in days if d > TODAY - timedelta(days=180)]
        kinds = [("without_mirrors", 0)] + ([] if query.get("mirrors") == "false" else [("with_mirrors", 1000)])
        return {"data": [{"category": c, "date": str(d), "downloads": 100 + d.day + more} for c, more in kinds for d in kept],
                "package": parts[-2], "type": "overall_downloads"}  # fmt: skip
    place = parts.index("range") + 1
    first, last = map(date.fromisoformat, parts[place].split(":"))
    assert (last - first).days < 548, "npm answers 400 to a longer range"
    told = [{"day": str(d), "downloads": 100 + d.day} for d in days if first <= d <= last]
    return {"start": str(first), "end": str(last), "package": "/".join(parts[place + 1 :]), "downloads": told}


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands a registry's statistics as of a day, and returns what it did."""
    empty(warehouse)
    monkeypatch.setattr("northstar.extract.sources.packages.PER_SECOND", None)

    def landing(registry, names, today=TODAY, **options):
        monkeypatch.setattr(Packages.__init__, "__defaults__", (lambda: today,))
        with json_server(counts) as address:
            monkeypatch.setenv("AIRFLOW_CONN_STATS", address + "/http")
            options = {"registry": registry, "packages": dict.fromkeys(names, "suite"), **options}
            source = Source(registry, "packages", "stats", ("package_downloads",), options=options)
            assert open_source(warehouse, source).check() == f"{registry}: may read the downloads of {', '.join(names)}"
            result = land_source(warehouse, None, source, silent)
        assert result.error is None, result.error
        return result.landed

    return landing


def test_complete_days_land_without_mirrors_and_the_last_week_again(warehouse, land):
    assert land("pypi", ["acme"]).inserted == 179
    with db.connect(warehouse, "loader") as connection:
        row = connection.execute(
            "select package, application, max(downloaded_on) as last, max(downloads) as most from staging.package_downloads group by 1, 2"
        ).fetchone()
    assert tuple(row.values()) == ("pypi/acme", "suite", date(2025, 3, 9), 131)
    again = land("pypi", ["acme"])
    assert (again.inserted, again.unchanged) == (0, 7)
    # one package more: all of its own days, and only the last week of the other's
    more = land("pypi", ["acme", "acme-client"])
    assert (more.inserted, more.unchanged) == (179, 7)
    assert land("pypi", ["acme-client"]).unchanged == 7
    # another start: all of them from there
    assert land("pypi", ["acme-client"], start="2025-03-01").unchanged == 9


def test_npm_is_asked_in_ranges_that_it_answers_and_scoped_names_are_names(warehouse, land):
    assert land("npm", ["@acme/cli"], start="2023-08-01").inserted == 587
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select distinct package from staging.package_downloads").fetchall() == [
            {"package": "npm/@acme/cli"}
        ]
