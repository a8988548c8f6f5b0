"""The machine misbehaves: a full disk, a taken port, a directory without rights."""

import os
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.extract.landing.directory import land_directory
from northstar.extract.sources.files import check_directory
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap
from tests.conftest import home
from tests.support import silent

SMALL_MB, LARGE_MB = 200, 1500
EVENTS = 2_000_000


def mount(place: Path, *options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True).returncode == 0


@contextmanager
def small_disk(place: Path, megabytes: int = SMALL_MB):
    """A file system of its own size at `place`, which it makes."""
    place.mkdir()
    if not mount(place, f"size={megabytes}m", "mode=777"):
        pytest.skip("a disk of a fixed size needs the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def write_many_events(source: Path) -> None:
    (source / "events").mkdir(parents=True)
    number = np.arange(EVENTS)
    at = pa.array(1_700_000_000_000_000 + number, pa.timestamp("us", "UTC"))
    columns = {"event_id": pa.array(number.astype(str)), "event_name": pa.array(np.full(EVENTS, "page.view"))}
    table = pa.table({**columns, "occurred_at": at, "received_at": at, "application": pa.array(np.full(EVENTS, "web"))})
    pq.write_table(table, source / "events" / "many.parquet")


def test_a_disk_that_fills_up_while_landing(tmp_path):
    write_many_events(tmp_path / "source")
    # not below pytest's own private directory: the server may run as another user
    with home() as elsewhere, small_disk(elsewhere.home / "disk") as disk:
        settings = load_settings(disk / "home")
        bootstrap(settings)
        try:
            with pytest.raises(NorthstarError, match=r"events: the disk is full: .* make room and run again"):
                land_directory(settings, 1, str(tmp_path / "source"), progress=silent)
            assert subprocess.run(["mount", "-o", f"remount,size={LARGE_MB}m", str(disk)]).returncode == 0
            embedded.ensure_running(settings)
            landed = land_directory(settings, 1, str(tmp_path / "source"), progress=silent)
            assert {r.entity: r.inserted for r in landed} == {"events": EVENTS}
        finally:
            embedded.stop(settings)


def test_a_port_that_another_program_took_is_left_to_it():
    with home() as settings:
        before = embedded.ensure_running(settings).port
        embedded.stop(settings)
        with socket.create_server(("127.0.0.1", before)):
            after = embedded.ensure_running(settings).port
            assert after != before
            with db.connect(settings, "loader") as connection:
                assert connection.execute("select 1 as one").fetchone() == {"one": 1}


def test_a_directory_without_rights_is_one_line():
    # root may read everything, and pytest's own directory is closed to others
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0)
        with as_somebody_else(), pytest.raises(NorthstarError) as caught:
            check_directory(directory)
    assert directory in str(caught.value) and "Permission denied" in str(caught.value)


@contextmanager
def as_somebody_else():
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
