"""A preview as text for the terminal, as JSON, and as a comment on a pull request."""

import json
from collections.abc import Sequence, Sized
from datetime import datetime

from northstar.base.tables import markdown_table, plain_text, table
from northstar.build.lineage import ROWS
from northstar.runs.preview.preview import ChangedColumn, MetricDifference, Preview, RowsBehind
from northstar.runs.preview.values import ChangedValue, MartDifference
from northstar.use.explain.text import format_number, plain
from northstar.use.last_preview import KeptPreview
from northstar.warehouse.rows import Row

# a time zone changes what every model means
SHOWN_CAUSES = 12
SHOWN_METRICS = 20


def as_json(preview: Preview) -> str:
    """The preview as one JSON object."""
    return json.dumps(preview.as_dict(), ensure_ascii=False, default=plain)


def as_text(preview: Preview) -> str:
    """The preview as tables for the terminal."""
    lines = [_headline(preview), *([preview.cannot_tell] if preview.cannot_tell else [])]
    for title, rows in _sections(preview):
        lines += ["", title, *(["", *("  " + line for line in table(rows).splitlines())] if rows else [])]
    lines += ["", *_reader_lines(preview)] if preview.readers else []
    lines += ["", *(f"beyond the limits: {line}" for line in preview.exceeded)] if preview.exceeded else []
    return "\n".join(lines)


def as_markdown(preview: Preview) -> str:
    """The preview as a comment on a pull request."""
    lines = [f"### Preview: {_headline(preview)}", ""]
    lines += [f"- {preview.cannot_tell}"] if preview.cannot_tell else []
    lines += [f"- **beyond the limits**: {line}" for line in preview.exceeded]
    lines += [f"- {line}" for line in _reader_lines(preview)]
    for title, rows in _sections(preview):
        if not rows:
            lines += ["", title]
            continue
        lines += [
            "",
            f"<details{' open' if not title.startswith('Rows') else ''}><summary>{title}</summary>",
            "",
            *markdown_table(rows),
            "",
            "</details>",
        ]
    return "\n".join(lines)


def for_pages(preview: Preview, withholds_groups: bool, now: datetime) -> KeptPreview:
    """The preview as the pages may show it: no rows behind a difference, and values of whole applications alone, or none where small groups are withheld."""
    shown = preview.metrics[:SHOWN_METRICS]
    tables = [("Metrics that would change", [_metric_cells(m) for m in shown])]
    if not withholds_groups:
        largest = [next((v for v in m.largest if not v["segment"]), None) for m in shown]
        tables.append(("The largest difference of each in an application", [_value_cells(v) for v in largest if v]))
        zones = [
            {name: row[name] for name in ("metric_id", "application", "old_zone", "new_zone")}
            for row in preview.zones
            if not row["segment"]
        ]
        tables.append(("Targets that would change zone", zones))
        alerts = [
            {name: row[name] for name in ("what", "metric_id", "application", "action")} for row in preview.alerts
        ]
        tables.append(("Alerts that would open or close", alerts))
    tables.append(("Marts that would change", [_mart_cells(m) for m in preview.marts]))
    tables.append(("Columns that would change, and who reads them", [_column_cells(c) for c in preview.columns]))
    tables.append(
        ("Who reads what would change", [{"readers": kind, "names": _words(n)} for kind, n in preview.readers.items()])
    )
    return {
        "version": preview.version,
        "previewed_at": f"{now:%Y-%m-%d %H:%M}",
        "headline": _headline(preview),
        "sections": [
            {"title": title, "rows": [{name: plain_text(value) for name, value in row.items()} for row in rows]}
            for title, rows in tables
            if rows
        ],
    }


def _headline(preview: Preview) -> str:
    beside = f"version {preview.version}, as of {preview.as_of[:16].replace('T', ' ')} UTC"
    if not preview.is_different:
        built = (
            f"{_counted(preview.changed, 'model')} compiled to other SQL now, with the same rows"
            if preview.changed
            else "no model is compiled to other SQL"
        )
        return f"nothing would change ({built}; {beside})"
    values = sum(m.counts["values"] for m in preview.metrics)
    metrics = f"{_counted(preview.metrics, 'metric')} ({values:,} value{'' if values == 1 else 's'})"
    differing = f"{metrics} and {_counted(preview.marts, 'mart')}" if preview.marts else metrics
    named = [f"{name} ({_words(causes)})" for name, causes in preview.changed.items()]
    if len(named) > SHOWN_CAUSES:
        others = sorted({cause for causes in list(preview.changed.values())[SHOWN_CAUSES:] for cause in causes})
        named[SHOWN_CAUSES:] = [f"and {len(named) - SHOWN_CAUSES:,} others ({_words(others)})"]
    causes = ", ".join(named)
    if preview.cannot_tell:
        changed = f"; compiled to other SQL now: {causes}" if causes else ""
        return f"{differing} differ from {beside}{changed}"
    return f"{differing} would change, because of {causes or 'models that are gone'} ({beside})"


def _sections(preview: Preview) -> list[tuple[str, list[Row]]]:
    sections: list[tuple[str, list[Row]]] = []
    shown = preview.metrics[:SHOWN_METRICS]
    more = f" (the first {len(shown)} of {len(preview.metrics)})" if len(shown) < len(preview.metrics) else ""
    if shown:
        sections.append((f"Metrics that would change{more}", [_metric_cells(m) for m in shown]))
        sections.append((f"The largest difference of each{more}", [_value_cells(m.largest[0]) for m in shown]))
        sections.append((f"The newest difference of each{more}", [_value_cells(m.newest[0]) for m in shown]))
    if preview.marts:
        sections.append(("Marts that would change", [_mart_cells(m) for m in preview.marts]))
    if preview.columns:
        sections.append(("Columns that would change, and who reads them", [_column_cells(c) for c in preview.columns]))
    if preview.zones:
        sections.append(("Targets that would change zone", preview.zones))
    if preview.alerts:
        sections.append(("Alerts that would open or close", preview.alerts))
    for behind in preview.behind:
        sections.append((f"Rows behind {_place(behind.value)}: {_behind_title(behind)}", behind.rows))
    return sections


def _behind_title(behind: RowsBehind) -> str:
    if behind.note:
        return f"none to show of the {behind.side}, {behind.note}"
    return f"{behind.count:,} {behind.id_name} differ in the {behind.side}"


def _metric_cells(metric: MetricDifference) -> Row:
    counts = metric.counts
    return {
        "metric": counts["metric_id"], "values": counts["values"], "complete": counts["complete"], "same value, other parts": counts["parts"],
        "appeared": counts["appeared"], "vanished": counts["vanished"], "from": _day(counts["first_period"]), "to": _day(counts["last_period"]),
        "grains": _words(counts["grains"]), "applications": _words(counts["applications"]),
        "segments": _words([s or "total" for s in counts["segments"]]),
    }  # fmt: skip


def _value_cells(value: ChangedValue) -> Row:
    return {
        "metric": value["metric_id"], "grain": value["grain"], "period": _day(value["period_start"]), "application": value["application"],
        "segment": f"{value['segment']}={value['segment_value']}" if value["segment"] else "total",
        "old": format_number(value["old_value"]), "new": format_number(value["new_value"]), "complete": value["is_complete"],
    }  # fmt: skip


def _mart_cells(mart: MartDifference) -> Row:
    columns = [f"{name} ({count:,})" for name, count in sorted(mart.columns.items(), key=lambda item: -item[1])]
    columns += [f"+{name}" for name in mart.columns_added] + [f"-{name}" for name in mart.columns_removed]
    columns += [f"{name}: {kinds}" for name, kinds in mart.types_changed.items()]
    return {
        "mart": mart.mart, "rows changed": mart.rows_changed, "added": mart.rows_added, "removed": mart.rows_removed,
        "columns": _words(columns) if not (mart.is_new or mart.is_removed) else "new" if mart.is_new else "removed",
    }  # fmt: skip


def _column_cells(column: ChangedColumn) -> Row:
    return {
        "mart": column.mart, "column": "(rows)" if column.column == ROWS else column.column, "rows": column.rows,
        "read by": "; ".join(f"{kind}: {_words(names)}" for kind, names in column.readers.items()) or "nobody that is known here",
    }  # fmt: skip


def _reader_lines(preview: Preview) -> list[str]:
    return [f"{kind}: {_words(names)}" for kind, names in preview.readers.items()]


def _place(value: ChangedValue) -> str:
    segment = f", {value['segment']}={value['segment_value']}" if value["segment"] else ""
    return f"{value['metric_id']}, {value['grain']} of {_day(value['period_start'])}, {value['application']}{segment}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment.hour else f"{moment:%Y-%m-%d}"


def _counted(things: Sized, noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _words(names: Sequence[str]) -> str:
    return ", ".join(names)
