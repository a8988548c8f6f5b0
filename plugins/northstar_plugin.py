"""Northstar's page inside Airflow: a link in the navigation and a tab of each DAG run. Airflow reads this file in each of its processes.

Only the api-server serves pages, so only there are they imported.
"""

from urllib.parse import urlparse

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/northstar"
# Airflow may be served below a path
BASE = urlparse(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX


class NorthstarPlugin(AirflowPlugin):
    """What Airflow asks for: an application, and where its pages are shown."""

    name = "northstar"
    external_views = [  # noqa: RUF012
        {"name": "Northstar", "href": f"{BASE}/", "destination": "nav", "url_route": "northstar"},
        {
            "name": "Northstar",
            "href": f"{BASE}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "northstar-run",
        },
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, object]]:
        from northstar.orchestration.run_page import application

        return [{"app": application(), "url_prefix": PREFIX, "name": "Northstar"}]
