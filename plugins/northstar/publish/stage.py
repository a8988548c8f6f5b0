"""Stage 4, `publish`, as the DAGs and the command line call it."""

from datetime import UTC

from pydantic import JsonValue

from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.approval import ApprovalNeeded, record_decision, record_question
from northstar.publish.certificates import certificate_digest
from northstar.publish.merge import publish_candidate
from northstar.warehouse import db
from northstar.warehouse.freshness import judge_freshness
from northstar.warehouse.rows import fetch_one
from northstar.warehouse.stages import run_stage


def publish(
    settings: Settings,
    run_id: int,
    progress: Progress = print,
    needs_approval: bool = False,
    approved_by: str | None = None,
) -> int:
    """Publish the audited candidate in one transaction; returns the published version.

    needs_approval: whether a full run that restates more than the setting `approve_above` has to be approved. approved_by: who
    approves it whatever it restates; None: nobody so far, and ApprovalNeeded is raised and nothing published.
    """
    allowed = settings.operations.approve_above if needs_approval else None
    with run_stage(settings, run_id, "publish"):
        try:
            return publish_candidate(settings, run_id, progress, allowed)
        except ApprovalNeeded as asked:
            record_question(settings, asked)
            if approved_by is None:
                raise
            record_decision(settings, run_id, True, approved_by)
            return publish_candidate(settings, run_id, progress, allowed)


def describe_publication(settings: Settings, version: int) -> dict[str, JsonValue]:
    """What others are told of a published version: `version`, `as_of` (ISO 8601, UTC), `mode`, `certificate` (the digest of its certificate), and `late`: the
    freshness promises that were broken when it was published, as `source billing`."""
    with db.connect(settings, "publisher") as connection:
        row = fetch_one(
            connection.execute(
                "select as_of, mode, published_at from marts.publications where published_version = %s", [version]
            )
        )
        judgements = judge_freshness(connection, settings.operations.freshness, row["published_at"])
        digest = certificate_digest(connection, version)
    return {
        "version": version,
        "as_of": row["as_of"].astimezone(UTC).isoformat(),
        "mode": row["mode"],
        "certificate": digest,
        "late": [judgement.about() for judgement in judgements if judgement.is_late],
    }
