"""Notes that people write beside the numbers (`northstar note`, and the pages). They are marks, and on charts at once."""

import secrets
from datetime import UTC, datetime

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.privacy.personal import redact
from northstar.warehouse import db
from northstar.warehouse.published.marks import RECORDED
from northstar.warehouse.rows import Connection, Row, fetch_one

CHARACTERS = 500
NOTHING_PUBLISHED = "nothing is published yet: a note stands beside published numbers"


def write_note(
    settings: Settings, text: str, by: str, at: datetime | None = None, application: str = "all", metric: str | None = None
) -> str:  # fmt: skip
    """Write a note; returns its id. at: what it is about happened then (default: now); metric: None for any.

    What looks personal in it is replaced by its kind, as in landed text. Raises NorthstarError for a note without text or author, or about
    an application or metric that there is not, and before the first publication.
    """
    text, by = redact(" ".join(text.split())), redact(" ".join(by.split()))[:60]
    if not text or not by:
        raise NorthstarError("a note needs a text, and the name of who writes it")
    if len(text) > CHARACTERS:
        raise NorthstarError(f"a note has at most {CHARACTERS} characters; this one has {len(text):,}")
    with db.connect(settings, "publisher") as connection:
        version = _newest_version(connection)
        RECORDED.ensure(connection)
        _require_known(connection, application, metric)
        name = f"note:{secrets.token_hex(4)}"
        connection.execute(
            "insert into marts.recorded_marks (mark_id, kind, marked_at, application, metrics, title, by_whom, recorded_version) "
            "values (%s, 'note', %s, %s, %s, %s, %s, %s)",
            [name, at or datetime.now(UTC), application, [metric] if metric else None, text, by, version],
        )
    return name


def list_notes(settings: Settings) -> list[Row]:
    """The notes, newest first: mark_id, marked_at, application, metrics, title, by_whom, recorded_at."""
    with db.connect(settings, "publisher") as connection:
        _newest_version(connection)
        RECORDED.ensure(connection)
        return connection.execute(
            "select mark_id, marked_at, application, metrics, title, by_whom, recorded_at from marts.recorded_marks where kind = 'note' order by marked_at desc, mark_id"
        ).fetchall()


def delete_note(settings: Settings, name: str) -> None:
    """Delete a note. Raises NorthstarError where there is none of that id."""
    with db.connect(settings, "publisher") as connection:
        _newest_version(connection)
        RECORDED.ensure(connection)
        if not connection.execute(
            "delete from marts.recorded_marks where kind = 'note' and mark_id = %s", [name]
        ).rowcount:
            raise NorthstarError(f"there is no note {name!r}; `northstar note --list` shows them")


def _newest_version(connection: Connection) -> int:
    if fetch_one(connection.execute("select to_regclass('marts.publications') is null as lacks"))["lacks"]:
        raise NorthstarError(NOTHING_PUBLISHED)
    version: int | None = fetch_one(connection.execute("select max(published_version) as v from marts.publications"))[
        "v"
    ]
    if version is None:
        raise NorthstarError(NOTHING_PUBLISHED)
    return version


def _require_known(connection: Connection, application: str, metric: str | None) -> None:
    known = connection.execute(
        "select 1 where %(name)s = 'all' or exists (select 1 from marts.dim_accounts where application = %(name)s) "
        "or exists (select 1 from marts.metric_status where application = %(name)s)", {"name": application},
    ).fetchone()  # fmt: skip
    if known is None:
        raise NorthstarError(f"there is no application {application[:60]!r}")
    if metric and connection.execute("select 1 from marts.metrics where metric_id = %s", [metric]).fetchone() is None:
        raise NorthstarError(f"there is no metric {metric[:60]!r}")
