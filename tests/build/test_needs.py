"""What metrics stand on, read from the dbt project without dbt."""

from northstar.base.settings import ROOT
from northstar.build.needs import alert_causes, metric_entities


def test_what_metrics_stand_on_is_read_from_the_macros():
    entities, causes = metric_entities(ROOT), alert_causes(ROOT)
    assert entities["arpu"] == {"subscriptions"} and entities["dau_rate"] == {"events", "accounts"}
    # composed of other metrics
    assert entities["magic_number"] == {"subscriptions", "marketing_spend"}
    assert (causes["payment_failure_rate"], causes["error_rate"], "mrr" in causes) == (
        "payments",
        "availability",
        False,
    )
