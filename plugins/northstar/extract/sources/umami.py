"""Umami: events with their sessions and properties, from its own tables (v2, v3; Postgres or MySQL) or its REST API.

    system: umami
    connection: umami_db        # conn_type postgres or mysql: a user with read access; conn_type http: the REST API's log-in
                                # (for Umami's cloud: an API key as the password, and no login)
    options:
      websites: {3f2c0a1e-0000-4000-8000-000000000000: web}   # the application of each website_id; other websites are not read
                                # (default: all websites, with the source's application)
      events: {signup: user.signup}   # the contract's name of each event; other events keep their names
      account_key: account_id   # the key of the event's or session's data that holds the account, for sessions without distinct_id
      lookback: 900             # how many seconds are read again: events are stored a little after their time
      start: 2025-01-01         # REST API: the first day to read (default: a year ago)

A page view is the event `page.view`, the first of a visit `page.landing`; a custom event has its own name. Umami's session is the
visitor (anonymous_id), its visit the session. Queries of addresses are left out, since they may contain names. Links, pixels and
performance measurements are not read. The tables are the better way where both are open: the API needs a request for each visitor
and for each event with properties.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from northstar.base import exact_json
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, Json, JsonObject, Parameters
from northstar.extract.sources.sql import LOOKBACK, ROWS, SqlDatabase

ENTITIES = ("events",)
OPTIONS = {"websites", "events", "account_key", "lookback", "start"}
PER_SECOND = 20
VIEW, CUSTOM = 1, 2  # values of event_type: a page view, and an event that the site itself names
HISTORY_DAYS = 366
# a span with more events than this is requested in halves: pages by number could skip or repeat events of one moment
EVENTS_PER_ANSWER = 5_000
# the API gives at most this many activities of a session; a visit may have begun this long before its first event that is read
ACTIVITIES_PER_ANSWER, VISIT = 500, timedelta(hours=24)

# an event by the column names of its table; and the data that the site sent for an event or a session
Event = Mapping[str, Json] | sa.RowMapping
Data = dict[str, object]


def connect(source: Source, connection: Connection) -> "Umami | UmamiApi":
    """The database or the API of an Umami. Raises NorthstarError for options that are wrong."""
    check_options(source, OPTIONS)
    if connection.kind not in ("http", "https"):
        return Umami(source, SqlDatabase(Source(source.name, "sql", source.connection), connection))
    pace = source.per_second or PER_SECOND
    if not connection.login:
        return UmamiApi(source, HttpClient(connection.url() + "/api", {"x-umami-api-key": connection.secret()}, pace))

    def log_in() -> dict[str, str]:
        # a client of its own: this request gets the token of the other one
        with HttpClient(connection.url() + "/api") as http:
            token = http.post("auth/login", {"username": connection.login, "password": connection.secret()})["token"]
        return {"Authorization": f"Bearer {token}"}

    return UmamiApi(source, HttpClient(connection.url() + "/api", log_in, pace))


class Events:
    """What Umami's events mean, however they were read."""

    source: Source

    def row(self, event: Event, event_data: Data, session_data: Data) -> ContractRow | None:
        """A row of the entity `events`; None for something else, or for a website that the options leave out.

        event: by the column names of website_event, with country, account_id (distinct_id) and is_first. event_data, session_data: the data
        that the site sent for the event, and for its session.
        """
        websites = self.source.options.get("websites")
        if event["event_type"] not in (VIEW, CUSTOM) or (websites and str(event["website_id"]) not in websites):
            return None
        key = self.source.options.get("account_key")
        account = event["account_id"] or (event_data.get(key) or session_data.get(key) if key else None)
        if event["event_type"] == CUSTOM:
            name = (self.source.options.get("events") or {}).get(event["event_name"], event["event_name"])
        else:
            name = "page.landing" if event["is_first"] else "page.view"
        properties = {name: event[name] for name in ("url_path", "page_title", "referrer_domain")} | event_data
        moment = _utc(event["created_at"]).isoformat()
        row = {
            "event_id": str(event["event_id"]), "event_name": name, "occurred_at": moment, "received_at": moment,
            "account_id": account and str(account), "anonymous_id": str(event["session_id"]), "session_id": str(event["visit_id"]),
            "channel": "web", "country": event["country"],
            "properties": exact_json.dumps({k: v for k, v in properties.items() if v is not None}),
        }  # fmt: skip
        return row | ({"application": websites[str(event["website_id"])]} if websites else {})


class Umami(Events):
    """The tables: a connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, database: SqlDatabase):
        self.source, self.database = source, database

    def check(self) -> str:
        """Look at the tables, and count the websites."""
        with self.database.reading() as connection:
            has_accounts = self._has_distinct_id(connection)
            websites = connection.execute(sa.text("select count(*) from website")).scalar()
        account_note = "accounts by distinct_id" if has_accounts else "sessions without distinct_id"
        return f"Umami: may read the events of {websites} websites ({account_note})"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """Events in the order of their time. Reading can go on after each page."""
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
                sa.text(query + " order by e.created_at, e.event_id"),
                {"start": self._to_database_time(start)} if start else {},
            )
            with self.database.reading() as second_connection:
                for part in rows.mappings().partitions(ROWS):
                    moments = [_utc(r["created_at"]) for r in part]
                    newest = max([*moments, *([newest] if newest else [])])
                    data = self._read_data(
                        second_connection, [r["event_id"] for r in part], [r["session_id"] for r in part]
                    )
                    event_rows = [self.row(r, data.get(r["event_id"], {}), data.get(r["session_id"], {})) for r in part]
                    yield Page([row for row in event_rows if row], {"created_at": newest.isoformat()})

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of events up to the state."""
        if self.source.options.get("websites") or not state:
            return {}
        with self.database.reading() as connection:
            count = connection.execute(
                sa.text(
                    f"select count(*) from website_event where created_at <= :newest and event_type in ({VIEW}, {CUSTOM})"
                ),
                {"newest": self._to_database_time(datetime.fromisoformat(state["created_at"]))},
            ).scalar()
        return {"rows": (count, "count(*)")}

    def _read_data(self, connection: sa.Connection, events: list[object], sessions: list[Json]) -> dict[object, Data]:
        """The data that the site sent: {event or session: {key: value}}."""
        data: dict[object, Data] = {}
        for table, column, owners in (
            ("event_data", "website_event_id", events),
            ("session_data", "session_id", sorted(set(sessions))),
        ):
            if table == "session_data" and not self.source.options.get("account_key"):
                continue
            query = sa.text(
                f"select {column} as owner, data_key, string_value, number_value, date_value from {table} where {column} in :owners"
            ).bindparams(sa.bindparam("owners", expanding=True))
            for row in connection.execute(query, {"owners": owners}).mappings():
                data.setdefault(row["owner"], {})[row["data_key"]] = _value(
                    row["number_value"], row["string_value"], row["date_value"]
                )
        return data

    def _has_distinct_id(self, connection: sa.Connection) -> bool:
        # since v2.18
        return "distinct_id" in {c["name"] for c in sa.inspect(connection).get_columns("session")}

    def _to_database_time(self, moment: datetime) -> datetime:
        """A moment in the form that the database compares: MySQL keeps UTC without a time zone."""
        return moment if self.database.engine.dialect.name == "postgresql" else moment.replace(tzinfo=None)


class UmamiApi(Events):
    """The REST API: a connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient, clock: Callable[[], datetime] | None = None):
        self.source, self.http = source, http
        # Umami's clock: if ours were ahead of it, events would be skipped
        self.clock = clock or (lambda: datetime.fromtimestamp(http.now("websites", {"pageSize": 1}), UTC))
        self._sessions: dict[str, tuple[JsonObject, Data]] = {}

    def check(self) -> str:
        """Ask for the websites."""
        return f"Umami: may read the events of {len(self._websites())} websites (REST API)"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The events of all websites, one day at a time, oldest first. Reading can go on after each day."""
        now = self.clock()
        if state:
            start = datetime.fromisoformat(state["created_at"]) - timedelta(
                seconds=self.source.options.get("lookback", LOOKBACK)
            )
        else:
            start = _utc(
                datetime.fromisoformat(str(self.source.options.get("start", (now - timedelta(HISTORY_DAYS)).date())))
            )
        websites = self._websites()
        while start < now:
            end = min(start + timedelta(1), now)
            for website in websites:
                for events in self._between(website, start, end):
                    yield Page(self._rows(website, events), None)
            yield Page([], {"created_at": end.isoformat()})
            start = end

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of events that Umami has for the last complete day."""
        end = self.clock().replace(hour=0, minute=0, second=0, microsecond=0)
        day = (end - timedelta(1)).date()
        event_ids = {
            event["id"]
            for website in self._websites()
            # both bounds of the API are inclusive
            for events in self._between(website, end - timedelta(1), end - timedelta(milliseconds=1))
            for event in events
            if event["eventType"] in (VIEW, CUSTOM)
        }
        return {
            f"events on {day}": (
                len(event_ids),
                f"count(*) filter (where occurred_at >= '{day} 00:00Z' and occurred_at < '{end:%Y-%m-%d} 00:00Z')",
            )
        }

    def _websites(self) -> list[str]:
        selected_websites = self.source.options.get("websites")
        if selected_websites:
            return list(selected_websites)
        website_ids, number = [], 1
        while True:
            page = self.http.get("websites", {"page": number, "pageSize": 100, "includeTeams": "true"})
            website_ids += [website["id"] for website in page["data"]]
            if not page["data"] or len(website_ids) >= int(page["count"]):
                return sorted(set(website_ids))
            number += 1

    def _between(self, website: str, start: datetime, end: datetime) -> Iterator[list[JsonObject]]:
        answer = self._request_events(website, start, end, EVENTS_PER_ANSWER)
        if int(answer["count"]) <= len(answer["data"]) or end - start <= timedelta(milliseconds=2):
            yield answer["data"]
            return
        middle = start + (end - start) / 2
        yield from self._between(website, start, middle)
        yield from self._between(website, middle, end)

    def _request_events(self, website: str, start: datetime, end: datetime, size: int) -> JsonObject:
        parameters: Parameters = {
            "startAt": _milliseconds(start),
            "endAt": _milliseconds(end),
            "page": 1,
            "pageSize": size,
        }
        answer: JsonObject = self.http.get(f"websites/{website}/events", parameters)
        return answer

    def _rows(self, website: str, events: list[JsonObject]) -> list[ContractRow]:
        visits = self._visits(website, events)
        rows = []
        for event in sorted(events, key=lambda e: (e["createdAt"], e["id"])):
            session, session_data = self._session(website, event["sessionId"])
            visit, is_first = visits.get(event["id"], (None, False))
            # older versions do not say whether an event has data
            event_data = (
                self._event_data(website, event["id"]) if event.get("hasData", event["eventType"] == CUSTOM) else {}
            )
            rows.append(self.row(event_of_api(event, session, visit, is_first), event_data, session_data))
        return [row for row in rows if row]

    def _visits(self, website: str, events: list[JsonObject]) -> dict[str, tuple[str, bool]]:
        """{event: (its visit, whether it is the visit's first page view)}, from the activity of the sessions."""
        spans: dict[str, list[datetime]] = {}
        for event in events:
            spans.setdefault(event["sessionId"], []).append(datetime.fromisoformat(event["createdAt"]))
        visits = {}
        for session, moments in spans.items():
            activity: dict[str, JsonObject] = {}
            last = max(moments)
            while True:
                parameters = {"startAt": _milliseconds(min(moments) - VISIT), "endAt": _milliseconds(last) + 1}
                part = self.http.get(f"websites/{website}/sessions/{session}/activity", parameters)
                is_new = not activity.keys() >= {e["eventId"] for e in part}
                activity.update({e["eventId"]: e for e in part})
                if len(part) < ACTIVITIES_PER_ANSWER or not is_new:
                    break
                last = min(datetime.fromisoformat(e["createdAt"]) for e in part)
            viewed_visits = set()
            for event in sorted(activity.values(), key=lambda e: (e["createdAt"], e["eventId"])):
                is_view = event["eventType"] == VIEW
                visits[event["eventId"]] = event["visitId"], is_view and event["visitId"] not in viewed_visits
                if is_view:
                    viewed_visits.add(event["visitId"])
        return visits

    def _session(self, website: str, session: str) -> tuple[JsonObject, Data]:
        if session not in self._sessions:
            details = self.http.get(f"websites/{website}/sessions/{session}") or {}
            data: Data = {}
            if self.source.options.get("account_key"):
                data = _to_data(self.http.get(f"websites/{website}/sessions/{session}/properties"))
            self._sessions[session] = details, data
        return self._sessions[session]

    def _event_data(self, website: str, event: str) -> Data:
        return _to_data(self.http.get(f"websites/{website}/event-data/{event}"))


def event_of_api(event: JsonObject, session: JsonObject, visit: str | None, is_first: bool) -> Event:
    """An event of the API, by the column names of the tables."""
    return {
        "event_id": event["id"], "website_id": event["websiteId"], "session_id": event["sessionId"], "visit_id": visit,
        "created_at": datetime.fromisoformat(event["createdAt"]), "url_path": event.get("urlPath"), "page_title": event.get("pageTitle"),
        "referrer_domain": event.get("referrerDomain"), "event_type": event["eventType"], "event_name": event.get("eventName"),
        "country": event.get("country") or session.get("country"), "account_id": session.get("distinctId"), "is_first": is_first,
    }  # fmt: skip


def _to_data(rows: list[JsonObject]) -> Data:
    return {d["dataKey"]: _value(d.get("numberValue"), d.get("stringValue"), d.get("dateValue")) for d in rows}


def _value(number: Json, text: str | None, moment: Json) -> object:
    """The value of a row of event_data or session_data. Numbers come as text, too."""
    if number is not None:
        number = float(number)
        return int(number) if number.is_integer() else number
    return text if text is not None or not hasattr(moment, "isoformat") else moment.isoformat()


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
