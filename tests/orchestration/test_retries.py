"""What may pass by itself is tried again, and what a person has to mend is not."""

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from northstar.base.errors import (
    NorthstarError,
    OutOfDisk,
    SourceDown,
    SourceFailed,
    SourceUnavailable,
    TurnTaken,
    WarehouseLost,
)
from northstar.orchestration.retries import RetryWhatPasses


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (SourceUnavailable("crm", "it answered 503", None), RetryAction.RETRY, None),
        (SourceUnavailable("crm", "it answered 429", 90), RetryAction.RETRY, timedelta(seconds=90)),
        # as long as it asks for, no run waits: the next one comes before
        (SourceUnavailable("crm", "it answered 429", 3600), RetryAction.FAIL, None),
        (SourceDown("crm: it did not answer"), RetryAction.RETRY, None),
        (WarehouseLost("the connection was lost"), RetryAction.RETRY, None),
        (OutOfDisk(), RetryAction.RETRY, None),
        (TurnTaken(7, "run 7 writes"), RetryAction.RETRY, None),
        (SourceFailed("crm", "it answered 401: Invalid key"), RetryAction.FAIL, None),
        (NorthstarError("no connection crm"), RetryAction.FAIL, None),
        # nobody knows
        (KeyError("x"), RetryAction.DEFAULT, None),
    ],
    ids=str,
)
def test_a_task_is_tried_again_where_that_can_help(error, action, delay):
    decision = RetryWhatPasses().evaluate(error, 1, 3)
    assert (decision.action, decision.retry_delay) == (action, delay)
