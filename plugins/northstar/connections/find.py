"""Airflow connections, from which connectors get addresses and secrets, in a task and on the command line.

A connection is searched in this order: in Airflow itself, inside a task; in `AIRFLOW_CONN_<ID>` in the environment (a URI or JSON, as Airflow
reads it); in the metadata database of the home's Airflow. Nothing is kept, and nothing is logged.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.connections.airflow import airflow_environment

if TYPE_CHECKING:
    from airflow.sdk.definitions.connection import Connection as AirflowConnection

SECRET_NAME = re.compile("pass|secret|token|key|credential|signature", re.IGNORECASE)


@dataclass(frozen=True)
class Connection:
    """An Airflow connection. `password` and `extra` hold secrets, so they are left out of the repr."""

    name: str
    kind: str = ""
    host: str | None = None
    port: int | None = None
    login: str | None = None
    schema: str | None = None
    password: str | None = field(default=None, repr=False)
    # Any: JSON that a user wrote in Airflow
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def url(self, default: str | None = None) -> str:
        """The HTTP address of the host, or `default` if the connection has no host. Raises NorthstarError if there is no default either."""
        if not self.host:
            if default is None:
                raise NorthstarError(f"the connection {self.name} has no host; give it the system's address")
            return default
        if self.schema and self.schema not in ("http", "https"):
            raise NorthstarError(
                f"the connection {self.name}: its schema is {self.schema!r}, and http or https is expected. In an address such as "
                f"http://:key@{self.host}:8080/http the last part is the schema; the system's own paths are known"
            )
        scheme = self.schema if self.schema in ("http", "https") else "https"
        host = self.host if "://" in self.host else f"{scheme}://{self.host}"
        return host.rstrip("/") + (f":{self.port}" if self.port else "")

    def mask_secrets(self, text: str) -> str:
        """The text with this connection's secrets replaced, in each spelling that they may have in it."""
        secrets = {self.password} | {value for name, value in _nested_texts(self.extra) if SECRET_NAME.search(name)}
        for secret in sorted((s for s in secrets if s and len(s) > 3), key=len, reverse=True):
            escaped_secret = json.dumps(secret)[1:-1]
            for spelling in (
                secret,
                quote(secret),
                quote(secret, safe=""),
                escaped_secret,
                escaped_secret.replace("/", "\\/"),
            ):
                text = text.replace(spelling, "***")
        return text

    def secret(self) -> str:
        """The password. Raises NorthstarError if there is none."""
        if not self.password:
            raise NorthstarError(f"the connection {self.name} has no password; put the system's key or token there")
        return self.password


def find_connection(settings: Settings, name: str) -> Connection:
    """The Airflow connection called `name`. Raises NorthstarError if it does not exist."""
    for look in (_from_task, _from_environment, _from_home):
        airflow_connection = look(settings, name)
        if airflow_connection is not None:
            return _connection(name, airflow_connection)
    raise NorthstarError(
        f"no connection {name}: add it in Airflow (airflow connections add {name} ...) or set AIRFLOW_CONN_{name.upper()}"
    )


def _from_environment(settings: Settings, name: str) -> AirflowConnection | None:
    definition = os.environ.get(f"AIRFLOW_CONN_{name.upper()}")
    if not definition:
        return None
    from airflow.sdk.definitions.connection import Connection as AirflowConnection

    try:
        if definition.lstrip().startswith("{"):
            return AirflowConnection.from_json(definition, name)
        return AirflowConnection.from_uri(definition, name)
    except Exception as exc:
        # the text of the error may repeat the value, which holds a secret
        raise NorthstarError(f"AIRFLOW_CONN_{name.upper()} is neither the URI nor the JSON of a connection") from exc


def _from_task(settings: Settings, name: str) -> AirflowConnection | None:
    if "airflow.sdk.execution_time.task_runner" not in sys.modules:
        return None
    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        airflow_connection: AirflowConnection = AirflowConnection.get(name)
        return airflow_connection
    except AirflowNotFoundException:
        return None


def _from_home(settings: Settings, name: str) -> AirflowConnection | None:
    if not (settings.home / "airflow" / "migrated").exists():
        return None

    airflow = Path(sys.executable).parent / "airflow"
    process = subprocess.run(
        [str(airflow), "connections", "get", name, "-o", "json"], env=airflow_environment(settings), capture_output=True, text=True
    )  # fmt: skip
    if process.returncode:
        return None
    from airflow.sdk.definitions.connection import Connection as AirflowConnection

    record = json.loads(process.stdout[process.stdout.index("[") :])[0]
    return AirflowConnection.from_uri(record["get_uri"], name)


def _nested_texts(extra: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(extra, dict):
        for key, value in extra.items():
            yield from _nested_texts(value, f"{name}.{key}")
    elif isinstance(extra, str):
        yield name, extra


def _connection(name: str, airflow_connection: AirflowConnection) -> Connection:
    return Connection(
        name, airflow_connection.conn_type or "", airflow_connection.host, airflow_connection.port, airflow_connection.login, airflow_connection.schema, airflow_connection.password, dict(airflow_connection.extra_dejson)
    )  # fmt: skip
