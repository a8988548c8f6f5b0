"""A source is a stranger: it reads nothing but its own files, and says nothing about how they are read."""

import os

import pytest

from northstar.base.config_files import read_yaml
from northstar.base.errors import NorthstarError
from northstar.extract.landing.directory import land_directory
from northstar.extract.sources.files import SourceFile, check_directory, list_files, read_lines
from tests.support import empty, silent

MAPPING = 'entities: {accounts: {files: "steal.csv", csv: {delimiter: "\\x01"}, columns: {account_id: "{"}}}'


@pytest.fixture
def source(tmp_path):
    """A source directory with a folder for accounts; beside it lies what it may not read."""
    (tmp_path / "source" / "accounts").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    return tmp_path / "source"


@pytest.fixture
def foreign_home(tmp_path):
    home = tmp_path / "home"
    (home / "demo" / "accounts").mkdir(parents=True)
    (home / "exports").mkdir()
    for name in ("VERSION", "secrets.json", "demo/accounts/a.csv", "exports/a.csv"):
        (home / name).write_text("1\n")
    return home


def test_a_link_that_leads_out_of_the_source_is_refused(source):
    (source / "accounts" / "a.csv").symlink_to(source.parent / "secret.csv")
    with pytest.raises(NorthstarError, match=r"accounts/a\.csv: a link that leads out of the source directory"):
        list_files(str(source), "accounts/**")


def test_so_is_a_folder_that_leads_out_of_it(source):
    (source / "events").symlink_to(source.parent)
    with pytest.raises(NorthstarError, match="leads out of the source directory"):
        list_files(str(source), "events/*")


def test_a_link_to_another_file_of_the_source_is_followed(source):
    (source / "deliveries").mkdir()
    (source / "deliveries" / "2026-02-01.csv").write_text("account_id\na\n")
    (source / "accounts" / "a.csv").symlink_to(source / "deliveries" / "2026-02-01.csv")
    (found,) = list_files(str(source), "accounts/**")
    assert found.path == "accounts/a.csv" and list(read_lines(found)) == [b"account_id\n", b"a\n"]


def test_a_link_that_is_put_there_after_the_listing_is_not_followed(source):
    path = source / "accounts" / "a.jsonl"
    path.write_text("{}\n")
    (found,) = list_files(str(source), "accounts/**")
    path.unlink()
    path.symlink_to(source.parent / "secret.csv")
    with pytest.raises(OSError, match="symbolic links"):
        list(read_lines(found))


@pytest.mark.parametrize("pattern", ["../*.csv", "accounts/../../*.csv"])
def test_a_pattern_does_not_lead_out_either(source, pattern):
    with pytest.raises(NorthstarError, match="lies outside it"):
        list_files(str(source), pattern)


@pytest.mark.parametrize("directory", ["..", "../../source", "."])
def test_a_directory_may_be_given_by_a_path_that_goes_up(source, monkeypatch, directory):
    (source / "accounts" / "a.jsonl").write_text("{}\n")
    monkeypatch.chdir(source / "accounts")
    pattern = "a.jsonl" if directory == "." else "accounts/*.jsonl"
    (found,) = list_files(directory, pattern)
    assert found.path == pattern.replace("*", "a") and list(read_lines(found)) == [b"{}\n"]


def test_what_is_no_regular_file_is_refused(source):
    os.mkfifo(source / "accounts" / "a.csv")
    with pytest.raises(NorthstarError, match="not a regular file"):
        list_files(str(source), "accounts/**")


@pytest.mark.parametrize("inside", ["", "exports"])
def test_no_home_is_a_source(foreign_home, inside):
    with pytest.raises(NorthstarError, match=r"lies in the home .*, which cannot be a source"):
        check_directory(str(foreign_home / inside))


def test_nor_is_a_directory_above_one_a_way_into_it(foreign_home):
    with pytest.raises(NorthstarError, match="which cannot be a source"):
        list_files(str(foreign_home.parent), "home/exports/*")
    # but the company that `make run` simulates there
    assert list_files(str(foreign_home / "demo"), "accounts/*")


def test_a_mapping_in_the_data_is_not_followed(warehouse, source):
    empty(warehouse)
    (source / "_mapping.yml").write_text(MAPPING)
    (source / "steal.csv").write_text("{\nx\n")
    with pytest.raises(NorthstarError, match=r"_mapping\.yml is not followed.*--mapping.*mapping_in_source: true"):
        land_directory(warehouse, 1, str(source), progress=silent)


def test_a_file_of_a_store_needs_no_local_checks():
    file = SourceFile("a.jsonl", "memory", 2, "1", content=b"{}")
    assert list(read_lines(file)) == [b"{}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
            "more than 100,000 values",
        ),
        ("[" + "x, " * 100_001 + "]", "more than 100,000 values"),
        ("a: &a [x, *a]", "a value that contains itself"),
        ("[" * 60 + "]" * 60, "nested deeper than 40 levels"),
        ("a: " + "x" * (1 << 20), "longer than 1,048,576 characters"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    ],
)
@pytest.mark.slow
def test_yaml_is_read_within_bounds(text, words):
    with pytest.raises(NorthstarError, match=words):
        read_yaml(text, "a.yml")


def test_yaml_of_people_is_read():
    text = "german: &german {delimiter: ';'}\ncsv: &csv {csv: *german}\nfirst: *csv\nsecond: *german\n"
    assert read_yaml(text, "a.yml")["second"] == {"delimiter": ";"} and read_yaml("", "a.yml") is None
