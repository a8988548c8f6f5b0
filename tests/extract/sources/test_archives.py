"""Archives of several files: each is a file of its own, and what could do harm is refused in one line."""

import io
import zipfile

import fsspec
import pytest

from northstar.base.errors import FileFailed
from northstar.extract.sources import archives
from northstar.extract.sources.files import Reading, list_files, with_content

CSV = b"id,n\n1,2\n"


def write_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def inner_zip(members=(("x.csv", CSV),)):
    out = io.BytesIO()
    write_zip(out, members)
    return out.getvalue()


def read_all(files):
    return {f.path: [row for batch in Reading(f).batches() for row in batch.to_pylist()] for f in files}


def test_each_data_file_of_an_archive_is_a_file_of_its_own(tmp_path):
    (tmp_path / "in").mkdir()
    write_zip(
        tmp_path / "in" / "a.zip",
        [
            ("x.csv", CSV), ("sub/x.csv", b"id,n\n3,4\n"), ("y.jsonl", b'{"id": "5"}\n'), ("Grüße & 1%.tsv", b"id\tn\n6\t7\n"),
            ("read me.txt", b"-"), ("__MACOSX/._x.csv", b"\0"), ("sub/", b""),
        ],
    )  # fmt: skip
    passed_over = []
    found = list_files(str(tmp_path), "in/**", passed_over=passed_over)
    assert read_all(found) == {
        "in/a.zip!x.csv": [{"id": "1", "n": "2", "_line": 0}],
        "in/a.zip!sub/x.csv": [{"id": "3", "n": "4", "_line": 0}],
        "in/a.zip!y.jsonl": [{"id": "5", "_line": 1}],
        "in/a.zip!Grüße & 1%.tsv": [{"id": "6", "n": "7", "_line": 0}],
    }
    assert passed_over == ["in/a.zip!read me.txt"]
    # a mapping names members, whatever their ending
    assert [f.path for f in list_files(str(tmp_path), "in/*.zip!sub/*.csv")] == ["in/a.zip!sub/x.csv"]
    assert [f.path for f in list_files(str(tmp_path), "in/a.zip!*.txt", any_ending=True)] == ["in/a.zip!read me.txt"]
    assert list_files(str(tmp_path), "in/a.zip!z*.csv") == []


def test_an_archive_in_a_store_is_fetched_and_read_by_its_files():
    store = fsspec.filesystem("memory")
    store.pipe("/archives/a.zip", inner_zip([("x.csv", CSV), ("y.csv", b"id,n\n3,4\n")]))
    found = list(with_content(list_files("memory://archives")))
    assert all(file.content for file in found)
    assert {path: rows[0]["id"] for path, rows in read_all(found).items()} == {"a.zip!x.csv": "1", "a.zip!y.csv": "3"}
    assert read_all(list_files("memory://archives"))["a.zip!y.csv"][0]["n"] == "4"


def test_an_archive_of_one_file_keeps_its_name(tmp_path):
    write_zip(tmp_path / "a.zip", [("x.csv", CSV), ("__MACOSX/._x.csv", b"\0")])
    assert [f.path for f in list_files(str(tmp_path))] == ["a.zip"]


def encrypted(path):
    write_zip(path, [("x.csv", CSV), ("y.csv", CSV)])
    data = bytearray(path.read_bytes())
    # the flag of both headers of each member
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = data.find(mark)
        while begin >= 0:
            data[begin + place] |= 1
            begin = data.find(mark, begin + 4)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (encrypted, "the archive is encrypted; deliver it without a password"),
        (lambda p: write_zip(p, [("x.csv", CSV), ("in.zip", inner_zip())]), "holds another one, 'in.zip'; deliver the files"),
        (lambda p: write_zip(p, [("x.csv", CSV), ("in.tar.gz", b"")]), r"holds another one, 'in\.tar\.gz'"),
        (lambda p: write_zip(p, [("../x.csv", CSV), ("y.csv", CSV)]), r"holds '\.\./x\.csv', a name that leads out of it"),
        (lambda p: write_zip(p, [("/etc/x.csv", CSV), ("y.csv", CSV)]), "a name that leads out of it"),
        (lambda p: write_zip(p, [("a\u202evsc.csv", CSV), ("y.csv", CSV)]), r"invisible characters, 'a\\u202evsc\.csv'"),
        (lambda p: write_zip(p, [(f"{n}.csv", b"") for n in range(1_001)]), "holds 1,001 files; deliver at most 1,000"),
        (lambda p: p.write_bytes(inner_zip()[:-30]), "cut short or damaged"),
    ],
)  # fmt: skip
def test_an_archive_that_is_refused_is_one_line_and_fails_alone(tmp_path, make, words):
    make(tmp_path / "a.zip")
    (tmp_path / "b.csv").write_bytes(CSV)
    bad, good = list_files(str(tmp_path))
    assert (bad.path, good.path) == ("a.zip", "b.csv")
    with pytest.raises(FileFailed, match=words) as caught:
        read_all([bad])
    assert "\n" not in str(caught.value) and "a.zip" in str(caught.value)


def test_an_archive_that_would_unpack_without_end_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGE_BYTES", 1 << 20)
    write_zip(tmp_path / "a.zip", [("x.csv", b"id,n\n" + b"0" * (3 << 20)), ("y.csv", CSV)])
    with pytest.raises(FileFailed, match="unpacks to 3 MB, more than 200 times its size"):
        read_all(list_files(str(tmp_path)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_an_archive_has_twice_is_told(tmp_path):
    write_zip(tmp_path / "a.zip", [("x.csv", CSV), ("x.csv", CSV)])
    with pytest.raises(FileFailed, match=r"holds 'x\.csv' twice"):
        read_all(list_files(str(tmp_path)))
