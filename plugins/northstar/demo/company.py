"""The simulator of the made-up company: people register, come back or not, pay, upgrade, leave, and ask for help."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd

from northstar.base.errors import NorthstarError
from northstar.demo import operations
from northstar.demo.books.incidents import incidents as list_incidents
from northstar.demo.books.truth import truth
from northstar.demo.incidents import Incident, plant
from northstar.demo.operations import TableRow
from northstar.demo.rare_cases import add_rare_cases
from northstar.demo.times import instants, moments_from, season
from northstar.demo.writing import write_entity

END = datetime(2026, 7, 1, tzinfo=UTC)
# how many incidents the demonstration company has on its first day
INCIDENTS = 4
COUNTRIES = np.array(["US", "DE", "GB", "FR", "JP", "BR", None], dtype=object)
COUNTRY_ODDS = [0.42, 0.16, 0.14, 0.1, 0.08, 0.07, 0.03]
CURRENCY_OF = {"US": "USD", "BR": "USD", "DE": "EUR", "FR": "EUR", "GB": "GBP", "JP": "JPY"}
SCALE = {"USD": 1.0, "EUR": 0.92, "GBP": 0.8, "JPY": 1.5}
CHANNELS = np.array(["organic", "paid_search", "paid_social", "referral", "partner", "direct", None], dtype=object)
CHANNEL_ODDS = [0.34, 0.18, 0.14, 0.12, 0.06, 0.12, 0.04]
ACCOUNT_TYPES = {
    "suite": (["customer"], [1.0]),
    "coaching": (["creator", "end_user"], [0.2, 0.8]),
    "web": (["customer", "user"], [0.6, 0.4]),
    "tutoring": (["student", "tutor"], [0.8, 0.2]),
    "wizard": (["user"], [1.0]),
}
PLANS = {"basic": 3900, "professional": 9900, "premium": 29900}
FEATURES = np.array(
    ["program_builder", "multi_channel_setup", "analytics_dashboard", "proactive_engine", "export", "search"]
)
TOOLS = np.array(["plan", "draft", "review", "deploy"])
ACTIVITY = (
    "user.login",
    "feature.used",
    "page.view",
    "tool.invoked",
    "search.performed",
    "message.sent",
    "booking.requested",
)
ACTIVITY_ODDS = [0.2, 0.3, 0.24, 0.1, 0.08, 0.05, 0.03]
# billing periods: interval, count, days, the price of a period in months' prices, share of subscriptions
BILLINGS = {
    "m": ("month", 1, 30, 1, 0.74), "y": ("year", 1, 365, 10, 0.14), "q": ("month", 3, 90, 2.8, 0.05),
    "w": ("week", 1, 7, 0.28, 0.04), "d": ("day", 1, 1, 0.05, 0.03),
}  # fmt: skip
# coupons: (percent or amount off a period, and for how many days; None: for ever)
COUPONS = [(None, None), ((20, None), 90), ((50, None), 30), ((100, None), 30), ((15, None), None), ((None, 1000), 60)]
COUPON_ODDS = [0.76, 0.08, 0.05, 0.02, 0.05, 0.04]
# a broken delivery, with a row for each way in which one can be broken
BROKEN_CHARGES = """charge_id,account_id,application,amount,currency,status,created_at,updated_at
bad_time,acc_0000001,web,900,USD,succeeded,yesterday,2025-01-01T00:00:00Z
bad_year,acc_0000001,web,900,USD,succeeded,0001-01-01T00:00:00Z,2025-01-01T00:00:00Z
bad_amount,acc_0000001,web,nine,USD,succeeded,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z
below_zero,acc_0000001,web,-900,USD,succeeded,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z
bad_status,acc_0000001,web,900,USD,maybe,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z
no_currency,acc_0000001,web,900,,succeeded,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z
,acc_0000001,web,900,USD,succeeded,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z
too_few_fields,acc_0000001
"""
REASONS = np.array(["too_expensive", "missing_features", "switched", "not_needed", None], dtype=object)


# a step of a subscription: since when, status, tier, discount (percent, amount), and why it ended
Step = tuple[pd.Timestamp, str, int, tuple[int | None, int | None] | None, str | None]


@dataclass
class Company:
    """What the generators share: the random stream of each area, the company's life span, its people."""

    seed: int
    start: datetime
    end: datetime
    applications: tuple[str, ...]
    monitored_days: int = 60
    # the people, which are made first
    people: pd.DataFrame = field(default_factory=pd.DataFrame)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    extra_events: list[pd.DataFrame] = field(default_factory=list)
    # what an alert should be open for at the end
    incidents: list[Incident] = field(default_factory=list)

    def random(self, area: str) -> np.random.Generator:
        """The random stream of an area. Each area has its own, so that a change in one does not change the others' rows."""
        return np.random.default_rng([self.seed, *area.encode()])


class CompanyOptions(TypedDict, total=False):
    """The arguments that a company is made from: see `generate_company`."""

    seed: int
    months: int
    accounts: int
    applications: tuple[str, ...]
    end: datetime
    monitored_days: int
    incidents: int
    rare_cases: bool


def generate_company(
    seed: int = 1,
    months: int = 12,
    accounts: int = 2000,
    applications: tuple[str, ...] = tuple(ACCOUNT_TYPES),
    end: datetime = END,
    monitored_days: int = 60,
    incidents: int = 0,
    rare_cases: bool = False,
) -> Company:
    """Simulate a company, with its source tables; none of their rows are flawed yet.

    accounts: people who register within `months` months before `end`, over all applications. monitored_days: how far back
    machines were watched. incidents: how many to plant in the last hours (northstar.demo.incidents). rare_cases: with one of each thing
    that happens seldom (northstar.demo.rare_cases). Raises NorthstarError for fewer than 10 accounts, no months, or an application that it does not know.
    """
    if accounts < 10 or months < 1:
        raise NorthstarError(f"a company needs 10 accounts and 1 month or more, not {accounts} and {months}")
    if unknown := sorted(set(applications) - set(ACCOUNT_TYPES)):
        raise NorthstarError(f"no application {unknown[0]!r}; there are {', '.join(ACCOUNT_TYPES)}")
    first_month = (end.year * 12 + end.month - 1) - months
    start = datetime(first_month // 12, first_month % 12 + 1, 1, tzinfo=UTC)
    company = Company(seed, start, end, applications, monitored_days)
    _people(company, accounts)
    for generate in (
        _rates, _subscriptions, _payments, _conversations, operations.creators, operations.experiments, _events, _support,
        _market, operations.marketplace, operations.surveys, operations.machines, operations.makers, operations.states,
        operations.changes,
    ):  # fmt: skip
        generate(company)
    if rare_cases:
        add_rare_cases(company)
    planted = plant(company, incidents)
    company.incidents = list_incidents(company.tables, planted, company.end)
    return company


def simulate(out: Path, with_truth: bool = False, **options: Unpack[CompanyOptions]) -> None:
    """Write a company's source files below `out`, one folder for each entity, with flaws, and `_simulation.json` beside them.

    with_truth: also `truth.parquet`, what its own books say of its metrics at `end` (northstar.demo.books). options: as for `generate_company`.
    """
    company, out = generate_company(**options), Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise NorthstarError(f"cannot write to {out}: {exc.strerror}; give another --out") from exc
    lines = truth(company.tables, company.end) if with_truth else None
    _flaws(company)
    for entity, table in company.tables.items():
        write_entity(out / entity, entity, table)
    (out / "charges").mkdir(exist_ok=True)
    (out / "charges" / "charges_broken.csv").write_text(BROKEN_CHARGES)
    summary = {"seed": company.seed, "start": company.start.isoformat(), "end": company.end.isoformat(),
               "flaws": company.tables["events"].attrs["flaws"],
               "incidents": [asdict(i) | {"began_at": i.began_at.isoformat()} for i in company.incidents],
               "rows": {entity: len(table) for entity, table in company.tables.items()}}  # fmt: skip
    if lines is not None:
        lines.to_parquet(out / "truth.parquet", index=False)
    # written last: it shows that everything is there
    (out / "_simulation.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


def _people(company: Company, count: int) -> None:
    random = company.random("people")
    span = (company.end - company.start).total_seconds()
    # registrations grow, so their density rises over the company's life; and they follow the seasons
    candidates = span * random.random(4 * count) ** 0.6
    registrations = candidates[random.random(4 * count) < season(instants(moments_from(company.start, candidates)))]
    registered = np.sort(registrations[:count])
    application = random.choice(np.array(company.applications), count)
    kinds = np.empty(count, dtype=object)
    for name in company.applications:
        members = application == name
        types, odds = ACCOUNT_TYPES.get(name, (["customer"], [1.0]))
        kinds[members] = random.choice(np.array(types, dtype=object), members.sum(), p=odds)
    people = pd.DataFrame({
        "account_id": [f"acc_{i:07d}" for i in range(count)],
        "account_type": kinds,
        "application": application,
        "email": [f"person{i}@example.com" for i in range(count)],
        "full_name": [f"Person {i}" for i in range(count)],
        "country": random.choice(COUNTRIES, count, p=COUNTRY_ODDS),
        "acquisition_channel": random.choice(CHANNELS, count, p=CHANNEL_ODDS),
        "created_at": moments_from(company.start, registered),
    })  # fmt: skip
    referrer = np.where(
        (people.acquisition_channel == "referral") & (people.index > 10),
        (random.random(count) * people.index).astype(int),
        -1,
    )
    people["referred_by_account_id"] = [people.account_id[i] if i >= 0 else None for i in referrer]
    people["telemetry_opt_in"] = random.random(count) < 0.35
    deleted = random.random(count) < 0.03
    options = random.exponential(120 * 86400, count)
    deleted_at = people.created_at + pd.to_timedelta(options.astype("int64"), unit="s")
    people["deleted_at"] = deleted_at.where(deleted & (deleted_at < company.end))
    people["updated_at"] = people.deleted_at.fillna(people.created_at)
    # how long somebody stays, and how often they come: what cohorts are made of
    people["stays_days"] = random.exponential(np.where(random.random(count) < 0.45, 220, 25))
    people["visits_per_week"] = random.gamma(2.0, 1.4, count)
    company.people = people
    company.tables["accounts"] = people.drop(columns=["stays_days", "visits_per_week"])


def _rates(company: Company) -> None:
    random = company.random("rates")
    days = pd.date_range(company.start - timedelta(days=7), company.end, freq="7D").date
    rows = []
    for currency, rate in (("EUR", 1.09), ("GBP", 1.27), ("JPY", 0.0066)):
        walk = rate * np.exp(np.cumsum(random.normal(0, 0.004, len(days))))
        rows += [
            {"rate_date": day, "currency": currency, "rate_to_reporting": f"{value:.6f}"}
            for day, value in zip(days, walk, strict=True)
        ]
    company.tables["fx_rates"] = pd.DataFrame(rows)


def _subscriptions(company: Company) -> None:
    random, people = company.random("subscriptions"), company.people
    rows: list[TableRow] = []
    end = pd.Timestamp(company.end)
    tiers, prices = list(PLANS), list(PLANS.values())
    billings, billing_odds = list(BILLINGS), [odds for *_, odds in BILLINGS.values()]
    for person in people[random.random(len(people)) < 0.3].itertuples():
        currency, tier = CURRENCY_OF.get(person.country, "USD"), int(random.choice(3, p=[0.6, 0.3, 0.1]))
        billing = billings[int(random.choice(len(billings), p=billing_odds))]
        interval, interval_count, _, factor, _ = BILLINGS[billing]
        coupon, lasts = COUPONS[int(random.choice(len(COUPONS), p=COUPON_ODDS))]
        seats = int(random.choice([1, 2, 3, 8], p=[0.86, 0.07, 0.05, 0.02]))
        begins = person.created_at + timedelta(seconds=int(random.exponential(9 * 86400)))
        steps: list[Step] = []
        if random.random() < 0.35:
            steps.append((begins, "trialing", tier, None, None))
            begins += timedelta(days=14)
        steps.append((begins, "active", tier, coupon, None))
        moment = begins
        if coupon and lasts:
            moment += timedelta(days=lasts)
            steps.append((moment, "active", tier, None, None))
        while True:
            # people who have stayed long stay longer
            tenure = (moment - begins).total_seconds() / 86400
            pace = (420 if interval == "year" else 100 + min(tenure, 200)) * 86400
            moment += timedelta(seconds=int(random.exponential(pace)) + 86400)
            if moment >= end:
                break
            what = random.choice(["up", "down", "cancel", "pause", "late"], p=[0.3, 0.1, 0.4, 0.08, 0.12])
            if what in ("up", "down"):
                tier = min(2, tier + 1) if what == "up" else max(0, tier - 1)
                steps.append((moment, "active", tier, None, None))
            elif what == "pause":
                steps += [
                    (moment, "paused", tier, None, None),
                    (moment + timedelta(days=30), "active", tier, None, None),
                ]
                moment += timedelta(days=30)
            elif what == "late":
                steps.append((moment, "past_due", tier, None, None))
                moment += timedelta(days=9)
                steps.append((moment, "active" if random.random() < 0.7 else "unpaid", tier, None, None))
            else:
                steps.append((moment, "canceled", tier, None, random.choice(REASONS)))
                if random.random() < 0.75:
                    break
                moment += timedelta(seconds=int(random.exponential(60 * 86400)) + 2 * 86400)
                steps.append((moment, "active", tier, None, None))
        steps = [s for s in steps if s[0] < end]
        addon = random.random()
        for number, (since, status, level, discount, reason) in enumerate(steps):
            until = steps[number + 1][0] if number + 1 < len(steps) else None
            price = prices[level] * SCALE[currency] * factor
            percent, amount = discount or (None, None)
            row = {
                "subscription_item_id": f"si_{person.account_id[4:]}", "subscription_id": f"sub_{person.account_id[4:]}",
                "account_id": person.account_id, "application": person.application, "plan_id": f"{tiers[level]}_{billing}",
                "plan_tier": tiers[level], "billing_interval": interval, "interval_count": interval_count, "quantity": seats,
                "unit_amount": max(1, round(price)), "currency": currency, "discount_percent": percent,
                "discount_amount": amount and round(amount * SCALE[currency]), "is_metered": False, "status": status,
                "cancel_reason": reason, "valid_from": since, "valid_to": until, "updated_at": until or since,
            }  # fmt: skip
            rows.append(row)
            if addon < 0.12:
                # usage is metered and no MRR; extra storage is a second item of the subscription
                kind = "usage" if addon < 0.05 else "storage"
                rows.append(row | {
                    "subscription_item_id": f"{row['subscription_item_id']}_{kind}", "plan_id": f"{kind}_{billing}", "plan_tier": kind,
                    "unit_amount": max(1, round(price / 6)), "quantity": 1, "discount_percent": None, "discount_amount": None,
                    "is_metered": kind == "usage",
                })  # fmt: skip
    if rows:
        company.tables["subscriptions"] = pd.DataFrame(rows)


def _payments(company: Company) -> None:
    if "subscriptions" not in company.tables:
        return
    random = company.random("payments")
    rows: list[TableRow] = []
    end, countries = (
        pd.Timestamp(company.end),
        dict(zip(company.people.account_id, company.people.country, strict=True)),
    )
    codes = np.array(["card_declined", "insufficient_funds", "expired_card"])
    for row in company.tables["subscriptions"].itertuples():
        percent = 0 if pd.isna(row.discount_percent) else int(row.discount_percent)
        off = 0 if pd.isna(row.discount_amount) else int(row.discount_amount)
        amount = max(0, row.quantity * row.unit_amount * (100 - percent) // 100 - off)
        if row.status != "active" or amount == 0:
            continue
        days = next(
            d
            for interval, count, d, *_ in BILLINGS.values()
            if (interval, count) == (row.billing_interval, row.interval_count)
        )
        due_at, stop = row.valid_from, min(row.valid_to if pd.notna(row.valid_to) else end, end)
        while due_at < stop:
            payment, when = f"pay_{len(rows):07d}", due_at
            for attempt in range(3):
                failed = random.random() < (0.06 if attempt == 0 else 0.45)
                rows.append({
                    "charge_id": f"ch_{len(rows):07d}", "payment_id": payment, "account_id": row.account_id,
                    "application": row.application, "subscription_id": row.subscription_id, "amount": amount,
                    "currency": row.currency, "status": "failed" if failed else "succeeded",
                    "failure_code": random.choice(codes) if failed else None, "country": countries[row.account_id],
                    "created_at": when, "updated_at": when,
                })  # fmt: skip
                when += timedelta(days=2)
                if not failed or when >= end:
                    break
            due_at += timedelta(days=days)
    if not rows:
        return
    charges = pd.DataFrame(rows)
    paid = charges[charges.status == "succeeded"]
    back = paid[random.random(len(paid)) < 0.025].copy()
    when = back.created_at + pd.to_timedelta(random.exponential(10 * 86400, len(back)).astype("int64"), unit="s")
    refunds = pd.DataFrame({
        "refund_id": [f"re_{i:06d}" for i in range(len(back))], "charge_id": back.charge_id.to_numpy(),
        "amount": np.where(random.random(len(back)) < 0.7, back.amount, back.amount // 2), "currency": back.currency.to_numpy(),
        "reason": random.choice(np.array(["requested_by_customer", "duplicate", "dispute"]), len(back)),
        "status": random.choice(np.array(["succeeded", "pending", "failed"], dtype=object), len(back), p=[0.88, 0.07, 0.05]),
        "created_at": when.to_numpy(), "updated_at": when.to_numpy(),
    })  # fmt: skip
    refunds[["created_at", "updated_at"]] = refunds[["created_at", "updated_at"]].apply(
        lambda c: pd.to_datetime(c, utc=True)
    )
    company.tables["charges"], company.tables["refunds"] = charges, refunds[refunds.created_at < end]


def _events(company: Company) -> None:
    random, people = company.random("events"), company.people
    end = pd.Timestamp(company.end)
    # sessions of each person: Poisson over the days they stay
    stays = np.minimum(people.stays_days, (end - people.created_at).dt.total_seconds() / 86400)
    sessions = random.poisson(np.maximum(stays, 0.1) / 7 * people.visits_per_week)
    owner = np.repeat(np.arange(len(people)), sessions)
    offset = random.random(len(owner)) * stays.to_numpy()[owner] * 86400
    begins = instants(people.created_at)[owner] + offset.astype("int64").astype("timedelta64[s]")
    begins = begins.astype("datetime64[us]")
    weekend = (pd.DatetimeIndex(begins).dayofweek >= 5) & (random.random(len(owner)) < 0.45)
    away = random.random(len(owner)) > season(begins)
    owner, begins = owner[~(weekend | away)], begins[~(weekend | away)]
    # a few visit another of the company's applications
    application = people.application.to_numpy()[owner]
    elsewhere = random.random(len(owner)) < 0.04
    application[elsewhere] = random.choice(np.array(company.applications, dtype=object), elsewhere.sum())
    channel = random.choice(
        np.array(["web", "web_widget", "mobile_app", "messaging"], dtype=object), len(owner), p=[0.5, 0.15, 0.28, 0.07]
    )
    size = 1 + random.poisson(4.0, len(owner))
    session_index = np.repeat(np.arange(len(owner)), size)
    gap = random.exponential(55, len(session_index))
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    running = np.cumsum(gap) - np.repeat(np.cumsum(gap)[first] if len(session_index) else [], size)
    when = begins[session_index] + (running * 1e6).astype("int64").astype("timedelta64[us]")
    name = random.choice(np.array(ACTIVITY, dtype=object), len(session_index), p=ACTIVITY_ODDS)
    failed = (name == "user.login") & (random.random(len(session_index)) < 0.06)
    name[failed] = "user.login_failed"
    person = owner[session_index]
    feature, tool = (
        FEATURES[random.integers(0, len(FEATURES), len(session_index))],
        TOOLS[random.integers(0, len(TOOLS), len(session_index))],
    )
    broken = random.random(len(session_index)) < 0.02
    properties = np.full(len(session_index), None, dtype=object)
    used, invoked = name == "feature.used", name == "tool.invoked"
    properties[used] = [json.dumps({"feature": f}) for f in feature[used]]
    properties[invoked] = [
        json.dumps({"tool": t, "status": "error" if b else "ok"})
        for t, b in zip(tool[invoked], broken[invoked], strict=True)
    ]
    visits = pd.DataFrame({
        "event_name": name, "occurred_at": pd.to_datetime(when, utc=True), "account_id": people.account_id.to_numpy()[person],
        "anonymous_id": None, "session_id": [f"s{i:08d}" for i in session_index], "application": application[session_index],
        "channel": channel[session_index], "country": people.country.to_numpy()[person], "properties": properties,
    })  # fmt: skip
    extra = pd.concat(company.extra_events, ignore_index=True).reindex(columns=visits.columns)
    extra["channel"] = "web"
    every = [visits, _journeys(company), extra.astype({c: object for c in ("anonymous_id", "session_id")})]
    company.tables["events"] = _finish_events(company, random, pd.concat(every, ignore_index=True))


def _journeys(company: Company) -> pd.DataFrame:
    """The way in: landings of everybody and of many who never register, sign-ups, and the stages of the funnels."""
    random, people = company.random("journeys"), company.people
    strangers = 2 * len(people)
    landed = people.created_at - pd.to_timedelta(
        random.exponential(3 * 86400, len(people)).astype("int64") + 60, unit="s"
    )
    anonymous = np.array([f"anon_{i:07d}" for i in range(len(people) + strangers)], dtype=object)
    own = anonymous[: len(people)]
    span = (company.end - company.start).total_seconds()
    parts = [
        ("page.landing", landed, None, own, people.index),
        ("user.signup", people.created_at, people.account_id, own, people.index),
    ]
    is_tutor = people.account_type == "tutor"
    is_in = {name: people.application == name for name in ("tutoring", "web")}
    ways = [
        (is_in["tutoring"], (("search.performed", 0.6), ("booking.requested", 0.5), ("booking.completed", 0.75), ("booking.requested", 0.5))),
        (is_in["web"], (("feature.used", 0.6), ("payment.completed", 0.35))),
        (is_tutor & is_in["tutoring"], (("tutor.application", 0.97), ("tutor.approved", 0.62), ("tutor.profile_completed", 0.78), ("tutor.availability_set", 0.74),
                                     ("tutor.booking_received", 0.55), ("tutor.session_completed", 0.88))),
    ]  # fmt: skip
    for members, stages in ways:
        members = people[members]
        when = members.created_at
        for event_name, odds in stages:
            members = members[random.random(len(members)) < odds]
            when = when.loc[members.index] + pd.to_timedelta(
                random.exponential(2 * 86400, len(members)).astype("int64"), unit="s"
            )
            parts.append(
                (event_name, when, members.account_id, np.full(len(members), None, dtype=object), members.index)
            )
    frames = [
        pd.DataFrame({"event_name": event_name, "occurred_at": pd.Series(when).to_numpy(),
                      "account_id": None if account is None else account.to_numpy(), "anonymous_id": anonymous_id,
                      "application": people.application.loc[index].to_numpy(), "country": people.country.loc[index].to_numpy()})
        for event_name, when, account, anonymous_id, index in parts
    ]  # fmt: skip
    frames.append(pd.DataFrame({
        "event_name": "page.landing", "occurred_at": moments_from(company.start, span * random.random(strangers) ** 0.6).to_numpy(),
        "account_id": None, "anonymous_id": anonymous[len(people) :],
        "application": random.choice(np.array(company.applications, dtype=object), strangers),
        "country": random.choice(COUNTRIES, strangers, p=COUNTRY_ODDS),
    }))  # fmt: skip
    journeys = pd.concat(frames, ignore_index=True)
    journeys["occurred_at"] = pd.to_datetime(journeys.occurred_at, utc=True)
    journeys["session_id"], journeys["channel"], journeys["properties"] = None, "web", None
    return journeys


def _finish_events(company: Company, random: np.random.Generator, events: pd.DataFrame) -> pd.DataFrame:
    inside = (events.occurred_at < pd.Timestamp(company.end)) & (events.occurred_at >= pd.Timestamp(company.start))
    events = events[inside].sort_values(["occurred_at", "account_id", "event_name"], kind="stable", ignore_index=True)
    events["occurred_at"] = events.occurred_at.dt.floor("ms").dt.as_unit("us")
    late = np.where(
        random.random(len(events)) < 0.01, random.exponential(2 * 86400, len(events)), random.random(len(events)) * 5
    )
    events["received_at"] = events.occurred_at + pd.to_timedelta((late * 1000).astype("int64"), unit="ms")
    events.insert(0, "event_id", [f"ev_{i:09d}" for i in range(len(events))])
    events["ip_address"] = "203.0.113.7"
    events["consent"] = np.where(random.random(len(events)) < 0.995, True, False)
    return events


def _conversations(company: Company) -> None:
    random, people = company.random("conversations"), company.people
    count = len(people) * 2
    owner = random.integers(0, len(people), count)
    span = (pd.Timestamp(company.end) - people.created_at).dt.total_seconds().to_numpy()[owner]
    started = instants(people.created_at)[owner] + (random.random(count) * span).astype("int64").astype(
        "timedelta64[s]"
    )
    started = pd.Series(pd.to_datetime(started, utc=True))
    end_times = started + pd.to_timedelta(random.exponential(900, count).astype("int64"), unit="s")
    size = 1 + random.poisson(6, count)
    channel = random.choice(np.array(["web", "mobile_app", "messaging"], dtype=object), count)
    application = people.application.to_numpy()[owner]
    company.tables["conversations"] = pd.DataFrame({
        "conversation_id": [f"co_{i:07d}" for i in range(count)], "account_id": people.account_id.to_numpy()[owner],
        "application": application, "channel": channel, "started_at": started, "ended_at": end_times,
        "ended_naturally": random.random(count) < 0.82, "updated_at": end_times,
    })  # fmt: skip
    conversation_index = np.repeat(np.arange(count), size)
    sent = instants(started)[conversation_index] + (random.random(len(conversation_index)) * 900).astype(
        "int64"
    ).astype("timedelta64[s]")
    company.tables["messages"] = pd.DataFrame({
        "message_id": [f"me_{i:08d}" for i in range(len(conversation_index))], "conversation_id": [f"co_{i:07d}" for i in conversation_index],
        "sender_type": random.choice(np.array(["user", "assistant"], dtype=object), len(conversation_index)), "application": application[conversation_index],
        "channel": channel[conversation_index], "sent_at": pd.to_datetime(sent, utc=True),
    })  # fmt: skip


def _support(company: Company) -> None:
    random, people = company.random("support"), company.people
    end = pd.Timestamp(company.end)
    tickets: list[TableRow] = []
    happened: list[TableRow] = []
    # when something is broken for everybody, many ask within hours
    span = (company.end - company.start).total_seconds()
    storms = moments_from(company.start, np.sort(span * random.random(1 + int(span / 86400 / 60))))
    # a storm of the last two days would be an incident that nobody planted
    storms = storms[storms < pd.Timestamp(company.end) - timedelta(days=2)]
    if len(storms) == 0:
        storms = moments_from(company.start, np.zeros(1))
    for person in people[random.random(len(people)) < 0.5].itertuples():
        created = person.created_at + timedelta(
            seconds=int(random.random() * (end - person.created_at).total_seconds())
        )
        category = str(random.choice(["billing", "bug", "how_to", "account"]))
        storm = storms[int(random.integers(len(storms)))]
        if random.random() < 0.2 and storm > person.created_at:
            created, category = (
                min(storm + timedelta(seconds=int(random.exponential(3 * 3600))), end - timedelta(seconds=1)),
                "bug",
            )
        ticket, priority = (
            f"ti_{len(tickets):06d}",
            str(random.choice(["low", "normal", "high", "urgent"], p=[0.2, 0.55, 0.2, 0.05])),
        )
        speed = {"low": 3.0, "normal": 1.5, "high": 0.7, "urgent": 0.3}[priority]
        spam = random.random()
        story, moment, status = [("created", "customer", created)], created, "open"
        if spam < 0.04:
            status = "spam" if spam < 0.02 else "merged"
        else:
            for _ in range(1 + random.poisson(0.8)):
                moment += timedelta(seconds=int(random.exponential(speed * 5400)) + 60)
                story.append(("public_reply", "agent" if random.random() < 0.9 else "bot", moment))
            if priority == "urgent" and random.random() < 0.5:
                story.append(("escalated", "agent", created + timedelta(seconds=int(random.exponential(2400)) + 60)))
            if random.random() < 0.93:
                moment += timedelta(seconds=int(random.exponential(speed * 36000)) + 60)
                story.append(("solved", "agent", moment))
                status = "solved"
                if random.random() < 0.08:
                    moment += timedelta(seconds=int(random.exponential(86400)) + 60)
                    # every other ticket's help desk logs states, and no reopenings
                    story.append(("opened" if len(tickets) % 2 else "reopened", "customer", moment))
                    moment += timedelta(seconds=int(random.exponential(speed * 36000)) + 60)
                    story.append(("solved", "agent", moment))
        story = [s for s in story if s[2] < end]
        if status == "solved":
            ends = [s for s in story if s[0] in ("solved", "reopened", "opened")]
            status = "solved" if ends and max(ends, key=lambda s: s[2])[0] == "solved" else "open"
        tickets.append({
            "ticket_id": ticket, "account_id": person.account_id, "application": person.application,
            "channel": str(random.choice(["email", "chat", "web"])), "category": category,
            "priority": priority, "status": status, "merged_into_ticket_id": None, "requester_email": person.email,
            "subject": "Help", "created_at": created, "updated_at": max(s[2] for s in story),
        })  # fmt: skip
        if story[-1][0] == "opened":
            # nothing but the ticket's own state says that it is open again
            story.pop()
        happened += [
            {"ticket_id": ticket, "event_type": kind, "actor_type": actor, "occurred_at": at}
            for kind, actor, at in story
        ]
    visits = len(people) * 2
    company.tables["help_center_visits"] = pd.DataFrame({
        "visit_id": [f"hv_{i:06d}" for i in range(visits)],
        "application": random.choice(np.array(company.applications, dtype=object), visits),
        "occurred_at": moments_from(company.start, span * random.random(visits) ** 0.6), "led_to_ticket": random.random(visits) < 0.2,
    })  # fmt: skip
    if not tickets:
        return
    company.tables["tickets"] = pd.DataFrame(tickets)
    events = pd.DataFrame(happened)
    events.insert(0, "ticket_event_id", [f"te_{i:07d}" for i in range(len(events))])
    company.tables["ticket_events"] = events
    solved = events[events.event_type == "solved"].drop_duplicates("ticket_id")
    asked = solved[random.random(len(solved)) < 0.6]
    applications = dict(zip(company.tables["tickets"].ticket_id, company.tables["tickets"].application, strict=True))
    answered = random.random(len(asked)) < 0.4
    responded = asked.occurred_at + pd.to_timedelta(random.exponential(40000, len(asked)).astype("int64"), unit="s")
    company.tables["survey_responses"] = pd.DataFrame({
        "response_id": [f"sr_{i:06d}" for i in range(len(asked))], "survey": "support_csat", "ticket_id": asked.ticket_id.to_numpy(),
        "application": [applications[t] for t in asked.ticket_id],
        "score": np.where(answered, random.choice([1, 2, 3, 4, 5], len(asked), p=[0.03, 0.04, 0.1, 0.3, 0.53]), np.nan),
        "sent_at": asked.occurred_at.to_numpy(), "responded_at": responded.where(answered).to_numpy(),
        "updated_at": responded.where(answered, asked.occurred_at).to_numpy(),
    })  # fmt: skip
    table = company.tables["survey_responses"]
    table[["sent_at", "responded_at", "updated_at"]] = table[["sent_at", "responded_at", "updated_at"]].apply(
        lambda c: pd.to_datetime(c, utc=True)
    )


def _market(company: Company) -> None:
    random = company.random("market")
    days = pd.date_range(company.start, company.end, freq="D", inclusive="left").date
    spend = [{"spend_date": day, "application": application, "channel": channel, "campaign": f"{channel}_always_on",
              "amount": int(random.integers(1000, 9000)), "currency": "USD"}
             for application in company.applications for channel in ("paid_search", "paid_social") for day in days]  # fmt: skip
    company.tables["marketing_spend"] = pd.DataFrame(spend)
    quarters = pd.date_range(company.start, company.end, freq="QS", inclusive="left").date
    company.tables["market_size"] = pd.DataFrame(
        [{"as_of": day, "application": application, "country": country, "addressable_accounts": int(random.integers(4000, 20000))}
         for day in quarters for application in company.applications for country in ("US", "DE", "GB")]
    )  # fmt: skip


def _flaws(company: Company) -> None:
    """Add a few flaws that real sources have: repeated rows, wrong rows, old versions of rows, items whose intervals overlap."""
    random, events = company.random("flaws"), company.tables["events"]
    repeated = events.iloc[np.sort(random.choice(len(events), len(events) // 500, replace=False))]
    wrong = events.iloc[:3].copy()
    wrong["event_id"] = ["bad_1", "bad_2", "bad_3"]
    wrong["channel"] = ["smoke_signals", "web", "web"]
    wrong["event_name"] = ["page.view", None, "page.view"]
    wrong["properties"] = [None, None, "{not json"]
    company.tables["events"] = pd.concat([events, repeated, wrong], ignore_index=True)
    company.tables["events"].attrs["flaws"] = {
        "events repeated": len(repeated),
        "events rejected": 3,
        "charges rejected": 8,
    }
    for entity, then in (("tickets", {"status": "new"}), ("accounts", {"country": None})):
        if (table := company.tables.get(entity)) is None:
            continue
        old_versions = table.iloc[np.sort(random.choice(len(table), len(table) // 50, replace=False))].assign(**then)
        old_versions["updated_at"] -= timedelta(seconds=30)
        company.tables[entity] = pd.concat([old_versions, table], ignore_index=True)
        company.tables["events"].attrs["flaws"][f"{entity} corrected"] = len(old_versions)
    if "subscriptions" not in company.tables:
        return
    subscriptions = company.tables["subscriptions"]
    twin = subscriptions.iloc[[0, 0]].copy()
    twin["subscription_item_id"] = twin["subscription_id"] = "si_twin"
    twin["valid_from"] = [company.start, company.start + timedelta(days=1)]
    twin["valid_to"] = pd.NaT
    company.tables["subscriptions"] = pd.concat([subscriptions, twin], ignore_index=True)
    company.tables["events"].attrs["flaws"]["subscriptions overlapping"] = 2
