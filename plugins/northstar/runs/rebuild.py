"""`northstar rebuild`: build some models, and everything made from them, from the landed rows; audit everything, publish.

For a table that somebody changed by hand or that a disk damaged, and for whoever wants to be sure of one number without a night's run.
"""

from northstar.audit.worker import Worker
from northstar.base.errors import NorthstarError
from northstar.base.escaping import make_visible
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.build.develop import find_model
from northstar.build.own_seeds import project_directory
from northstar.runs import job
from northstar.runs.lifecycle import last_as_of


def rebuild(
    settings: Settings, names: list[str], reason: str, by: str, progress: Progress = print, worker: Worker | None = None, wait: bool = False
) -> int:  # fmt: skip
    """Build models, or those of metrics, from the landed rows, as of the newest version; returns the published version.

    If the models or rules have changed since that version, or a run has failed since, everything is built. reason, by: are kept as what triggered the
    run. wait: wait for a run that is under way instead of refusing. Raises NorthstarError for unknown names, and when nothing was published yet.
    """
    if not reason.strip():
        raise NorthstarError("a rebuild needs a --reason: it is kept with the run")
    if last_as_of(settings) is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    models = sorted({find_model(project_directory(settings), name)[0] for name in names})
    version = job.run_change(
        settings, f"rebuild of {', '.join(models)} by {by}: {make_visible(reason.strip())}", lambda run_id: None, progress=progress, worker=worker, wait=wait,
        rebuilds=models,
    )  # fmt: skip
    if version is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    return version
