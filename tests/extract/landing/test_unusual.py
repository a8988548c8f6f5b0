"""The corrupted hotel file is noticed beside the clean one and on its own, whole and as a small file of the same kind."""

import csv
import random

import pyarrow.parquet as pq
import pytest

from northstar.base.settings import ROOT
from northstar.contract import entities
from northstar.extract.landing.directory import listed_files, units
from northstar.extract.landing.mapped import Mapped
from northstar.extract.landing.mapping import read_mapping
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.profile import Profile
from northstar.extract.landing.settled import NOTHING_SETTLED
from northstar.extract.landing.unusual import judge
from northstar.privacy.guard import Guard

HOTELS = ROOT.parent / "shared" / "data" / "hotel_bookings"
NAMES = {"H1": "Resort Hotel", "H2": "City Hotel"}
SLIPS = {"Resort Hotel": "Reosrt Hotel", "City Hotel": "Citi Hotel"}
STATES = {"Check-Out": "captured", "Canceled": "refunded", "No-Show": "failed"}
MAPPING = """
entities:
  bookings:
    files: "*.csv"
    select: >
      select number as booking_id, 'guest ' || number as student_id, hotel as tutor_id, amount as price_amount, 'EUR' as currency,
        '0.1' as commission_rate, day || 'T00:00:00Z' as requested_at, status as payment_state, day || 'T00:00:00Z' as updated_at
      from input
"""


def whole_set() -> list[dict]:
    """All bookings of the two hotels."""
    rows = []
    for name in NAMES:
        columns = ["ReservationStatus", "ReservationStatusDate", "ADR"]
        for row in pq.read_table(HOTELS / f"{name}.parquet", columns=columns).to_pylist():
            rows.append({
                "number": len(rows), "hotel": NAMES[name], "amount": max(0, round(row["ADR"] * 100)),
                "day": row["ReservationStatusDate"].date(), "status": STATES[row["ReservationStatus"].strip()],
            })  # fmt: skip
    return rows


def small_set() -> list[dict]:
    """Bookings of the same kind, 3,000 of them."""
    chance = random.Random(3)
    return [
        {
            "number": n, "hotel": NAMES[chance.choice(("H1", "H2", "H2"))], "amount": chance.randint(3000, 40_000),
            "day": f"2016-{n % 12 + 1:02}-{n % 28 + 1:02}", "status": chance.choice(list(STATES.values())),
        }
        for n in range(3000)
    ]  # fmt: skip


def corrupted(rows: list[dict], misspelt: int, without_status: int) -> list[dict]:
    """The rows with slips in the hotel's name and without a status."""
    chance, wrong = random.Random(1), [dict(row) for row in rows]
    for row in chance.sample(wrong, misspelt):
        row["hotel"] = SLIPS[row["hotel"]]
    for row in chance.sample(wrong, without_status):
        row["status"] = ""
    return wrong


def judged(directory, tables: dict[str, list[dict]]) -> list[tuple]:
    """The findings of files that land together, before anything else has."""
    for name, rows in tables.items():
        with (directory / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {"number": f"{name}{row['number']}"} for row in rows])
    (directory / "_mapping.yml").write_text(MAPPING)
    [own_input] = read_mapping(str(directory), None, None)
    entity, profile = entities()["bookings"], Profile()
    mapped = Mapped(own_input, directory / "tmp", 512, 5)
    try:
        for unit in units(mapped, listed_files(str(directory), own_input, None)):
            for piece in mapped.pieces(unit):
                done = normalise(entity, piece.batch, Guard("key"))
                assert not done.bad
                profile.add(entity, done.rows, done.lines, unit.path, piece.place)
    finally:
        mapped.close()
    return [(f.column, f.kind, f.value, f.rows, f.path) for f in judge(entity, {}, profile, NOTHING_SETTLED)]


@pytest.mark.parametrize(
    ("read", "misspelt", "without_status"),
    [(small_set, 12, 6), pytest.param(whole_set, 449, 200, marks=pytest.mark.slow)],
)
def test_the_corrupted_hotels_are_noticed_on_their_first_landing(tmp_path, read, misspelt, without_status):
    if read is whole_set and not HOTELS.exists():
        pytest.skip(f"the hotels' bookings are not at hand: {HOTELS}")
    rows = read()
    wrong = corrupted(rows, misspelt, without_status)
    counts = {slip: sum(row["hotel"] == slip for row in wrong) for slip in SLIPS.values()}
    for names in (("wrong",), ("clean", "wrong")):
        directory = tmp_path / "_".join(names)
        directory.mkdir()
        found = judged(directory, {name: wrong if name == "wrong" else rows for name in names})
        slips = {value: count for column, kind, value, count, _ in found if (column, kind) == ("tutor_id", "spelling")}
        assert slips == counts and sum(slips.values()) == misspelt
        missing = [f for f in found if f[1] == "missing"]
        assert [(column, count, path.split("#")[0]) for column, _, _, count, path in missing] == [
            ("payment_state", without_status, "wrong.csv")
        ]
        assert all(kind in ("spelling", "missing") for _, kind, *_ in found), found


@pytest.mark.slow
def test_the_clean_hotels_are_not_warned_of(tmp_path):
    if not HOTELS.exists():
        pytest.skip(f"the hotels' bookings are not at hand: {HOTELS}")
    assert judged(tmp_path, {"clean": whole_set()}) == []
