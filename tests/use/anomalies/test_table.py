"""The anomalies of a published version: one notice for one cause, with the part that explains it and what it is probably the doing of."""

from datetime import timedelta

import pytest

from northstar.use.alerts.evaluate import _describe_alert, evaluate
from northstar.use.anomalies.table import refresh_anomalies
from northstar.use.marts import Marts
from northstar.use.notify import Channels
from northstar.warehouse import db
from tests.support import add_values, remove_values, silent, utc
from tests.use.test_alerts import landed

__all__ = ["landed"]
NOW = utc("2026-03-01T00:00:00")
DAYS = 70
BACKFILL = (
    "insert into marts.recorded_marks (mark_id, kind, marked_at, application, metrics, title, recorded_version) "
    "values ('backfill:test', 'backfill', %s, 'all', '{bookings}', 'backfill of 2026-02-20 to 2026-03-01', 1)"
)


@pytest.fixture
def fallen(built, landed):
    """Bookings of a shop in two countries, of which one has nearly none on the newest day; as it was afterwards."""

    def publish(country: str, share: float, newest: int) -> None:
        values = [round(share * (40 + (n * 7) % 11)) for n in range(DAYS - 1)] + [newest]
        starts = [NOW - timedelta(days=DAYS - n) for n in range(DAYS)]
        add_values(
            connection, "bookings", "day", "shop", [(s, v, None, v) for s, v in zip(starts, values, strict=True)]
        )
        if country:
            connection.execute(
                "update marts.metric_series set segment = 'country', segment_value = %s, series_id = series_id + %s where _version = -1 and application = 'shop' and segment = ''",
                [country, 900_000 + len(country) + ord(country[0])],
            )
            connection.execute(
                "update marts.metric_points set series_id = series_id + %s where _version = -1 and series_id in (select series_id - %s from marts.metric_series "
                "where segment_value = %s and _version = -1)",
                [*[900_000 + len(country) + ord(country[0])] * 2, country],
            )

    with db.connect(built, "owner") as connection:
        publish("DE", 0.4, 18)
        publish("US", 0.6, 2)
        publish("", 1.0, 20)
    yield built
    with db.connect(built, "owner", autocommit=True) as connection:
        remove_values(connection)
        connection.execute("delete from marts.recorded_marks where mark_id = 'backfill:test'")


def of_shop(settings):
    """The anomalies of the shop, judged anew."""
    with db.connect(settings, "owner", autocommit=True) as connection:
        connection.execute("drop table if exists marts.anomalies")
    return [row for row in refresh_anomalies(settings)[0] if row["application"] == "shop"]


def test_what_fell_in_one_country_is_one_notice_that_names_it_and_closes_when_it_is_over(fallen):
    told = [n for n in evaluate(fallen, NOW, silent) if n["application"] == "shop"]
    with db.connect(fallen, "publisher") as connection:
        notices = connection.execute("select * from audit.notices where application = 'shop'").fetchall()
        [seen] = connection.execute("select * from marts.open_alerts where application = 'shop'").fetchall()
    assert told == []  # no route is named
    [notice] = notices
    assert (notice["key"], notice["rule"], notice["severity"]) == ("bookings|shop", "anomaly", "warning")
    assert (notice["segment"], notice["segment_value"], notice["value"]) == ("country", "US", 20)
    assert notice["value"] < notice["threshold"] < notice["baseline"] and 40 < notice["baseline"] < 50
    assert notice["contributes"].startswith("country US: -2") and seen["says"] == notice["says"]
    text = _describe_alert(
        fallen, Channels(), Marts(fallen), "https://northstar.example", {**notice, "event": "opened"}
    )
    for part in (
        "OPENED, warning: Bookings (shop, US)", "an unusual day of 2026-02-28: 20 where 45 was expected", "less often than once in 10 years",
        "explained by country US", "shown on Owner", "no late data, changed definition, backfill",
    ):  # fmt: skip
        assert part in text
    assert "rows as they landed" not in text
    # the version is judged once, and the notice told once
    evaluate(fallen, NOW + timedelta(minutes=5), silent)
    with db.connect(fallen, "owner") as connection:
        assert (
            connection.execute("select count(*) as n from audit.alert_evaluations where anomalies_of = 1").fetchone()[
                "n"
            ]
            == 2
        )
        assert (
            len(
                connection.execute("select fired_at from audit.notices where application = 'shop'").fetchone()[
                    "fired_at"
                ]
            )
            == 1
        )
        connection.execute(
            "update marts.metric_points set value = 45, numerator = 45 where _version = -1 and value = 20"
        )
        connection.execute("drop table marts.anomalies")
    evaluate(fallen, NOW + timedelta(minutes=10), silent)
    with db.connect(fallen, "owner") as connection:
        assert connection.execute("select closed_at from audit.notices where application = 'shop'").fetchone()[
            "closed_at"
        ]


def test_a_backfill_that_names_the_metric_is_named(fallen):
    [row] = of_shop(fallen)
    assert (row["metrics"], row["reason"], row["pages"]) == (["bookings"], "unknown", ["Owner"])
    with db.connect(fallen, "owner", autocommit=True) as connection:
        connection.execute(BACKFILL, [NOW])
    [row] = of_shop(fallen)
    assert (row["reason"], row["explained"]) == ("backfill", "2026-03-01: backfill of 2026-02-20 to 2026-03-01")


def test_rows_that_did_not_land_are_named_before_anything_else(fallen, landed):
    landed(bookings=[
        {"booking_id": f"an_{day}_{n}", "student_id": "s", "tutor_id": "t", "application": "shop", "price_amount": 100, "commission_rate": 0.1, "currency": "USD",
         "requested_at": f"2026-02-{day:02}T{n + 1:02}:00:00Z", "updated_at": f"2026-02-{day:02}T{n + 1:02}:00:00Z"}
        for day in range(21, 28) for n in range(5)
    ])  # fmt: skip
    with db.connect(fallen, "owner", autocommit=True) as connection:
        connection.execute(BACKFILL, [NOW])
    [row] = of_shop(fallen)
    assert row["reason"] == "late_data"
    assert (
        row["explained"]
        == "no row of bookings of shop has landed for this time, 5 a period did before: the newest is of 2026-02-27 05:00 UTC"
    )


def test_what_fails_leaves_the_other_alerts_alone(built, landed, monkeypatch):
    def fail(_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("northstar.use.alerts.evaluate.refresh_anomalies", fail)
    with pytest.raises(Exception, match="the rule anomaly failed: no memory"):
        evaluate(built, NOW, silent)
    with db.connect(built, "owner") as connection:
        assert connection.execute("select anomalies_of from audit.alert_evaluations").fetchone() == {
            "anomalies_of": None
        }
