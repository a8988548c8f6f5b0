"""The pages of a large company, in a real Chromium: 10 M values, 240 countries, 200 event names, 20 applications, long names and names of other scripts.

Its numbers are written into the published marts by SQL, since what is measured is how they are read: a run over the rows behind them would take an hour.
"""

import os
from pathlib import Path
from string import ascii_uppercase

from benchmarks.pages import find_chromium, measure, serving, tell
from northstar.base.settings import Settings, load_settings
from northstar.demo.company import END, simulate
from northstar.runs import job
from northstar.use.pages.links import page_path
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

COUNTRIES, EVENTS, APPLICATIONS, MONTHS = 240, 200, 20, 36
LONG = (
    "the application of the department for continued and further education in the northern provinces and beyond the sea "
    * 2
)
# as people name things: long, of other scripts, with signs that mean something to a page
NAMES = (
    LONG[:120],
    "Приложение для обучения",
    "学习应用程序",
    "تطبيق التعلم",
    "<b>bold</b> & <script>alert(1)</script>",
    "100 % 'quoted' \"twice\"",
)
# what is chosen in turn while the pages are measured
APPLIED = ("web", NAMES[0], "application.010")
SPLIT = (("mrr", "country"), ("tracked_events", "event_name"))


def names(count: int, kind: str) -> list[str]:
    """So many names, some of which are hard to show."""
    return [*NAMES, *(f"{kind}.{number:03}" for number in range(len(NAMES), count))]


def countries(count: int) -> list[str]:
    """So many codes."""
    return [first + second for first in ascii_uppercase for second in ascii_uppercase][:count]


def enlarge(settings: Settings, scale: float = 1) -> int:
    """Write the values of a large company beside those of the published one; returns how many are stored. scale: of its countries and names."""
    with db.connect(settings, "owner") as connection:
        given = [
            r["application"]
            for r in connection.execute(
                "select application from marts.metric_series group by 1 order by application = 'all' desc, 1"
            )
        ]
        applications = [*given, *names(APPLICATIONS + 1 - len(given), "application")]
        connection.execute("set local maintenance_work_mem = '256MB'; set local work_mem = '128MB'")
        connection.execute("drop index marts.metric_points_key")
        # three years of days, weeks and months
        for grain in ("day", "week", "month"):
            connection.execute(
                "insert into marts.dim_periods (grain, period_start, period_end, _version) select %(grain)s, s, s + %(length)s::interval, "
                "(select max(published_version) from marts.publications) from generate_series((select min(period_start) from marts.dim_periods where grain = %(grain)s) - %(length)s::interval, "
                "(select max(as_of) from marts.publications) - make_interval(months => %(months)s), ('-' || %(length)s)::interval) as t (s)",
                {"grain": grain, "length": f"1 {grain}", "months": MONTHS},
            )  # fmt: skip
        for metric, segment in SPLIT:
            values = countries(int(COUNTRIES * scale)) if segment == "country" else names(int(EVENTS * scale), "event")
            connection.execute(
                "delete from marts.metric_points where series_id in (select series_id from marts.metric_series where metric_id = %s and segment = %s and grain in ('day', 'week', 'month'))",
                [metric, segment],
            )
            connection.execute(
                "delete from marts.metric_series where metric_id = %s and segment = %s and grain in ('day', 'week', 'month')",
                [metric, segment],
            )
            connection.execute(
                "insert into marts.metric_series (series_id, metric_id, grain, application, segment, segment_value, begins_at, state, holds_from, _version) "
                "select hashtextextended(concat_ws('|', 'large', %(metric)s::text, g.grain, a.application, v.value), 0), %(metric)s::text, g.grain, a.application, %(segment)s::text, v.value, "
                "g.first, 'measured', g.first, (select max(published_version) from marts.publications) from unnest(%(applications)s::text[]) as a (application), unnest(%(values)s::text[]) as v (value), "
                "(select grain, min(period_start) as first from marts.dim_periods where grain in ('day', 'week', 'month') group by 1) as g",
                {"metric": metric, "segment": segment, "applications": applications, "values": values},
            )  # fmt: skip
            connection.execute(
                "insert into marts.metric_points (series_id, period_start, numerator, value, _version) "
                "select s.series_id, p.period_start, x.value, x.value, s._version from marts.metric_series as s join marts.dim_periods as p on p.grain = s.grain "
                "cross join lateral (select (1000 + abs(s.series_id %% 100000) + extract(epoch from p.period_start)::bigint / 86400 %% 400)::numeric as value) as x "
                "where s.metric_id = %s and s.segment = %s and s.grain in ('day', 'week', 'month')", [metric, segment],
            )  # fmt: skip
        # totals of the new applications, as those of one that there was
        connection.execute(
            "insert into marts.metric_series select (jsonb_populate_record(s, jsonb_build_object('application', a.application, 'series_id', hashtextextended(concat_ws('|', 'large', s.series_id, a.application), 0)))).* "
            "from marts.metric_series as s, unnest(%s::text[]) as a (application) where s.application = 'web' and s.segment = '' and s.grain != 'hour'", [applications[len(given):]],
        )  # fmt: skip
        connection.execute(
            "insert into marts.metric_points (series_id, period_start, numerator, denominator, value, null_reason, _version) select hashtextextended(concat_ws('|', 'large', s.series_id, a.application), 0), "
            "p.period_start, p.numerator, p.denominator, p.value, p.null_reason, p._version "
            "from (select distinct series_id from marts.metric_series where application = 'web' and segment = '' and grain != 'hour') as s "
            "join marts.metric_points as p using (series_id), unnest(%s::text[]) as a (application)",
            [applications[len(given):]],
        )  # fmt: skip
        connection.execute(
            "insert into marts.metric_status select (jsonb_populate_record(t, jsonb_build_object('application', a.application, 'target_id', t.target_id || a.place))).* "
            "from marts.metric_status as t, unnest(%s::text[]) with ordinality as a (application, place) where t.application = 'web'", [applications[len(given):]],
        )  # fmt: skip
        connection.execute("create unique index metric_points_key on marts.metric_points (series_id, period_start)")
        connection.commit()
        connection.autocommit = True
        connection.execute(
            "vacuum analyze marts.metric_points, marts.metric_series, marts.dim_periods, marts.metric_status"
        )
        row = connection.execute("select count(*) as n from marts.metric_points").fetchone()
        return row["n"] if row else 0


def large(work: Path, scale: float, results: list) -> None:
    """A company of that size; its pages opened and filtered, also split by a segment of 240 values, by day and with everything that there is."""
    chromium = find_chromium()
    if chromium is None:
        return
    given = os.environ.get("BENCH_LARGE_HOME")
    settings = load_settings(given or work / "large")
    if given:
        # a home that was made large before
        embedded.ensure_running(settings)
    else:
        bootstrap(settings)
        simulate(work / "large-source", months=13, accounts=2_000)
        job.run(settings, "nightly", END, str(work / "large-source"), _silent)
        stored = enlarge(settings, max(0.01, scale))
        print(f"{stored:,} stored values", flush=True)
        results.append({"name": "stored values of the large company", "count": stored})
    with serving(settings):
        tell(measure(settings, chromium, APPLIED), results, "a page of a large company")
        split = {
            title: "?" + page_path(title, segment="country", grain="day", period=36).partition("?")[2]
            for title in ("Executive", "Revenue")
        }
        split["Metrics"] = (
            "?"
            + page_path("Metrics", metric="tracked_events", segment="event_name", grain="day", period=36).partition(
                "?"
            )[2]
        )
        tell(measure(settings, chromium, APPLIED, split), results, "a page of a large company, split by day")
    if not given:
        embedded.stop(settings)


def _silent(_: str) -> None:
    pass
