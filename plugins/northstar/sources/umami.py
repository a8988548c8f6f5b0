"""Umami: its events with their sessions and properties, from its own tables (v2 and v3, on Postgres or MySQL).

    system: umami
    connection: umami_db        # conn_type postgres or mysql: a user that may read
    options:
      websites: {3f2c...: web}  # by website_id: its application; others are left out (default: all, with the source's application)
      events: {signup: user.signup}   # Umami's event names by the contract's; a name that is not here stays
      account_key: account_id   # where the session has no distinct_id: the session's or event's data of this name is the account
      lookback: 900             # seconds read again: events are stored a little after their time

A page view is the event `page.view`, the first of a visit `page.landing`; a custom event has its own name. Umami's session is the
visitor (anonymous_id), its visit the session. Queries of addresses are left out: people write names into them.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import sqlalchemy as sa

from northstar.sources.connections import Connection
from northstar.sources.declared import Page, Source, check_options
from northstar.sources.sql import LOOKBACK, ROWS, SqlDatabase

ENTITIES = ("events",)
OPTIONS = {"websites", "events", "account_key", "lookback"}
CUSTOM = 2  # event_type of an event that the site itself names


def connect(source: Source, connection: Connection) -> "Umami":
    """The database of an Umami. Raises NorthstarError for options that are wrong."""
    check_options(source, OPTIONS)
    bare = Source(source.name, "sql", source.connection)
    return Umami(source, SqlDatabase(bare, connection))


class Umami:
    """A connector of northstar.sources.declared.Connector's shape."""

    def __init__(self, source: Source, database: SqlDatabase):
        self.source, self.database = source, database

    def check(self) -> str:
        """Looks at the tables, and counts the websites."""
        with self.database.reading() as connection:
            has_accounts = self._has_distinct_id(connection)
            websites = connection.execute(sa.text("select count(*) from website")).scalar()
        told = "accounts by distinct_id" if has_accounts else "sessions without distinct_id"
        return f"Umami: may read the events of {websites} websites ({told})"

    def read(self, entity: str, state: dict | None) -> Iterator[Page]:
        """Events in the order of their time; each page can be gone on from."""
        with self.database.reading() as connection:
            newest = state and datetime.fromisoformat(state["created_at"])
            start = newest and newest - timedelta(seconds=self.source.options.get("lookback", LOOKBACK))
            columns = ["e.event_id", "e.website_id", "e.session_id", "e.visit_id", "e.created_at", "e.url_path", "e.referrer_domain",
                       "e.page_title", "e.event_type", "e.event_name", "s.country"]  # fmt: skip
            account = "s.distinct_id" if self._has_distinct_id(connection) else "null"
            earlier = (
                "not exists (select 1 from website_event as f where f.visit_id = e.visit_id and f.event_type = 1 "
                "and (f.created_at < e.created_at or (f.created_at = e.created_at and f.event_id < e.event_id)))"
            )
            query = (
                f"select {', '.join(columns)}, {account} as account_id, {earlier} as is_first from website_event as e "
                "left join session as s on s.session_id = e.session_id"
            )
            if start:
                query += " where e.created_at >= :start"
            rows = connection.execution_options(stream_results=True, max_row_buffer=ROWS).execute(
                sa.text(query + " order by e.created_at, e.event_id"), {"start": self._plain(start)} if start else {}
            )
            with self.database.reading() as beside:
                for part in rows.mappings().partitions(ROWS):
                    moments = [_utc(r["created_at"]) for r in part]
                    newest = max([*moments, *([newest] if newest else [])])
                    data = self._data(beside, [r["event_id"] for r in part], [r["session_id"] for r in part])
                    found = [self._row(r, data) for r in part]
                    yield Page([row for row in found if row], {"created_at": newest.isoformat()})

    def totals(self, entity: str, state: dict | None) -> dict:
        """The number of events up to the state."""
        if self.source.options.get("websites") or not state:
            return {}
        with self.database.reading() as connection:
            count = connection.execute(
                sa.text("select count(*) from website_event where created_at <= :newest"),
                {"newest": self._plain(datetime.fromisoformat(state["created_at"]))},
            ).scalar()
        return {"rows": (count, "count(*)")}

    def _row(self, event, data: dict) -> dict | None:
        websites = self.source.options.get("websites")
        if websites and str(event["website_id"]) not in websites:
            return None
        own, key = data.get(event["event_id"], {}), self.source.options.get("account_key")
        account = event["account_id"] or (own.get(key) or data.get(event["session_id"], {}).get(key) if key else None)
        if event["event_type"] == CUSTOM:
            name = (self.source.options.get("events") or {}).get(event["event_name"], event["event_name"])
        else:
            name = "page.landing" if event["is_first"] else "page.view"
        properties = {
            "url_path": event["url_path"],
            "page_title": event["page_title"],
            "referrer_domain": event["referrer_domain"],
        }
        moment = _utc(event["created_at"]).isoformat()
        row = {
            "event_id": str(event["event_id"]), "event_name": name, "occurred_at": moment, "received_at": moment,
            "account_id": account and str(account), "anonymous_id": str(event["session_id"]), "session_id": str(event["visit_id"]),
            "channel": "web", "country": event["country"],
            "properties": orjson.dumps({k: v for k, v in {**properties, **own}.items() if v is not None}, default=str).decode(),
        }  # fmt: skip
        return row | ({"application": websites[str(event["website_id"])]} if websites else {})

    def _data(self, connection, events: list, sessions: list) -> dict:
        """{event or session: {key: value}} of what the site told of them."""
        found: dict = {}
        for table, column, wanted in (
            ("event_data", "website_event_id", events),
            ("session_data", "session_id", sorted(set(sessions))),
        ):
            if table == "session_data" and not self.source.options.get("account_key"):
                continue
            query = sa.text(
                f"select {column} as owner, data_key, string_value, number_value, date_value from {table} where {column} in :wanted"
            ).bindparams(sa.bindparam("wanted", expanding=True))
            for row in connection.execute(query, {"wanted": wanted}).mappings():
                number = row["number_value"]
                if number is not None:
                    number = int(number) if number == int(number) else float(number)
                moment = row["date_value"]
                value = (
                    number
                    if number is not None
                    else row["string_value"]
                    if row["string_value"] is not None
                    else moment and moment.isoformat()
                )
                found.setdefault(row["owner"], {})[row["data_key"]] = value
        return found

    def _has_distinct_id(self, connection) -> bool:
        # since v2.18
        return "distinct_id" in {c["name"] for c in sa.inspect(connection).get_columns("session")}

    def _plain(self, moment: datetime) -> datetime:
        """A moment as the database compares it: MySQL keeps UTC without saying so."""
        return moment if self.database.engine.dialect.name == "postgresql" else moment.replace(tzinfo=None)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
