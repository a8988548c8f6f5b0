"""Stage 4, `publish`, as the DAGs and the command line call it."""

from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.merge import publish_candidate
from northstar.warehouse.stages import run_stage


def publish(settings: Settings, run_id: int, progress: Progress = print) -> int:
    """Publish the audited candidate in one transaction; returns the published version."""
    with run_stage(settings, run_id, "publish"):
        return publish_candidate(settings, run_id, progress=progress)
