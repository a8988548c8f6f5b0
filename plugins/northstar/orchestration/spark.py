"""Whether the nightly DAG has a task for Spark. Parsing the DAG reads it, so this module imports no stage."""

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings


def builds_on_spark() -> bool:
    """Whether `wide_engine` in this home's operations.yml is spark. A home whose settings cannot be read has its runs say so, not a DAG that is gone."""
    try:
        return load_settings().operations.wide_engine == "spark"
    except NorthstarError:
        return False
