"""The suites: reviewed YAML files in expectations/<boundary>/<table>.yml, read and checked here.

    table: marts_candidate.fct_payments
    changes: charge_id in (select charge_id from marts_candidate._changed__fct_payments)     # optional
    checks:
      - name: charge_ids_are_unique
        expect: ExpectColumnValuesToBeUnique        # a Great Expectations class, with its arguments
        arguments: {column: charge_id}
        severity: error                             # error stops the publish, warn is recorded
        reason: a payment counted twice is revenue that is not there
      - name: no_charge_is_negative
        rows: select charge_id from $batch where amount_minor < 0      # or SQL for the rows that should not exist
        ...

A full run checks every row. In an hourly run `changes` says which of the table's rows the run may have changed: classes look at
those alone, SQL where it says $in_scope (true in a full run).

In SQL, $batch is the table, $scoped are its rows for which $in_scope is true (`read_once: true` has them copied first, for a table
that is expensive to read and has many checks), $as_of (a timestamptz literal) and $run_id are the run's, $is_full says which kind it is; landed
rows that are new to it have _batch_id > $since_batch or their own time >= $previous_as_of (in a full run all have).
A column `message` of the rows is shown to the user.
"""

from dataclasses import dataclass, field
from pathlib import Path

from northstar.bounded_yaml import read_own_yaml
from northstar.errors import NorthstarError

BOUNDARIES = ("staging", "marts")
SEVERITIES = ("error", "warn")
CHECK_KEYS = {"name", "expect", "arguments", "rows", "severity", "reason"}


@dataclass
class Check:
    """One expectation with why it is there."""

    name: str
    severity: str
    reason: str
    expect: str | None = None
    arguments: dict = field(default_factory=dict)
    rows: str | None = None


@dataclass
class Suite:
    """The checks of one table at one boundary."""

    boundary: str
    name: str
    schema: str
    table: str
    checks: list
    changes: str | None = None
    read_once: bool = False


def read_suites(root: Path, boundary: str) -> list[Suite]:
    """The suites of a boundary, by file name. Raises NorthstarError naming the file and what in it is wrong."""
    return [_suite(path, boundary) for path in sorted((root / "expectations" / boundary).glob("*.yml"))]


def _suite(path: Path, boundary: str) -> Suite:
    raw = read_own_yaml(path)
    if not {"table", "checks"} <= set(raw) <= {"table", "checks", "changes", "read_once"}:
        raise NorthstarError(
            f"{path}: a suite has `table`, `checks`, perhaps `changes` and `read_once`, and nothing else"
        )
    schema, _, table = raw["table"].partition(".")
    checks = []
    for given in raw["checks"]:
        unknown = set(given) - CHECK_KEYS
        if unknown:
            raise NorthstarError(f"{path}: unknown key {sorted(unknown)[0]!r}")
        check = Check(**given)
        if check.severity not in SEVERITIES or not check.reason or bool(check.expect) == bool(check.rows):
            raise NorthstarError(f"{path}, {check.name}: needs a severity, a reason, and either `expect` or `rows`")
        checks.append(check)
    return Suite(boundary, path.stem, schema, table, checks, raw.get("changes"), raw.get("read_once", False))
