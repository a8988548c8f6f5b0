"""What an OpenLineage server is told of a publication. That it arrives there is shown by tests/end_to_end/test_airflow.py."""

import pytest
from openlineage.client.facet_v2 import parent_run
from openlineage.client.serde import Serde

from northstar.build.manifest import read_manifest
from northstar.orchestration.lineage_events import LineageEvents
from northstar.publish.catalogue import marts


@pytest.fixture(scope="module")
def events(built):
    parent = parent_run.ParentRunFacet(
        run=parent_run.Run(runId="0190d0a8-7d8b-7c7a-8c1a-1d2f3a4b5c6d"),
        job=parent_run.Job(namespace="northstar", name="nightly_rebuild.publish.publish_marts"),
    )
    return LineageEvents(read_manifest(built), "postgres://127.0.0.1:5432", "northstar", 7, parent)


def test_a_model_is_made_from_what_dbt_says_that_it_reads(events):
    name = "model.northstar.fct_payments"
    [event] = events.of_models({name})
    told = Serde.to_dict(event)
    assert told["job"] == {"namespace": "northstar", "name": "models.fct_payments", "facets": {}}
    read = {i["name"] for i in told["inputs"]}
    assert len(read) == len(events.manifest["parent_map"][name]) and "northstar.staging.stg_charges" in read
    [written] = told["outputs"]
    assert (written["namespace"], written["name"]) == (
        "postgres://127.0.0.1:5432",
        "northstar.marts_candidate.fct_payments",
    )
    described = {field["name"]: field["description"] for field in written["facets"]["schema"]["fields"]}
    assert described["charge_id"] and written["facets"]["documentation"]["description"]
    assert told["run"]["facets"]["parent"]["job"]["name"] == "nightly_rebuild.publish.publish_marts"


def test_a_staging_view_is_made_from_the_landed_table(events):
    [event] = events.of_models({"model.northstar.stg_charges"})
    assert [i.name for i in event.inputs] == ["northstar.staging.charges"]


def test_a_mart_is_made_from_the_candidates_relations_and_what_was_not_built_is_not_told(events, built):
    told = {event.outputs[0].name: {i.name for i in event.inputs} for event in map(events.of_mart, marts(built))}
    assert told["northstar.marts.fct_payments"] == {"northstar.marts_candidate.fct_payments"}
    assert "northstar.core.metrics_events" in told["northstar.marts.metric_points"]
    assert list(events.of_models({"test.northstar.no_model"})) == []
