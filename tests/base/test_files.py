"""Files of state are written whole or not at all, and what a power cut left of one is no answer."""

import os
import stat
import subprocess

import pytest

from northstar.base import files, ports
from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, read_word, write_private


def test_a_writer_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path, monkeypatch):
    file = tmp_path / "services.json"
    write_private(file, "before")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(files.os, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space left"):
                write_private(file, "after")
        assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_a_new_name_is_on_the_disk_before_and_after_it_is_given(tmp_path, monkeypatch):
    order, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda number: (order.append(stat.S_ISDIR(os.fstat(number).st_mode)), sync(number))
    )
    monkeypatch.setattr(files.os, "replace", lambda *names: (order.append("named"), replace(*names)))
    write_private(tmp_path / "port", "1")
    assert order == [False, "named", True]


def test_what_a_killed_writer_left_is_taken_away_by_the_next_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, living = (tmp_path / f".secrets.json.{number}-1.new" for number in (dead.pid, os.getppid()))
    for file in (left, living):
        file.write_text("a secret")
    write_private(tmp_path / "secrets.json", "{}")
    assert not left.exists() and living.exists()


def test_nobody_else_reads_a_file_of_state_whatever_the_umask_says(tmp_path):
    before = os.umask(0)
    try:
        write_private(tmp_path / "port", "1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "port").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": ', b"[1]", b"\xff\xfe", b"null"])
def test_what_is_not_whole_is_no_answer(tmp_path, content):
    file = tmp_path / "file"
    assert read_json(file) is None and read_word(file) is None
    file.write_bytes(content)
    assert read_json(file) is None


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff", b"54x", b"0", b"70000", b"-1", b"99999999999999999999"])
def test_a_port_that_is_none_is_chosen_anew(tmp_path, content, monkeypatch):
    monkeypatch.delenv("NORTHSTAR_API_PORT", raising=False)
    file = tmp_path / "port"
    file.write_bytes(content)
    chosen = ports.remembered_port(file, "NORTHSTAR_API_PORT", is_ours=True)
    assert ports.read_port(file) == chosen and 0 < chosen < 65536


def test_a_variable_that_names_no_port_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("NORTHSTAR_API_PORT", "eighty")
    with pytest.raises(NorthstarError, match=r"NORTHSTAR_API_PORT=eighty: give a port"):
        ports.remembered_port(tmp_path / "port", "NORTHSTAR_API_PORT", is_ours=True)
