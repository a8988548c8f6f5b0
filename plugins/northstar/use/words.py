"""Words for metrics, periods and zones, as people read them."""

import re
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from northstar.base.clock import Calendar, show_utc
from northstar.base.locales import write_day, write_day_of_year, write_month
from northstar.warehouse.rows import Row

ZONES = {"green": "on target", "yellow": "near its target", "red": "off its target", "unknown": "not judged"}
UPPER = (
    "mrr",
    "arr",
    "arpu",
    "ltv",
    "cac",
    "gmv",
    "nps",
    "csat",
    "dau",
    "wau",
    "mau",
    "lcp",
    "tti",
    "mttr",
    "api",
    "cpu",
    "ai",
)
# why a value is null, in words
NULL_REASONS = {
    "empty_base": "there is nothing in this period that it could be computed from: it would be a division by nothing, or the middle of no values",
    "source_missing": "nothing that it stands on had been landed by then",
    "small_group": "so few accounts are behind it that it is withheld",
    "no_rate": "an amount in another currency has no exchange rate",
    "no_earlier_value": "the earlier period that it is compared with has no value",
    "nobody_churned": "nobody left, so there is no churn that it could be computed from",
    "no_ltv": "the lifetime value that it is divided by has no value",
    "period_open": "its period is not over",
}


def period(moment: date, grain: str, calendar: Calendar) -> str:
    """A period by its first moment, in words. A fiscal year that is no calendar year is called FY and the year that it ends in."""
    year = f"{'FY' if calendar.first_month > 1 else ''}{calendar.fiscal_year(moment)}"
    if grain == "quarter":
        return f"Q{calendar.fiscal_quarter(moment)} {year}"
    if grain == "year":
        return year
    if grain == "month":
        return write_month(moment)
    if grain == "hour":
        return f"{write_day_of_year(moment)} {moment:%H:00}"
    return f"week of {write_day(moment)}" if grain == "week" else write_day(moment)


def title_of(metric: str) -> str:
    """A metric's title, made from its id."""
    words = " ".join(word.upper() if word in UPPER else word for word in metric.split("_"))
    return words[:1].upper() + words[1:]


def cited_rules(definition: str, root: Path) -> tuple[str, str] | None:
    """(title, Markdown) of the chapter of docs/semantics.md that a definition cites (`see docs/semantics.md, MRR`); None where it cites none.

    root: settings.root.
    """
    cited = re.search(r"see docs/semantics\.md, (\w+)", definition)
    if cited is None:
        return None
    chapters = re.split(r"^## ", (root / "docs" / "semantics.md").read_text(), flags=re.MULTILINE)
    for chapter in chapters[1:]:
        title, _, text = chapter.partition("\n")
        if title.lower() == cited[1].lower():
            return title, text.strip()
    return None


def what_to_land(lacking: str) -> str:
    """What is not measured, in words for a person: 'not measured: land refunds'. lacking: that column of metric_coverage."""
    return f"not measured: land {describe_needs(lacking)}"


def describe_needs(needs: str) -> str:
    """What metrics stand on, in words: 'events with account_id, deployments with status failed or rolled_back'.

    needs: as metric_coverage lists them (the macro metric_needs says how they are written).
    """
    return ", ".join(_describe_need(need) for need in needs.split(", "))


def _describe_need(need: str) -> str:
    # whose application counts decides where a row is looked for, and not which rows to land
    entity, _, condition = need.partition(" by ")[0].partition(".")
    parts = []
    for term in filter(None, condition.split("&")):
        column, _, values = term.partition("=")
        if column == "support_calendar":
            # of the application, in the settings
            parts.append("a calendar in support_calendars of northstar.yml")
            continue
        parts.append(f"{column.replace('/', ' or ')} {values.replace('|', ' or ')}".strip())
    return f"{entity} with {' and '.join(parts)}" if parts else entity


class Chance(TypedDict):
    """The forecast of a target: the columns of target_forecasts that are read."""

    target_id: str
    verdict: str
    probability: Decimal


def describe_chance(verdict: Chance | None) -> str:
    """The forecast of a target that is due later, in words: 'unlikely (7 %)'; '' for no forecast."""
    return f"{verdict['verdict']} ({100 * float(verdict['probability']):.0f} %)" if verdict else ""


def describe_segments(segments: Collection[str]) -> str:
    """Which segments a metric has, in words."""
    return f"its segments are {', '.join(segments)}" if segments else "it has no segments"


def null_words(reason: str) -> str:
    """Why a value is null, in words; the reason's own name for one that a model of somebody's own gives."""
    return NULL_REASONS.get(reason, reason.replace("_", " "))


def why_open(period_end: datetime, as_of: datetime, window_days: int | None) -> str:
    """Why a value is not complete, in words."""
    if period_end <= as_of and window_days:
        return f"still open: it counts what follows within {window_days} days"
    return f"still open: its period ends on {show_utc(period_end)}"


def restatement_reasons(row: Row) -> str:
    """Why a published value changed, in words: every reason where they were recorded, else the one."""
    return ", ".join(row.get("reasons") or [row["reason"]]).replace("_", " ")


def describe_marks(marks: list[Row]) -> list[str]:
    """What happened, in words, what people wrote first: each mark by itself, deployments and incidents of several as their number."""
    many = {"deployment": "deployments", "incident": "incidents"}
    lines = [
        f"{mark['marked_at']:%Y-%m-%d}: {mark['title']}" + (f" ({mark['by_whom']})" if mark["kind"] == "note" else "")
        for mark in sorted(marks, key=lambda mark: mark["kind"] != "note")
        if mark["kind"] not in many
    ]
    for kind, words in many.items():
        own = [mark for mark in marks if mark["kind"] == kind]
        if len(own) > 1:
            failed = sum(not mark["title"].endswith("succeeded") for mark in own) if kind == "deployment" else 0
            lines.append(f"{len(own)} {words}" + (f", {failed} of them failed or were rolled back" if failed else ""))
        else:
            lines += [f"{mark['marked_at']:%Y-%m-%d}: {mark['title']}" for mark in own]
    return lines
