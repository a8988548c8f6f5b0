"""Daily figures: downloads of packages, and figures of the community and the code, of which the newest snapshot counts."""

from bisect import bisect_left
from collections import defaultdict
from datetime import date
from fractions import Fraction

from northstar.demo.books.ledger import Key, Ledger

CODE_QUALITY = {
    "test_coverage": "test_coverage_percent", "code_duplication": "duplication_percent",
    "technical_debt_ratio": "technical_debt_percent", "critical_vulnerabilities": "critical_vulnerabilities",
    "high_vulnerabilities": "high_vulnerabilities",
}  # fmt: skip
# figures that are averaged over several applications; the others are summed
SHARES = {"test_coverage", "code_duplication", "technical_debt_ratio"}


def reckon(ledger: Ledger) -> None:
    """Downloads, community figures, code quality."""
    for row in ledger.rows["package_downloads"]:
        when, package = ledger.midnight(row["downloaded_on"]), {"package": row["package"]}
        ledger.add("package_downloads", when, row["application"], row["downloads"], None, package)
    newest_values: dict[Key, list[Fraction]] = defaultdict(list)
    for (metric, application, component), snapshots in _snapshots(ledger).items():
        snapshots.sort()
        days = [day for day, _ in snapshots]
        for start, end in ledger.months:
            place = bisect_left(days, ledger.day_of(end))
            if place:
                for name in (application, "all"):
                    if component is not None:
                        newest_values[metric, start, name, "component", component].append(snapshots[place - 1][1])
                    if component in (None, "all"):
                        newest_values[metric, start, name, "", ""].append(snapshots[place - 1][1])
    for key, values in newest_values.items():
        ledger.results[key] = (sum(values, Fraction(0)) / (len(values) if key[0] in SHARES else 1), None)


def _snapshots(ledger: Ledger) -> dict[tuple[str, str, str | None], list[tuple[date, Fraction]]]:
    """The snapshots, (day, value), by metric, application and component; a community figure has no component."""
    snapshots: dict[tuple[str, str, str | None], list[tuple[date, Fraction]]] = defaultdict(list)
    for row in ledger.rows["community_snapshots"]:
        snapshots[row["measure"], row["application"], None].append((row["captured_on"], Fraction(row["value"])))
    for row in ledger.rows["code_quality"]:
        for metric, column in CODE_QUALITY.items():
            value = Fraction(str(row[column]))
            snapshots[metric, row["application"], row["component"]].append((row["captured_on"], value))
    return snapshots
