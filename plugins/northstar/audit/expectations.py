"""Our one expectation class. Importing this module imports Great Expectations (6 to 8 s)."""

from typing import ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import UnexpectedRowsExpectation


class ExpectNoRows(UnexpectedRowsExpectation):
    """No row comes back from the query. Unlike its parent it runs the query once: the rows are counted as they are fetched.

    The observed value is the number of rows fetched, at most Great Expectations' MAX_RESULT_RECORDS (200).
    """

    metric_dependencies: ClassVar[tuple[str, ...]] = ("unexpected_rows_query.table",)

    def _validate(self, metrics, runtime_configuration=None, execution_engine=None):
        rows = metrics["unexpected_rows_query.table"]
        return {"success": not rows, "result": {"observed_value": len(rows), "details": {"unexpected_rows": rows}}}
