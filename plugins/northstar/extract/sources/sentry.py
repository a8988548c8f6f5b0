"""Sentry: the error events of its projects, from its REST API (sentry.io, a region of it, or self-hosted).

    system: sentry
    connection: sentry_main     # password: a token with project:read; host: only for servers other than sentry.io
    options:
      organization: acme
      projects: {web-frontend: web, api: web}   # the application of each project, by its slug
      environments: [production]    # the environments whose events are read (default: all, and events without one)
      service_tag: service          # the tag that names the service (default: service); without the tag it is the project's slug
      history_days: 90              # how far back the first reading goes; Sentry keeps 30 to 90 days
      lookback: 86400               # how many seconds are read again: phones report errors once they are online again

An event is user-facing when Sentry knows who saw it (its `user`). Its fingerprint is the issue that Sentry put it into. Stack traces,
messages and users themselves are not read.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, JsonObject

ENTITIES = ("error_events",)
ADDRESS = "https://sentry.io"
OPTIONS = {"organization", "projects", "environments", "service_tag", "history_days", "lookback"}
PER_SECOND = 5
HISTORY_DAYS, LOOKBACK, DAY = 90, 86_400, 86_400


def connect(source: Source, connection: Connection) -> "Sentry":
    """A Sentry organization. Raises NorthstarError for options that are wrong or missing."""
    check_options(source, OPTIONS)
    if not source.options.get("organization") or not source.options.get("projects"):
        raise NorthstarError(
            f"source {source.name}: give `organization`, and `projects`: the application of each, by its slug"
        )
    headers = {"Authorization": f"Bearer {connection.secret()}"}
    return Sentry(source, HttpClient(connection.url(ADDRESS) + "/api/0", headers, source.per_second or PER_SECOND))


class Sentry:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient, clock: Callable[[], float] | None = None):
        self.source, self.http = source, http
        self.organization = source.options["organization"]
        # Sentry's clock: if ours were ahead of it, events would be skipped
        self.clock = clock or (
            lambda: http.now(f"projects/{self.organization}/{next(iter(source.options['projects']))}/")
        )

    def check(self) -> str:
        """Ask for each project."""
        names = [
            self.http.get(f"projects/{self.organization}/{slug}/")["slug"] for slug in self.source.options["projects"]
        ]
        return f"Sentry: may read the error events of {', '.join(names)}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The events of all projects, one day at a time. Reading can go on after each day."""
        now, options = int(self.clock()), self.source.options
        start = now - options.get("history_days", HISTORY_DAYS) * DAY
        if state:
            start = max(start, state["since"] - options.get("lookback", LOOKBACK))
        while start < now:
            end = min(start + DAY, now)
            for slug, application in options["projects"].items():
                window = {"start": _time(start), "end": _time(end), "full": "false"}
                for events in self.http.pages(f"projects/{self.organization}/{slug}/events/", window):
                    yield Page(
                        [self._row(slug, application, event) for event in events if self._is_selected(event)], None
                    )
            yield Page([], {"since": end})
            start = end

    def totals(self, entity: str, state: State | None) -> Totals:
        """The errors that Sentry accepted on the last complete day; it counts all environments."""
        if self.source.options.get("environments"):
            return {}
        end = int(self.clock()) // DAY * DAY
        projects = [
            self.http.get(f"projects/{self.organization}/{slug}/")["id"] for slug in self.source.options["projects"]
        ]
        statistics = self.http.get(
            f"organizations/{self.organization}/stats_v2/",
            {"field": "sum(quantity)", "category": "error", "outcome": "accepted", "interval": "1d", "project": projects,
             "groupBy": "outcome", "start": _time(end - DAY), "end": _time(end)},
        )  # fmt: skip
        day = datetime.fromtimestamp(end - DAY, UTC).date()
        landed = (
            f"count(*) filter (where occurred_at >= '{day} 00:00Z' and occurred_at < '{day + timedelta(1)} 00:00Z')"
        )
        return {f"accepted on {day}": (sum(group["totals"]["sum(quantity)"] for group in statistics["groups"]), landed)}

    def _is_selected(self, event: JsonObject) -> bool:
        environments = self.source.options.get("environments")
        return not environments or _tags(event).get("environment") in environments

    def _row(self, slug: str, application: str, event: JsonObject) -> ContractRow:
        tags = _tags(event)
        return {
            "error_id": event.get("eventID") or event["id"], "application": application,
            "service": tags.get(self.source.options.get("service_tag", "service"), slug),
            # Sentry takes an event without a level for an error
            "level": tags.get("level", "error"), "fingerprint": event.get("groupID"),
            "is_user_facing": bool(event.get("user")), "occurred_at": event["dateCreated"],
        }  # fmt: skip


def _tags(event: JsonObject) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in event.get("tags") or []}


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
