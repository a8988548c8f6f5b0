"""What an OpenLineage server is told of a publication: for each model and mart, which tables it was made from."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.providers.openlineage.plugins.macros import lineage_job_name, lineage_run_id
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import DatasetFacet, documentation_dataset, parent_run, schema_dataset
from openlineage.client.uuid import generate_static_uuid

from northstar.base.settings import Settings
from northstar.build.manifest import Manifest, Node, read_manifest
from northstar.publish.catalogue import Mart, marts
from northstar.warehouse import db

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

# as AIRFLOW__OPENLINEAGE__NAMESPACE (northstar.connections.airflow)
NAMESPACE = "northstar"
PRODUCER = "urn:northstar:publication"


def tell_models(settings: Settings, run_id: int, task_instance: "RuntimeTaskInstanceProtocol") -> None:
    """Send an event for each model that the run has built and each mart that it has published, as children of the task that published.

    A server that does not answer is a warning in the task's log.
    """
    with db.connect(settings, "transformer") as connection:
        built_rows = connection.execute(
            "select unique_id from audit.model_runs where run_id = %s and resource_type = 'model' and status = 'success'",
            [run_id],
        ).fetchall()
    address = urlsplit(db.uri(settings, "transformer"))
    events = LineageEvents(
        read_manifest(settings), f"postgres://{address.hostname}:{address.port}", address.path.strip("/"), run_id,
        parent_run.ParentRunFacet(
            run=parent_run.Run(runId=lineage_run_id(task_instance)),
            job=parent_run.Job(namespace=NAMESPACE, name=lineage_job_name(task_instance)),
        ),
    )  # fmt: skip
    adapter = OpenLineageAdapter()
    for event in events.of_models({row["unique_id"] for row in built_rows}):
        adapter.emit(event)
    for mart in marts(settings):
        adapter.emit(events.of_mart(mart))


class LineageEvents:
    """The events of one run. server, database: where the tables are, in OpenLineage's naming. parent: the task that published."""

    def __init__(self, manifest: Manifest, server: str, database: str, run_id: int, parent: parent_run.ParentRunFacet):
        self.manifest, self.server, self.database = manifest, server, database
        self.run_id, self.parent = run_id, parent
        self._at = datetime.now(UTC)

    def of_models(self, built: set[str]) -> Iterator[RunEvent]:
        """An event for each model of which the unique_id is among those `built`."""
        for unique_id in sorted(built & self.manifest["nodes"].keys()):
            node = self.manifest["nodes"][unique_id]
            read = [name for parent in self.manifest["parent_map"][unique_id] if (name := self._table_of(parent))]
            output = OutputDataset(self.server, self._name(f"{node['schema']}.{node['alias']}"), facets=_describe(node))
            yield self._event(f"models.{node['name']}", read, output)

    def of_mart(self, mart: Mart) -> RunEvent:
        """The event of a published mart: the candidate's relations are what it was made from."""
        return self._event(
            f"marts.{mart.name}",
            [self._name(".".join(part)) for part in mart.parts],
            OutputDataset(self.server, self._name(f"marts.{mart.name}")),
        )

    def _event(self, job: str, read: list[str], output: OutputDataset) -> RunEvent:
        run = Run(str(generate_static_uuid(self._at, f"{self.run_id} {job}".encode())), facets={"parent": self.parent})
        inputs = [InputDataset(self.server, name) for name in sorted(read)]
        return RunEvent(
            eventType=RunState.COMPLETE, eventTime=self._at.isoformat(), run=run, job=Job(NAMESPACE, job), producer=PRODUCER,
            inputs=inputs, outputs=[output],
        )  # fmt: skip

    def _table_of(self, unique_id: str) -> str | None:
        """The table of something that a model reads; None for what is no table, such as a macro."""
        kind, *_, schema, table = unique_id.split(".")
        if kind == "source":
            return self._name(f"{schema}.{table}")
        node = self.manifest["nodes"].get(unique_id)
        return self._name(f"{node['schema']}.{node['alias']}") if node else None

    def _name(self, table: str) -> str:
        return f"{self.database}.{table}"


def _describe(node: Node) -> dict[str, DatasetFacet]:
    """The facets of a table: its description, and its columns with theirs."""
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name, column.get("data_type"), column.get("description"))
        for name, column in node["columns"].items()
    ]
    return {
        "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=node["description"]),
    }
