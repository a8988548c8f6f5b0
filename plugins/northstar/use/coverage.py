"""Which metrics are measured in which application since when, and what is lacking where they are not: `northstar coverage`."""

import re

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.use.words import what_to_land
from northstar.warehouse import db
from northstar.warehouse.rows import fetch_one


def metric_coverage(
    settings: Settings, metric: str | None = None, application: str | None = None
) -> list[tuple[str, str, str | None, str | None]]:
    """(metric, application, the day since which it is measured or None, what was never seen or None) of the newest version.

    Raises NorthstarError where no version has it, and for a metric or an application that it does not have.
    """
    with db.connect(settings, "bi_reader") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.metric_coverage') as t"))["t"] is None:
            raise NorthstarError("no version says what is measured yet; publish one with `northstar run`")
        rows = connection.execute(
            "select metric_id, application, to_char(measured_from at time zone 'UTC', 'YYYY-MM-DD') as since, lacking "
            "from marts.metric_coverage where (%(metric)s::text is null or metric_id = %(metric)s) "
            "and (%(application)s::text is null or application = %(application)s) order by metric_id, application",
            {"metric": metric, "application": application},
        ).fetchall()
    if not rows:
        raise NorthstarError(
            f"there is no metric {metric or ''} in the application {application or 'all'}; `northstar coverage` lists them"
        )
    return [(r["metric_id"], r["application"], r["since"], r["lacking"]) for r in rows]


def unmeasured_in_words(settings: Settings, words: list[str]) -> list[str]:
    """A line for each metric among the words of a MetricFlow command, and each application in which it is not measured.

    MetricFlow computes from facts, where a row that nobody sends looks like one that does not exist.
    """
    named = sorted({name for word in words for name in re.split("[,= ]", word)})
    with db.connect(settings, "bi_reader") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.metric_coverage') as t"))["t"] is None:
            return []
        rows = connection.execute(
            "select metric_id, application, lacking from marts.metric_coverage where metric_id = any(%s) and lacking is not null order by 1, 2",
            [named],
        ).fetchall()
    return [
        f"{r['metric_id']} of {r['application']}: {what_to_land(r['lacking'])}; a number that MetricFlow has for it says nothing"
        for r in rows
    ]
