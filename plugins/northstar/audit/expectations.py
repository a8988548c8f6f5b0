"""The only expectation class of our own. Importing this module imports Great Expectations (6 to 8 s)."""

from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation


class ExpectNoRows(UnexpectedRowsExpectation):
    """Expects that a query returns no rows. Unlike its parent class it runs the query once.

    The query returns a sample of the rows; the column `_failing_rows` of each says how many there are, which is the observed value.
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.table",)

    # Any: the signature of the parent class
    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: object = None,
    ) -> dict[str, Any]:
        rows = [dict(row) for row in metrics["unexpected_rows_query.table"]]
        counts = [row.pop("_failing_rows") for row in rows]
        failing = counts[0] if counts else 0
        return {"success": not rows, "result": {"observed_value": failing, "details": {"unexpected_rows": rows}}}
