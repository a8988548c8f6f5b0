"""Files and rows as strangers write them: each lands as what it says, or a message says what is wrong with it. None is read as something else."""

import gzip
import io
import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.preview import as_text, preview
from northstar.runs.mapping_checks import add_warnings
from tests.support import empty, query_as, silent

T = "2025-01-01T00:00:00Z"
HEADER = "charge_id,account_id,amount,currency,status,created_at,updated_at\n"
MAPPING = """
entities:
  charges:
    files: "*.csv"
    columns:
      charge_id: id
      account_id: {constant: a}
      amount: {sql: "number(amount)"}
      currency: {constant: EUR}
      status: {constant: succeeded}
      created_at: {column: at, parse: "%d.%m.%Y %H:%M", timezone: Europe/Berlin}
      updated_at: {column: at, parse: "%d.%m.%Y %H:%M", timezone: Europe/Berlin}
"""


def charge(charge_id, amount="100", account="a", created=T):
    return f"{charge_id},{account},{amount},USD,succeeded,{created},{T}\n"


def record(**values):
    return json.dumps(
        {"charge_id": "c", "account_id": "a", "amount": 1, "currency": "USD", "status": "succeeded", "created_at": T, "updated_at": T, **values}
    )  # fmt: skip


def table(**columns):
    """A parquet file of charges."""
    own = {
        "charge_id": ["1", "2"],
        "account_id": ["a", "b"],
        "amount": [1, 2],
        "currency": ["USD"] * 2,
        "status": ["failed"] * 2,
    }
    own |= {"created_at": [T] * 2, "updated_at": [T] * 2, **columns}
    buffer = io.BytesIO()
    pq.write_table(pa.table(own), buffer)
    return buffer.getvalue()


def archive(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, HEADER + charge("1"))
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        member = tarfile.TarInfo("c.csv")
        member.size = len(HEADER)
        file.addfile(member, io.BytesIO(HEADER.encode()))
    return buffer.getvalue()


def shown(directory, name, content):
    """What a preview shows of one file: its text, or its message."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        previews = preview(directory, None, None, 50)
        add_warnings(previews)
    except NorthstarError as exc:
        return f"refused: {exc}"
    return as_text(previews)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        # Arrow's cast wraps some of those that are too large for it
        ("9" * 26, "amount=" + "9" * 26),
        ("1" * 38, "beyond the 26 digits before the point"),
        ("12345678901234567890123456789", "beyond the 26 digits before the point"),
        ("123456789e20", "beyond the 26 digits before the point"),
        ("-1e300", "beyond the 26 digits before the point"),
        ("0" * 40 + "7", "amount=7"),
        ("-0.0", "amount=0"),
        ("100 USD", "amount: '999 AAA' (its shape) is not a number"),
        ("(100)", "amount: '(100)' is not a number"),
        ("１００", "amount: '１００' is not a number"),
    ],
)
def test_a_number_lands_as_it_is_or_not_at_all(tmp_path, amount, words):
    text = shown(tmp_path, "charges/c.csv", HEADER + charge("1", amount))
    assert words in text, text


def test_a_whole_number_with_an_exponent_is_not_wrapped_either(tmp_path):
    text = shown(tmp_path, "tutor_applications/t.jsonl", json.dumps({"interval_count": 1}))
    assert "required" in text
    header = "subscription_id,subscription_item_id,account_id,plan_id,billing_interval,interval_count,quantity,unit_amount,currency,status,valid_from,updated_at\n"
    rows = "".join(
        f"s,i{n},a,p,month,{count},1,10,USD,active,{T},{T}\n" for n, count in enumerate(("123456789e31", "1e3"))
    )
    text = shown(tmp_path / "other", "subscriptions/s.csv", header + rows)
    assert "interval_count: '123456789e31' is not a whole number" in text and "interval_count=1000 " in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(charge_id=pa.array([9007199254740992.0, 7.0])), "charge_id: an id that was made a number and has lost its digits"),
        (table(charge_id=pa.array([9007199254740991.0, 7.0])), "charge_id=9007199254740991 "),
        (table(account_id=pa.array([b"\xff\xfe", b"a"])), "account_id: an id whose bytes are no text"),
        (table(account_id=pa.array([b"\xff" * 16, b"a" * 16], pa.binary(16))), "account_id: an id whose bytes are no text"),
        (table(account_id=pa.array([b"a" * 16, b"b" * 16], pa.binary(16))), "account_id=aaaaaaaaaaaaaaaa "),
        (table(amount=pa.array([2**64 - 1, 5], pa.uint64())), "amount=18446744073709551615 "),
        (table(amount=pa.array([float("nan"), float("inf")])), "amount: 'inf' is not a number"),
    ],
)  # fmt: skip
def test_a_typed_id_keeps_its_value_or_goes_to_quarantine(tmp_path, content, words):
    assert words in shown(tmp_path, "charges/c.parquet", content)


@pytest.mark.parametrize(
    "word", ["null", "NULL", "None", "nan", "NaN", "N/A", "#N/A", "\\N", "undefined", "[object Object]", "<null>"]
)
def test_a_word_for_none_in_place_of_an_id_is_a_warning(tmp_path, word):
    """All rows without an account would be one account's. The word stays as it is written: an account may have it for a name."""
    rows = charge("1", account=word) + charge("2", account="nullable") + charge("3", account=word)
    text = shown(tmp_path, "charges/c.csv", HEADER + rows)
    assert "3 would land, 0 go to quarantine" in text
    assert (
        f"account_id: {word!r} is a word for none, where an id is expected: its rows count as one's (2 rows, such as charges/c.csv line 2)"
        in text
    )


def test_ids_that_differ_in_what_nobody_sees_are_a_warning(tmp_path):
    rows = "".join(
        f"{i},customer,{T},{T}\n" for i in ("A1", "a1", " B1", "B1", "C1\u200b", "C1", "D1\u00a0", "D1", "E1", "F1")
    )
    text = shown(tmp_path, "accounts/a.csv", "account_id,account_type,created_at,updated_at\n" + rows)
    assert "account_ids_have_one_form: 8 rows, such as " in text
    text = shown(
        tmp_path / "other", "accounts/a.csv", f"account_id,account_type,created_at,updated_at\nA,customer,{T},{T}\n"
    )
    assert "account_ids_have_one_form" not in text


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("9999-12-31T23:59:59Z", "created_at: after 2199"),
        ("2199-12-31T23:59:59Z", "created_at=2199-12-31T23:59:59Z"),
        ("Wed 01 January 2025 00:00:00", "created_at: 'Aaa 99 Aaaaaaa 9999 99:99:99' (its shape) is not an ISO 8601 time"),
        ("2025-01-01T00:00:00 Europe/Berlin", "(its shape) is not an ISO 8601 time"),
        ("1735689600", "created_at: '1735689600' is not an ISO 8601 time"),
        ("2025-02-29T00:00:00Z", "created_at: '2025-02-29T00:00:00Z' is not an ISO 8601 time"),
        ("0000-00-00 00:00:00", "is not a time"),
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_is_named(tmp_path, moment, words):
    text = shown(tmp_path, "charges/c.csv", HEADER + charge("1", created=moment))
    assert words in text, text


def test_a_date_without_end_is_the_end_of_a_subscription(tmp_path):
    """Sources write 9999-12-31 for what has no end; it is no time of its own."""
    header = "subscription_id,subscription_item_id,account_id,plan_id,billing_interval,interval_count,quantity,unit_amount,currency,status,valid_from,valid_to,updated_at\n"
    row = f"s,i,a,p,month,1,1,10,USD,active,{T},9999-12-31T00:00:00Z,{T}\n"
    assert "1 would land" in shown(tmp_path, "subscriptions/s.csv", header + row)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", HEADER.replace("amount", "\u200bamount").encode() + charge("1").encode(), "1 would land"),
        ("c.csv", "\ufeff\ufeff" + HEADER + charge("1"), "1 would land"),
        ("c.csv", HEADER.strip(), "of 0 rows in 1 file 0 would land"),
        ("c.csv", "<!DOCTYPE html><html><body>Log in</body></html>", "the required column charge_id is missing; it seems to be a page of HTML, or XML"),
        ("c.csv", HEADER.replace("charge_id", "Charge_ID") + charge("1"), "the required column charge_id is missing; it is written Charge_ID"),
        ("c.csv", HEADER.replace("charge_id", "charge id") + charge("1"), "it is written charge id; write charge_id, or rename it in a mapping"),
        ("c.csv", '{"error": "rate limited"}\n', "the required column charge_id is missing; it seems to be JSON"),
        ("c.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "it seems to be a pointer of Git LFS"),
        ("c.csv", "Order,Total\n1,2\n", "the required column charge_id is missing; it has Order, Total"),
        ("c.csv", "anna.smith@example.com,5\n", "the required column charge_id is missing; it has (withheld), 5"),
        ("c.jsonl", '{"order": 1}\n{"order": 2}\n', "no record has charge_id, account_id, amount or another required column; they have order"),
        ("c.csv", "sep=,\n" + HEADER + charge("1"), "its first line is Excel's sep=,; remove it, or write `csv: {skip_lines: 1}` in a mapping"),
        ("c.csv", (HEADER + charge("é")).encode("utf-16"), "it seems to be UTF-16; deliver it as UTF-8, or write `csv: {encoding: utf-16}` in a mapping"),
        ("c.csv", (HEADER + charge("1")).encode("utf-16-le"), "it seems to be UTF-16; "),
        ("c.csv", (HEADER + charge("1")).encode("utf-16-be"), "it seems to be UTF-16; "),
        ("c.csv", (HEADER + charge("é")).encode("utf-32"), "it seems to be UTF-32"),
        ("c.csv", (HEADER + charge("Müller")).encode("latin-1"), "not utf-8 at byte 67; deliver it as UTF-8, or name its encoding in a mapping"),
        ("c.csv", gzip.compress((HEADER + charge("1")).encode()), "it is compressed with gzip; let its name end with .gz"),
        ("c.csv", archive("xl/workbook.xml"), "it is a zip archive or a sheet of Excel; let its name say so"),
        ("c.csv", table(), "it is a parquet file; let its name say so"),
        ("c.csv.gz", gzip.compress(tarred()), "it is a tar archive; deliver its files themselves, or a zip archive"),
        ("c.csv", charge("1") + charge("2"), "give each its own name, or `names` in a mapping where the first line is no header"),
        ("c.csv.gz", HEADER + charge("1"), "it is not compressed with gzip, as its name says"),
        ("c.csv", HEADER + charge("1", account="a" * 5_000_000), "longer than 4 MB"),
        ("c.csv", HEADER + '1,"a\n' + charge("2") + charge("3"), "2 fields where the header has 7, over 3 lines: is a quotation mark not closed?"),
        ("c.csv", HEADER + charge("1") + "Total,,200,,,,\n", "account_id: required"),
        ("c.csv", HEADER + "1,a,100\n", "3 fields where the header has 7"),
        ("c.json", json.dumps({"data": [json.loads(record())], "has_more": False}), "its records lie in 'data'; deliver that list alone"),
        ("c.json", json.dumps(json.loads(record()), indent=2), "of 1 rows in 1 file 1 would land"),
        ("c.json", json.dumps({"rows": [json.loads(record())]}, indent=2), "its records lie in 'rows'"),
        ("c.json", record() + "\n" + record(charge_id="d") + "\n", "of 2 rows in 1 file 2 would land"),
        ("c.json", "[" + record() + "][]", "after its array of 1 records comes something else"),
        ("c.jsonl", record() + ",\n", "not a JSON object"),
        ("c.jsonl", record(amount=True), "amount: 'true' is not a number"),
        ("c.jsonl", record(account_id={"id": "a"}), "a JSON document where an id is expected"),
        ("c.jsonl", record(account_id="a\x00b"), "account_id: text with a null byte"),
    ],
)  # fmt: skip
def test_a_file_is_read_or_the_message_says_what_it_is(tmp_path, name, content, words):
    text = shown(tmp_path, f"charges/{name}", content)
    assert words in text, text
    assert "Arrow" not in text and "CSV parse error" not in text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,-500,01.01.2025 10:00", "amount: '-500' is less than 0"),
        ("1,5,01.01.25 10:00", "created_at: before 1990"),
        ("1,5,30.03.2025 02:30", "'2025-03-30 02:30:00' does not exist in Europe/Berlin"),
        ("1,5,2025-01-01 10:00", "created_at: '2025-01-01 10:00' is not a time with a zone"),
    ],
)
def test_a_mapped_value_that_is_refused_is_named_as_it_came(tmp_path, row, words):
    (tmp_path / "_mapping.yml").write_text(MAPPING)
    assert words in shown(tmp_path, "c.csv", f"id,amount,at\n{row}\n")


def test_a_pattern_of_another_language_is_refused(tmp_path):
    (tmp_path / "_mapping.yml").write_text(MAPPING.replace("%d.%m.%Y %H:%M", "dd.MM.yyyy HH:mm"))
    text = shown(tmp_path, "c.csv", "id,amount,at\n1,5,01.01.2025 10:00\n")
    assert text.startswith("refused: ") and "dd.MM.yyyy HH:mm" in text and "%d.%m.%Y" in text


def test_a_column_that_ends_before_it_begins_is_refused(tmp_path):
    (tmp_path / "_mapping.yml").write_text(
        MAPPING.replace(
            "    columns:", "    fixed: {columns: {id: [4, 1], amount: [5, 8], at: [9, 24]}}\n    columns:", 1
        )
    )
    assert "id is [4, 1]; give its first and its last character" in shown(tmp_path, "c.csv", "1\n")


def test_landing_says_the_same_and_stores_no_other_value(tmp_path, warehouse):
    empty(warehouse)
    files = {
        "a": HEADER + charge("1", "1" * 38) + charge("2", "7", account="null"),
        "b": HEADER + charge("3", account="a" * 5_000_000),
    }
    for name, content in files.items():
        (tmp_path / "charges").mkdir(exist_ok=True)
        (tmp_path / "charges" / f"{name}.csv").write_text(content)
    with pytest.raises(NorthstarError, match=r"charges/b.csv: .*longer than 4 MB"):
        land_directory(warehouse, None, str(tmp_path), progress=silent)
    assert query_as(warehouse, "loader", "select charge_id, amount from staging.charges") == [
        {"charge_id": "2", "amount": 7}
    ]
    # what is noticed is kept, to be settled by name
    assert query_as(warehouse, "loader", "select column_name, value, rows from audit.unusual_values") == [
        {"column_name": "account_id", "value": "null", "rows": 1}
    ]
    [rejected] = query_as(warehouse, "loader", "select reasons, row ->> 'amount' as amount from quarantine.rows")
    assert rejected["amount"] == "1" * 38 and "26 digits" in rejected["reasons"][0]
