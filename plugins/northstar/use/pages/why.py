"""`/why/METRIC?...`: what stands behind a number, as a page with an address of its own and as the panel that opens beside any page."""

import logging
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from northstar.base.errors import NorthstarError
from northstar.base.formats import format_change, format_count, format_value
from northstar.use.changes import describe_amount
from northstar.use.customers import customer_path, find_churned
from northstar.use.explain.explanation import Rows, Side
from northstar.use.explain.text import describe_landed, format_number, tidy, verdict
from northstar.use.marts import Marts
from northstar.use.pages.links import AS_OF, page_path
from northstar.use.pages.marks import add_marks
from northstar.use.pages.panels.drawing import describe_restated
from northstar.use.pages.panels.marks import marks_path
from northstar.use.pages.rendering import TEMPLATES
from northstar.use.why.background import Background, Place, certificate_of, find_background, parse_moment
from northstar.use.why.mart_rows import MartRows, find_rows
from northstar.use.why.rows import Behind, find_behind
from northstar.use.words import ZONES, describe_marks, null_words, period, restatement_reasons, title_of, why_open
from northstar.warehouse.rows import Row

# columns of a row that are shown beside what it contributes, and characters of each
COLUMNS, CHARACTERS = 5, 60
# columns that hold an account's id
NAMES_OF_CUSTOMERS = ("account_id", "referred_by_account_id", "student_id", "tutor_id", "creator_id")
# what a request may name
NAMES = ("grain", "period", "application", "segment", "value")
LOG = logging.getLogger(__name__)


def add_why(server: Flask, marts: Callable[[], Marts]) -> None:
    """Let the server answer for a number's background, and for the rows behind it. marts: gives what is read."""

    def answer(show: Callable[[], str]) -> ResponseReturnValue:
        return _answer(lambda: marts().steadily(show))

    def background(metric: str) -> ResponseReturnValue:
        return answer(lambda: show_background(marts(), find_background(marts(), _place(metric, marts().calendar.zone))))

    def behind(metric: str) -> ResponseReturnValue:
        def show() -> str:
            found = find_background(marts(), _place(metric, marts().calendar.zone))
            return show_behind(marts(), found, find_behind(marts(), found))

        return answer(show)

    def rows_of_mart(mart: str) -> ResponseReturnValue:
        chosen = {name: value for name, value in request.args.items() if value and name != AS_OF}
        return answer(lambda: show_mart(marts(), find_rows(marts(), mart, chosen)))

    server.add_url_rule("/why/<metric>", "why", background)
    add_marks(server, marts)
    server.add_url_rule("/why/mart/<mart>", "why_mart", rows_of_mart)
    server.add_url_rule("/why/<metric>/rows", "why_rows", behind)


def _answer(show: Callable[[], str]) -> ResponseReturnValue:
    try:
        return Response(show(), 200, {"Content-Type": "text/html; charset=utf-8"})
    except NorthstarError as exc:
        return Response(
            TEMPLATES.get_template("why_nothing.html").render(message=str(exc)),
            404,
            {"Content-Type": "text/html; charset=utf-8"},
        )


def _place(metric: str, zone: ZoneInfo) -> Place:
    given = {name: request.args.get(name, "") for name in NAMES}
    return Place(
        metric, given["grain"], parse_moment(given["period"], zone), given["application"] or "all", given["segment"], given["value"]
    )  # fmt: skip


def show_background(marts: Marts, background: Background) -> str:
    """The page of a number, as HTML."""
    place, metric, value, earlier = background.place, background.metric, background.value, background.earlier
    unit, currency = metric["unit"], marts.currency
    has_change = earlier is not None and value["value"] is not None and earlier["value"] is not None
    amounts = [(part, describe_amount(part.amount, unit, currency)) for part in background.change]
    parts = [
        {"path": part.place.path, "name": part.place.segment_value or part.place.application, "amount": amount}
        for part, amount in amounts
        if amount
    ]
    first = background.change[0].place if background.change else place
    return TEMPLATES.get_template("why.html").render(
        title=title_of(place.metric), when=period(place.period_start, place.grain, marts.calendar), place=place, metric=metric,
        value=format_value(value["value"], unit, currency), state=_state(background),
        change=format_change(value["value"], earlier["value"], unit) or "no change" if earlier and has_change else "",
        before=period(earlier["period_start"], place.grain, marts.calendar) if earlier else "",
        earlier=format_value(earlier["value"], unit, currency) if earlier else "",
        parts=parts, parts_by=(first.segment or "application").replace("_", " "),
        numerator=format_number(value["numerator"]), denominator=format_number(value["denominator"]), has_denominator=value["denominator"] is not None,
        metric_page=page_path("Metrics", metric=place.metric, application=place.application, grain=place.grain),
        targets=[_target(marts, background, row) for row in background.targets],
        restatements=[_restatement(marts, background, row) for row in background.restatements],
        marks=describe_marks(marts.marks([place.metric], place.application, place.period_start, value["period_end"])),
        marks_path=marks_path([place.metric], place.application, place.period_start, value["period_end"]),
        rows_path=place.path.replace("?", "/rows?", 1), certificate=background.certificate, version=marts.past_version,
        now_path=place.path, since=describe_restated(background.since, unit),
    )  # fmt: skip


def _state(background: Background) -> str:
    """Whether a value is complete, and why it is null."""
    value = background.value
    words = "complete"
    if not value["is_complete"]:
        words = why_open(value["period_end"], background.certificate["as_of"], background.metric["window_days"])
    if value["value"] is None:
        words = f"no value: {null_words(value['null_reason'] or '')} ({words})"
    return words[:1].upper() + words[1:]


def _target(marts: Marts, background: Background, row: Row) -> dict[str, str]:
    unit, due = background.metric["unit"], row["due_at"]
    return {
        "application": row["application"], "due": f"by {due:%Y-%m-%d}" if due is not None and due == due else "", "zone": row["zone"], "zone_words": ZONES[row["zone"]],
        "target": f"{row['operator'] or ''} {'' if row['target'] is None else format_value(row['target'], unit, marts.currency)}".strip(),
        "judged": f"{period(row['period_start'], row['grain'], marts.calendar)}: {format_value(row['value'], unit, marts.currency)}"
        if row["period_start"] else "not yet",
    }  # fmt: skip


def _restatement(marts: Marts, background: Background, row: Row) -> dict[str, object]:
    unit = background.metric["unit"]
    return {
        "old_version": row["old_version"], "new_version": row["new_version"], "reason": restatement_reasons(row),
        "old": format_value(row["old_value"], unit, row["old_currency"] or marts.currency),
        "new": format_value(row["new_value"], unit, row["new_currency"] or marts.currency),
    }  # fmt: skip


def show_behind(marts: Marts, background: Background, behind: Behind) -> str:
    """The rows behind a number, as HTML."""
    place, unit = background.place, background.metric["unit"]
    sides = [
        (title, side) for title, side in (("Numerator", behind.numerator), ("Denominator", behind.denominator)) if side
    ]
    return TEMPLATES.get_template("why_rows.html").render(
        title=title_of(place.metric), when=period(place.period_start, place.grain, marts.calendar), note=behind.note,
        before=period(background.earlier["period_start"], place.grain, marts.calendar) if background.earlier else "",
        accounts=[{"name": name, "path": customer_path(name), "amount": describe_amount(float(amount), unit, marts.currency)} for name, amount in behind.accounts],
        sides=[_side(title, side) for title, side in sides], model=behind.model, sql=tidy(behind.sql),
        version=marts.past_version, now_path=place.path,
        queries=[{"measure": rows.measure, "sql": rows.sql} for _, side in sides for rows in side.rows],
    )  # fmt: skip


def show_mart(marts: Marts, found: MartRows) -> str:
    """Rows of a mart, as HTML; those of churn_reasons with the customers who left."""
    left = find_churned(marts, found.rows) if found.mart == "churn_reasons" else []
    cells = [[_value(row[name]) for name in found.columns] for row in found.rows]
    return TEMPLATES.get_template("why_mart.html").render(
        title=title_of(found.mart),
        found=found,
        cells=cells,
        certificate=certificate_of(marts),
        left=[
            {
                **row,
                "path": customer_path(row["account_id"]),
                "amount": format_value(row["mrr"], "money", marts.currency),
            }
            for row in left
        ],
        version=marts.past_version,
    )


def _value(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return format_number(value) if isinstance(value, Decimal) else _cell_text(value)


def _side(title: str, side: Side) -> dict[str, object]:
    parts = ", ".join(f"{name} {_number(value)}" for name, value in side.parts.items())
    return {
        "title": title, "verdict": verdict(side), "expression": side.expression, "parts": parts,
        "rows": [_table_of(rows) for rows in side.rows],
    }  # fmt: skip


def _number(value: Decimal | None) -> str:
    return "missing" if value is None else format_number(value)


def _table_of(rows: Rows) -> dict[str, object]:
    names: list[str] = []
    for row in rows.sample:
        names += [n for n, v in row["source"].items() if v is not None and not n.startswith("_") and n not in names]
    # ids first, then the shortest names
    names = sorted(names, key=lambda n: (not n.endswith("_id"), len(n), n))[:COLUMNS]
    shown = (
        f"the {len(rows.sample)} largest of {format_count(rows.count)} rows"
        if rows.count > len(rows.sample)
        else f"{format_count(rows.count)} rows"
    )
    return {
        "title": f"{rows.measure} (core.{rows.model}): {shown}", "names": ["adds", *names, "landed"],
        "cells": [
            [_cell("", format_number(row["contribution"])), *(_cell(name, row["source"].get(name)) for name in names), {"text": describe_landed(row), "path": ""}]
            for row in rows.sample
        ],
    }  # fmt: skip


def _cell(name: str, value: object) -> dict[str, str]:
    """What a cell shows, and the customer's page that it leads to, if it names one."""
    return {
        "text": _cell_text(value),
        "path": customer_path(str(value)) if name in NAMES_OF_CUSTOMERS and value else "",
    }


def _cell_text(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
