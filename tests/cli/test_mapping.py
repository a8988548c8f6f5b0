"""`northstar mapping`: what a mapping makes of files is seen before it lands, and an older mapping becomes SQL."""

import zipfile
from pathlib import Path

import pytest

from northstar.cli import main as cli
from tests.extract.landing.test_mapped import mapped_rows

EXPORT = "Ref;Opened;Level;Note\nT-1;05/03/2025 09:00;P1;x\nT-2;06/03/2025 11:00;P3;\nT-3;2025;P9;y\n"
MAPPING = """
application: desk
entities:
  tickets:
    files: "*.csv"
    csv: {delimiter: ";"}
    columns:
      ticket_id: Ref
      priority: {column: Level, map: {P1: urgent, P3: normal}}
      status: {constant: open}
      created_at: {column: Opened, parse: "%d/%m/%Y %H:%M", timezone: Europe/Berlin}
      updated_at: {column: Opened, parse: "%d/%m/%Y %H:%M", timezone: Europe/Berlin}
"""


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "export.csv").write_text(EXPORT)
    (tmp_path / "desk.yml").write_text(MAPPING)
    return tmp_path


def test_rows_are_shown_beside_what_becomes_of_them(desk, capsys):
    path, mapping = str(desk / "desk" / "export.csv"), str(desk / "desk.yml")
    assert cli.main(["mapping", "preview", path, "--entity", "tickets", "--mapping", mapping]) == 1
    text = capsys.readouterr().out
    for words in (
        "tickets: of 3 rows in 1 file 2 would land, 1 go to quarantine",
        "export.csv, line 2\n    source      Ref=T-1  Opened=05/03/2025 09:00  Level=P1  Note=x\n"
        "    lands       ticket_id=T-1  application=desk  priority=urgent  status=open  created_at=2025-03-05T08:00:00Z",
        "export.csv, line 4\n    source      Ref=T-3  Opened=2025  Level=P9  Note=y\n    quarantine  priority: 'P9' is not one of",
        "      1  created_at: '2025' is not an ISO 8601 time",
        "priority has values that are not among its own (low, normal, high, urgent): 'P9' (1)",
        "columns that nothing is made of: Note",
    ):
        assert words in text, words
    assert cli.main(["mapping", "preview", str(desk / "desk"), "--mapping", mapping, "--rows", "1"]) == 1
    assert capsys.readouterr().out.count("    source ") == 2


def test_how_times_and_currencies_were_read_is_shown(tmp_path, capsys):
    """Which pattern read a time, and for how many rows day and month could change places, is seen before it lands."""
    (tmp_path / "a.csv").write_text(
        "id,day,at,cur\n1,05/03/2025,2025-03-05 09:00,eur\n2,25/03/2025,2025-03-05 09:00,eur\n3,06.03.2025,x,gbp\n4,03/03/2025,2025-03-05,gbp\n"
    )
    columns = "charge_id: id, currency: cur, created_at: {column: day, parse: ['%d/%m/%Y', '%d.%m.%Y']}, updated_at: {column: at, parse: '%Y-%m-%d %H:%M'}"
    rowwise = f"columns: {{{columns}}}"
    grouped = (
        "select: select id as charge_id, max(cur) as currency, strptime(min(day), ['%d/%m/%Y', '%d.%m.%Y']) as created_at, "
        "min(try_strptime(\"at\", '%Y-%m-%d %H:%M')) as updated_at from input group by id"
    )
    for form in (rowwise, grouped):
        (tmp_path / "m.yml").write_text(f"entities:\n  charges:\n    files: a.csv\n    {form}\n")
        cli.main(["mapping", "preview", str(tmp_path / "a.csv"), "--mapping", str(tmp_path / "m.yml")])
        text = capsys.readouterr().out
        for line in (
            "created_at is read by %d/%m/%Y in 3 rows; in 1 of them day and month could change places",
            "created_at is read by %d.%m.%Y in 1 row; in all of them day and month could change places",
            "updated_at is read by %Y-%m-%d %H:%M in 2 rows\n",
            "currency: eur (2), gbp (2)",
        ):
            assert f"\n  {line}" in text, text


def test_the_files_of_an_archive_are_shown_by_their_names(desk, capsys):
    with zipfile.ZipFile(desk / "desk" / "export.zip", "w") as archive:
        archive.writestr("north.csv", EXPORT)
        archive.writestr("south.csv", EXPORT.replace("T-", "S-"))
    mapping = desk / "desk.yml"
    mapping.write_text(MAPPING.replace('"*.csv"', '"*.zip"'))
    cli.main(["mapping", "preview", str(desk / "desk" / "export.zip"), "--mapping", str(mapping)])
    text = capsys.readouterr().out
    assert "tickets: of 6 rows in 2 files 4 would land, 2 go to quarantine" in text
    assert "export.zip!north.csv, line 4\n" in text and "export.zip!south.csv, line 2\n" in text


def test_a_file_in_the_contracts_layout_needs_no_mapping(tmp_path, capsys):
    (tmp_path / "accounts").mkdir()
    file = tmp_path / "accounts" / "a.csv"
    file.write_text(
        "account_id,account_type,created_at,updated_at\na,customer,2025-01-01T00:00:00Z,2025-01-01T00:00:00Z\n"
    )
    assert cli.main(["mapping", "preview", str(file)]) == 0
    assert "accounts: of 1 rows in 1 file 1 would land" in capsys.readouterr().out


def test_what_lands_and_what_does_not_is_shown_beside_what_the_source_has(tmp_path, capsys):
    (tmp_path / "charges").mkdir()
    file = tmp_path / "charges" / "a.csv"
    file.write_text(
        "charge_id,account_id,amount,currency,status,created_at,updated_at\n"
        "c1,a,1.5e2,usd,SUCCEEDED,2025-01-01T10:00:00+02:00,2025-01-01T24:00:00Z\n"
        "c2,a,12.5000000000001,USD,failed,2025-01-01T10:00:00Z,2025-01-01T10:00:00Z\n"
    )
    assert cli.main(["mapping", "preview", str(file)]) == 1
    text = capsys.readouterr().out
    times = "created_at=2025-01-01T08:00:00Z  updated_at=2025-01-02T00:00:00Z"
    assert "source      charge_id=c1  account_id=a  amount=1.5e2  currency=usd  status=SUCCEEDED" in text
    assert (
        f"lands       charge_id=c1  account_id=a  application=default  amount=150  currency=USD  status=succeeded  {times}"
        in text
    )
    assert "source      charge_id=c2  account_id=a  amount=12.5000000000001  currency=USD  status=failed" in text
    assert "quarantine  amount: '12.5000000000001' has more than twelve digits after the point" in text
    assert "values that are not among its own" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], "no file or directory nowhere.csv"),
        (["desk/export.csv"], "nothing in the contract is about desk/export.csv; give a mapping with --mapping"),
        (["desk/export.csv", "--entity", "ticket"], "no entity 'ticket'"),
        (["desk/export.csv", "--mapping", "desk.yml", "--entity", "events"], "is about desk/export.csv for events"),
        (["desk/export.csv", "--mapping", "desk.yml", "--rows", "0"], "--rows: give a number"),
    ],
)
def test_what_cannot_be_shown_is_one_line(desk, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(desk)
    assert cli.main(["mapping", "preview", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["online_retail", "incident_log", "oulad"])
def test_an_older_mapping_makes_the_same_rows_as_the_sql_that_it_is_converted_to(tmp_path, capsys, name):
    source = Path(__file__).parents[1] / "real_data" / name
    old = source / "_mapping.yml"
    assert cli.main(["mapping", "convert", str(old)]) == 0
    new = capsys.readouterr().out
    assert "select" in new and "group_by" not in new and "expression" not in new
    files = {path.name: path.read_bytes() for path in sorted(source.glob("*.csv.gz"))[:2]}
    assert files
    for entity in ("accounts", "charges", "refunds", "events", "tickets", "ticket_events"):
        before, after = (mapped_rows(tmp_path, text, files, entity) for text in (old.read_text(), new))
        assert before == after


def test_a_first_mapping_is_written_and_none_is_overwritten(desk, capsys):
    (desk / "desk" / "export.csv").write_text("Ticket,Opened,Status\nT-1,2025-03-05T09:00:00Z,open\n")
    assert cli.main(["mapping", "guess", str(desk / "desk")]) == 0
    printed = capsys.readouterr().out
    assert 'ticket_id: "Ticket"' in printed
    first = desk / "first.yml"
    assert cli.main(["mapping", "guess", str(desk / "desk"), "--output", str(first)]) == 0
    assert first.read_text() == printed
    assert cli.main(["mapping", "preview", str(desk / "desk"), "--mapping", str(first)]) == 0
    capsys.readouterr()
    assert cli.main(["mapping", "guess", str(desk / "desk"), "--output", str(first)]) == 1
    assert "first.yml is there already; name another file" in capsys.readouterr().err


CHARGES = "charge_id,account_id,amount,currency,status,created_at,updated_at,channel\n"


def test_a_preview_warns_of_what_landing_and_its_audit_warn_of(tmp_path, capsys):
    """Amounts in major units, contradictions, names that are slips, rows that do not belong together, clocks that disagree: before they land."""
    day = "2025-01-01T00:00:00Z"
    files = {
        "accounts/a.csv": "account_id,account_type,country,created_at,updated_at,deleted_at,consnet\n"
        f"a,customer,Norway,{day},{day},2024-01-01T00:00:00Z,yes\nB\u00e9,customer,NO,{day},{day},,\nBe\u0301,customer,NO,{day},{day},,\n",
        "accounts/notes.txt": "x",
        "charges/c.csv": CHARGES
        + "".join(f"c{n},a,{n}.5,USD,succeeded,{day},{day},{'Web'}\n" for n in range(60))
        + f"c1,a,7,USD,succeeded,{day},{day},Web\nc99,nobody,700,USD,succeeded,{day},{day},Web\n",
        "refunds/r.csv": "refund_id,charge_id,amount,currency,status,created_at,updated_at\n"
        f"r1,c99,900,USD,succeeded,{day},{day}\nr2,nothing,1,USD,succeeded,{day},{day}\n",
        "subscriptions/s.csv": "subscription_id,subscription_item_id,account_id,plan_id,plan_name,billing_interval,interval_count,quantity,unit_amount,currency,status,"
        "valid_from,valid_to,updated_at\n"
        f"s,i,a,p,P,month,1,1,10,USD,active,{day},2025-03-01T00:00:00Z,{day}\ns,i,a,p,P,month,1,1,10,USD,active,2025-02-01T00:00:00Z,,{day}\n",
        "events/e.jsonl": f'{{"event_id": "e", "event_name": "x", "occurred_at": "{day}", "received_at": "{day}", "visitor_id": "v", "consent": false}}\n',
        "bookings/b.csv": "booking_id,tutor_id,student_id,price_amount,currency,commission_rate,requested_at,updated_at\n"
        + "".join(f"b{n},{'Resort' if n else 'Reosrt'} Hotel,s,100,EUR,0.1,{day},{day}\n" for n in range(60)),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    cli.main(["mapping", "preview", str(tmp_path), "--rows", "1"])
    text = capsys.readouterr().out
    for words in (
        "amount: USD, up to 700, has digits after the point, and never more than a USD has: major units in place of minor ones? (60 rows, such as charges/c.csv line ",
        "rows_of_one_file_do_not_contradict_each_other: 2 rows have the key and time of change of another and differ, such as c1",
        "charges_belong_to_known_accounts: 1 row, such as c99 is of account nobody, which nobody has",
        "refunds_do_not_exceed_their_charge: 1 row, such as c99 was 700.0 USD, and 900.0 are given back",
        "refunds_belong_to_landed_charges: 1 row, such as r2",
        "visible_rows_of_an_item_do_not_overlap: 1 row, such as item i is valid twice at 2025-02-01",
        "times_of_accounts_are_in_order: 1 row, such as a",
        "countries_of_accounts_are_codes: 1 row, such as a",
        "account_ids_have_one_form: 2 rows",
        "'Reosrt Hotel' is written nearly like 'Resort Hotel' (1 row, such as bookings/b.csv line 2)",
        "accounts/notes.txt is not read; deliver csv",
        "columns that nothing is made of: consnet",
        "events: of 1 rows in 1 file 0 would land, 0 go to quarantine, 1 refused for lack of consent",
    ):
        assert words in text, words
    one = str(tmp_path / "refunds" / "r.csv")
    assert cli.main(["mapping", "preview", one]) == 0
    # of the charges, nothing is known here
    assert "landing would warn" not in capsys.readouterr().out
