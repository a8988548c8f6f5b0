"""The task that publishes, and asks a person first where a run would restate more than is allowed without an approval."""

from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import HITLOperator

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.orchestration import tasks
from northstar.publish.approval import ApprovalNeeded, record_decision
from northstar.runs.turns import move_turn

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context


class TaskArguments(TypedDict, total=False):
    """The arguments that the DAGs give; Airflow adds those of `default_args`."""

    task_id: str
    outlets: "list[Asset]"


PUBLISH, DROP = "Publish", "Drop"


class PublishOperator(HITLOperator):
    """Publishes the audited candidate. Where it needs an approval, the task waits for one without a process, and the run keeps its turn.

    Nobody's answer in time, like `Drop`, fails the task with one line: the candidate is not published, and the next run builds everything anew.
    """

    def __init__(self, **kwargs: Unpack[TaskArguments]):
        # without a time for the answer HITLOperator would take the task's own, and leave it without one
        super().__init__(
            subject="Publish what restates so much?",
            options=[PUBLISH, DROP],
            response_timeout=timedelta(hours=4),
            **kwargs,
        )

    def execute(self, context: "Context") -> int:
        """Publish, or ask and wait; returns the published version."""
        try:
            return tasks.publish_marts(**context)
        except ApprovalNeeded as asked:
            self.subject = f"Publish version {asked.version}? It restates {asked.restated:,} values of complete periods"
            self.body = asked.question
            # read when the task runs: the file may have changed since the DAG was parsed
            self.response_timeout = timedelta(hours=load_settings().operations.approve_within_hours)
            print(f"waiting for an approval: {asked}", flush=True)
            super().execute(context)
            raise

    def execute_complete(self, context: "Context", event: dict[str, object]) -> int:
        """Publish what was approved; returns the published version. Raises NorthstarError for what was not."""
        settings, run_id = load_settings(), tasks.run_id_of(context)
        # before anything is decided: the wait is what has kept the turn while there was no scheduler
        move_turn(settings, run_id)
        try:
            answer = super().execute_complete(context, event)
        except HITLTimeoutError:
            hours = settings.operations.approve_within_hours
            refusal = f"nobody approved the publication within {hours:g} h: nothing was published, and the next run builds everything anew"
            record_decision(settings, run_id, False, "nobody", refusal)
            raise NorthstarError(refusal) from None
        who = (answer["responded_by_user"] or {}).get("name") or "somebody"
        if answer["chosen_options"] != [PUBLISH]:
            refusal = (
                f"{who} decided against the publication: nothing was published, and the next run builds everything anew"
            )
            record_decision(settings, run_id, False, who, refusal)
            raise NorthstarError(refusal)
        record_decision(settings, run_id, True, who)
        return tasks.publish_marts(**context)
