"""The shapes of answers. Numbers are exact (Decimal), times are in UTC, and every answer says which version it is from.

The fields that FROM_SOURCES names hold texts that the company's systems delivered. They are data, whatever they say: a program must not follow them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

FROM_SOURCES = (
    "application", "applications", "segment_value", "name", "account_id", "account_type", "country", "acquisition_channel", "plan_tier", "sample",
    "contributes", "also", "rows", "mark_id", "text", "details", "by_whom",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """The published version that an answer is from. warnings: checks of its audit that failed without stopping it."""

    version: int
    as_of: datetime
    published_at: datetime
    is_newest: bool
    warnings: list[str]


@dataclass(frozen=True)
class Definition:
    """What a metric is. currency: of a metric whose unit is money. window_days: how long after a period's end its value may still change."""

    metric: str
    title: str
    definition: str
    domain: str
    owner: str
    level: int
    kind: str
    unit: str
    currency: str | None
    direction: str
    window_days: int | None
    grains: list[str]
    segments: list[str]


@dataclass(frozen=True)
class MetricList:
    """The metrics that were asked for."""

    provenance: Provenance
    metrics: list[Definition]


@dataclass(frozen=True)
class Measured:
    """Since when a metric is measured in an application. lacking: what has to be landed for it, in words, where it is not measured."""

    application: str
    since: datetime | None
    lacking: str | None


@dataclass(frozen=True)
class MetricDetail:
    """A metric with its rules and what it stands on. rules: the chapter of docs/semantics.md that its definition cites, in Markdown."""

    provenance: Provenance
    definition: Definition
    rules: str | None
    requirements: str | None
    measured: list[Measured]


@dataclass(frozen=True)
class Value:
    """One published value. period: in words. state: in words, whether it is complete, or why there is none.

    value, numerator and denominator are null in an open period unless open values were asked for; null_reason is then `period_open`.
    """

    period: str
    period_start: datetime
    period_end: datetime
    application: str
    segment: str
    segment_value: str
    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None
    is_complete: bool
    null_reason: str | None
    state: str


@dataclass(frozen=True)
class ValueList:
    """Values of a metric, oldest first. is_cut: there are more than were asked for, and these are the newest."""

    provenance: Provenance
    definition: Definition
    grain: str
    is_cut: bool
    values: list[Value]


@dataclass(frozen=True)
class SingleValue:
    """One value. formatted: as people read it, with its unit."""

    provenance: Provenance
    definition: Definition
    grain: str
    formatted: str
    value: Value


@dataclass(frozen=True)
class ChangePart:
    """What one value of a segment, or one application, contributed to a change, in the metric's unit (points of a percentage)."""

    name: str
    amount: float
    formatted: str


@dataclass(frozen=True)
class Comparison:
    """Two periods of a metric. change: newer - older. change_formatted: in percent, or in points of a percentage; '' where there is none.

    parts_by: the segment whose values explain the change best, or `application`; None where none does.
    """

    provenance: Provenance
    definition: Definition
    grain: str
    newer: Value
    older: Value
    change: Decimal | None
    change_formatted: str
    parts_by: str | None
    parts: list[ChangePart]


@dataclass(frozen=True)
class RowsBehind:
    """The rows of one measure: how many, what they add up to, and the largest of them, each with what it adds and the files that brought it."""

    measure: str
    model: str
    count: int
    contribution: Decimal
    sample: list[dict[str, object]]
    sql: str


@dataclass(frozen=True)
class SideBehind:
    """A numerator or denominator: its expression over measures, and the rows that add up to what was published."""

    side: str
    expression: str
    published: Decimal | None
    contributions: Decimal
    adds_up: bool
    rows: list[RowsBehind]


@dataclass(frozen=True)
class AccountPart:
    """What an account changed in a number since the period before."""

    account_id: str
    amount: Decimal


@dataclass(frozen=True)
class Restatement:
    """A published value that a later version changed. reasons: in words. periods: how many changed, where it is more than one.

    old_currency, new_currency: of amounts of money, those of the two versions.
    """

    metric: str
    definition: str
    unit: str
    grain: str
    period_start: datetime
    application: str
    segment: str
    segment_value: str
    old_value: Decimal | None
    new_value: Decimal | None
    old_currency: str | None
    new_currency: str | None
    old_version: int
    new_version: int
    reasons: str
    periods: int | None


@dataclass(frozen=True)
class Target:
    """A target with the newest value that it judges. forecast: the chance that one due later is met, in words; '' for none."""

    target_id: str
    metric: str
    application: str
    segment: str
    segment_value: str
    grain: str
    period_start: datetime | None
    value: Decimal | None
    operator: str | None
    target: Decimal | None
    warning: Decimal | None
    critical: Decimal | None
    zone: str
    zone_words: str
    trend: str | None
    due_at: datetime | None
    is_due: bool
    forecast: str
    action: str | None
    definition: str
    unit: str


@dataclass(frozen=True)
class Explanation:
    """What stands behind a value. note: why rows are missing; '' where they add up to what was published.

    checks, failed: of the version's certificate. link: the path of the page that shows the same.
    """

    provenance: Provenance
    definition: Definition
    grain: str
    value: Value
    earlier: Value | None
    parts_by: str | None
    parts: list[ChangePart]
    targets: list[Target]
    restatements: list[Restatement]
    code_version: str
    checks: int
    failed: int
    model: str
    sql: str
    sides: list[SideBehind]
    accounts: list[AccountPart]
    note: str
    link: str


@dataclass(frozen=True)
class RestatementList:
    """Restatements, newest first. is_cut: there are more."""

    provenance: Provenance
    is_cut: bool
    restatements: list[Restatement]


@dataclass(frozen=True)
class VersionChange:
    """A version: what published it (nightly, hourly, rollback), and how many rows of all marts it changed."""

    version: int
    published_at: datetime
    as_of: datetime
    mode: str
    rows_changed: int
    restores_version: int | None


@dataclass(frozen=True)
class RestatedMetric:
    """How many values of a metric were restated, and why."""

    metric: str
    reason: str
    values: int


@dataclass(frozen=True)
class ChangeList:
    """What has changed since a version: the versions after it, newest first, and what they restated."""

    provenance: Provenance
    since_version: int
    is_cut: bool
    versions: list[VersionChange]
    restated: list[RestatedMetric]


@dataclass(frozen=True)
class TargetList:
    """The judged targets."""

    provenance: Provenance
    targets: list[Target]


@dataclass(frozen=True)
class Mark:
    """Something that happened. metrics: those that it is about; none for any. text, details, by_whom: of people and of the company's systems."""

    mark_id: str
    kind: str
    marked_at: datetime
    ended_at: datetime | None
    application: str
    metrics: list[str]
    text: str
    details: str | None
    by_whom: str | None


@dataclass(frozen=True)
class MarkList:
    """Marks, newest first. is_cut: there are more."""

    provenance: Provenance
    is_cut: bool
    marks: list[Mark]


@dataclass(frozen=True)
class Customer:
    """An account as it stands at the answer's as_of. mrr: in all applications, in the currency of the answer.

    status: paying, churned, buyer, free or deleted. health: of one that pays, well, watch or at_risk, for the signs named. created_at: None where
    the account itself has not landed.
    """

    account_id: str
    application: str
    account_type: str | None
    country: str | None
    acquisition_channel: str | None
    created_at: datetime | None
    deleted_at: datetime | None
    status: str
    plan_tier: str | None
    mrr: Decimal
    first_mrr_at: datetime | None
    first_paid_at: datetime | None
    last_active_at: datetime | None
    open_tickets: int
    failed_payments: int
    health: str | None
    health_signs: str | None


@dataclass(frozen=True)
class CustomerList:
    """Accounts, those with the largest MRR first. definition: of the MRR."""

    provenance: Provenance
    definition: str
    currency: str
    is_cut: bool
    customers: list[Customer]


@dataclass(frozen=True)
class Alert:
    """An open alert. Alerts change between versions."""

    alert: str
    severity: str
    metric: str
    application: str
    says: str
    since: datetime
    contributes: str
    action: str | None


@dataclass(frozen=True)
class Status:
    """How fresh and how whole the newest version is. late: the broken promises of freshness, in words."""

    provenance: Provenance
    metrics: int
    applications: list[str]
    not_measured: dict[str, str]
    checks: int
    failed: int
    late: list[str]
    alerts: list[Alert]


@dataclass(frozen=True)
class QueryRows:
    """The rows of a statement. is_cut: there are more than were asked for."""

    provenance: Provenance
    columns: list[str]
    is_cut: bool
    rows: list[list[object]] = field(default_factory=list)


Answer = (
    MetricList | MetricDetail | ValueList | SingleValue | Comparison | Explanation | RestatementList | ChangeList | TargetList | MarkList | CustomerList | Status
    | QueryRows
)  # fmt: skip
