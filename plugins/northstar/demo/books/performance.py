"""Performance: how long requests and pages take, and how many users there are at once."""

from collections import defaultdict
from datetime import datetime
from fractions import Fraction

from northstar.demo.books.arithmetic import percentile
from northstar.demo.books.ledger import BookRow, Key, Ledger
from northstar.demo.books.times import hour_of

PAGE_TIMES = {"page_load_time": "page_load_ms", "lcp": "lcp_ms", "tti": "tti_ms"}


def reckon(ledger: Ledger) -> None:
    """Requests with their errors and times, the busiest hour's time, web vitals, peak users."""
    for row in ledger.rows["api_requests"]:
        _request(ledger, row)
    for scope, values in [(key[1:], values) for key, values in ledger.lists.items() if key[0] == "api"]:
        for number in (50, 95, 99):
            time = percentile(values, Fraction(number, 100))
            ledger.results[f"api_response_time_p{number}", *scope] = (time, Fraction(len(values)))
    _busiest_hours(ledger)
    for row in ledger.rows["web_vitals"]:
        _page_view(ledger, row)
    ledger.reckon_percentile(*PAGE_TIMES, share=Fraction(3, 4))
    _peak_users(ledger)


def _request(ledger: Ledger, row: BookRow) -> None:
    when, application, service = row["occurred_at"], row["application"], {"service": row["service"]}
    is_failed = int(500 <= row["status_code"] <= 599)
    ledger.add("api_requests", when, application, 1, None, service)
    ledger.add("error_rate", when, application, is_failed, 1, service)
    if row["is_critical"]:
        ledger.add("critical_error_rate", when, application, is_failed, 1, service)
    if row["duration_ms"] is None:
        return
    took = Fraction(str(row["duration_ms"]))
    if row["service"] == "auth":
        ledger.add("auth_response_time", when, application, took, 1)
    if row["service"] == "api":
        ledger.add("api_response_time", when, application, took, 1, {"route": row["route"]})
        ledger.measure("api", when, application, took)


def _busiest_hours(ledger: Ledger) -> None:
    """The 95th percentile of request times in each month's hour with most requests; the earliest of these hours if there are several."""
    hours: dict[tuple[datetime, str], list[Fraction | None]] = defaultdict(list)
    for row in ledger.rows["api_requests"]:
        if row["service"] == "api":
            for name in (row["application"], "all"):
                hours[hour_of(row["occurred_at"]), name].append(
                    None if row["duration_ms"] is None else Fraction(str(row["duration_ms"]))
                )
    busiest: dict[tuple[datetime, str], tuple[datetime, list[Fraction | None]]] = {}
    for (hour, name), values in hours.items():
        place = (ledger.month_of(hour), name)
        best = busiest.get(place)
        if best is None or (-len(values), hour) < (-len(best[1]), best[0]):
            busiest[place] = (hour, values)
    for (month, name), (_, values) in busiest.items():
        timed = [value for value in values if value is not None]
        if timed:
            time = percentile(timed, Fraction(95, 100))
            ledger.results["peak_hour_response_time_p95", month, name, "", ""] = (time, Fraction(len(timed)))


def _page_view(ledger: Ledger, row: BookRow) -> None:
    when, application, device = row["occurred_at"], row["application"], {"device": row["device"]}
    for metric, column in PAGE_TIMES.items():
        if row[column] is not None:
            ledger.measure(metric, when, application, Fraction(str(row[column])), device | {"page": row["page"]})
    for metric in ("lighthouse_score", "accessibility_score"):
        if row[metric] is not None:
            ledger.add(metric, when, application, Fraction(str(row[metric])), 1, device)


def _peak_users(ledger: Ledger) -> None:
    peaks: dict[Key, int] = {}
    for row in ledger.rows["resource_samples"]:
        for name in (row["application"], "all"):
            key = ("peak_concurrent_users", ledger.month_of(row["sampled_at"]), name, "", "")
            peaks[key] = max(peaks.get(key, 0), row["concurrent_users"])
    ledger.results |= {key: (Fraction(value), None) for key, value in peaks.items()}
