"""Search every byte of the home for names, in whatever page or log they may be."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one

# this many of a person's sessions and tickets are searched for: more would not show better whether the rows are gone
MAX_SESSIONS = 500
DISTINCT_LENGTH = 16
BLOCK_BYTES = 4 << 20
# directories that are not searched: a source's files belong to its owner, who has to erase there
SOURCE_DIRECTORIES = ("demo",)


def choose_names(connection: Connection, accounts: list[str], other_names: list[str]) -> list[bytes]:
    """The byte strings to search for: names that can stand for nobody and nothing else.

    accounts: the subject's distinctive accounts. other_names: its devices, sessions, tickets and hashed addresses.
    """
    account_rows = connection.execute(
        "select a from unnest(%s::text[]) as a where not exists ("
        "select 1 from staging.accounts as o where o.account_id <> a and strpos(o.account_id, a) > 0)", [accounts],
    ).fetchall()  # fmt: skip
    long_names = [name for name in other_names if len(name) >= DISTINCT_LENGTH][:MAX_SESSIONS]
    return [name.encode() for name in dict.fromkeys([*(row["a"] for row in account_rows), *long_names])]


def find_places(settings: Settings, names: Iterable[bytes], excluded: Iterable[Path] = ()) -> list[str]:
    """The files and relations of the home that hold one of the names, found by a search of every byte.

    excluded: files and whole directories to leave out.
    """
    names, excluded_paths = list(names), {settings.home / name for name in SOURCE_DIRECTORIES} | set(excluded)
    named_places = []
    for path in sorted(settings.home.rglob("*")):
        if excluded_paths.isdisjoint((path, *path.parents)) and path.is_file() and not path.is_symlink():
            try:
                if next(find_occurrences(path, names), None):
                    named_places.append(_place_name(settings, path))
            except FileNotFoundError:
                # a log that was rotated, or the former file of a table
                continue
    return list(dict.fromkeys(named_places))


def table_files(settings: Settings, relation: str) -> list[Path]:
    """The files in which the embedded server keeps a table with its indexes."""
    with db.connect(settings, "owner") as connection:
        rows = connection.execute(
            "select pg_relation_filepath(oid) as path from pg_class where oid = %(r)s::regclass or oid in (select indexrelid from pg_index "
            "where indrelid = %(r)s::regclass) or oid = (select reltoastrelid from pg_class where oid = %(r)s::regclass)", {"r": relation},
        ).fetchall()  # fmt: skip
    return [settings.home / "postgres" / row["path"] for row in rows if row["path"]]


def find_occurrences(path: Path, names: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """(position, name) of each occurrence of a name in a file. It is read block by block, because it may be larger than memory."""
    overlap = max(map(len, names)) - 1
    with path.open("rb") as file:
        begin, tail = 0, b""
        while block := file.read(BLOCK_BYTES):
            content = tail + block
            for name in names:
                # a name that is wholly in the tail was found with the block before
                place = content.find(name, max(0, len(tail) - len(name) + 1))
                while place >= 0:
                    yield begin - len(tail) + place, name
                    place = content.find(name, place + 1)
            begin += len(block)
            tail = content[-overlap:] if overlap else b""


def _place_name(settings: Settings, path: Path) -> str:
    file_number = path.name.split(".")[0].split("_")[0]
    if "base" in path.parts and file_number.isdigit():
        with db.connect(settings, "owner") as connection:
            relation: str | None = fetch_one(
                connection.execute("select pg_filenode_relation(0, %s)::regclass::text as name", [int(file_number)])
            )["name"]
        if relation:
            return relation
    return str(path.relative_to(settings.home))
