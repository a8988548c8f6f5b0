"""The only expectation class of our own. Importing this module imports Great Expectations (6 to 8 s)."""

from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation


class ExpectNoRows(UnexpectedRowsExpectation):
    """Expects that a query returns no rows. Unlike its parent class it runs the query once: the rows are counted as they are fetched.

    The observed value is the number of rows fetched, at most Great Expectations' MAX_RESULT_RECORDS (200).
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.table",)

    # Any: the signature of the parent class
    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: object = None,
    ) -> dict[str, Any]:
        rows = metrics["unexpected_rows_query.table"]
        return {"success": not rows, "result": {"observed_value": len(rows), "details": {"unexpected_rows": rows}}}
