"""What stands behind one value: its change, its targets, its restatements, and the rows that add up to it."""

from northstar.use.answers.changes import as_restatement
from northstar.use.answers.metrics import define
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.shapes import AccountPart, Explanation, RowsBehind, SideBehind, Value
from northstar.use.answers.targets import as_target
from northstar.use.answers.values import explain_change, find_single, find_value, make_value
from northstar.use.explain.explanation import Side
from northstar.use.why.background import Place, find_background
from northstar.use.why.rows import Behind, find_behind
from northstar.warehouse.rows import Row

NEWEST_ONLY = "rows are shown of the newest version only; `northstar verify` rebuilds an earlier one from the rows that had landed then"


def explain(
    reading: Reading,
    metric: str,
    period: str = "newest",
    grain: str = "",
    application: str = "all",
    segment: str = "",
    segment_value: str | None = None,
    with_rows: bool = False,
) -> Explanation:
    """What stands behind a value, complete or open. with_rows: with the largest rows of each measure, which needs the scope `rows`.

    Raises Refused where there is no such value, or it is withheld or was not measured.
    """
    reading.require("metrics")
    if with_rows:
        reading.require("rows")
    series, chosen = find_single(reading, metric, period, grain, application, segment, segment_value)
    value = find_value(reading, series, chosen, with_open=True)
    place = Place(
        series.entry["metric_id"], series.grain, value.period_start, series.application, series.segment, series.segment_value or ""
    )  # fmt: skip
    background = find_background(reading, place)
    earlier: Value | None = None
    if background.earlier:
        row: Row = {**background.earlier, "application": place.application, "segment": place.segment, "segment_value": place.segment_value}  # fmt: skip
        earlier = make_value(reading, series, row, with_open=True)
    behind = Behind()
    if with_rows:
        behind = find_behind(reading, background) if reading.is_newest else Behind(note=NEWEST_ONLY)
        if reading.is_newest and "withheld" in behind.note:
            raise Refused("withheld", behind.note)
    parts_by, parts = explain_change(reading, series, value, earlier) if earlier else (None, [])
    certificate = background.certificate
    return Explanation(
        reading.provenance, define(reading, series.entry), series.grain, value, earlier, parts_by, parts,
        [as_target({**row, "definition": series.entry["definition"], "unit": series.entry["unit"]}, None) for row in background.targets],
        [as_restatement(row, series.entry) for row in background.restatements], certificate["code_version"], certificate["checks"], certificate["failed"],
        behind.model, behind.sql, [_side(name, side) for name, side in (("numerator", behind.numerator), ("denominator", behind.denominator)) if side],
        [AccountPart(name, amount) for name, amount in behind.accounts], behind.note, place.path,
    )  # fmt: skip


def _side(name: str, side: Side) -> SideBehind:
    return SideBehind(
        name, side.expression, side.published, side.contributions, side.adds_up,
        [RowsBehind(r.measure, r.model, r.count, r.contribution, [dict(row) for row in r.sample], r.sql) for r in side.rows],
    )  # fmt: skip
