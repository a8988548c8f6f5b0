"""Targets: the share of the due monthly targets that were met."""

import math
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import TypedDict

from northstar.demo.books.ledger import Ledger, Scope
from northstar.demo.books.seeds import read_seed
from northstar.demo.books.times import DAY

# the windows of metrics: how many days after its end a period is complete
WINDOWS = {
    "signup_to_paid_conversion_rate": 30, "activation_rate": 7, "retention_d1": 1, "retention_d7": 7, "retention_d30": 30,
    "retention_d90": 90, "student_retention_30d": 30, "tutor_retention_30d": 30, "creator_onboarding_success_rate": 7,
    "creator_onboarding_step_rate": 7, "code_review_within_24h_rate": 1,
}  # fmt: skip


class Metric(TypedDict):
    """The columns of the metric catalogue that are read."""

    metric_id: str
    kind: str
    unit: str


class Target(TypedDict):
    """The columns of the targets that are read."""

    metric_id: str
    application: str
    segment: str | None
    segment_value: str | None
    grain: str
    operator: str
    target: str | None
    trend: str | None
    due: str | None
    currency: str | None


def reckon(ledger: Ledger) -> None:
    """The share of targets met, by the month of the value."""
    catalogue: dict[str, Metric] = {m["metric_id"]: m for m in read_seed("metric_catalogue")}
    first_days: dict[str, datetime] = {}
    for account in ledger.rows["accounts"]:
        born, name = account["created_at"], account["application"]
        first_days[name] = min(first_days.get(name, born), born)
    targets: list[Target] = read_seed("targets")
    for target in targets:
        name = target["application"]
        is_judged = target["currency"] in (None, ledger.rules.reporting_currency)
        if is_judged and target["grain"] == "month" and name in {key[2] for key in ledger.results}:
            _judge(ledger, target, catalogue[target["metric_id"]], _due(ledger, target["due"], first_days.get(name)))


def _judge(ledger: Ledger, target: Target, metric: Metric, due: datetime | None) -> None:
    """Judge a target by each complete month."""
    name, window = target["application"], timedelta(days=WINDOWS.get(metric["metric_id"], 0))
    history: list[Fraction] = []
    for start, end in ledger.months:
        value = _published(ledger, metric, (start, name, target["segment"] or "", target["segment_value"] or ""))
        if value is None or end + window > ledger.as_of:
            continue
        is_met = _is_met(target, value, history)
        history.append(value)
        if is_met is not None and due is not None and due < end:
            for scope in ((start, name, "", ""), (start, "all", "", "")):
                met_targets, judged_targets = ledger.results.get(
                    ("targets_met_rate", *scope), (Fraction(0), Fraction(0))
                )
                ledger.results["targets_met_rate", *scope] = (met_targets + is_met, (judged_targets or Fraction(0)) + 1)


def _published(ledger: Ledger, metric: Metric, scope: Scope) -> Fraction | None:
    """A metric's published value. Without an entry it is 0 for sums and counts whose series has begun (an implied zero), else None."""
    name = metric["metric_id"]
    line = ledger.results.get((name, *scope))
    if line is None:
        has_begun = any(key[0] == name and key[2:] == scope[1:] and key[1] <= scope[0] for key in ledger.results)
        return Fraction(0) if has_begun and metric["kind"] in ("sum", "count", "distinct", "snapshot") else None
    numerator, denominator = line
    if metric["kind"] in ("ratio", "mean"):
        if not denominator:
            return None
        is_percent = metric["unit"] == "percent" and metric["kind"] == "ratio"
        value = numerator / denominator * (100 if is_percent else 1)
    else:
        value = numerator
    return ledger.rounded(value) if metric["unit"] == "money" else value


def _due(ledger: Ledger, text: str | None, first_day: datetime | None) -> datetime | None:
    """The moment from which a target is due; None where there is none yet."""
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    unit, _, amount = text.partition(" ")
    if first_day is None or unit not in ("month", "week"):
        return None
    day = ledger.day_of(first_day)
    if unit == "week":
        return ledger.midnight(day + int(amount) * 7 * DAY)
    number = day.year * 12 + day.month - 1 + int(amount)
    last_day = monthrange(number // 12, number % 12 + 1)[1]
    return ledger.midnight(date(number // 12, number % 12 + 1, min(day.day, last_day)))


def _is_met(target: Target, value: Fraction, history: list[Fraction]) -> bool | None:
    """Whether a value meets its target. A trend is met while the value lies within mean +- 3 deviations of the 8 values before."""
    if target["target"] is not None:
        bound = Fraction(target["target"])
        return {">": value > bound, ">=": value >= bound, "<": value < bound, "<=": value <= bound}[target["operator"]]
    earlier_values = history[-8:]
    if len(earlier_values) < 8:
        return None
    middle = sum(earlier_values, Fraction(0)) / 8
    deviation = math.sqrt(sum((v - middle) ** 2 for v in earlier_values) / 7)
    return value >= middle - 3 * deviation if target["trend"] == "drop" else value <= middle + 3 * deviation
