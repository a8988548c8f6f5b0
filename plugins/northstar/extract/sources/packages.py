"""Package statistics: how often a package was installed, by day, from the statistics of PyPI and npm.

    system: packages
    connection: pypi_stats      # host: the address of the statistics service (pypistats, or npm's download counts)
    options:
      registry: pypi            # pypi or npm: the kind of API at that address
      packages: {acme-client: suite, "@acme/cli": wizard}   # the application of each package
      start: 2024-01-01         # npm: the first day to read (default: 18 months ago, its longest range); pypi keeps 180 days

A package is called `<registry>/<name>`: the same name in two registries is two packages. Mirrors are not counted. Today is left
out, since it is not over; the last week is read again, since both services correct it.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.sources.declared import Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient

STATE_BY_ENTRY = "packages"
ENTITIES = ("package_downloads",)
OPTIONS = {"registry", "packages", "start"}
REGISTRIES = ("pypi", "npm")
PER_SECOND = 0.5
CORRECTED_DAYS, LONGEST_RANGE_DAYS = 7, 540


def connect(source: Source, connection: Connection) -> "Packages":
    """A registry's download statistics. Raises NorthstarError for options that are wrong or missing."""
    check_options(source, OPTIONS)
    if source.options.get("registry") not in REGISTRIES or not source.options.get("packages"):
        raise NorthstarError(
            f"source {source.name}: give `registry` ({' or '.join(REGISTRIES)}), and `packages` with the application of each"
        )
    return Packages(source, HttpClient(connection.url(), None, source.per_second or PER_SECOND))


class Packages:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient, today: Callable[[], date] = lambda: datetime.now(UTC).date()):
        self.source, self.http, self.today = source, http, today
        self.registry = source.options["registry"]

    def check(self) -> str:
        """Ask for yesterday's downloads of each package."""
        yesterday = self.today() - timedelta(days=1)
        for name in self.source.options["packages"]:
            list(self._days(name, yesterday, yesterday))
        return f"{self.registry}: may read the downloads of {', '.join(self.source.options['packages'])}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """All complete days since a week before the state. A package that was added since then is read from the start."""
        last, last_days = self.today() - timedelta(days=1), dict((state or {}).get("until") or {})
        first = date.fromisoformat(str(self.source.options.get("start", last - timedelta(days=LONGEST_RANGE_DAYS - 1))))
        for name, application in self.source.options["packages"].items():
            start = first
            if name in last_days:
                start = max(first, date.fromisoformat(last_days[name]) - timedelta(days=CORRECTED_DAYS - 1))
            rows = [
                {
                    "downloaded_on": str(day),
                    "application": application,
                    "package": f"{self.registry}/{name}",
                    "downloads": count,
                }
                for day, count in self._days(name, start, last)
            ]
            last_days[name] = str(last)
            yield Page(rows, {"until": dict(last_days)})

    def totals(self, entity: str, state: State | None) -> Totals:
        """None: neither service has a total of its own."""
        return {}

    def _days(self, name: str, first: date, last: date) -> Iterator[tuple[date, int]]:
        if self.registry == "pypi":
            answer = self.http.get(f"api/packages/{quote(name)}/overall", {"mirrors": "false"})
            daily_counts = [(r["date"], r["downloads"]) for r in answer["data"] if r["category"] == "without_mirrors"]
            yield from ((day, n) for text, n in daily_counts if first <= (day := date.fromisoformat(text)) <= last)
            return
        while first <= last:
            end = min(last, first + timedelta(days=LONGEST_RANGE_DAYS - 1))
            answer = self.http.get(f"downloads/range/{first}:{end}/{quote(name, safe='@/')}")
            yield from ((date.fromisoformat(r["day"]), r["downloads"]) for r in answer["downloads"])
            first = end + timedelta(days=1)
