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
$last_full_run is the last published run before this one that checked every row: what was landed or noted after it is told until a full run
has told it. A column `message` of the rows is shown to the user; a column `failing_rows` says for how many rows one of them stands.

`errors` in operations.yml names checks of severity `warn` that are errors in this company.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from northstar.base.config_files import Section, read_own_config

BOUNDARIES = ("staging", "marts")


class Check(Section):
    """One check, with the reason for it."""

    name: str = Field(description="name what holds, as a sentence in one word")
    severity: Literal["error", "warn"] = Field(description="error stops the publish, warn is recorded")
    reason: str = Field(min_length=1, description="say what goes wrong where it does not hold")
    expect: str | None = None
    # Any: the arguments of the class of Great Expectations
    arguments: dict[str, Any] = Field({}, description="give names with values")
    rows: str | None = None

    @model_validator(mode="after")
    def _require_expect_or_rows(self) -> Self:
        if bool(self.expect) == bool(self.rows):
            raise ValueError("give either `expect`, an expectation of Great Expectations, or `rows`, SQL")
        return self


class SuiteFile(Section):
    """A file of expectations/."""

    table: str = Field(pattern=r"^\w+\.\w+$", description="name the table, as schema.table")
    checks: list[Check]
    changes: str | None = None
    read_once: bool = False


@dataclass
class Suite:
    """The checks of one table at one boundary."""

    boundary: str
    name: str
    schema: str
    table: str
    checks: list[Check]
    changes: str | None = None
    read_once: bool = False


def read_suites(root: Path, boundary: str, errors: Collection[str] = ()) -> list[Suite]:
    """The suites of a boundary, by file name. Raises ConfigError naming the file and what in it is wrong.

    errors: the names of checks that are errors, whatever their file says.
    """
    return [_read_suite(path, boundary, errors) for path in sorted((root / "expectations" / boundary).glob("*.yml"))]


def _read_suite(path: Path, boundary: str, errors: Collection[str]) -> Suite:
    file = read_own_config(path, SuiteFile)
    schema, _, table = file.table.partition(".")
    checks = [
        check.model_copy(update={"severity": "error"}) if check.name in errors else check for check in file.checks
    ]
    return Suite(boundary, path.stem, schema, table, checks, file.changes, file.read_once)
