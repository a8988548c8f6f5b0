"""Faults that are planted into the source rows of a simulated company: drops, spikes, sources that stop, and new prices.

Each changes the rows of one application for some days, as the trouble would, and says which metrics show it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from northstar.contract import entities
from northstar.demo.company import Company

# days between two faults of an application, and before a company's end: the faults do not overlap in what metrics remember
APART, FIRST_AFTER = 30, 75
ACTIVITY = (
    "dau",
    "dau_rate",
    "wau",
    "tool_invocations",
    "tool_error_rate",
    "session_duration",
    "auth_success_rate",
    "weekly_active_learners",
    "weekly_active_tutors",
)
PAYMENTS = ("payment_failure_rate", "payment_success_rate")
REQUESTS = (
    "api_response_time",
    "api_response_time_p50",
    "api_response_time_p95",
    "api_response_time_p99",
    "error_rate",
    "critical_error_rate",
    "auth_response_time",
    "booking_conversion_rate",
)
REVENUE = (
    "mrr",
    "expansion_mrr",
    "net_new_mrr",
    "arpu",
    "arr",
    "mrr_growth_rate",
    "net_revenue_retention",
    "ltv",
    "new_mrr",
)
DOWNLOADS = ("package_downloads",)
# {entity: the metrics in which its rows are seen}
SEEN_IN = {"events": ACTIVITY, "charges": PAYMENTS, "api_requests": REQUESTS, "package_downloads": DOWNLOADS}


@dataclass(frozen=True)
class Fault:
    """What was planted. segment: the segment and its value where the fault is in one, else ''. metrics: those that may show it."""

    kind: str
    application: str
    entity: str
    began_at: datetime
    ended_at: datetime
    metrics: tuple[str, ...]
    segment: str = ""
    segment_value: str = ""


def plant_faults(company: Company, seed: int) -> list[Fault]:
    """Plant a fault into each application every APART days or so, of kinds that take turns."""
    chance = random.Random(seed)
    kinds = list(KINDS)
    chance.shuffle(kinds)
    faults, turn = [], 0
    for application in company.applications:
        at = company.start + timedelta(days=FIRST_AFTER + chance.randrange(APART))
        while at < company.end - timedelta(days=14):
            for _ in kinds:
                fault = KINDS[kinds[turn % len(kinds)]](company, application, at, chance)
                turn += 1
                if fault is not None:
                    faults.append(fault)
                    break
            at += timedelta(days=APART + chance.randrange(7))
    return faults


def _within(company: Company, entity: str, application: str, begin: datetime, end: datetime) -> pd.Series:
    table = company.tables[entity]
    times = pd.to_datetime(table[entities()[entity].own_time], utc=True)
    return (table.application == application) & (times >= begin) & (times < end)


def _lose(company: Company, entity: str, lost: pd.Series) -> None:
    table = company.tables[entity]
    attributes = table.attrs
    company.tables[entity] = table[~lost].reset_index(drop=True)
    company.tables[entity].attrs = attributes


def drop_of_activity(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """Most events of one channel, or of all, are not made for four days."""
    end = at + timedelta(days=4)
    rows = _within(company, "events", application, at, end)
    if rows.sum() < 80:
        return None
    events = company.tables["events"]
    channel = events[rows].channel.mode().iat[0] if chance.random() < 0.5 else ""
    hit = rows & (events.channel == channel) if channel else rows
    # the people stay away, not each of their events
    people = pd.util.hash_array(events.account_id.fillna("").to_numpy(dtype=object)) % 100
    _lose(company, "events", hit & (people < 70))
    return Fault("drop", application, "events", at, end, ACTIVITY, "channel" if channel else "", channel)


def failing_payments(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """Two of three payments fail for five days."""
    end = at + timedelta(days=5)
    rows = _within(company, "charges", application, at, end)
    if rows.sum() < 15:
        return None
    charges = company.tables["charges"]
    hit = rows & (np.random.default_rng(chance.randrange(1 << 30)).random(len(charges)) < 0.67)
    charges["failure_code"] = charges["failure_code"].astype(object)
    charges.loc[hit, ["status", "failure_code"]] = ["failed", "processor_down"]
    return Fault("spike", application, "charges", at, end, PAYMENTS, "failure_code", "processor_down")


def slow_requests(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """Requests take three times as long for three days."""
    end = at + timedelta(days=3)
    rows = _within(company, "api_requests", application, at, end)
    if rows.sum() < 60:
        return None
    company.tables["api_requests"].loc[rows, "duration_ms"] *= 3
    return Fault("spike", application, "api_requests", at, end, REQUESTS)


def repeated_tools(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """Something calls one tool over and over for three days."""
    end = at + timedelta(days=3)
    events = company.tables["events"]
    rows = _within(company, "events", application, at, end) & (events.event_name == "tool.invoked")
    if rows.sum() < 20:
        return None
    copies = [events[rows].assign(event_id=events[rows].event_id + f"_again{n}") for n in range(4)]
    attributes = events.attrs
    company.tables["events"] = pd.concat([events, *copies], ignore_index=True)
    company.tables["events"].attrs = attributes
    return Fault("spike", application, "events", at, end, ACTIVITY)


def stopped_source(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """No row of an entity comes for three days."""
    end = at + timedelta(days=3)
    possible = [
        entity for entity, fewest in (("events", 60), ("api_requests", 60), ("charges", 15), ("package_downloads", 3))
        if _within(company, entity, application, at, end).sum() >= fewest
    ]  # fmt: skip
    if not possible:
        return None
    entity = chance.choice(possible)
    _lose(company, entity, _within(company, entity, application, at, end))
    return Fault("stop", application, entity, at, end, SEEN_IN[entity])


def new_price(company: Company, application: str, at: datetime, chance: random.Random) -> Fault | None:
    """Every subscription of the dearest plan that is sold enough costs a half more from a day on, for old customers too."""
    table = company.tables["subscriptions"]
    own = (table.application == application) & (table.status == "active")
    begun, ends = pd.to_datetime(table.valid_from, utc=True), pd.to_datetime(table.valid_to, utc=True)
    running = own & (begun < at) & (ends.isna() | (ends > at))
    tiers = table[running].plan_tier.value_counts()
    tiers = tiers[tiers >= 8]
    if tiers.empty:
        return None
    tier = max(tiers.index, key=lambda t: table[running & (table.plan_tier == t)].unit_amount.median())
    hit = running & (table.plan_tier == tier)
    moment = pd.Timestamp(at)
    later = table[hit].assign(valid_from=moment)
    later["updated_at"] = later["valid_to"].fillna(moment)
    later["unit_amount"] = (later.unit_amount * 1.5).round().astype(int)
    table.loc[hit, "valid_to"] = moment
    table.loc[hit, "updated_at"] = moment
    newer = (table.application == application) & (table.plan_tier == tier) & (begun >= at)
    table.loc[newer, "unit_amount"] = (table.loc[newer, "unit_amount"] * 1.5).round().astype(int)
    items = pd.concat([table, later], ignore_index=True)
    company.tables["subscriptions"] = items.sort_values(["subscription_item_id", "valid_from"], ignore_index=True)
    return Fault("price", application, "subscriptions", at, at + timedelta(days=1), REVENUE, "plan_tier", tier)


KINDS: dict[str, Callable[[Company, str, datetime, random.Random], Fault | None]] = {
    "drop": drop_of_activity,
    "payments": failing_payments,
    "stop": stopped_source,
    "price": new_price,
    "slow": slow_requests,
    "tools": repeated_tools,
}
