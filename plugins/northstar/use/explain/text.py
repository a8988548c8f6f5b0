"""An explanation as text for people, and as JSON for programs."""

import json
import re
from decimal import Decimal
from typing import Any

from northstar.base.clock import show_utc
from northstar.base.tables import table
from northstar.use.explain.explanation import Explanation, Rows, Side
from northstar.use.explain.readers import Contribution
from northstar.warehouse.rows import Row

MAX_COLUMNS = 7


def as_text(explanation: Explanation) -> str:
    """The value, what it means, what it is made of, the rows, and the SQL."""
    metric, row = explanation.metric, explanation.published
    when = f"{row['period_start']:%Y-%m-%d %H:%M}" if row["grain"] == "hour" else f"{row['period_start']:%Y-%m-%d}"
    place = row["application"] + (f", {row['segment']}={row['segment_value']}" if row["segment"] else "")
    state = "complete" if row["is_complete"] else "still open"
    value = (
        f"null: {row['null_reason']}"
        if row["value"] is None
        else f"{format_number(row['value'])} {metric['currency'] or metric['unit']}"
    )
    lines = [
        f"{metric['metric_id']}, {row['grain']} of {when}, {place}",
        "",
        f"value        {value} ({state}; version {row['published_version']}, as of {show_utc(row['as_of'])})",
        f"definition   {metric['definition']}",
        f"owner        {metric['owner']}",
        f"numerator    {side_line(explanation.numerator)}",
        f"denominator  {side_line(explanation.denominator) if explanation.denominator else 'none'}",
    ]
    for title, side in (("numerator", explanation.numerator), ("denominator", explanation.denominator)):
        if side is not None:
            lines += ["", f"Rows behind the {title}: {verdict(side)}"]
            if side.parts:
                shown = ", ".join(
                    f"{name} {'missing' if value is None else format_number(value)}"
                    for name, value in side.parts.items()
                )
                lines.append(f"It is made of other metrics, each of which can be explained: {shown}")
            for rows in side.rows:
                lines += ["", *row_lines(rows, row)]
    lines += ["", f"SQL of core.{explanation.model}, as it was compiled:", "", tidy(explanation.model_sql)]
    for name, sql in explanation.upstream_sql.items():
        lines += ["", f"SQL of core.{name}, which it reads:", "", tidy(sql)]
    for title, side in (("numerator", explanation.numerator), ("denominator", explanation.denominator)):
        for rows in side.rows if side else ():
            lines += ["", f"SQL of the rows behind the {title} ({rows.measure}):", "", rows.sql]
    return "\n".join(lines)


def tidy(sql: str) -> str:
    """Compiled SQL without the blank lines that its macros left."""
    return re.sub(r"\n(?:[ \t]*\n)+(?=[ \t])", "\n", re.sub(r"\n(?:[ \t]*\n)+", "\n\n", sql))


def side_line(side: Side) -> str:
    """A numerator or denominator in one line."""
    return f"{format_number(side.published)} = {side.expression}"


def verdict(side: Side) -> str:
    """How many rows there are, what they add up to, and whether that is what was published."""
    count = sum(r.count for r in side.rows)
    outcome = "as published" if side.adds_up else f"NOT the published {format_number(side.published)}"
    return f"{count} {'row adds' if count == 1 else 'rows add'} up to {format_number(side.contributions)}, {outcome}"


def row_lines(rows: Rows, published: Row) -> list[str]:
    """The largest contributions to one measure, and the files that the rows came from."""
    shown = f"the {len(rows.sample)} largest of {rows.count}" if rows.count > len(rows.sample) else f"{rows.count}"
    place = "" if rows.cell.period_start == published["period_start"] else f" in {rows.cell.period_start:%Y-%m-%d}"
    lines = [
        f"{rows.measure}{place} ({rows.relation} of core.{rows.model}): {format_number(rows.contribution)} in all, {shown}"
    ]
    names = []
    for row in rows.sample:
        names += [n for n, v in row["source"].items() if v is not None and not n.startswith("_") and n not in names]
    # ids first, then the shortest names
    names = sorted(names, key=lambda n: (not n.endswith("_id"), n))[:MAX_COLUMNS]
    cells = [
        {
            "contribution": row["contribution"].normalize(),
            **{n: row["source"].get(n) for n in names},
            "landed": describe_landed(row),
        }
        for row in rows.sample
    ]
    return [*lines, *("  " + line for line in table(cells).splitlines())]


def describe_landed(row: Contribution) -> str:
    """Which files brought a row, such as `charges 1 (charges_000.csv)`."""
    parts = [
        f"{part['entity']} {part['rows']} ({', '.join(f.rpartition('/')[2] for f in part['files'])})"
        for part in row["landed"]
    ]
    return ", ".join(parts)


def format_number(value: Decimal | None) -> str:
    """A number without trailing zeros; at most nine decimals."""
    if value is None:
        return "null"
    text = format(round(Decimal(value), 9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_json(explanation: Explanation) -> str:
    """The same as one JSON object."""

    def side_content(side: Side | None) -> Row | None:
        if side is None:
            return None
        return {
            "expression": side.expression, "published": side.published, "recomputed": side.recomputed,
            "contributions": side.contributions, "adds_up": side.adds_up, "parts": side.parts,
            "rows": [
                {"measure": r.measure, "relation": r.relation, "model": r.model, "value": r.value, "count": r.count,
                 "contribution": r.contribution, "sample": r.sample, "sql": r.sql}
                for r in side.rows
            ],
        }  # fmt: skip

    content = {
        "metric": explanation.metric, "published": explanation.published, "model": explanation.model,
        "sql": explanation.model_sql, "upstream_sql": explanation.upstream_sql, "adds_up": explanation.adds_up,
        "numerator": side_content(explanation.numerator), "denominator": side_content(explanation.denominator),
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, default=plain)


# Any: what json.dumps cannot write is of any type
def plain(value: Any) -> object:
    """What JSON does not know: decimals as numbers, times as ISO text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat()
