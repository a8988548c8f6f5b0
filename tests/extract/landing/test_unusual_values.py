"""What is unusual about a delivery is noticed as it lands, and learned once. Each kind has its rule, and what the rule leaves alone."""

import shutil

import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing import learned
from northstar.extract.landing.directory import land_directory
from northstar.privacy.keys import HASH_MARK
from northstar.runs import values
from tests.support import empty, query_as, silent, write_rows

AT = "2026-01-01T00:00:00Z"
OPEN = "select * from audit.unusual_values where closed_at is null order by kind, value"
PROFILES = "select * from audit.column_profiles order by entity, application, column_name"
KNOWN = "select * from audit.known_values order by entity, application, column_name, value"


def booking(n: int, hotel: str, **columns) -> dict:
    return {
        "booking_id": f"b{n}", "student_id": f"s{n}", "tutor_id": hotel, "price_amount": 9000 + n % 700, "currency": "EUR",
        "commission_rate": 0.1, "requested_at": AT, "payment_state": "captured", "updated_at": AT, **columns,
    }  # fmt: skip


def bookings(count: int, hotel: str, first: int = 0, **columns) -> list[dict]:
    return [booking(n, hotel, **columns) for n in range(first, first + count)]


def two_hotels(first: int = 0) -> list[dict]:
    """A usual delivery: both hotels from its beginning on."""
    return [booking(n, ("Resort Hotel", "City Hotel", "City Hotel")[n % 3]) for n in range(first, first + 600)]


def land(settings, source, rows: list[dict], name: str = "rows", entity: str = "bookings") -> None:
    write_rows(source, {entity: rows}, name)
    land_directory(settings, 1, str(source), progress=silent)


def findings(settings) -> list[dict]:
    return query_as(settings, "loader", OPEN)


def kinds(settings) -> list[tuple]:
    return [(f["kind"], f["column_name"], f["value"], f["rows"]) for f in findings(settings)]


@pytest.fixture
def clean(warehouse):
    """The empty warehouse, without a values.yml."""
    empty(warehouse)
    (warehouse.home / "values.yml").unlink(missing_ok=True)
    yield warehouse
    (warehouse.home / "values.yml").unlink(missing_ok=True)


def test_a_misspelt_name_is_noticed_in_the_first_delivery(clean, tmp_path):
    rows = two_hotels()
    for n in (6, 81, 501):
        rows[n]["tutor_id"] = "Reosrt Hotel"
    rows[100]["tutor_id"] = "city  hotel"
    land(clean, tmp_path, rows)
    found = {f["value"]: f for f in findings(clean)}
    assert {value: (f["kind"], f["usual"], f["rows"]) for value, f in found.items()} == {
        "Reosrt Hotel": ("spelling", "Resort Hotel", 3), "city  hotel": ("spelling", "City Hotel", 1),
    }  # fmt: skip
    assert found["Reosrt Hotel"]["examples"] == [{"path": "bookings/rows.jsonl", "line": line} for line in (7, 82, 502)]


def test_example_rows_of_csv_have_the_lines_of_an_editor(clean, tmp_path):
    rows = two_hotels()
    rows[300]["tutor_id"] = "Citi Hotel"
    names = list(rows[0])
    # a value with a line break before it
    rows[10]["student_id"] = '"two\nlines"'
    (tmp_path / "bookings").mkdir()
    lines = [",".join(names), *(",".join(str(r[n]) for n in names) for r in rows)]
    (tmp_path / "bookings/rows.csv").write_text("\n".join(lines) + "\n")
    land_directory(clean, 1, str(tmp_path), progress=silent)
    [found] = findings(clean)
    text = (tmp_path / "bookings/rows.csv").read_text().splitlines()
    assert found["value"] == "Citi Hotel" and "Citi Hotel" in text[found["examples"][0]["line"] - 1]


def test_a_hotel_that_nobody_knows_is_noticed_and_a_country_that_comes_with_growth_is_not(clean, tmp_path):
    rows = two_hotels()
    # as a company grows: ever new countries, the last ones seen once
    countries = ["DE"] * 300 + ["FR"] * 200 + ["SE"] * 60 + ["ES"] * 30 + ["PT"] * 9 + ["IT"]
    for row, country in zip(rows, countries, strict=True):
        row["country"] = country
    land(clean, tmp_path, rows)
    assert findings(clean) == []
    more = [row | {"country": "DE"} for row in two_hotels(1000)[:40]]
    more[3] |= {"tutor_id": "Harbour Inn", "country": "NL"}
    more[7] |= {"tutor_id": "Harbour Inn", "currency": "GBP"}
    land(clean, tmp_path, more, "more")
    assert kinds(clean) == [("new", "currency", "GBP", 1), ("new", "tutor_id", "Harbour Inn", 2)]
    assert findings(clean)[1]["examples"] == [{"path": "bookings/more.jsonl", "line": line} for line in (4, 8)]


def test_a_second_unknown_hotel_is_noticed_too(clean, tmp_path):
    land(clean, tmp_path, two_hotels())
    land(clean, tmp_path, [*two_hotels(1000), booking(5000, "Harbour Inn")], "second")
    land(clean, tmp_path, [*two_hotels(2000), booking(5001, "Seaside Lodge")], "third")
    assert [f["value"] for f in findings(clean)] == ["Harbour Inn", "Seaside Lodge"]


def test_rows_without_a_value_are_noticed_beside_a_clean_file_and_in_a_file_on_its_own(clean, tmp_path):
    hole = [
        r | ({"payment_state": None} if r["booking_id"] in ("b9002", "b9010", "b9020", "b9030", "b9040") else {})
        for r in two_hotels(9000)
    ]
    write_rows(tmp_path, {"bookings": two_hotels()}, "clean")
    land(clean, tmp_path, hole, "hole")
    # five rows with nothing may be chance beside 600 full ones, 23 are not
    assert findings(clean) == []
    for row in hole[:20]:
        row["payment_state"] = None
    land(clean, tmp_path, hole, "hole")
    [found] = findings(clean)
    assert (found["kind"], found["column_name"], found["path"], found["rows"], found["of_rows"]) == (
        "missing", "payment_state", "bookings/hole.jsonl", 23, 600,
    )  # fmt: skip
    assert found["examples"][0] == {"path": "bookings/hole.jsonl", "line": 1}
    land(clean, tmp_path, two_hotels(9000), "hole")
    assert findings(clean) == []

    empty(clean)
    alone = [
        r | ({"payment_state": None} if n in range(50, 58) else {})
        for n, r in enumerate(bookings(2000, "Resort Hotel"))
    ]
    land(clean, tmp_path / "alone", alone)
    assert kinds(clean) == [("missing", "payment_state", "", 8)]


def test_a_category_that_stops_is_noticed_and_closes_when_it_is_back(clean, tmp_path):
    for day in range(6):
        land(clean, tmp_path, two_hotels(day * 1000), f"day{day}")
    land(clean, tmp_path, bookings(300, "City Hotel", 10_000), "day6")
    assert kinds(clean) == [("gone", "tutor_id", "Resort Hotel", 0)]
    assert "about 100 rows were to be expected" in findings(clean)[0]["what"]
    land(clean, tmp_path, two_hotels(20_000), "day7")
    assert findings(clean) == []


def test_amounts_beyond_a_hundred_times_the_usual_and_files_in_another_unit_are_noticed(clean, tmp_path):
    rows = two_hotels()
    rows[17]["price_amount"] = 9_500_000
    # large, but no hundred times
    rows[18]["price_amount"] = 300_000
    land(clean, tmp_path, rows)
    [found] = findings(clean)
    assert (found["kind"], found["value"], found["rows"]) == ("size", "EUR", 1) and "9,500,000" in found["what"]
    assert found["examples"] == [{"path": "bookings/rows.jsonl", "line": 18}]
    cents = [r | {"price_amount": r["price_amount"] * 100} for r in two_hotels(1000)[:50]]
    land(clean, tmp_path, cents, "cents")
    found = findings(clean)[0]
    assert found["path"] == "bookings/cents.jsonl" and (found["rows"], found["of_rows"]) == (50, 50)
    assert "another unit?" in found["what"]
    # it teaches nothing: the usual amounts stay the usual ones
    land(clean, tmp_path, two_hotels(2000)[:50], "usual")
    assert len(findings(clean)) == 2


def test_numbers_of_things_are_no_names(clean, tmp_path):
    accounts = [
        {
            "account_id": f"customer_{chr(97 + n % 26)}{n}",
            "account_type": "customer",
            "created_at": AT,
            "updated_at": AT,
        }
        for n in range(400)
    ]
    land(clean, tmp_path, accounts, entity="accounts")
    hotels = [
        r | {"tutor_id": f"Hotel {chr(65 + n % 4)}", "package_purchase_id": f"pack_{n}"}
        for n, r in enumerate(two_hotels())
    ]
    hotels[5]["tutor_id"] = "Hotel E"
    land(clean, tmp_path, hotels)
    assert findings(clean) == []
    named = {(r["entity"], r["column_name"]) for r in query_as(clean, "loader", KNOWN)}
    assert ("bookings", "tutor_id") in named and named.isdisjoint({("accounts", "account_id"), ("bookings", "booking_id"), ("bookings", "package_purchase_id"), ("bookings", "student_id")})  # fmt: skip


def test_a_delivery_that_fails_teaches_nothing_and_one_that_is_repeated_is_learned_once(clean, tmp_path, monkeypatch):
    land(clean, tmp_path, two_hotels())
    before = query_as(clean, "loader", KNOWN), query_as(clean, "loader", PROFILES)
    with monkeypatch.context() as patch:
        patch.setattr(learned, "_count_again", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            land(clean, tmp_path, [*two_hotels(1000), booking(1, "Reosrt Hotel")], "more")
    assert (query_as(clean, "loader", KNOWN), query_as(clean, "loader", PROFILES)) == before and findings(clean) == []
    land(clean, tmp_path, [*two_hotels(1000), booking(9999, "Reosrt Hotel")], "more")
    after = query_as(clean, "loader", KNOWN)
    assert kinds(clean) == [("spelling", "tutor_id", "Reosrt Hotel", 1)]
    # the same files again, and rows that are read again for a backfill's sake
    land_directory(clean, 1, str(tmp_path), progress=silent)
    land_directory(clean, 1, str(tmp_path), progress=silent, only={"bookings": {"bookings/more.jsonl"}})
    assert query_as(clean, "loader", KNOWN) == after and kinds(clean) == [("spelling", "tutor_id", "Reosrt Hotel", 1)]


def test_counts_stay_true_while_rows_are_corrected(clean, tmp_path):
    wrong = [booking(n, "Reosrt Hotel") for n in range(9000, 9004)]
    land(clean, tmp_path, [*two_hotels(), *wrong])
    assert kinds(clean) == [("spelling", "tutor_id", "Reosrt Hotel", 4)]
    later = "2026-01-02T00:00:00Z"
    land(
        clean,
        tmp_path,
        [
            booking(9000, "Resort Hotel", updated_at=later),
            booking(9001, "Reosrt Hotel", updated_at=later, price_amount=1),
            booking(9010, "Reosrt Hotel"),
        ],
        "second",
    )
    assert kinds(clean) == [("spelling", "tutor_id", "Reosrt Hotel", 4)]
    land(
        clean,
        tmp_path,
        [booking(n, "Resort Hotel", updated_at="2026-01-03T00:00:00Z") for n in (9001, 9002, 9003, 9010)],
        "third",
    )
    assert findings(clean) == []
    assert query_as(clean, "loader", "select closed_because from audit.unusual_values") == [
        {"closed_because": "no landed row has it any more"}
    ]


def test_nothing_personal_is_learned(clean, tmp_path):
    rows = [
        {"account_id": f"a{n}", "account_type": "customer", "email": "ada@example.org" if n % 2 else "bob@example.org", "full_name": "Ada",
         "created_at": AT, "updated_at": AT, "referred_by_account_id": "ada@example.org"} for n in range(300)
    ]  # fmt: skip
    land(clean, tmp_path, rows, entity="accounts")
    stored = query_as(clean, "loader", KNOWN)
    assert not any(r["column_name"] in ("email", "full_name") for r in stored)
    assert not any("example.org" in r["value"] or r["value"].startswith(HASH_MARK) for r in stored) and stored


def test_refused_values_go_to_quarantine_and_land_once_they_are_accepted(clean, tmp_path):
    land(clean, tmp_path, [*two_hotels(), booking(9000, "Resort Hotle")])
    assert "rows with it go to quarantine from now on; 1 rows with it have landed and stay" in values.refuse(
        clean, "bookings.tutor_id", ["Resort Hotle"]
    )
    assert findings(clean) == []
    land(clean, tmp_path, [booking(9001, "Resort Hotle"), booking(9002, "Resort Hotel")], "more")
    rejected = query_as(clean, "loader", "select line, reasons from quarantine.rows where resolved_at is null")
    assert rejected == [{"line": 1, "reasons": ["tutor_id: a value that values.yml refuses"]}]
    values.refuse(clean, "bookings.payment_state", [], missing=True)
    values.refuse(clean, "bookings.price_amount", [], largest={"EUR": 50_000})
    land(
        clean,
        tmp_path,
        [
            booking(9003, "City Hotel", payment_state=None),
            booking(9004, "City Hotel", price_amount=50_001),
            booking(9005, "City Hotel", price_amount=50_000),
        ],
        "third",
    )
    reasons = query_as(clean, "loader", "select reasons from quarantine.rows where path like '%%third%%' order by line")
    assert [r["reasons"] for r in reasons] == [
        ["payment_state: missing, which values.yml refuses"],
        ["price_amount: more than 50000 EUR, which values.yml refuses"],
    ]


def test_a_file_of_settled_values_that_cannot_be_used_says_where(clean, tmp_path):
    for text, said in (
        ("bookings.hotel: {accept: [x]}", "no such column; known are"),
        ("accounts.email: {accept: [x]}", "personal"),
        ("bookings.price_amount: {accept: ['1']}", "is no text"),
        ("bookings.tutor_id: {accept: [a], refuse: [a]}", "settled twice"),
        ("bookings.tutor_id: {map: {a: b, b: c}}", "mapped or refused itself"),
        ("marketing_spend.channel: {map: {a: b}}", "part of the key"),
        ("bookings.payment_state: {map: {a: b}}", "is not one of"),
        ("bookings.tutor_id: {acept: [a]}", "line 1"),
        ("bookings.tutor_id: {missing: maybe}", "'accept' or 'refuse'"),
    ):
        (clean.home / "values.yml").write_text(text)
        with pytest.raises(NorthstarError) as caught:
            land(clean, tmp_path, two_hotels())
        assert said in str(caught.value) and "values.yml" in str(caught.value), str(caught.value)
    shutil.rmtree(tmp_path)


def test_a_file_whose_amounts_seem_to_be_in_major_units_is_noticed_and_tenths_of_a_cent_are_not(clean, tmp_path):
    euros = [booking(n, "City Hotel", price_amount=amount) for n, amount in enumerate((90, 12.5, 99.99, 45, "120.10"))]
    land(clean, tmp_path, euros)
    assert kinds(clean) == [("size", "price_amount", "EUR", 3)]
    [finding] = findings(clean)
    assert (
        "120, has digits after the point, and never more than a EUR has: major units in place of minor ones?"
        in finding["what"]
    )
    assert {e["line"] for e in finding["examples"]} == {3, 5, 1}
    values.accept(clean, "bookings.price_amount", [], largest={"EUR": 1e9})
    land(clean, tmp_path, [booking(50 + n, "City Hotel", price_amount="10.25") for n in range(5)], "more")
    assert findings(clean) == []
    # in cents: one in a hundred has a fraction, or some have more digits than a cent could be of a euro
    (clean.home / "values.yml").unlink()
    land(
        clean,
        tmp_path,
        [booking(100 + n, "City Hotel", price_amount=9000.5 if n % 100 == 0 else 9000) for n in range(400)],
        "cents",
    )
    land(clean, tmp_path, [booking(600 + n, "City Hotel", price_amount="9000.125") for n in range(9)], "finer")
    assert "size" not in {kind for kind, *_ in kinds(clean)}
