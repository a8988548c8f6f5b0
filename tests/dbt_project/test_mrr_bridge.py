"""The bridge of MRR, from a period's opening to its closing: it closes in every segment, worked by hand and reckoned day by day."""

import random
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from northstar.runs import job
from tests.support import WORKERS, empty, run, select, silent, utc, write_rows

STEPS = (
    "opening", "new", "expansion", "reactivation", "contraction", "churned", "fx", "transferred_in", "transferred_out", "closing",
)  # fmt: skip
EARLIER, AS_OF, LATER = utc("2025-04-30T23:00:00"), utc("2025-05-01T00:00:00"), utc("2025-05-01T01:00:00")


def item(name, account, tier, amount, since, until=None, application="shop", currency="USD", updated=None, plan=None):
    """A row of subscriptions: `amount` a month in major units, from one midnight to another."""
    return {
        "subscription_item_id": name, "subscription_id": name, "account_id": account, "application": application, "plan_id": plan or tier,
        "plan_tier": tier, "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 100 * amount, "currency": currency,
        "status": "active", "valid_from": f"{since}T00:00:00Z", "valid_to": until and f"{until}T00:00:00Z", "updated_at": updated or f"{since}T00:00:00Z",
    }  # fmt: skip


LEDGER = [
    # an upgrade: 30 leave basic, pro gets them and 70 more
    item("i1", "upgrades", "basic", 30, "2025-01-10", "2025-03-05"),
    item("i1", "upgrades", "pro", 100, "2025-03-05"),
    # a downgrade: 100 leave pro, basic gets them and loses 70
    item("i2", "downgrades", "pro", 100, "2025-01-15", "2025-03-20"),
    item("i2", "downgrades", "basic", 30, "2025-03-20"),
    # another plan of the same tier: 15 more, and nothing leaves
    item("i3", "stays", "basic", 30, "2025-01-20", "2025-03-12"),
    item("i3", "stays", "basic", 45, "2025-03-12", plan="basic_with_phone"),
    # gone from basic, and a month later back in pro: both are movements
    item("i4", "returns", "basic", 30, "2025-01-05", "2025-02-10"),
    item("i4", "returns", "pro", 100, "2025-03-15"),
    # two items: the account is in pro, with all it pays, while the larger one is there
    item("i5", "has two", "basic", 30, "2025-02-01"),
    item("i6", "has two", "pro", 100, "2025-03-08", "2025-04-10"),
    # the first of them pays for another application too, whose tiers are its own; the rate changes on the day of the upgrade
    item("i7", "upgrades", "basic", 100, "2025-02-03", "2025-03-01", "school", "EUR"),
    item("i7", "upgrades", "pro", 200, "2025-03-01", None, "school", "EUR"),
]
RATES = [
    {"rate_date": day, "currency": "EUR", "rate_to_reporting": rate}
    for day, rate in (("2025-01-01", "1.10"), ("2025-03-01", "1.20"))
]
# by month, application and tier; what is 0 is left out
BY_HAND = {
    ("2025-01", "shop", "basic"): {"new": 90, "closing": 90},
    ("2025-01", "shop", "pro"): {"new": 100, "closing": 100},
    ("2025-02", "shop", "basic"): {"opening": 90, "new": 30, "churned": -30, "closing": 90},
    ("2025-02", "shop", "pro"): {"opening": 100, "closing": 100},
    ("2025-02", "school", "basic"): {"new": 110, "closing": 110},
    ("2025-03", "shop", "basic"): {
        "opening": 90, "expansion": 15, "contraction": -70, "transferred_in": 100, "transferred_out": -60, "closing": 75,
    },
    ("2025-03", "shop", "pro"): {
        "opening": 100, "expansion": 170, "reactivation": 100, "transferred_in": 60, "transferred_out": -100, "closing": 330,
    },
    ("2025-03", "school", "basic"): {"opening": 110, "fx": 10, "transferred_out": -120},
    ("2025-03", "school", "pro"): {"expansion": 120, "transferred_in": 120, "closing": 240},
    ("2025-04", "shop", "basic"): {"opening": 75, "contraction": -100, "transferred_in": 130, "closing": 105},
    ("2025-04", "shop", "pro"): {"opening": 330, "transferred_out": -130, "closing": 200},
    ("2025-04", "school", "pro"): {"opening": 240, "closing": 240},
}  # fmt: skip
# the upgrade was in February already
LATE = [
    item("i1", "upgrades", "basic", 30, "2025-01-10", "2025-02-20", updated="2025-04-30T00:00:00Z"),
    item("i1", "upgrades", "pro", 100, "2025-02-20", "2025-03-05", updated="2025-04-30T00:00:00Z"),
]
BY_HAND_LATER = BY_HAND | {
    ("2025-02", "shop", "basic"): {
        "opening": 90, "new": 30, "churned": -30, "transferred_out": -30, "closing": 60,
    },
    ("2025-02", "shop", "pro"): {"opening": 100, "expansion": 70, "transferred_in": 30, "closing": 200},
    ("2025-03", "shop", "basic"): {
        "opening": 60, "expansion": 15, "contraction": -70, "transferred_in": 100, "transferred_out": -30, "closing": 75,
    },
    ("2025-03", "shop", "pro"): {
        "opening": 200, "expansion": 100, "reactivation": 100, "transferred_in": 30, "transferred_out": -100, "closing": 330,
    },
}  # fmt: skip


def bridges(warehouse, grain: str = "month", segment: str = "plan_tier") -> dict:
    """{(period, application, segment value): the steps that are not 0} as published; a month is called 2025-03."""
    rows = select(
        warehouse,
        f"select left(period_start::date::text, %s) as period, application, segment_value, {', '.join(f'{s}_mrr' for s in STEPS)} "
        "from mrr_bridge where grain = %s and segment = %s",
        7 if grain == "month" else 10,
        grain,
        segment,
    )
    return {
        (row["period"], row["application"], row["segment_value"]): {
            step: row[f"{step}_mrr"] for step in STEPS if row[f"{step}_mrr"] != 0
        }
        for row in rows
    }


def with_company(by_tier: dict) -> dict:
    """Bridges of applications and those of the company, which add up."""
    company: dict = defaultdict(lambda: defaultdict(int))
    for (period, _, tier), steps in by_tier.items():
        for step, amount in steps.items():
            company[period, "all", tier][step] += amount
    return by_tier | {key: {step: amount for step, amount in steps.items() if amount} for key, steps in company.items()}


def hashes(warehouse) -> dict:
    outputs = select(warehouse, "select outputs from certificates order by published_version desc limit 1")[0][
        "outputs"
    ]
    return {mart: outputs[mart] for mart in ("mrr_bridge", "mrr_transfers", "mrr_movements", "metric_points")}


def test_a_ledger_of_changes_between_tiers_holds_to_the_cent(warehouse, tmp_path):
    empty(warehouse)
    source = write_rows(tmp_path, {"subscriptions": LEDGER, "fx_rates": RATES})
    run(warehouse, source, EARLIER)
    assert bridges(warehouse) == with_company(BY_HAND)
    assert bridges(warehouse, "quarter")["2025-01-01", "shop", "basic"] == {
        "new": 120, "expansion": 15, "contraction": -70, "churned": -30, "transferred_in": 100, "transferred_out": -60, "closing": 75,
    }  # fmt: skip
    assert bridges(warehouse, "day")["2025-04-10", "shop", "pro"] == {
        "opening": 330,
        "transferred_out": -130,
        "closing": 200,
    }
    # nothing enters or leaves the company, or a country
    total = {"opening": 300, "expansion": 305, "reactivation": 100, "contraction": -70, "fx": 10, "closing": 645}
    assert bridges(warehouse, segment="")["2025-03", "all", ""] == total
    assert bridges(warehouse, segment="country")["2025-03", "all", "(unknown)"] == total
    moved = select(
        warehouse,
        "select transferred_on::text as day, application, account_id, from_plan_tier, to_plan_tier, amount::float from mrr_transfers order by 1, 2",
    )
    assert [tuple(row.values()) for row in moved] == [
        ("2025-03-01", "school", "upgrades", "basic", "pro", 120),
        ("2025-03-05", "shop", "upgrades", "basic", "pro", 30),
        ("2025-03-08", "shop", "has two", "basic", "pro", 30),
        ("2025-03-20", "shop", "downgrades", "pro", "basic", 100),
        ("2025-04-10", "shop", "has two", "pro", "basic", 130),
    ]

    write_rows(source, {"subscriptions": LATE}, "late")
    run(warehouse, source, AS_OF, "hourly")
    assert bridges(warehouse) == with_company(BY_HAND_LATER)
    grown = hashes(warehouse)
    run(warehouse, source, AS_OF)
    assert hashes(warehouse) == grown


def test_the_bridge_of_a_tier_is_withheld_where_one_of_them_is_small(warehouse, tmp_path):
    empty(warehouse)
    source = write_rows(tmp_path, {"subscriptions": LEDGER, "fx_rates": RATES})
    withholding = replace(warehouse, rules=warehouse.rules.model_copy(update={"suppress_below": 4}))
    job.run(withholding, "nightly", AS_OF, str(source), silent, worker=WORKERS.get(warehouse.home))
    assert bridges(warehouse) == {} and bridges(warehouse, segment="")["2025-03", "shop", ""]["closing"] == 405
    # and shown again, for every period, when there are enough
    more = [item(f"m{n}", f"more {n}", tier, 10, "2025-04-02", application=application)
            for n, (tier, application) in enumerate((t, a) for t in ("basic", "pro") for a in ("shop", "school") for _ in range(4))]  # fmt: skip
    write_rows(source, {"subscriptions": more}, "more")
    job.run(withholding, "hourly", LATER, str(source), silent, worker=WORKERS.get(warehouse.home))
    assert BY_HAND["2025-03", "shop", "pro"] == bridges(warehouse)["2025-03", "shop", "pro"]


def random_rows(chance: random.Random) -> list[dict]:
    """Subscriptions of half a year in two applications: spells in tiers that follow each other, with and without gaps, some side by side."""
    rows = []
    for number in range(40):
        application = chance.choice(("shop", "school"))
        for lane in range(chance.choice((1, 1, 2))):
            day = date(2025, 1, 1) + timedelta(chance.randrange(60))
            for _ in range(chance.randrange(1, 5)):
                until = day + timedelta(chance.randrange(1, 60))
                last = until > date(2025, 4, 20)
                tier, amount = chance.choice(("basic", "plus", "pro", None)), chance.choice((10, 20, 20, 50))
                name = f"{number}-{lane}"
                rows.append(
                    item(
                        name, f"a{number}", tier, amount, day, None if last else until, application, plan=tier or "none"
                    )
                )
                if last:
                    break
                day = until + timedelta(chance.choice((0, 0, 0, 3, 30)))
    return rows


def reckoned(rows: list[dict]) -> dict:
    """The bridges of all months by tier, from each account's MRR and tier at the end of each day."""
    accounts: dict = defaultdict(list)
    for row in rows:
        until = row["valid_to"] and date.fromisoformat(row["valid_to"][:10])
        accounts[row["application"], row["account_id"]].append(
            (date.fromisoformat(row["valid_from"][:10]), until or date.max, row["unit_amount"] // 100, row["plan_id"], row["plan_tier"])
        )  # fmt: skip
    found: dict = defaultdict(lambda: defaultdict(int))
    for (application, _), spells in accounts.items():
        mrr_before, tier_before, has_paid = 0, None, False
        day = date(2025, 1, 1)
        while day < AS_OF.date():
            held = [spell for spell in spells if spell[0] <= day < spell[1]]
            mrr = sum(spell[2] for spell in held)
            tier = min(held, key=lambda spell: (-spell[2], spell[3]))[4] or "(unknown)" if held else None
            here, there = (f"{day:%Y-%m}", application, tier), (f"{day:%Y-%m}", application, tier_before)
            if day.day == 1 and mrr_before:
                found[there]["opening"] += mrr_before
            if not mrr and mrr_before:
                found[there]["churned"] -= mrr_before
            elif mrr and not mrr_before:
                found[here]["reactivation" if has_paid else "new"] += mrr
            elif mrr:
                if tier != tier_before:
                    found[here]["transferred_in"] += mrr_before
                    found[there]["transferred_out"] -= mrr_before
                found[here]["expansion" if mrr > mrr_before else "contraction"] += mrr - mrr_before
            day += timedelta(1)
            if mrr and day.day == 1:
                found[here]["closing"] += mrr
            mrr_before, tier_before, has_paid = mrr, tier, has_paid or mrr > 0
    steps = {key: {step: Decimal(amount) for step, amount in of.items() if amount} for key, of in found.items()}
    return {key: of for key, of in with_company(steps).items() if of}


@pytest.mark.parametrize("seed", [1, 2])
def test_hourly_runs_over_late_repeated_and_corrected_changes_of_tier_equal_one_full_build(warehouse, tmp_path, seed):
    chance = random.Random(seed)
    rows = random_rows(chance)
    arrivals: list[list[dict]] = [[], [], []]
    for row in rows:
        arrivals[chance.choice((0, 0, 1))].append(row)
        if chance.random() < 0.1:
            arrivals[2].append(row)
    # some were in another tier, paid another price, or ended earlier
    for number in chance.sample(range(len(rows)), 12):
        change = chance.choice(({"plan_tier": "pro", "plan_id": "pro"}, {"unit_amount": 3000}, {"valid_to": None}))
        if change.get("valid_to", "") is None:
            since = date.fromisoformat(rows[number]["valid_from"][:10])
            change = {"valid_to": f"{since + timedelta(1)}T00:00:00Z"}
        rows[number] = rows[number] | change | {"updated_at": "2025-04-30T12:00:00Z"}
        arrivals[2].append(rows[number])
    empty(warehouse)
    for number, (arrived, as_of) in enumerate(
        zip(arrivals, (utc("2025-03-10T05:00:00"), utc("2025-04-20T07:00:00"), AS_OF), strict=True)
    ):
        write_rows(tmp_path, {"subscriptions": arrived}, f"batch{number}")
        run(warehouse, tmp_path, as_of, "hourly")
    found = bridges(warehouse)
    assert found == reckoned(rows)
    assert sum("transferred_in" in steps for steps in found.values()) > 20
    grown = hashes(warehouse)
    run(warehouse, tmp_path, AS_OF)
    assert hashes(warehouse) == grown
