"""Backup and restore: the chapter of docs/operations.md, followed to the letter, and what it refuses."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, load_settings
from northstar.cli.main import main
from northstar.operate import backup
from northstar.publish.merge import rollback
from northstar.use.api.access import FILE, Access
from northstar.warehouse import db, embedded, lake
from northstar.warehouse.setup import bootstrap
from tests.conftest import home, release_before
from tests.support import published
from tests.warehouse.test_lake import counting, event, in_lake, in_table, land, opened

OWN_TARGETS = "metric_id,application,grain,operator,target\nmrr,shop,month,>=,10\n"


def blocks(chapter: str) -> list[str]:
    """The indented blocks of a chapter of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text().split(f"## {chapter}\n")[1].split("\n## ")[0]
    return [re.sub(r"(?m)^    ", "", block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def story():
    """(place, settings, marts before the accident, what the last block printed): the chapter, with an accident before its last block."""
    with home(release_before) as settings:
        place = settings.home.parent
        settings.home.rename(place / ".northstar") if embedded.stop(settings) else None
        settings = load_settings(place / ".northstar")

        def follow(block: str) -> str:
            script = block.replace("/backups/", f"{place}/backups/").replace("/safe/", f"{place}/safe/")
            script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
            env = {**os.environ, "NORTHSTAR_HOME": str(settings.home)}
            done = subprocess.run(["bash", "-euc", script], cwd=place, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        archive, back_up, put_back = blocks("Backup and restore")
        try:
            follow(archive)
            (settings.home / "targets.csv").write_text(OWN_TARGETS)
            with (settings.home / "operations.yml").open("a") as file:
                file.write("lake: lake\n")
            bootstrap(settings)
            settings = load_settings(settings.home)
            land(settings, place / "in the backup", [event(1), event(2)])
            follow(back_up)
            land(settings, place / "in the archive", [event(2, "tool.removed", "2026-02-11T00:00:00Z")])
            before, moment = published(settings), datetime.now(UTC)
            assert rollback(settings) == (3, 1)
            land(settings, place / "after the moment", [event(1, "tool.removed", "2026-02-11T00:00:00Z")])
            told = follow(put_back.replace("2026-04-01T14:00:00Z", moment.isoformat()))
            yield place, settings, before, told
        finally:
            embedded.stop(load_settings(place / ".northstar"))


def test_the_chapter_restores_the_moment_before_the_accident(story):
    _, settings, before, told = story
    assert re.findall(r"^\d+$", told, re.MULTILINE) == ["2", "2"], told
    assert published(settings) == before
    assert load_settings(settings.home).own_seeds == {"targets": OWN_TARGETS}
    with db.connect(settings, "owner") as connection:
        assert connection.execute("select count(*) as n from staging.charges").fetchone()["n"] == 3


def test_the_lake_of_a_restored_home_is_that_of_the_moment_and_is_written_again(story):
    _, settings, _, _ = story
    listed = counting(settings)
    assert [file["rows"] for file in listed] == [2, 1] and not (settings.home / "lake").exists()
    lake.complete(settings, opened(settings))
    assert in_lake(settings) == in_table(settings)
    assert [row["event_name"] for row in in_table(settings)] == ["tool.invoked", "tool.removed"]
    # with the files that stood there after the moment, those count that the restored list names, and no others
    stray = settings.home / "lake" / "events" / "000000000099-00000000.2.parquet"
    stray.write_bytes(b"of a later moment")
    lake.complete(settings, opened(settings))
    assert not stray.exists() and in_lake(settings) == in_table(settings)


def test_the_secrets_are_kept_apart_from_the_data(story):
    place, settings, _, _ = story
    key = settings.secret("pii_key")
    assert (place / "safe" / "secrets.json").stat().st_mode & 0o077 == 0
    assert key in (place / "safe" / "secrets.json").read_text()
    for file in (place / "backups" / "monday").rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file


def test_the_archive_is_compressed_and_belongs_to_one_home(story):
    place, settings, _, _ = story
    segments = list((place / "backups" / "wal").glob("*.gz"))
    assert len(segments) > 2
    assert sum(s.stat().st_size for s in segments) < 0.25 * len(segments) * (16 << 20)
    assert settings.operations.wal_archive != str(place / "backups" / "wal2")
    assert load_settings(settings.home).operations.wal_archive == f"{place}/backups/wal2"
    assert "# the archive of the home that was backed up" in (settings.home / "operations.yml").read_text()


def test_what_cannot_be_restored_is_one_line_and_leaves_nothing_behind(story, tmp_path, capsys):
    place, _, _, _ = story
    backup, safe = str(place / "backups" / "monday"), str(place / "safe" / "secrets.json")
    other = tmp_path / "other.json"
    other.write_text('{"pii_key": "x", "owner_password": "y"}')
    damaged = place / "damaged"
    shutil.copytree(backup, damaged)
    with next((damaged / "postgres" / "base" / "1").glob("1*")).open("r+b") as handle:
        handle.write(b"damage")
    late, early = datetime.now(UTC), datetime.now(UTC) - timedelta(days=1)
    for arguments, message in (
        ([], "a backup does not hold the secrets"),
        (["--secrets", str(other)], "these are the secrets of another home"),
        (["--secrets", safe, "--to-time", early.isoformat()], "is before the end of this backup"),
        (["--secrets", safe, "--to-time", late.isoformat()], "the archive ends before"),
        (["--secrets", safe, "--to-time", "latest", "--archive", str(tmp_path / "no")], "there is no archive in"),
        (["--from", str(damaged), "--secrets", safe], "is damaged"),
        (["--from", str(tmp_path)], "is not a backup"),
        (["--secrets", safe, "--home", str(place / ".northstar")], "already has a warehouse"),
    ):
        new = place / "new"
        assert main(["restore", "--from", backup, "--home", str(new), *arguments]) == 1, arguments
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("northstar:")]
        assert len(error) == 1 and message in error[0], (arguments, error)
        assert not (new / "postgres").exists() and not (new / "secrets.json").exists()


def test_a_backup_wants_a_directory_of_its_own_and_a_warehouse(story, tmp_path, capsys):
    place, settings, _, _ = story
    for arguments, message in (
        (["--to", str(place), "--home", str(settings.home)], "is not empty"),
        (["--to", str(tmp_path / "b"), "--home", str(tmp_path / "nothing")], "has no warehouse yet"),
    ):
        assert main(["backup", *arguments]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("to_time", [None, backup.LATEST])
def test_a_recovery_that_fails_after_one_to_a_moment_says_its_own_reason(tmp_path, monkeypatch, to_time):
    settings = load_settings(tmp_path / "home")
    # of the try before, which asked for a moment that the archive does not reach
    (settings.logs / "postgres.log").write_text(
        "FATAL:  recovery ended before configured recovery target was reached\n"
    )

    def fail(*_):
        raise NorthstarError("the port is taken")

    monkeypatch.setattr(backup.server, "recover", fail)
    with pytest.raises(NorthstarError, match="the recovery failed: the port is taken"):
        backup._run_recovery(settings, tmp_path / "data", "password", {}, to_time)
    with pytest.raises(NorthstarError, match="the archive ends before 2026-04-01T14:00:00Z"):
        backup._run_recovery(settings, tmp_path / "data", "password", {}, datetime(2026, 4, 1, 14, tzinfo=UTC))


def test_a_backup_has_no_tokens_and_links(tmp_path):
    """One that was revoked after the backup would be valid again in the restored home."""
    settings = load_settings(tmp_path / "home")
    access = Access(settings)
    access.add_token("a program", ["metrics"])
    (settings.home / "northstar.yml").write_text("{}")
    assert (settings.home / FILE).exists()
    assert [file.name for file in backup._written_files(settings.home)] == ["northstar.yml", "VERSION"]
