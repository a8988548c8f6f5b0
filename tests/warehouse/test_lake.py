"""The lake holds what the tables of the wide entities hold: each batch as a file that counts once the batch has committed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Operations
from northstar.extract.landing.directory import land_directory
from northstar.privacy.details import forget_details
from northstar.runs.turns import command_turn
from northstar.warehouse import db, lake
from northstar.warehouse.lake_store import LakeStore, open_store
from tests.support import empty, query_as, silent, utc, write_rows

COLUMNS = "event_id, event_name, occurred_at, account_id, properties, _batch_id"


@pytest.fixture
def settings(warehouse, tmp_path):
    """The warehouse, with nothing in it and a lake of its own."""
    empty(warehouse)
    return replace(warehouse, operations=Operations(lake=str(tmp_path / "lake")))


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def event(number: int, name: str = "tool.invoked", received: str = "2026-02-10T10:00:00.000001Z", **more) -> dict:
    return {"event_id": f"e{number}", "event_name": name, "occurred_at": "2026-02-10T10:00:00.000001Z", "received_at": received,
            "account_id": "a1", "properties": {"tool": "é", "other": [1.5, None]}, **more}  # fmt: skip


def land(settings, source, rows, name="rows"):
    land_directory(settings, 1, str(write_rows(source, {"events": rows}, name)), progress=silent)


def in_table(settings) -> list[dict]:
    rows = query_as(settings, "loader", f"select {COLUMNS} from staging.events order by event_id")
    return [row | {"properties": as_texts(row["properties"])} for row in rows]


def as_texts(document: dict) -> dict:
    """The members of a document as texts, as Postgres gives them."""
    return {
        name: json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value
        for name, value in document.items()
    }


def opened(settings) -> LakeStore:
    store = open_store(settings)
    assert store is not None
    return store


def directory_of(settings) -> Path:
    return Path(opened(settings).root)


def in_lake(settings) -> list[dict]:
    """The rows of the files that count: of several with one key that of the newest batch."""
    store = opened(settings)
    listed = query_as(settings, "loader", "select distinct path from audit.lake_files where entity = 'events'")
    files = ds.dataset([store.full(f["path"]) for f in listed], filesystem=store.system)
    rows = files.to_table(columns=COLUMNS.split(", ")).to_pylist()
    newest = {
        row["event_id"]: row | {"properties": json.loads(row["properties"])}
        for row in sorted(rows, key=lambda row: row["_batch_id"])
    }
    return [newest[key] for key in sorted(newest)]


def test_what_lands_is_in_the_lake_and_a_corrected_row_in_its_newest_file(settings, source):
    land(settings, source, [event(1), event(2)])
    assert in_lake(settings) == in_table(settings) and len(in_table(settings)) == 2
    land(settings, source, [event(2, "user.login", "2026-02-11T00:00:00Z"), event(3)], "later")
    assert in_lake(settings) == in_table(settings)
    assert [row["event_name"] for row in in_lake(settings)] == ["tool.invoked", "user.login", "tool.invoked"]
    files = query_as(settings, "loader", "select rows, bytes, path from audit.lake_files order by batch_id")
    assert [file["rows"] for file in files] == [2, 2]
    # a delivery that changes nothing leaves no file
    land(settings, source, [event(3)], "again")
    assert len(query_as(settings, "loader", "select * from audit.lake_files")) == 2


DOCUMENTS = (
    '{"a": {"b":  1}}', '{"a": [1, 2]}', '{"a": 1.50}', '{"a": 1e3}', '{"a": 12345678901234567890.123}', '{"a": 1, "a": 2}', '{"a": 1, "a": null}',
    '{"a": "x\\ty"}', '{"a": "\\ud834\\udd1e"}', '{ "a" : "x" }', '{"b": {"a": 1}}', '{"a": -0}', '{"a": 0.1e-7}', '{"A": "x"}',
    '{"a": "\\u0041/\\/"}', '{"a": []}', '{"a": true}', '{}', 'null', '3', '"a"', '["a"]', '[{"a": 1}]',
)  # fmt: skip


def test_a_document_has_its_members_as_the_texts_that_postgres_gives(settings, source):
    land(settings, source, [event(100 + number, properties=text) for number, text in enumerate(DOCUMENTS)])
    wanted = query_as(settings, "loader", "select event_id, properties ->> 'a' as a from staging.events order by 1")
    [path] = (directory_of(settings) / "events").iterdir()
    documents = {row["event_id"]: row["properties"] for row in pq.read_table(path).to_pylist()}
    found = {event_id: json.loads(text).get("a") if text else None for event_id, text in documents.items()}
    assert len(wanted) == len(DOCUMENTS)
    assert found == {row["event_id"]: row["a"] for row in wanted}


def test_files_of_an_earlier_layout_are_written_anew(settings, source):
    land(settings, source, [event(1)])
    directory = directory_of(settings)
    [path] = (directory / "events").iterdir()
    earlier = path.rename(path.with_name(path.name.replace(".2.parquet", ".parquet")))
    with db.connect(settings, "loader") as connection:
        connection.execute("update audit.lake_files set path = %s", [str(earlier.relative_to(directory))])
    [file] = lake.complete(settings, opened(settings))["events"]
    assert file["path"].endswith(".2.parquet") and not earlier.exists() and in_lake(settings) == in_table(settings)


def test_only_the_wide_entities_are_in_the_lake(settings, source):
    account = {
        "account_id": "a1",
        "account_type": "customer",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    land_directory(settings, 1, str(write_rows(source, {"accounts": [account]})), progress=silent)
    assert query_as(settings, "loader", "select * from audit.lake_files") == []


def test_a_batch_whose_file_cannot_be_written_does_not_land(settings, source, tmp_path):
    (tmp_path / "lake").write_text("no directory")
    with pytest.raises(
        NorthstarError, match=r"cannot write to the lake .*lake: (Not a directory|File exists); see `lake`"
    ):
        land(settings, source, [event(1)])
    assert in_table(settings) == []
    (tmp_path / "lake").unlink()
    land(settings, source, [event(1)])
    assert in_lake(settings) == in_table(settings) and len(in_table(settings)) == 1


def test_what_the_lake_lacks_is_written_from_the_tables(settings, source):
    land(replace(settings, operations=Operations()), source, [event(1)], "before there was a lake")
    for number in (2, 3, 4):
        land(settings, source, [event(number)], f"batch {number}")
    directory = directory_of(settings)
    gone, short, whole = sorted((directory / "events").iterdir())
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-10])
    stray = directory / "events" / "000000009999-0badcafe.2.parquet"
    stray.write_bytes(b"of a landing that was killed")
    files = lake.complete(settings, opened(settings))["events"]
    assert in_lake(settings) == in_table(settings) and len(files) == 4
    assert whole.exists() and not stray.exists() and not short.exists()
    assert {directory / file["path"] for file in files} == set((directory / "events").iterdir())


def test_rows_that_lose_their_details_lose_them_in_the_lake(settings, source):
    secret = event(1, properties={"tool": "é", "note": "by hand"})
    land(settings, source, [secret])
    settings = replace(settings, operations=Operations(lake=settings.operations.lake, keep_details_days={"events": 1}))
    directory = directory_of(settings)
    assert "by hand" in pq.read_table(next((directory / "events").iterdir())).to_pylist()[0]["properties"]
    with command_turn(settings, "a test") as number:
        forget_details(settings, number, utc("2026-03-01T00:00:00"))
    assert lake.sweep(settings) == 1 and list((directory / "events").iterdir()) == []
    lake.complete(settings, opened(settings))
    [row] = in_lake(settings)
    assert row["properties"] == {"tool": "é"} and [row] == in_table(settings)
    assert len(list((directory / "events").iterdir())) == 1


def land_many(settings, source, count: int = lake.MANY) -> None:
    for number in range(count):
        # each corrects an event of the one before
        rows = [event(number, "user.login", "2026-02-11T00:00:00Z"), event(number + 1)]
        land(settings, source, rows, f"batch {number}")


def test_many_small_files_become_one_with_all_of_their_batches(settings, source):
    land_many(settings, source)
    directory = directory_of(settings)
    assert lake.compact(settings) == lake.MANY - 1
    assert in_lake(settings) == in_table(settings) and len(in_table(settings)) == lake.MANY + 1
    assert lake.sweep(settings) == lake.MANY
    [merged] = (directory / "events").iterdir()
    files = lake.complete(settings, opened(settings))["events"]
    assert len(files) == lake.MANY and lake.paths_of(files) == [str(merged.relative_to(directory))]
    assert sum(file["rows"] for file in files) == pq.read_metadata(merged).num_rows
    assert in_lake(settings) == in_table(settings)
    # what lands later stands beside it, and corrects what is in it
    land(settings, source, [event(1, "tool.removed", "2026-02-12T00:00:00Z")], "later")
    assert in_lake(settings) == in_table(settings) and lake.compact(settings) == 0
    assert lake.counting_paths(settings, "events") == [
        files[0]["path"],
        files[0]["path"].replace(merged.name, max(p.name for p in merged.parent.iterdir())),
    ]
    # a merged file that is gone is written again, batch by batch
    merged.unlink()
    lake.complete(settings, opened(settings))
    assert in_lake(settings) == in_table(settings) and not merged.exists()


def test_a_few_files_stay_and_merged_ones_are_no_larger_than_they_should_be(settings, source, monkeypatch):
    land_many(settings, source, lake.MANY - 1)
    assert lake.compact(settings) == 0
    land(settings, source, [event(100)], "one more")
    one = max(path.stat().st_size for path in (directory_of(settings) / "events").iterdir())
    monkeypatch.setattr(lake, "LARGE_BYTES", 4 * one)
    assert lake.compact(settings) == lake.MANY - lake.MANY // 4
    assert in_lake(settings) == in_table(settings)


def test_a_small_file_that_cannot_be_read_is_taken_out_and_written_again(settings, source):
    land_many(settings, source)
    directory = directory_of(settings)
    damaged = sorted((directory / "events").iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert lake.compact(settings) == 0 and not damaged.exists()
    lake.sweep(settings)
    lake.complete(settings, opened(settings))
    assert in_lake(settings) == in_table(settings)
    assert lake.compact(settings) == lake.MANY - 1


# processes that are killed on the way, each forked from one that has imported everything
KILLED = """
import os, signal, sys
from dataclasses import replace
from northstar.base.settings import Operations, load_settings
from northstar.extract.landing import batch
from northstar.extract.landing.directory import land_directory
from northstar.warehouse import lake

home, directory, work, source = sys.argv[1:5]
settings = replace(load_settings(home), operations=Operations(lake=directory))

def die_after(module, name):
    real = getattr(module, name)
    def done(*arguments):
        real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, done)

for module, name in {"land": ((lake, "_write_file"), (batch, "write_batch")), "compact": ((lake, "_write_file"), (lake, "_merge"))}[work]:
    child = os.fork()
    if not child:
        die_after(module, name)
        land_directory(settings, 1, source, progress=lambda _: None) if work == "land" else lake.compact(settings)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)
"""


def kill(settings, work: str, source) -> None:
    subprocess.run([sys.executable, "-c", KILLED, settings.home, directory_of(settings), work, source], check=True)


def counting(settings) -> list[dict]:
    return query_as(settings, "loader", "select * from audit.lake_files order by entity, batch_id")


def test_a_landing_that_is_killed_with_its_file_written_or_named_leaves_nothing_that_counts(settings, source, tmp_path):
    land(settings, source, [event(1)], "before")
    before, directory = counting(settings), directory_of(settings) / "events"
    write_rows(tmp_path / "killed", {"events": [event(1, "tool.removed", "2026-02-11T00:00:00Z"), event(2)]})
    kill(settings, "land", tmp_path / "killed")
    assert counting(settings) == before and len(in_table(settings)) == 1
    assert len(list(directory.iterdir())) == 3
    land_directory(settings, 1, str(tmp_path / "killed"), progress=silent)
    assert in_lake(settings) == in_table(settings) and len(in_table(settings)) == 2
    # what the next run finds is whole; the files that do not count are gone
    after = counting(settings)
    lake.complete(settings, opened(settings))
    assert counting(settings) == after and len(list(directory.iterdir())) == 2


def test_a_merging_that_is_killed_before_or_after_its_files_count_loses_and_doubles_nothing(settings, source):
    land_many(settings, source)
    directory = directory_of(settings) / "events"
    wanted = in_table(settings)
    # before: a file that nobody reads; after: those that were merged
    kill(settings, "compact", source)
    assert in_lake(settings) == wanted and len(list(directory.iterdir())) == lake.MANY + 2
    assert lake.sweep(settings) == lake.MANY + 1
    after = counting(settings)
    lake.complete(settings, opened(settings))
    assert counting(settings) == after and in_lake(settings) == wanted
