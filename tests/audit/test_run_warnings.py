"""Each warning about landed rows has been seen: all violations are planted in one home, one audit counts them and gives an example of each."""

import json

import pytest

from northstar.audit.run import run_audit
from northstar.audit.suites import read_suites
from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.extract.landing.directory import land_directory, missing_files
from northstar.runs.lifecycle import close_afterwards, open_run
from northstar.warehouse import db
from tests.support import empty, query_as, silent, utc, write_rows

AS_OF = utc("2026-03-01T00:00:00")
THEN = "2026-01-01T00:00:00Z"
NOBODY = "acc_nobody"
# more than Great Expectations fetches of any query
MANY = 250
# {check: (rows, what its first messages or rows say)}
WARNINGS = {
    "account_lists_keep_their_accounts": (60, "300"),
    "amounts_are_of_their_usual_size": (3, "charges.amount of shop: EUR, up to 9,000,000 (3 rows, such as"),
    "charges_belong_to_known_accounts": (MANY, NOBODY),
    "events_are_fresh": (1, "the newest event is of 2026-01-01"),
    "every_source_answered": (1, "the_shop: it is down"),
    "files_that_landed_are_still_there": (1, "charges/gone.jsonl"),
    "names_are_spelt_as_usual": (449, "bookings.tutor_id: 'Reosrt Hotel' is written nearly like"),
    "quarantine_is_quiet": (11, "subscriptions: 11 of 260"),
    "rates_are_recent": (1, "EUR: the newest rate is of 2026-01-01"),
    "refunds_belong_to_landed_charges": (1, "re_of_nothing"),
    "refunds_do_not_exceed_their_charge": (1, "ch_known was 1000 USD, and 1200 are given back"),
    "rows_of_one_file_do_not_contradict_each_other": (5, "charge_id ch_"),
    "sources_count_as_the_warehouse_does": (1, "the source has rows 7, landed are 6"),
    "subscriptions_belong_to_known_accounts": (1, "si_nobody"),
    "ticket_events_belong_to_landed_tickets": (1, "tk_nowhere"),
    "tickets_belong_to_known_accounts": (1, "tk_nobody"),
    "values_are_known": (40, "accounts.country: 'PT' has never come"),
    "values_are_not_missing": (200, "such as bookings/hole.csv line 8)"),
    "values_still_come": (1, "tickets.category: 'fax' came with each"),
    "volume_is_as_usual": (1, "reviews: 100 rows read, the mean of the previous runs is 10"),
}

# checks of the values of one row by itself, which are not about what belongs together
# (legal entities: tests/dbt_project/test_entity_currencies.py, whose company has some)
ABOUT_ONE_ROW = (
    "legal_entities_of_",
    "charges_name_an_entity_",
    "account_ids_have_one_form",
    "countries_of_",
    "nothing_happens_to_a_ticket_",
    "times_of_",
)


def accounts(count: int) -> list[dict]:
    return [
        {"account_id": f"acc_{n}", "account_type": "customer", "created_at": THEN, "updated_at": THEN}
        for n in range(count)
    ]


def charge(charge_id: str, account_id: str = "acc_1", **values) -> dict:
    return {
        "charge_id": charge_id, "account_id": account_id, "amount": 1000, "currency": "USD", "status": "succeeded", "created_at": THEN,
        "updated_at": THEN, **values,
    }  # fmt: skip


def refund(refund_id: str, charge_id: str) -> dict:
    return {
        "refund_id": refund_id, "charge_id": charge_id, "amount": 600, "currency": "USD", "status": "succeeded", "created_at": THEN,
        "updated_at": THEN,
    }  # fmt: skip


def subscription(item: str, account_id: str = "acc_1", **values) -> dict:
    return {
        "subscription_item_id": item, "subscription_id": item, "account_id": account_id, "plan_id": "pro", "billing_interval": "month",
        "interval_count": 1, "quantity": 1, "unit_amount": 1000, "currency": "USD", "status": "active", "valid_from": THEN,
        "updated_at": THEN, **values,
    }  # fmt: skip


def first_delivery() -> dict:
    return {
        "accounts": accounts(300),
        # the first rows of an entity: what contradicts is found while the index of its key is built
        "charges": [
            charge("ch_known"), charge("ch_first"), charge("ch_first", amount=2000), charge("ch_repeated"), charge("ch_repeated"),
            charge("ch_corrected"), charge("ch_corrected", amount=900, updated_at="2026-01-02T00:00:00Z"),
        ],
    }  # fmt: skip


def second_delivery() -> dict:
    return {
        "accounts": accounts(240),
        "charges": [
            *(charge(f"ch_{n}", NOBODY) for n in range(MANY)),
            # rows that come to others: what contradicts is found while they are merged
            *(charge("ch_later", amount=n) for n in (1, 2, 3)),
            charge("ch_repeated"),
        ],
        "subscriptions": [
            subscription("si_nobody", NOBODY),
            subscription("si_negative", quantity=-1),
            subscription("si_negative_price", unit_amount=-5),
            *(subscription(f"si_{n}") for n in range(248)),
            # with two negative rows, eleven of 260 that do not land: these have no status that is known
            *(subscription(f"si_bad_{n}", status="maybe") for n in range(9)),
        ],
        "refunds": [
            refund("re_1", "ch_known"),
            refund("re_2", "ch_known"),
            refund("re_all", "ch_repeated"),
            refund("re_of_nothing", "ch_nothing"),
        ],
        "tickets": [
            {"ticket_id": name, "account_id": account_id, "status": "new", "created_at": THEN, "updated_at": THEN}
            for name, account_id in (("tk_nobody", NOBODY), ("tk_anonymous", None), ("tk_1", "acc_1"))
        ],
        "ticket_events": [
            {
                "ticket_event_id": "te_1", "ticket_id": "tk_nowhere", "event_type": "created", "actor_type": "customer",
                "occurred_at": THEN,
            },
        ],
        "events": [{"event_id": "ev_1", "event_name": "page.view", "occurred_at": THEN, "received_at": THEN}],
        "fx_rates": [{"rate_date": "2026-01-01", "currency": "EUR", "rate_to_reporting": 1.1}],
    }  # fmt: skip


# what landing notes (tests/extract/landing/test_unusual_values.py): entity, application, column, kind, words, rows, example
UNUSUAL = (
    ("accounts", "default", "country", "new", "'PT' has never come before", 40, "accounts/rows.jsonl"),
    ("bookings", "default", "tutor_id", "spelling", "'Reosrt Hotel' is written nearly like 'Resort Hotel'", 449, "bookings/all.csv"),
    ("bookings", "default", "payment_state", "missing", "has no value", 200, "bookings/hole.csv"),
    ("charges", "shop", "amount", "size", "EUR, up to 9,000,000", 3, "charges/cents.csv"),
    ("tickets", "default", "category", "gone", "'fax' came with each of 9 deliveries", 0, None),
)  # fmt: skip


def plant_records(settings, run_id: int) -> None:
    """What runs note of sources and of earlier runs, and landing of unusual values."""
    with db.connect(settings, "owner") as connection:
        for entity, application, column, kind, what, rows, path in UNUSUAL:
            connection.execute(
                "insert into audit.unusual_values (entity, application, column_name, kind, value, usual, path, what, rows, of_rows, examples, "
                "batch_id, closed_at) select %s, %s, %s, %s, '', '', '', %s, %s, 9999, %s, 1, closed from (values (null::timestamptz), (now())) as v (closed)",
                [entity, application, column, kind, what, rows, json.dumps([{"path": path, "line": 8}] if path else [])],
            )  # fmt: skip
        connection.execute(
            "insert into audit.source_runs (run_id, source, system, is_required, succeeded, message, rows_read, rows_landed, "
            "rows_quarantined, seconds) values (%s, 'the_shop', 'stripe', false, false, 'it is down', 0, 0, 0, 1)", [run_id]
        )  # fmt: skip
        connection.execute(
            "insert into audit.reconciliations (run_id, source, entity, measure, source_total, landed_total, difference) "
            "values (%s, 'the_shop', 'charges', 'rows', 7, 6, 1)", [run_id]
        )  # fmt: skip
        connection.execute(
            "insert into audit.runs (run_id, mode, as_of, is_full, trigger, code_version) "
            "select -n, 'nightly', %s, false, 'cli', 'x' from generate_series(1, 5) as n", [AS_OF]
        )  # fmt: skip
        connection.execute(
            "insert into audit.landing_batches (run_id, source, entity, finished_at, rows_read, rows_unchanged) "
            "select -n, 'the_shop', 'reviews', now(), 10, 10 from generate_series(1, 5) as n "
            "union all select %s, 'the_shop', 'reviews', now(), 100, 100", [run_id]
        )  # fmt: skip
        # a system that was asked and had nothing new is no reason for a warning
        connection.execute(
            "insert into audit.landing_batches (run_id, source, entity, finished_at, rows_read, rows_unchanged) "
            "select -n, 'the_shop', 'survey_responses', now(), 50, 50 from generate_series(1, 5) as n "
            "union all select %s, 'the_shop', 'survey_responses', now(), 0, 0", [run_id]
        )  # fmt: skip


@pytest.fixture(scope="module")
def planted(warehouse, tmp_path_factory):
    """A home with everything planted, and the run whose audit sees it."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("source")
    run_id = open_run(warehouse, "nightly", AS_OF)
    with close_afterwards(warehouse, run_id):
        write_rows(source, {"charges": [charge("ch_gone")]}, "gone")
        write_rows(source, first_delivery())
        land_directory(warehouse, run_id, str(source), progress=silent)
        (source / "charges/gone.jsonl").unlink()
        write_rows(source, second_delivery())
        land_directory(warehouse, run_id, str(source), progress=silent)
        plant_records(warehouse, run_id)
        yield warehouse, run_id, source
    empty(warehouse)


def checks(settings, run_id: int) -> dict[str, dict]:
    rows = query_as(settings, "owner", "select * from audit.checks where run_id = %s", run_id)
    return {row["check_name"]: row for row in rows}


def test_each_warning_has_its_count_and_an_example(planted):
    settings, run_id, _ = planted
    lines = []
    verdict = run_audit(settings, run_id, boundaries=("staging",), progress=lines.append)
    results = checks(settings, run_id)
    warned = {name: row for name, row in results.items() if not row["success"]}
    assert {name: row["failing_rows"] for name, row in warned.items()} == {
        n: count for n, (count, _) in WARNINGS.items()
    }
    assert not [name for name, (_, example) in WARNINGS.items() if example not in str(warned[name]["sample"])]
    assert all(row["severity"] == "warn" and len(row["sample"]) <= 5 for row in warned.values())
    assert verdict["warned"] == len(WARNINGS)
    assert any(f"charges.charges_belong_to_known_accounts: {MANY} rows: ch_" in line for line in lines)


def test_every_warning_about_landed_rows_is_planted(planted):
    settings = planted[0]
    names = {c.name for suite in read_suites(settings.root, "staging") for c in suite.checks if c.severity == "warn"}
    assert set(WARNINGS) <= names
    assert sorted(n for n in names - set(WARNINGS) if not n.startswith(ABOUT_ONE_ROW)) == []


def test_a_rule_of_the_company_makes_a_warning_an_error(planted):
    settings, run_id, _ = planted
    (settings.home / "operations.yml").write_text("errors: [charges_belong_to_known_accounts]\n")
    try:
        with pytest.raises(
            NorthstarError, match=f"stopped the publish: charges.charges_belong_to_known_accounts: {MANY} rows"
        ):
            run_audit(load_settings(settings.home), run_id, boundaries=("staging",), progress=silent)
    finally:
        (settings.home / "operations.yml").unlink()
    results = checks(settings, run_id)
    assert {name for name, row in results.items() if not row["success"] and row["severity"] == "error"} == {
        "charges_belong_to_known_accounts"
    }


def test_a_file_that_is_back_is_missing_no_more(planted):
    settings, run_id, source = planted
    missing = "select path from audit.landed_files where missing_since_run is not null"
    assert [row["path"] for row in query_as(settings, "owner", missing)] == ["charges/gone.jsonl"]
    write_rows(source, {"charges": [charge("ch_gone")]}, "gone")
    land_directory(settings, run_id, str(source), progress=silent)
    assert query_as(settings, "owner", missing) == []


@pytest.mark.parametrize(
    ("listed", "gone"),
    [
        ({"charges": {"charges/b.csv": "charges/b.csv"}}, {("charges", "charges/a.csv")}),
        # the last file of its entity
        ({"charges": {}}, {("charges", "charges/a.csv"), ("charges", "charges/b.csv")}),
        # the folder of a day was put away
        ({"charges": {"charges/2026/c.csv": "charges/2026/c.csv"}}, set()),
        # the files could not be listed
        ({}, set()),
        # another mapping has another label
        ({"charges": {"charges/a.csv#new": "charges/a.csv", "charges/b.csv": "charges/b.csv"}}, set()),
    ],
)
def test_what_counts_as_gone(listed, gone):
    landed = [("charges", "charges/a.csv"), ("charges", "charges/b.csv")]
    if any("#" in path for paths in listed.values() for path in paths):
        landed[0] = ("charges", "charges/a.csv#old")
    assert missing_files(landed, listed) == gone
