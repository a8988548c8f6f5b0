"""Guesses from values and names, and the mapping that they make."""

import bz2
import csv
import random
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from northstar.base.errors import NorthstarError
from northstar.contract import entities
from northstar.extract.landing.guess import guess
from northstar.extract.landing.sample import sample
from northstar.extract.sources.files import list_files
from tests import hostile
from tests.extract.landing.test_mapped import mapped_rows
from tests.extract.sources.test_foreign import text as cell_text
from tests.extract.sources.test_foreign import workbook

EXPORTS = Path(__file__).parent / "exports"


def guessed(directory: Path, files: dict[str, str | bytes]) -> str:
    """The mapping for files that are written below a directory."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return guess(directory)


def landed(directory: Path, entity: str) -> tuple[list[dict], list]:
    """The rows of an entity, as the guessed mapping makes them: ({column: value}, bad rows)."""
    mapping = guess(directory)
    rows, bad = mapped_rows(directory, mapping, {}, entity)
    return [{k: str(v) for k, v in row.items() if v is not None} for _, _, row in rows], bad


PAYMENTS = """Payment Ref,Customer,Amount,Status,Date
P1,1,"$1,200.50",Paid,01/13/2025
P2,2,$5.00,Declined,01/02/2025
P3,2,$5.00,Weird,01/02/2025
"""


def test_a_file_of_payments_lands_and_what_is_not_told_is_said(tmp_path):
    text = guessed(tmp_path, {"payments.csv": PAYMENTS})
    assert "not told, so null: Weird; allowed: pending, succeeded, failed" in text
    assert "no zone in the file: UTC is taken" in text and "told by the amounts' sign" in text
    rows, bad = landed(tmp_path, "charges")
    assert not bad
    assert rows[0] == {
        "charge_id": "P1", "account_id": "1", "amount": "120050.000000000000", "currency": "USD", "status": "succeeded",
        "created_at": "2025-01-13 00:00:00+00", "updated_at": "2025-01-13 00:00:00+00",
    }  # fmt: skip
    assert [row.get("status") for row in rows] == ["succeeded", "failed", None]


def test_semicolons_commas_in_numbers_and_encodings_are_told(tmp_path):
    text = "Bestellung;Kunde;Preis;Datum\n1;Müller;1.200,50 €;05.03.2025\n2;Özil;7,00 €;31.12.2024\n"
    guessed(tmp_path, {"bestellungen/a.csv": text.encode("cp1252"), "bestellungen/b.txt": text.encode("utf-16")})
    rows, bad = landed(tmp_path, "charges")
    assert not bad and len(rows) == 4
    assert {(row["account_id"], row["amount"], row["currency"], row["created_at"]) for row in rows} == {
        ("Müller", "120050.000000000000", "EUR", "2025-03-05 00:00:00+00"),
        ("Özil", "700.000000000000", "EUR", "2024-12-31 00:00:00+00"),
    }


def test_a_recognised_header_gets_its_mapping_in_any_order(tmp_path):
    lines = [line.split(",") for line in (EXPORTS / "chartmogul" / "customers.csv").read_text().splitlines()]
    shuffled = "\n".join(",".join([*reversed(line), "more"]) for line in lines) + "\n"
    text = guessed(tmp_path, {"whatever.csv": shuffled})
    assert "told by its header as the export chartmogul" in text
    rows, bad = landed(tmp_path, "accounts")
    assert not bad and [row["account_id"] for row in rows] == ["cus_1"]


def test_dates_in_either_order_are_said_and_those_in_both_are_left_out(tmp_path):
    text = guessed(
        tmp_path,
        {"tickets.csv": "Ticket,Status,Created,Updated\n1,open,01/02/2025,13/01/2025\n2,open,01/03/2025,01/13/2025\n"},
    )
    [created] = [line for line in text.splitlines() if "created_at" in line]
    assert '["%m/%d/%Y"]' in created and "the month is taken to stand first" in created
    [updated] = [line for line in text.splitlines() if "updated_at" in line]
    assert updated.strip().startswith("# updated_at:") and "both orders" in updated


def test_a_file_without_a_header_and_with_lines_above_it_is_read(tmp_path):
    guessed(
        tmp_path,
        {
            "charges.csv": "a report\nof today\nid,customer,amount,currency,created_at\n1,7,10.00,EUR,1735689600\n2,7,5,EUR,1735689601\n"
        },
    )
    rows, _ = landed(tmp_path, "charges")
    assert [(row["charge_id"], row["amount"], row["created_at"]) for row in rows] == [
        ("1", "1000.000000000000", "2025-01-01 00:00:00+00:00"),
        ("2", "500.000000000000", "2025-01-01 00:00:01+00:00"),
    ]
    found = sample_of(tmp_path, "x.csv", "1,2025-01-01,a\n2,2025-01-02,b\n")
    assert list(found.columns) == ["column_1", "column_2", "column_3"] and found.columns["column_1"] == ["1", "2"]


def test_json_lines_and_parquet_are_looked_at(tmp_path):
    pq.write_table(
        pa.table({"ticket id": [1], "status": ["open"], "created": ["2025-03-05T09:00:00Z"]}),
        tmp_path / "tickets.parquet",
    )
    text = guessed(tmp_path, {"tickets.json": '{"ref": "T1", "state": "resolved", "opened": "2025-03-05T09:00:00Z"}\n'})
    assert 'format: "jsonl"' in text
    rows, bad = landed(tmp_path, "tickets")
    assert not bad and {(row["ticket_id"], row["status"]) for row in rows} == {("1", "open"), ("T1", "solved")}


def test_what_fits_nothing_is_said_and_nothing_at_all_is_an_error(tmp_path):
    text = guessed(tmp_path, {"payments.csv": PAYMENTS, "colours.csv": "hue,shade\nred,dark\n", "x.xml": "<a/>"})
    assert "# colours.csv: left out: nothing in the contract fits its columns (hue, shade)" in text
    assert "# x.xml: left out: xml: say" in text
    (tmp_path / "payments.csv").unlink()
    with pytest.raises(NorthstarError, match=r"nothing could be guessed; colours\.csv"):
        guess(tmp_path)
    with pytest.raises(NorthstarError, match="no directory"):
        guess(tmp_path / "gone")


def sample_of(directory: Path, name: str, content: str):
    (directory / name).write_text(content)
    [file] = list_files(str(directory), name)
    return sample(file)


VALUES = {
    "text": ["abc", "def"], "int": ["1", "20"], "decimal": ["1.5", "2"], "bool": ["true", "false"], "json": ['{"a": 1}', "{}"],
    "timestamp": ["2025-03-05T09:00:00Z", "2025-03-06T09:00:00Z"], "date": ["2025-03-05", "2025-03-06"],
}  # fmt: skip


@pytest.mark.parametrize("entity", entities().values(), ids=lambda entity: entity.name)
def test_the_contracts_own_columns_are_told_whatever_the_file_is_called(entity, tmp_path):
    columns = list(entity.columns.values())
    with (tmp_path / "file.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([c.name for c in columns])
        for n in range(2):
            coded = {"currency": "EUR", "country": "DE"}
            writer.writerow(
                [c.values[n % len(c.values)] if c.values else coded.get(c.name, VALUES[c.type][n]) for c in columns]
            )
    declared = yaml.safe_load(guess(tmp_path))["entities"]
    assert list(declared) == [entity.name]
    assert list(declared[entity.name][0]["columns"]) == [c.name for c in columns]


def test_names_that_nobody_sees_do_not_break_the_mapping(tmp_path):
    with (tmp_path / "tickets #1.csv").open("w", newline="") as handle:
        names = ["Ticket", 'Sta"tus: {x}\u2028', "Created", "a\x01b # c", "status"]
        csv.writer(handle).writerows([names, ["1", "open", "2025-03-05T09:00:00Z", "x", "solved"]])
    text = guess(tmp_path)
    assert "\u2028" not in text and "\x01" not in text
    rows, bad = landed(tmp_path, "tickets")
    assert not bad and [row["ticket_id"] for row in rows] == ["1"]


def test_the_files_of_an_archive_are_looked_at_one_by_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("payments.csv", PAYMENTS)
        archive.writestr("tickets[1].csv", "Ticket,Opened,Status\nT-1,2025-03-05T09:00:00Z,open\n")
    text = guessed(tmp_path, {})
    assert 'files: "export.zip!payments.csv"' in text and 'files: "export.zip!tickets[[]1].csv"' in text
    assert landed(tmp_path, "tickets") == ([{
        "ticket_id": "T-1", "status": "open", "created_at": "2025-03-05T09:00:00Z", "updated_at": "2025-03-05T09:00:00Z",
    }], [])  # fmt: skip
    assert len(landed(tmp_path, "charges")[0]) == 3


def test_many_files_of_a_kind_are_named_by_one_pattern(tmp_path):
    day = "ticket,status,created\n1,open,2025-03-05T09:00:00Z\n"
    text = guessed(tmp_path, {f"tickets/{n:02}.csv": day for n in range(25)})
    assert 'files: "tickets/*.csv"' in text
    rows, _ = landed(tmp_path, "tickets")
    assert len(rows) == 25


@pytest.mark.parametrize("seed", [27, 34, 46, 49, 188, 282])
def test_hostile_files_break_no_guess(seed, tmp_path):
    """Damaged archives, days that Python cannot represent, headers of all kinds: a mapping, or one line that says why not."""
    random_ = random.Random(seed)
    for file in (hostile.a_file(random_) for _ in range(2)):
        (tmp_path / file.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.name).write_bytes(file.content)
    try:
        assert guess(tmp_path).startswith("# A first mapping")
    except NorthstarError as exc:
        assert "\n" not in str(exc) and str(exc).isprintable()


def test_a_workbook_is_looked_at(tmp_path):
    rows = [["Ticket", "Status", "Created"], ["1", "open", "2025-03-05T09:00:00Z"]]
    content = workbook(Tickets=[[cell_text(cell) for cell in row] for row in rows])
    mapping = guessed(tmp_path, {"tickets.xlsx": content})
    landed_rows, bad = mapped_rows(tmp_path, mapping, {}, "tickets")
    assert not bad and [row["ticket_id"] for _, _, row in landed_rows] == ["1"]


def test_the_files_name_and_a_time_of_another_column_fill_what_is_missing(tmp_path):
    text = guessed(tmp_path, {"nps.csv": "response id;score;responded\n1;9;25.03.2025 09:00\n"})
    assert "survey: {constant: nps}  # told by the file's name" in text
    rows, bad = landed(tmp_path, "survey_responses")
    assert not bad and [(row["score"], row["sent_at"]) for row in rows] == [("9", "2025-03-25 09:00:00+00")]


def test_the_time_of_a_change_is_told_from_that_of_the_beginning(tmp_path):
    text = guessed(
        tmp_path, {"desk.csv": "Ticket ID,Status,Last updated time,Created time\n1,Resolved,2025-03-06,2025-03-05\n"}
    )
    assert 'created_at: {column: "Created time"' in text and 'updated_at: {column: "Last updated time"' in text
    assert 'map: {"Resolved": "solved"}' in text


def test_arrays_of_json_and_compressed_files_are_looked_at(tmp_path):
    guessed(
        tmp_path,
        {
            "tickets.json": '[{"ref": "T1", "state": "open", "opened": "2025-03-05T09:00:00Z"}]',
            "tickets.csv.bz2": bz2.compress(b"Ticket;Status;Created\nT2;open;2025-03-05T09:00:00Z\n"),
        },
    )
    rows, bad = landed(tmp_path, "tickets")
    assert not bad and {row["ticket_id"] for row in rows} == {"T1", "T2"}


def test_german_columns_and_words_are_known_with_their_umlauts(tmp_path):
    rows = [
        f"RE-{n};K{n % 40};{n % 28 + 1:02d}.03.2025 10:00;{n},50;EUR;{('bezahlt', 'offen')[n % 2]}" for n in range(60)
    ]
    text = "\n".join(["\ufeffBeleg;Kunden-Nr.;Datum;Betrag (brutto);Währung;Status", *rows])
    mapping = yaml.safe_load(guessed(tmp_path, {"Rechnungen.csv": text}))
    (charges,) = mapping["entities"]["charges"]
    assert charges["columns"]["currency"] == "Währung" and charges["columns"]["charge_id"] == "Beleg"
    assert charges["columns"]["status"]["map"] == {"bezahlt": "succeeded", "offen": "pending"}
    found, bad = landed(tmp_path, "charges")
    assert not bad and (float(found[3]["amount"]), found[3]["currency"], found[3]["status"]) == (350, "EUR", "pending")


def test_the_exports_of_a_german_company_need_its_currency_and_its_countries(tmp_path):
    text = guessed(
        tmp_path,
        {
            "kunden.csv": "Kundennummer;Registriert;Land;Kanal\nK1;27/08/2024 19:23;Deutschland;organisch\n",
            "vertraege.csv": "Vertrag;Kundennummer;Tarif;Anzahl;Preis;Beginn;Ende\nV1;K1;Team;3;49,00;29/08/2024 12:04;29/09/2024 12:04\n",
            "erstattungen.csv": "Erstattung;Zahlung;Datum;Betrag\nR1;Z1;26/02/2025 00:14;199,00\n",
            "tickets.csv": "Ticket;Kundennummer;Eröffnet;Priorität;Gelöst\nT1;K1;01/10/2024 12:39;hoch;\n",
            "ereignisse.jsonl": '{"id": "E1", "konto": "K1", "aktion": "bericht", "zeit": "2024-09-03T00:23:00Z"}\n',
        },
    )
    assert text.count("rows go to quarantine until it is written") == text.count("# currency:") == 2
    assert "Land has names, not two-letter codes" in text
    mapping = yaml.safe_load(text)["entities"]
    assert sorted(mapping) == ["accounts", "events", "refunds", "subscriptions", "tickets"]
    ((events,), (tickets,), (contracts,)) = (mapping[name] for name in ("events", "tickets", "subscriptions"))
    assert (events["columns"]["event_name"], events["columns"]["occurred_at"]) == ("aktion", "zeit")
    assert (
        tickets["columns"]["priority"]["map"] == {"hoch": "high"} and tickets["columns"]["account_id"] == "Kundennummer"
    )
    columns = contracts["columns"]
    assert columns["subscription_item_id"] == columns["subscription_id"] == "Vertrag" and columns["plan_id"] == "Tarif"
    assert (columns["valid_from"]["column"], columns["valid_to"]["column"]) == ("Beginn", "Ende")
