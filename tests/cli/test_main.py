"""Whatever a user gets wrong at the command line is one line that says what to do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from northstar.base.settings import load_settings
from northstar.cli import main as cli
from northstar.warehouse import embedded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accounts", "0"], "a company needs 10 accounts and 1 month or more, not 0 and 12"),
        (["--accounts", "-3"], "not -3 and 12"),
        (["--months", "0"], "not 2000 and 0"),
        (["--applications", "shop"], "no application 'shop'; there are suite, coaching, web, tutoring, wizard"),
    ],
)
def test_a_company_that_cannot_be(tmp_path, capsys, arguments, message):
    assert cli.main(["simulate", "--out", str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_place_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["simulate", "--out", str(tmp_path / "file"), "--accounts", "10", "--months", "1"]) == 1
    error = capsys.readouterr().err
    assert "cannot write to" in error and error.count("\n") == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_a_very_small_company_is_written(tmp_path, seed):
    arguments = ["simulate", "--out", str(tmp_path), "--accounts", "10", "--months", "1", "--seed", str(seed)]
    assert cli.main(arguments) == 0
    assert (tmp_path / "truth.parquet").exists()


@pytest.fixture(scope="module")
def new_home():
    """A home that no run has set up, at a place that the server's own user gets to."""
    with tempfile.TemporaryDirectory(prefix="northstar-test-") as place:
        Path(place).chmod(0o755)
        yield Path(place) / "home"
        embedded.stop(load_settings(Path(place) / "home"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["sql", "select 1"], ["sql", "select 1", "--version", "7"], ["explain", "mrr"], ["verify"], ["rollback"], ["status"],
        ["quarantine", "list"], ["quarantine", "show", "1"], ["mf", "query", "--metrics", "mrr"],
    ],
)  # fmt: skip
def test_a_home_that_no_run_has_set_up(new_home, capsys, arguments):
    cli.main([*arguments, "--home", str(new_home)])
    told = capsys.readouterr()
    said = told.err or told.out
    assert "`northstar run`" in said and said.count("\n") == 1


def test_a_reader_who_has_enough_is_no_error(built):
    command = [sys.executable, "-m", "northstar.cli", "sql", "select generate_series(1, 300000)", "--format", "csv"]
    # unbuffered, Python takes a write that was cut short for a whole one
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*command, "--home", str(built.home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout.readline() == "generate_series\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "words", [["--email", "person@example.com"], ["--email", "no address"], ["--account-id", "person@example.com"]]
)
def test_nobody_is_named_on_a_command_line(tmp_path, capsys, words):
    assert cli.main(["erase", "--home", str(tmp_path), *words]) == 1
    told = capsys.readouterr().err
    assert "use --email -" in told and words[1] not in told
