"""The tools that Northstar stands on report nothing to anybody, unless NORTHSTAR_TELEMETRY=1 lets each do as it does by default."""

import os
from collections.abc import MutableMapping

# dbt, Great Expectations, Airflow, and what honours the common wishes (https://consoledonottrack.com, Scarf)
OFF = {
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "true",
    "SCARF_ANALYTICS": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "VIZRO_TELEMETRY": "false",
}


def silence(environment: MutableMapping[str, str] = os.environ) -> None:
    """Turn reporting off in an environment, and so in every process that inherits it."""
    if environment.get("NORTHSTAR_TELEMETRY") != "1":
        environment.update(OFF)
