"""The asset that the marts are in Airflow: what follows a publication is scheduled on it instead of on the clock."""

from airflow.sdk import Asset

# an event for each version that a DAG publishes; its extra is what publish.stage.describe_publication says of it
MARTS = Asset(name="northstar_marts", uri="northstar://marts", group="northstar")
