"""Switch off the usage reports of the tools that Northstar uses; with NORTHSTAR_TELEMETRY=1 each tool does what it does by default."""

import os
from collections.abc import MutableMapping

# for dbt, Great Expectations, Airflow, and tools that respect common variables (https://consoledonottrack.com, Scarf)
OFF = {
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "true",
    "SCARF_ANALYTICS": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "VIZRO_TELEMETRY": "false",
}


def switch_off(environment: MutableMapping[str, str] = os.environ) -> None:
    """Turn reporting off in an environment, and so in every process that inherits it."""
    if environment.get("NORTHSTAR_TELEMETRY") != "1":
        environment.update(OFF)
