"""What is unusual about a delivery is noticed as it lands, and learned once."""

import json

from northstar.extract.landing.directory import land_directory
from tests.support import empty, query_as, silent, write_rows

AT = "2026-01-01T00:00:00Z"
OPEN = "select * from audit.unusual_values where closed_at is null order by kind, value"


def bookings(count: int, hotel: str, first: int = 0, **values) -> list[dict]:
    return [
        {
            "booking_id": f"b{n}", "student_id": f"s{n}", "tutor_id": hotel, "price_amount": 9000 + n % 700, "currency": "EUR",
            "commission_rate": 0.1, "requested_at": AT, "payment_state": "captured", "updated_at": AT, **values,
        }
        for n in range(first, first + count)
    ]  # fmt: skip


def land(settings, source):
    return land_directory(settings, 1, str(source), progress=silent)


def findings(settings) -> list[dict]:
    return query_as(settings, "loader", OPEN)


def test_a_misspelt_name_is_noticed_in_the_first_delivery(warehouse, tmp_path):
    empty(warehouse)
    rows = bookings(600, "Resort Hotel") + bookings(900, "City Hotel", 1000)
    for n in (7, 80, 500):
        rows[n]["tutor_id"] = "Reosrt Hotel"
    rows[1200]["tutor_id"] = "city  hotel"
    land(warehouse, write_rows(tmp_path, {"bookings": rows}))
    found = {f["value"]: f for f in findings(warehouse)}
    assert {value: (f["kind"], f["usual"], f["rows"]) for value, f in found.items()} == {
        "Reosrt Hotel": ("spelling", "Resort Hotel", 3), "city  hotel": ("spelling", "City Hotel", 1),
    }  # fmt: skip
    assert found["Reosrt Hotel"]["examples"] == [
        {"path": "bookings/rows.jsonl", "line": line} for line in (8, 81, 501)
    ]
    assert json.dumps(found, default=str)
