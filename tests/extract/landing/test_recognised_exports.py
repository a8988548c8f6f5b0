"""Each recognised export's example files become the rows that are stated by hand beside them, and its bad row goes to quarantine."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from northstar.contract import entities
from northstar.extract.landing.directory import listed_files, units
from northstar.extract.landing.mapped import Mapped
from northstar.extract.landing.mapping import read_mapping
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.recognised import FOLDER, exports, recognise
from northstar.privacy.guard import Guard

EXAMPLES = Path(__file__).parent / "exports"
VENDORS = sorted(path.stem for path in FOLDER.glob("*.yml"))


def landed(vendor: str, spill: Path):
    """({entity: rows}, bad rows) of an export's example, each row without its nulls and its hashes."""
    directory, rows, bad = EXAMPLES / vendor, {}, []
    for one in read_mapping(str(directory), FOLDER / f"{vendor}.yml"):
        entity, mapped = entities()[one.entity], Mapped(one, spill, memory_mb=256, minutes=1)
        personal = {c.name for c in entity.columns.values() if c.pii}
        try:
            for unit in units(mapped, listed_files(str(directory), one, None)):
                for piece in mapped.pieces(unit):
                    done = normalise(entity, piece.batch, Guard("a key of the tests"))
                    rows.setdefault(one.entity, []).extend(
                        {k: plain(v) for k, v in row.items() if v is not None and k not in personal}
                        for row in done.rows.to_pylist()
                    )
                    bad += [(piece.origin(line).path, "; ".join(reasons)) for line, reasons, _ in done.bad]
                    bad += [(origin.path, reason) for origin, reason in piece.bad]
                for path, reading in unit.readings.items():
                    bad += [(path, rejected.reason) for rejected in reading.rejected]
        finally:
            mapped.close()
    return rows, bad


def plain(value):
    """A value as the statement by hand writes it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date) else value


def same_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: sorted((name, str(value)) for name, value in row.items()))


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_example_lands_as_stated(vendor, tmp_path):
    stated = yaml.load((EXAMPLES / f"{vendor}.yml").read_text(), yaml.BaseLoader)
    rows, bad = landed(vendor, tmp_path)
    assert set(rows) == set(stated["rows"])
    for entity, expected in stated["rows"].items():
        found = [{name: str(value) for name, value in row.items()} for row in rows[entity]]
        usual = {"application": "default"} if "application" in entities()[entity].columns else {}
        assert same_order(found) == same_order([usual | row for row in expected]), entity
    # a reason is stated by its beginning
    told = [(one["file"], one["reason"]) for one in stated["bad"]]
    assert len(bad) == len(told) and all(
        any(path.partition("#")[0] == file and reason.startswith(beginning) for path, reason in bad)
        for file, beginning in told
    ), bad


@pytest.mark.parametrize("vendor", VENDORS)
def test_an_export_says_what_it_was_checked_against_and_what_it_cannot_give(vendor):
    about = exports()[FOLDER / f"{vendor}.yml"].about
    assert about.checked and about.gaps and all("2026-" in line for line in about.checked)
    inputs = [one for one in read_mapping("", FOLDER / f"{vendor}.yml")]
    patterns = {pattern for one in inputs for part in one.parts for pattern in part.patterns}
    assert patterns == set(about.headers), "each kind of file has a header that tells it"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_header_is_told_in_any_order_and_with_further_columns(vendor):
    for pattern, header in exports()[FOLDER / f"{vendor}.yml"].about.headers.items():
        found = recognise([*reversed(header), "Something else"], pattern.replace("*", ""))
        assert (found.name, found.pattern) == (vendor, pattern)
        assert found.inputs()


def test_a_header_of_nobody_is_not_told():
    assert recognise(["id", "email", "created_at"], "x.csv") is None
