"""Which failed tasks are tried again."""

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision, RetryPolicy

from northstar.base.errors import NorthstarError, PassingError

if TYPE_CHECKING:
    from airflow.sdk import Context

# a run keeps its turn while it waits; the next one is an hour away
LONGEST_WAIT = timedelta(minutes=15)


class RetryWhatPasses(RetryPolicy):
    """Try again what may pass by itself, after as long as the system asked for; never what a person has to mend.

    A contract that is broken, a credential that is refused, a setting that is wrong: another try would fail in the same way, and only delay the
    message.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: "Context | None" = None
    ) -> RetryDecision:
        """Whether to try again, when, and why; as RetryPolicy requires."""
        if isinstance(exception, PassingError):
            wait = None if exception.wait_seconds is None else timedelta(seconds=exception.wait_seconds)
            if wait is not None and wait > LONGEST_WAIT:
                return RetryDecision.fail(f"its system asks to wait for {wait}: the next run tries again")
            return RetryDecision.retry(wait, "this may pass by itself")
        if isinstance(exception, NorthstarError):
            return RetryDecision.fail("this does not pass by itself")
        return RetryDecision.default()

    def serialize(self) -> dict[str, object]:
        """Nothing is to be kept: the task itself evaluates the policy."""
        return {}
