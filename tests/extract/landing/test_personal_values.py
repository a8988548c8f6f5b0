"""What this home has sealed and hashed, and what a source only writes as if it were: told apart at landing, in quarantine and by a rotation."""

import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.contract import entities
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.personal_values import seal_row
from northstar.extract.sources.files import Reading, SourceFile
from northstar.privacy.guard import Guard
from northstar.privacy.keys import chained_hash, keyed_hash, seal, subject_hash, unseal
from northstar.privacy.ring import SECRET, home_key
from northstar.runs import quarantine, rotate
from northstar.warehouse import db
from tests.support import empty, silent

AT = "2025-01-01T00:00:00Z"
ACCOUNT = {"account_id": "a1", "account_type": "customer", "created_at": AT, "updated_at": AT}
EVENT = {"event_id": "e1", "event_name": "x", "occurred_at": AT, "received_at": AT}
HASH = "0123456789abcdef" * 4
FORGED = ["sealed:AAAA", "sealed:", "sealed:ä", "sealed:not base64 at all"]
# what a release before 2026-11-29 sealed with the key "an old key"
SEALED_BEFORE = "sealed:5yWhvspQB8AiJoQk7RlgLL4HRiO1Ma6W6DtiXCc-AJpm6_I="


def landed(entity: str, *rows: dict, key: str = "key", tombstones: dict | None = None):
    raw = pa.RecordBatch.from_pylist([{**row, "_line": n} for n, row in enumerate(rows)])
    return normalise(entities()[entity], raw, Guard(key, tombstones or {}))


def extra(row: dict) -> dict:
    return json.loads(landed("accounts", {**ACCOUNT, **row}).rows.to_pylist()[0]["_extra"])


@pytest.fixture
def source(tmp_path, warehouse):
    empty(warehouse)
    yield tmp_path
    empty(warehouse)


def write(path, *records: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def rows(settings, query: str) -> list[dict]:
    with db.connect(settings, "loader") as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def hostile(warehouse, source):
    """A landed event and a rejected account, both full of what looks sealed or hashed, and of what is."""
    told = {
        "a": FORGED,
        "b": f"hashed:{HASH}",
        "author": HASH,
        "email": "ada@example.org",
        "raw": json.dumps({"c": FORGED[0]}),
    }
    write(source / "events/a.jsonl", {**EVENT, "properties": told, "colour": FORGED[0]})
    write(
        source / "accounts/a.jsonl",
        {**ACCOUNT, "account_type": "alien", "email": "ada@example.org", "colour": FORGED[0], "shade": f"hashed:{HASH}",
         "remark": json.dumps({"said": "Ada called", "n": 1})},
    )  # fmt: skip
    land_directory(warehouse, None, str(source), progress=silent)
    # and what an earlier release kept as it came
    with db.connect(warehouse, "loader") as connection:
        connection.execute("""update quarantine.rows set row = row || '{"tint": "sealed:AAAA"}'""")
    return warehouse


def correct(settings) -> None:
    with db.connect(settings, "loader") as connection:
        connection.execute("""update quarantine.rows set row = jsonb_set(row, '{account_type}', '"user"')""")


def test_a_value_that_looks_sealed_stops_no_replay_and_lands_as_it_was_delivered(hostile):
    correct(hostile)
    assert quarantine.replay(hostile).startswith("1 of 1 rows landed")
    (account,) = rows(hostile, "select email, _extra from staging.accounts")
    key = home_key(hostile)
    assert account["email"] == keyed_hash("ada@example.org", key)
    assert quarantine.unseal_value(account["_extra"], key) == {
        "colour": FORGED[0], "shade": f"hashed:{HASH}", "tint": "sealed:AAAA", "remark": '{"said":"Ada called","n":1}',
    }  # fmt: skip


def test_a_value_that_looks_sealed_stops_no_rotation_and_only_what_is_ours_is_brought_to_the_new_key(hostile):
    key = home_key(hostile)
    following = f"{key},next"
    before = rows(hostile, "select properties from staging.events")[0]["properties"]
    rotated = rotate._rehash_everything(hostile, key, following)
    hostile.keep_secret(SECRET, following)
    after = rows(hostile, "select properties, _extra from staging.events")[0]
    said = quarantine.unseal_value(after["properties"], following)
    assert said == quarantine.unseal_value(before, key) and said["a"] == FORGED and said["email"] == "ada@example.org"
    assert after["properties"]["email"] == seal("ada@example.org", following) != before["email"]
    # a source's own text is no hash of ours, whatever it looks like
    assert (said["b"], said["author"]) == (f"hashed:{HASH}", HASH)
    assert after["_extra"] == {"colour": seal(FORGED[0], following)}
    assert rotated.seals >= 3 and rotated.unopened == 1
    # rows that were rejected before it land after it with the hash that the address has now
    correct(hostile)
    assert quarantine.replay(hostile).startswith("1 of 1 rows landed")
    (account,) = rows(hostile, "select email, _extra from staging.accounts")
    assert account["email"] == keyed_hash("ada@example.org", following)
    assert quarantine.unseal_value(account["_extra"], following)["tint"] == "sealed:AAAA"


def test_what_was_sealed_by_an_earlier_release_opens():
    assert quarantine.unseal_value(SEALED_BEFORE, "an old key,a new one") == "Ada Lovelace called"
    assert seal("Ada Lovelace called", "an old key") == SEALED_BEFORE
    assert quarantine.unseal_value(SEALED_BEFORE, "another") == SEALED_BEFORE


def test_who_delivers_a_seal_of_ours_gets_it_back_unopened():
    """Else somebody who saw a seal could have it opened by delivering it."""
    token = seal("Ada", "key")
    for place in ({"colour": token}, {"remark": json.dumps({"a": [token]})}):
        assert quarantine.unseal_value(extra(place), "key") == {
            k: json.dumps(json.loads(v), separators=(",", ":")) if v[0] == "{" else v for k, v in place.items()
        }


def test_a_value_that_looks_like_a_hash_of_ours_is_text_like_any_other():
    spoofs = {
        "email": f"hashed:{HASH}",
        "account_id": f"hashed:{HASH}",
        "colour": f"hashed:{HASH}",
        "shade": "hashed:red",
        "Author": f"hashed:{HASH}",
    }
    account = landed("accounts", {**ACCOUNT, **spoofs}).rows.to_pylist()[0]
    assert account["email"] == chained_hash(f"hashed:{HASH}", ["key"])
    assert account["account_id"] == f"hashed:{chained_hash(f'hashed:{HASH}', ['key'])}"
    kept = json.loads(account["_extra"])
    assert (kept["colour"], kept["shade"]) == (f"hashed:{HASH}", "hashed:red") and HASH not in kept["Author"]


@pytest.mark.parametrize("key", ["old", "old,new"])
def test_an_erased_account_whose_identifier_is_an_address_does_not_come_back(key):
    """It was erased under the hash that it landed as, and a rotation may have followed."""
    erased_with, account = "old", "Ada@Example.org"
    stone = subject_hash("account", f"hashed:{keyed_hash(account, erased_with)}", erased_with)
    stone = chained_hash(stone, key.split(",")[1:])
    done = landed(
        "accounts", {**ACCOUNT, "account_id": account}, ACCOUNT, key=key, tombstones={"account": frozenset([stone])}
    )
    assert (done.rows.num_rows, done.erased) == (1, 1)


def test_a_parquet_files_nested_and_binary_values_are_looked_through_too():
    out = io.BytesIO()
    nested = {
        "profile": [{"bio": "Ella Doe lives here", "plan": "pro"}],
        "blob": [b"ada@example.org"],
        "list": [[{"name": "Nora"}]],
        "map": [{"n": 4111111111111111}],
    }
    pq.write_table(pa.table({**{k: [v] for k, v in ACCOUNT.items()}, **nested}), out)
    (raw,) = Reading(SourceFile("accounts/a.parquet", "memory", 1, "1", content=out.getvalue())).batches()
    kept = normalise(entities()["accounts"], raw, Guard("key")).rows.to_pylist()[0]["_extra"]
    assert not any(word in kept for word in ("Ella", "ada@", "Nora", "4111111111111111")) and '"plan":"pro"' in kept


@pytest.mark.parametrize(
    "told",
    [r'{"a": "ada\u0040example.org"}', r'{"\u0065mail": "Zebulon"}', '{"a": "{\\"first_name\\": \\"Zebulon\\"}"}', '{"a": "%7B%22email%22%3A%22Zebulon%22%7D"}',
     '{"ip4": "Zebulon"}', '{"x": "sealed:Zebulon"}'],
)  # fmt: skip
def test_no_way_to_write_json_hides_what_is_in_it(told):
    kept = landed("events", {**EVENT, "properties": told}).rows.to_pylist()[0]["properties"]
    assert "Zebulon" not in kept and "ada" not in kept


def test_json_within_json_is_looked_through_to_a_depth_and_sealed_whole_below_it():
    told = {"first_name": "Zebulon"}
    for _ in range(9):
        told = {"raw": json.dumps([[[[[[[[[[[[told]]]]]]]]]]]])}
    kept = landed("events", {**EVENT, "properties": json.dumps(told)}).rows.to_pylist()[0]["properties"]
    assert "Zebulon" not in kept and "sealed:" in kept
    assert "Zebulon" in quarantine.unseal_value(kept, "key")


def test_of_a_row_whose_values_stand_in_the_wrong_columns_digits_are_sealed_too():
    kept = seal_row(
        {
            "a": "0151 23456787",
            "b": "+49 151 23456787",
            "c": "192.0.2.9",
            "d": "4111111111111111",
            "e": "12.50",
            "f": AT,
        },
        "key",
    )
    assert [name for name, value in kept.items() if not value.startswith("sealed:")] == ["e", "f"]


def test_a_country_is_a_code_and_a_value_that_is_none_is_told_to_nobody():
    done = landed("accounts", {**ACCOUNT, "country": "DE"}, {**ACCOUNT, "account_id": "a2", "country": "Paul"})
    assert [r["country"] for r in done.rows.to_pylist()] == ["DE", None] and done.bad == []
    assert unseal(json.loads(done.rows.to_pylist()[1]["_extra"])["country"], "key") == "Paul"
    # where it is a part of the key, a row without it would be another row
    size = {"as_of": "2025-01-01", "country": "Paul", "addressable_accounts": 5}
    ((_, reasons, kept),) = landed("market_size", size).bad
    assert reasons == ["country: no code of ISO 3166-1 alpha-2"] and kept["country"].startswith("sealed:")


@pytest.mark.slow
def test_many_numbers_that_are_too_large_take_time_by_their_number_not_by_its_square():
    started = time.process_time()
    done = landed(
        "fx_rates",
        *({"rate_date": "2025-01-01", "currency": "EUR", "rate_to_reporting": "1e30"} for _ in range(16_000)),
    )
    assert len(done.bad) == 16_000 and time.process_time() - started < 8
