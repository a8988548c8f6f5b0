"""Answers as JSON, CSV and Arrow. In CSV and Arrow each row says which version it is from, and what its metric is."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, get_args, get_type_hints

import pyarrow as pa

from northstar.base.escaping import csv_cell
from northstar.base.exact_json import dumps
from northstar.base.tables import plain_text
from northstar.use.answers import shapes
from northstar.use.answers.plain import plain
from northstar.use.answers.refusals import Refused
from northstar.use.answers.shapes import (
    Answer,
    ChangeList,
    Comparison,
    CustomerList,
    Definition,
    MarkList,
    MetricList,
    QueryRows,
    RestatementList,
    SingleValue,
    TargetList,
    ValueList,
)

Format = Literal["json", "csv", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}
# the type of a column of numbers in which there is none
NUMBERS = pa.decimal128(38, 12)
Table = tuple[list[str], list[list[object]]]


def render(answer: Answer, form: Format) -> bytes:
    """An answer in a format. Raises Refused for one that is no table, in a format of tables."""
    if form == "json":
        return dumps(plain(answer)).encode()
    names, rows = as_table(answer)
    if form == "csv":
        return to_csv(names, rows)
    return to_arrow(names, rows, [] if isinstance(answer, QueryRows) else _numbers_of(_shape_of(answer)))


def as_table(answer: Answer) -> Table:
    """Column names and rows, with what is true of the whole answer in the last columns."""
    provenance = answer.provenance
    whole: dict[str, object] = {"version": provenance.version, "as_of": provenance.as_of}
    parts: Sequence[object]
    match answer:
        case QueryRows():
            return answer.columns, answer.rows
        case MetricList():
            parts = answer.metrics
        case ValueList():
            parts, whole = answer.values, _of_metric(answer.definition, answer.grain) | whole
        case SingleValue():
            parts, whole = [answer.value], _of_metric(answer.definition, answer.grain) | whole
        case Comparison():
            parts, whole = [answer.older, answer.newer], _of_metric(answer.definition, answer.grain) | whole
        case RestatementList():
            parts = answer.restatements
        case ChangeList():
            parts = answer.versions
        case TargetList():
            parts = answer.targets
        case MarkList():
            parts = answer.marks
        case CustomerList():
            parts, whole = answer.customers, {"currency": answer.currency} | whole
        case _:
            raise Refused("bad_request", "this answer is no table: ask for it as json")
    return _rows_of(parts, whole, answer)


def _of_metric(definition: Definition, grain: str) -> dict[str, object]:
    return {
        "metric": definition.metric, "grain": grain, "unit": definition.unit, "currency": definition.currency, "definition": definition.definition,
    }  # fmt: skip


def _rows_of(parts: Sequence[object], whole: dict[str, object], answer: Answer) -> Table:
    names = [part.name for part in fields(_shape_of(answer))]
    # a version of its own is what a row of changes is about
    added = {name: value for name, value in whole.items() if name not in names}
    rows = [
        [", ".join(v) if isinstance(v := getattr(part, name), list) else v for name in names] + list(added.values())
        for part in parts
    ]
    return [*names, *added], rows


def _shape_of(answer: Answer) -> type:
    """The dataclass of an answer's rows, which there may be none of."""
    match answer:
        case MetricList():
            return shapes.Definition
        case RestatementList():
            return shapes.Restatement
        case ChangeList():
            return shapes.VersionChange
        case TargetList():
            return shapes.Target
        case MarkList():
            return shapes.Mark
        case CustomerList():
            return shapes.Customer
    return shapes.Value


def to_csv(names: list[str], rows: list[list[object]]) -> bytes:
    """A header line and the rows: nulls empty, times in UTC as spreadsheets read them, no cell that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([csv_cell(name) for name in names])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    return csv_cell(plain_text(value))


def to_arrow(names: list[str], rows: list[list[object]], numbers: Sequence[str] = ()) -> bytes:
    """A stream of one record batch; numbers are decimals with the digits that they have. numbers: columns that hold them, if any value is there."""
    columns = [
        _column([row[place] for row in rows], NUMBERS if name in numbers else None) for place, name in enumerate(names)
    ]
    schema = pa.schema([(name, column.type) for name, column in zip(names, columns, strict=True)])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue()


def _numbers_of(shape: type) -> list[str]:
    return [name for name, kind in get_type_hints(shape).items() if Decimal in (kind, *get_args(kind))]


def _column(values: list[object], type_without_values: pa.DataType | None) -> pa.Array:
    some = next((value for value in values if value is not None), None)
    try:
        match some:
            case None:
                return pa.array(values, type_without_values or pa.string())
            case datetime():
                return pa.array(values, pa.timestamp("us", "UTC" if some.tzinfo else None))
            case bool() | int() | float() | date() | Decimal():
                return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # numbers of more digits than a decimal has, NaN, values of several types
        pass
    return pa.array([None if value is None else plain_text(value) for value in values], pa.string())
