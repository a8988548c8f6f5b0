"""What a command needs of memory does not grow with what the warehouse holds: each stays below one ceiling on tables larger than that."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from northstar.warehouse import db
from tests.conftest import home
from tests.support import write_rows

pytestmark = pytest.mark.timeout(1200)
# MB that any of the commands may have resident; docs/operations.md says so too
CEILING = 400
# and of those that build, which have dbt in their process
BUILDING_CEILING = 900
ROWS, WIDTH = 10_000, 24_000
ACCOUNT = "acc-fat-0001"
# beside the warehouse itself: a log that nobody has shortened yet
LOG_BYTES = 500 << 20

# each command in turn in one process, which notes the most that it held meanwhile; what it imports stays
PROBE = """
import json, os, sys
from pathlib import Path
from northstar.cli import main as cli

results = Path(sys.argv[1])
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
found = []
for words in json.loads(sys.argv[2]):
    Path("/proc/self/clear_refs").write_text("5")
    status = cli.main([*words, *([] if "--home" in words else ["--home", sys.argv[3]])])
    held = next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    found.append((words, status, held))
results.write_text(json.dumps(found))
"""


def held_by(settings, directory, commands: list[list[str]]) -> list[tuple]:
    """(words, exit status, MB resident at the most) of each command."""
    results = directory / "held.json"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(results), json.dumps(commands), str(settings.home)], capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(results.read_text())
    print(*(f"{held:5} MB  {' '.join(words)}"[:120] for words, _, held in found), sep="\n")
    return found


@pytest.fixture
def fat():
    """A warehouse that has published nothing, with rejected and landed rows of many MB, and a long log."""
    # of its own: what is rotated and erased here is no other test's
    with home() as warehouse:
        fill(warehouse)
        yield warehouse


def fill(warehouse) -> None:
    with db.connect(warehouse, "owner") as connection:
        # what looks like a hash is looked at by a rotation, and is none
        wide = f"repeat(md5(n::text), {WIDTH // 32})"
        connection.execute(
            "insert into quarantine.rows (source, entity, path, line, reasons, row) select 'files', 'charges', 'gone.jsonl', n, "
            f"array['status: not acceptable'], jsonb_build_object('charge_id', 'c' || n, 'status', 'vanished', 'note', {wide}) "
            f"from generate_series(1, {ROWS}) as n"
        )
        connection.execute(
            "insert into staging.charges (charge_id, account_id, application, amount, currency, status, created_at, updated_at, _extra, "
            f"_batch_id, _loaded_at) select 'c' || n, '{ACCOUNT}', 'web', 1, 'USD', 'succeeded', now(), now(), json_build_object('note', {wide}), 1, now() "
            f"from generate_series(1, {ROWS}) as n"
        )
        connection.execute(
            "insert into staging._replaced (entity, batch_id, row) select 'charges', 1, to_jsonb(c.*) from staging.charges as c"
        )
    log = warehouse.logs / "long.log"
    log.touch(mode=0o600)
    os.truncate(log, LOG_BYTES)


def test_no_command_holds_what_the_warehouse_holds(fat, tmp_path):
    commands = [
        ["doctor"], ["status"], ["quarantine", "list"], ["quarantine", "show", "1"], ["quarantine", "replay"], ["rotate-key"],
        ["erase", "--account-id", ACCOUNT], ["backup", "--to", str(tmp_path / "backup"), "--secrets", str(tmp_path / "kept.json")], ["maintain"], ["setup"], ["sources", "list"],
        ["hold", "--because", "of a test"], ["release"], ["quarantine", "accept", "--entity", "charges", "--because", "of a test"],
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="northstar-test-") as elsewhere:
        # not below pytest's own private directory: the server may run as another user
        Path(elsewhere).chmod(0o755)
        there = ["--home", f"{elsewhere}/home"]
        commands += [
            ["restore", "--from", str(tmp_path / "backup"), "--secrets", str(tmp_path / "kept.json"), *there],
            ["stop", *there],
        ]
        found = held_by(fat, tmp_path, commands)
    # these say that something is wrong, or that there is nothing
    assert {words[0] for words, status, _ in found if status not in (0, None)} <= {"doctor", "quarantine", "sources"}
    assert not [(words, held) for words, _, held in found if held > CEILING]


def test_nor_does_what_builds_hold_it(fat, tmp_path):
    source = write_rows(tmp_path / "source", {"accounts": [
        {"account_id": ACCOUNT, "account_type": "customer", "application": "web", "created_at": "2025-01-01T00:00:00Z",
         "updated_at": "2025-01-01T00:00:00Z"}]})  # fmt: skip
    with db.connect(fat, "owner") as connection:
        connection.execute("update staging.charges set created_at = '2025-02-01', updated_at = '2025-02-01'")
        connection.execute("delete from quarantine.rows")
    run = ["run", "--source-dir", str(source), "--as-of", "2025-04-01T00:00:00Z"]
    backfill = ["backfill", "--from", "2025-01-01", "--to", "2025-03-01", "--no-reading", "--reason", "a test"]
    commands = [
        run,
        [*run, "--mode", "hourly"],
        backfill,
        ["forecast"],
        ["alerts", "evaluate"],
        ["rollback"],
        ["verify", "--version", "1"],
        ["simulate", "--accounts", "500", "--out", str(tmp_path / "company")],
    ]
    found = held_by(fat, tmp_path, commands)
    assert not [(words, status) for words, status, _ in found if status not in (0, None)]
    assert not [(words, held) for words, _, held in found if held > BUILDING_CEILING]


def test_what_is_asked_of_published_marts_is_not_held_either(built, tmp_path):
    wide = "select n, repeat('x', 2000) as told from generate_series(1, 200000) as n"
    with db.connect(built, "publisher") as connection:
        kept = connection.execute("select coalesce(max(report_id), 0) as n from audit.reports").fetchone()["n"]
    try:
        commands = [
            *(["sql", "--format", form, wide] for form in ("csv", "json", "table")), ["explain", "mrr"],
            ["explain", "--format", "json", "tracked_events"], ["report", "weekly"], ["report", "list"], ["alerts", "list", "--all"],
            ["doctor"], ["status"],
        ]  # fmt: skip
        found = held_by(built, tmp_path, commands)
    finally:
        with db.connect(built, "publisher") as connection:
            connection.execute("delete from audit.reports where report_id > %s", [kept])
    assert not [(words, status) for words, status, _ in found if status not in (0, None) and words[0] != "doctor"]
    assert not [(words, held) for words, _, held in found if held > CEILING]
