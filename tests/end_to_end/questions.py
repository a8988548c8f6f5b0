"""Two hundred questions about the published marts, drawn from them in the same way each time, so that every kind of answer is among them."""

from dataclasses import dataclass
from datetime import datetime

from northstar.warehouse import db

COUNT = 200
DURATIONS = "('ms', 'seconds', 'minutes', 'hours', 'months')"
# what a value is asked for: {kind: a condition on CANDIDATES}
KINDS = {
    "withheld": "null_reason = 'small_group'",
    "not measured": "null_reason = 'source_missing'",
    "empty base": "null_reason = 'empty_base'",
    "nobody churned": "null_reason = 'nobody_churned'",
    "no earlier value": "null_reason = 'no_earlier_value'",
    "no lifetime value": "null_reason = 'no_ltv'",
    "open": "not is_complete and null_reason is null",
    "implied zero": "is_complete and is_implied",
    "money": "is_complete and value <> 0 and unit = 'money'",
    "duration": f"is_complete and value <> 0 and unit in {DURATIONS}",
    "percent": "is_complete and value <> 0 and unit = 'percent'",
    "ratio": "is_complete and value <> 0 and unit in ('ratio', 'times')",
    "count": "is_complete and value <> 0 and unit = 'count'",
    "score": "is_complete and value <> 0 and unit in ('score', 'points')",
    "of a segment": "is_complete and value <> 0 and segment <> ''",
    # what reports and MetricFlow have: totals of months, and the newest ones
    "newest": "is_complete and segment = '' and application = 'all' and is_newest",
    "month": "is_complete and segment = '' and application = 'all' and grain = 'month' and value <> 0",
}
# how many of each kind there are to be
LEAST = 6
AT_LEAST = {"newest": 20, "month": 24}
COMPARED, TARGETS, NO_ROWS = 12, 12, 6
CANDIDATES = """
with rows as materialized (
    select v.*, m.unit, v.period_start = p.newest as is_newest, v.value = 0 and not exists (
        select 1 from metric_series as s join metric_points as x using (series_id)
        where s.metric_id = v.metric_id and s.grain = v.grain and s.application = v.application and s.segment = v.segment
        and s.segment_value = v.segment_value and x.period_start = v.period_start
    ) as is_implied
    from metric_values as v join metrics as m using (metric_id)
    join (select grain, max(period_start) as newest from dim_periods where period_end <= %(as_of)s group by grain) as p using (grain)
    -- of hours, of which there are most, the last ones
    where v.grain <> 'hour' or v.period_start >= %(as_of)s::timestamptz - interval '1 day'
)
"""
OF_A_KIND = """(
    select %(kind)s as kind, metric_id, grain, period_start, application, segment, segment_value from (
        -- of each grain, of totals and of parts
        select *, row_number() over (partition by grain, segment = '', application = 'all' order by md5(row(
            metric_id, grain, period_start, application, segment, segment_value)::text)) as place
        from rows where {condition}
    ) as placed order by place, grain, application, segment, metric_id limit {count}
)"""


@dataclass(frozen=True)
class Question:
    """A value that is asked for. kind: why it was drawn."""

    kind: str
    metric: str
    grain: str
    period_start: datetime
    application: str = "all"
    segment: str = ""
    segment_value: str = ""

    @property
    def key(self) -> tuple:
        return (self.metric, self.grain, self.period_start, self.application, self.segment, self.segment_value)

    @property
    def series(self) -> tuple:
        return (self.metric, self.grain, self.application, self.segment)

    @property
    def period(self) -> str:
        """The period as the API and MCP are asked for it, beside the grain."""
        return f"{self.period_start:%Y-%m-%dT%H:%MZ}" if self.grain == "hour" else f"{self.period_start:%Y-%m-%d}"


@dataclass(frozen=True)
class Answer:
    """What a door says. value: a number, or a text of a door that formats it. is_complete: None where the door does not say it."""

    value: object
    null_reason: str | None
    is_complete: bool | None
    version: int


def draw_questions(settings, as_of: datetime) -> list[Question]:
    """Questions for one value: LEAST of each kind (AT_LEAST of some), and more of all kinds until there are COUNT with those that ask something else."""
    counts = {kind: AT_LEAST.get(kind, LEAST) for kind in KINDS}
    spread = (COUNT - COMPARED - TARGETS - NO_ROWS) // len(KINDS)
    parts = [
        OF_A_KIND.format(condition=condition, count=2 * max(counts[kind], spread)).replace("%(kind)s", f"'{kind}'")
        for kind, condition in KINDS.items()
    ]
    with db.connect(settings, "bi_reader") as connection:
        rows = connection.execute(f"{CANDIDATES} {' union all '.join(parts)}", {"as_of": as_of}).fetchall()
    drawn: dict[tuple, Question] = {}
    by_kind: dict[str, list[Question]] = {kind: [] for kind in KINDS}
    for row in rows:
        by_kind[row["kind"]].append(
            Question(**{"metric" if name == "metric_id" else name: value for name, value in row.items()})
        )
    # first what each kind has to have, then one of each in turn
    takes = [kind for kind in KINDS for _ in range(counts[kind])] + [kind for _ in range(COUNT) for kind in KINDS]
    for kind in takes:
        if len(drawn) == COUNT - COMPARED - TARGETS - NO_ROWS:
            break
        while by_kind[kind]:
            question = by_kind[kind].pop(0)
            if question.key not in drawn:
                drawn[question.key] = question
                break
    return list(drawn.values())
