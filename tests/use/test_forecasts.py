"""Forecasts: no better than they say, by the better of two methods, and made anew only where something changed."""

import numpy as np
import pytest

from northstar.use.forecasts import AHEAD, FEWEST, forecast, forecast_metrics
from northstar.use.marts import Marts
from northstar.use.pages.painter import Painter
from northstar.warehouse import db
from tests.support import longer_history, northstar, silent

RANDOM = np.random.default_rng(7)
PANEL = {"kind": "line", "metrics": ["mrr"]}
TREND = 100 + 5.0 * np.arange(24) + RANDOM.normal(0, 2, 24)
SEASON = 100 + 30 * np.sin(np.arange(30) * np.pi / 6) + RANDOM.normal(0, 1, 30)
WALK = 100 + np.cumsum(RANDOM.normal(0, 5, 30))


def test_a_trend_is_followed_and_smoothing_chosen():
    prediction = forecast(TREND, 6, 12)
    assert prediction.method == "smoothing" and prediction.smoothing_error < prediction.naive_error
    # what truly came lies within the 95 % interval
    truth = 100 + 5.0 * np.arange(24, 30)
    assert (np.abs(prediction.values - truth) < 1.96 * prediction.spreads + 4).all()


def test_a_season_is_best_told_by_the_year_before():
    prediction = forecast(SEASON, 6, 12)
    assert prediction.method == "naive" and prediction.naive_error < prediction.smoothing_error
    assert prediction.values == pytest.approx(SEASON[18:24])


def test_what_cannot_be_told_is_not_claimed():
    prediction = forecast(WALK, 12, 52)
    assert (np.diff(prediction.spreads) >= 0).all() and prediction.spreads[-1] > 2 * prediction.spreads[0]
    assert prediction.spreads[0] == pytest.approx(5, rel=0.6)


def test_errors_are_those_of_trials_that_did_not_see_what_came():
    values = np.array([10.0] * 10 + [20.0])
    prediction = forecast(values, 3, 12)
    # from each origin up to three periods ahead: 10 was expected wherever 20 came
    origins = range(max(FEWEST - 1, len(values) - 13), len(values))
    errors = [abs(10 - v) for o in origins for v in values[o : o + AHEAD]]
    assert prediction.naive_error == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("values", [[5.0] * 8, [0.0] * 7, list(range(6))])
def test_a_flat_or_short_series_breaks_nothing(values):
    prediction = forecast(np.array(values, dtype=float), 6, 12)
    assert np.isfinite(prediction.values).all() and np.isfinite(prediction.spreads).all()


@pytest.fixture
def forecasts(built):
    """The built company with a longer history of a few metrics; as it was afterwards."""
    with longer_history(built):
        yield built
        with db.connect(built, "owner", autocommit=True) as connection:
            connection.execute("drop table if exists marts.metric_forecasts, marts.target_forecasts")


def test_forecasts_are_published_with_their_errors_shown_as_a_band_and_made_once(forecasts):
    painter = Painter(Marts(forecasts))
    drawn = painter.draw(PANEL, "all", "month", 12, "")
    assert painter.draw(PANEL, "all", "month", 12, "") is drawn and "forecast" not in drawn.layout.meta
    assert forecast_metrics(forecasts, silent) >= 1
    assert forecast_metrics(forecasts, silent) == 0
    with db.connect(forecasts, "bi_reader") as connection:
        rows = connection.execute(
            "select * from metric_forecasts where metric_id = 'mrr' and application = 'all' order by period_start"
        ).fetchall()
        assert len(rows) >= 6 and f"{rows[0]['period_start']:%Y-%m}" == "2026-03"
        assert all(
            r["low_95"] <= r["low_80"] <= r["value"] <= r["high_80"] <= r["high_95"] and r["low_95"] >= 0 for r in rows
        )
        assert rows[0]["naive_error"] is not None and rows[0]["published_version"] == 1
        verdicts = connection.execute("select distinct verdict from target_forecasts").fetchall()
    assert {v["verdict"] for v in verdicts} <= {"likely", "unlikely", "open"}
    # what was drawn before they were there is drawn anew, with no new version
    painter.marts._looked_at = 0
    figure = painter.draw(PANEL, "all", "month", 12, "")
    assert "forecast (80 %)" in [t.name for t in figure.data] and "forecast " in figure.layout.meta
    with db.connect(forecasts, "owner", autocommit=True) as connection:
        connection.execute(
            "update marts.metric_points set value = 4901 where _version = -1 and period_start = '2025-11-01'"
        )
    assert forecast_metrics(forecasts, silent) == 1
    assert northstar(forecasts, "forecast").returncode == 0


def test_nothing_waits_for_the_methods_to_be_tried(forecasts, monkeypatch):
    tried = []

    def trying(values, ahead, year):
        # what a publication needs that adds a column
        with db.connect(forecasts, "owner") as connection:
            connection.execute("lock table marts.metric_points, marts.metric_status in access exclusive mode nowait")
        tried.append(ahead)
        return forecast(values, ahead, year)

    monkeypatch.setattr("northstar.use.forecasts.forecast", trying)
    assert forecast_metrics(forecasts, silent) == len(tried) >= 1
