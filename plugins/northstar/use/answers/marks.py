"""What happened beside the numbers: deployments, incidents, changed definitions, restatements, people's notes."""

from datetime import UTC, datetime, timedelta

from northstar.use.answers.metrics import resolve_metric
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import require_application, require_limit
from northstar.use.answers.shapes import Mark, MarkList

MARKS, MOST_MARKS = 200, 5_000
# how far back, where nothing is said
DAYS = 92


def list_marks(
    reading: Reading, metric: str = "", application: str = "all", since: str = "", until: str = "", limit: int = MARKS
) -> MarkList:
    """The marks from one moment until before another, newest first: those of a metric and those of all metrics, and of an application or of the company.

    since, until: dates or times, in UTC where they name no zone; by default the last DAYS days of the data. Raises Refused.
    """
    reading.require("metrics")
    require_limit(limit, MOST_MARKS)
    application = require_application(reading, application)
    metrics = [resolve_metric(reading, metric)["metric_id"]] if metric else []
    # what was published last happened after the data's end
    last = _moment("until", until) or max(reading.as_of(), reading.shown.published_at) + timedelta(days=1)
    first = _moment("since", since) or last - timedelta(days=DAYS)
    if first >= last:
        raise Refused("bad_request", "since is not before until")
    rows = reading.marks(metrics, application, first, last)
    newest = rows[::-1]
    return MarkList(
        reading.provenance, len(newest) > limit,
        [
            Mark(
                row["mark_id"], row["kind"], row["marked_at"], row["ended_at"], row["application"], list(row["metrics"] or []), row["title"],
                row["details"], row["by_whom"],
            )
            for row in newest[:limit]
        ],
    )  # fmt: skip


def _moment(name: str, text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise Refused("bad_request", f"{name}: {text[:40]!r} is no date, such as 2026-03-01, and no time") from exc
