"""The alerts of the demonstration company on its first day: what the simulator planted, all of it, and nothing else."""

from benchmarks.alerts import compare, open_alerts
from northstar.demo.company import INCIDENTS, generate_company
from northstar.use.alerts.notices import list_notices
from tests.conftest import home
from tests.support import northstar


def test_on_its_first_day_the_demonstration_company_has_the_alerts_that_were_planted(tmp_path):
    company = generate_company(incidents=INCIDENTS, rare_cases=True)
    with home() as settings:
        alerts = open_alerts(settings, company, tmp_path / "source")
        rows = list_notices(settings)
        tally = compare(company, alerts)
        assert (tally.wrong, tally.missed) == ([], [])
        # what is unusual without being planted is said once each, as a warning that pages nobody
        anomalies = [row for row in rows if row["rule"] == "anomaly"]
        assert len(anomalies) <= 3 and all(
            row["severity"] == "warning" and row["action"] != "page on-call" for row in anomalies
        )
        planted = [row for row in rows if row["rule"] != "anomaly"]
        assert INCIDENTS <= len(planted) == len(company.incidents) < 10, "an alert for each cause and application"
        for row in planted:
            assert row["rule"] and row["compared_with"] and row["fired_90_days"] >= 1
        # a product that pages nobody in its documents pages nobody
        assert {r["application"] for r in rows if r["action"] == "page on-call"} <= {"tutoring"}
        assert northstar(settings, "status").stdout.count(f"alerts      {len(rows)} open: ") == 1
