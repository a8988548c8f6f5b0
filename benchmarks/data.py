"""Rows for the benchmarks: columns drawn at random, written as parquet in contract shape."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

END = datetime(2025, 1, 1, tzinfo=UTC)
NAMES = np.array(
    ["page.view", "user.login", "feature.used", "tool.invoked", "page.landing", "user.signup", "search.performed"]
)
NAME_ODDS = [0.45, 0.2, 0.15, 0.1, 0.06, 0.02, 0.02]
CHANNELS = np.array(["web", "mobile_app", "api"])
EVENTS_PER_DAY, EVENTS_PER_SESSION, ACCOUNTS = 7_000, 8, 40_000


def micros(days: np.ndarray) -> pa.Array:
    """Instants so many days before END."""
    end = int(END.timestamp() * 1e6)
    return pa.array(end - (days * 86_400e6).astype("int64"), pa.int64()).cast(pa.timestamp("us", "UTC"))


def events(count: int, first_id: int, days: float, until: float = 0.0, seed: int = 1) -> pa.Table:
    """`count` events over the `days` days that end `until` days before END, in order of time."""
    random = np.random.default_rng([seed, first_id])
    age = np.sort(until + random.random(count) * days)[::-1]
    name = NAMES[random.choice(len(NAMES), count, p=NAME_ODDS)]
    session = (first_id + np.arange(count)) // EVENTS_PER_SESSION
    account = (session * 2_654_435_761) % ACCOUNTS
    empty, feature, tool = None, '{"feature": "export"}', '{"tool": "plan", "status": "ok"}'
    properties = np.where(name == "feature.used", feature, np.where(name == "tool.invoked", tool, empty))
    return pa.table({
        "event_id": pa.array(np.char.add("ev", (first_id + np.arange(count)).astype(str))),
        "event_name": pa.array(name),
        "occurred_at": micros(age),
        "received_at": micros(age),
        "account_id": pa.array(np.char.add("a", account.astype(str))),
        "session_id": pa.array(np.char.add("s", session.astype(str))),
        "application": pa.array(np.full(count, "web")),
        "channel": pa.array(CHANNELS[random.integers(0, 3, count)]),
        "country": pa.array(np.array(["US", "DE", "GB"])[random.integers(0, 3, count)]),
        "properties": pa.array(properties, pa.string()),
    })  # fmt: skip


def write_events(
    folder: Path, count: int, first_id: int = 0, days: float | None = None, until: float = 0.0, name: str = "e"
) -> None:
    """Events as parquet files of at most a million rows."""
    folder.mkdir(parents=True, exist_ok=True)
    days = days or count / EVENTS_PER_DAY
    files = max(1, count // 1_000_000)
    for number in range(files):
        part, slice_days = count // files, days / files
        table = events(part, first_id + number * part, slice_days, until + (files - 1 - number) * slice_days)
        pq.write_table(table, folder / f"{name}{number:03d}.parquet")


def write_rest(
    source: Path, subscriptions: int, charges: int, tickets: int, accounts: int = ACCOUNTS, days: float = 700
) -> None:
    """Accounts, subscription rows, charges, tickets with their events."""
    random = np.random.default_rng(7)

    def put(entity: str, table: dict) -> None:
        (source / entity).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), source / entity / "rows.parquet")

    def text(prefix: str, values: np.ndarray) -> pa.Array:
        return pa.array(np.char.add(prefix, values.astype(str)))

    def constant(value, count: int) -> pa.Array:
        return pa.array(np.full(count, value))

    # events draw from all accounts at all times, so all accounts are there from the start
    born = micros(days * (0.98 + 0.02 * random.random(accounts)))
    put("accounts", {
        "account_id": text("a", np.arange(accounts)), "account_type": constant("customer", accounts), "application": constant("web", accounts),
        "country": pa.array(np.array(["US", "DE", "GB"])[random.integers(0, 3, accounts)]), "created_at": born, "updated_at": born,
    })  # fmt: skip
    # five intervals of 40 days each for every item
    items, steps = subscriptions // 5, 5
    begins = np.repeat(200 + random.random(items) * (days - 210), steps) - np.tile(np.arange(steps) * 40, items)
    until = begins - 40
    last = np.tile(np.arange(steps) == steps - 1, items)
    put("subscriptions", {
        "subscription_item_id": text("i", np.repeat(np.arange(items), steps)), "subscription_id": text("i", np.repeat(np.arange(items), steps)),
        "account_id": text("a", np.repeat(random.integers(0, accounts, items), steps)), "application": constant("web", items * steps),
        "plan_id": constant("p", items * steps), "plan_tier": pa.array(np.array(["basic", "professional", "premium"])[random.integers(0, 3, items * steps)]),
        "billing_interval": constant("month", items * steps), "interval_count": constant(1, items * steps), "quantity": constant(1, items * steps),
        "unit_amount": pa.array(random.integers(1000, 9000, items * steps)), "currency": constant("USD", items * steps),
        "status": constant("active", items * steps), "valid_from": micros(begins),
        "valid_to": pa.array([None if end else value for end, value in zip(last, micros(until).to_pylist(), strict=True)], pa.timestamp("us", "UTC")),
        "updated_at": micros(begins),
    })  # fmt: skip
    paid = micros(np.sort(random.random(charges) * days)[::-1])
    put("charges", {
        "charge_id": text("c", np.arange(charges)), "account_id": text("a", random.integers(0, accounts, charges)), "application": constant("web", charges),
        "amount": pa.array(random.integers(500, 20_000, charges)), "currency": constant("USD", charges),
        "status": pa.array(np.where(random.random(charges) < 0.93, "succeeded", "failed")),
        "country": pa.array(np.array(["US", "DE", "GB"])[random.integers(0, 3, charges)]), "created_at": paid, "updated_at": paid,
    })  # fmt: skip
    age = np.sort(1 + random.random(tickets) * (days - 1))[::-1]
    put("tickets", {
        "ticket_id": text("t", np.arange(tickets)), "application": constant("web", tickets), "status": constant("solved", tickets),
        "channel": constant("email", tickets), "priority": constant("normal", tickets), "category": constant("bug", tickets),
        "created_at": micros(age), "updated_at": micros(age - 0.5),
    })  # fmt: skip
    put("ticket_events", {
        "ticket_event_id": text("x", np.arange(2 * tickets)), "ticket_id": text("t", np.repeat(np.arange(tickets), 2)),
        "event_type": pa.array(np.tile(["public_reply", "solved"], tickets)), "actor_type": constant("agent", 2 * tickets),
        "occurred_at": micros(np.repeat(age, 2) - np.tile([0.1, 0.5], tickets)),
    })  # fmt: skip
