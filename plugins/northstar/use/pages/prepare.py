"""What the pages show of how numbers are made has to be read from the models' SQL first: once for a version of the code, after its publication."""

from northstar.base.progress import Progress
from northstar.base.settings import Settings


def prepare(settings: Settings, progress: Progress) -> None:
    """Keep the published version's lineage, and record the queries for the rows behind its numbers, where that was not done yet.

    Some seconds for code that is new. An error is only told: the pages say what is missing, and the commands that show the same will meet it too.
    """
    # the parser of SQL is imported where it is used
    from northstar.use.explain.recorded import record_queries
    from northstar.use.lineage.published import keep_lineage

    for step in (keep_lineage, record_queries):
        try:
            step(settings)
        except Exception as exc:
            progress(f"for the pages ({step.__name__}): {type(exc).__name__}: {exc}")
