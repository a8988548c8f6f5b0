"""The proof of an erasure: it is `done` only when a search of every byte of the home has found the names nowhere."""

from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.privacy.subjects import ACCOUNT, ANONYMOUS, SESSION
from northstar.runs.erase.names import EMAIL, TICKET, Names, is_distinctive
from northstar.runs.erase.purge import KEPT_TABLES
from northstar.runs.erase.rewrite import Table, for_each_table, start_new_log
from northstar.runs.erase.search import choose_names, find_occurrences, find_places, table_files
from northstar.warehouse import db

FINISH_ADVICE = "then `northstar erase --pending`, or the DAG erase_subject, finishes the erasure"


def prove(settings: Settings, erasure_id: int, progress: Progress) -> None:
    """Search the home for the names, delete them from audit.erasure_ids, and search again, there too.

    Raises NorthstarError saying where a name still is. The request is then not done, and continues from here the next time.
    """
    with db.connect(settings, "loader") as connection:
        names = Names(connection, erasure_id)
        accounts = [v for v in names.values[ACCOUNT] if is_distinctive(v)]
        other_names = [v for kind in (EMAIL, ANONYMOUS, SESSION, TICKET) for v in names.values[kind]]
        searched_names = choose_names(connection, accounts, other_names)
    if not settings.warehouse_url and searched_names:
        progress(f"erasure {erasure_id}: searching every byte of the home ...")
        # the files of audit.erasure_ids and the write-ahead log still hold the names; they are searched below
        waiting_files = [*table_files(settings, "audit.erasure_ids"), settings.home / "postgres" / "pg_wal"]
        _require_no_places(settings, erasure_id, find_places(settings, searched_names, waiting_files))
    with db.connect(settings, "loader") as connection:
        connection.execute("delete from audit.erasure_ids where erasure_id = %s", [erasure_id])
    names_table = Table(schema="audit", table="erasure_ids")
    for_each_table(settings, [names_table], FINISH_ADVICE, lambda c, t: c.execute("vacuum full audit.erasure_ids"))
    if not settings.warehouse_url:
        start_new_log(settings)
        _require_no_places(settings, erasure_id, find_places(settings, searched_names) if searched_names else [])


def _require_no_places(settings: Settings, erasure_id: int, places: list[str]) -> None:
    """Record the places that have to stay, which are a source's own state; raise NorthstarError for any other place.

    places: where a name was found, as `search.find_places` gives them.
    """
    kept_places = [place for place in places if place.removeprefix("audit.") in KEPT_TABLES]
    if open_places := [place for place in places if place not in kept_places]:
        more = f" and {len(open_places) - 1} more places" if len(open_places) > 1 else ""
        raise NorthstarError(
            f"erasure {erasure_id} is not done: a name is still in {open_places[0]}{more}; remove it there; {FINISH_ADVICE}"
        )
    if kept_places:
        with db.connect(settings, "loader") as connection:
            connection.execute(
                "update audit.erasures set rows = rows || %s where erasure_id = %s",
                [Jsonb({f"still in {place}": 1 for place in kept_places}), erasure_id],
            )


def clean_logs(settings: Settings, erasure_id: int) -> None:
    """Overwrite the names in the home's log files, in place, because services go on writing to them."""
    with db.connect(settings, "loader") as connection:
        names = [value.encode() for value, _ in Names(connection, erasure_id).text_replacements]
    for path in settings.logs.rglob("*"):
        if not names or not path.is_file():
            continue
        for place, name in find_occurrences(path, names):
            with path.open("r+b") as handle:
                handle.seek(place)
                handle.write(b"x" * len(name))
