"""Companies as rows, which tests deliver late, twice or corrected."""

import random
from pathlib import Path

import pandas as pd

from northstar.contract import entities
from northstar.demo.company import simulate

NEW = ("service_states", "commits")


def company_rows(directory: Path, **company) -> dict:
    """A simulated company (arguments of `simulate`) as lists of rows by entity."""
    simulate(directory, **company)
    tables: dict = {name: [] for name in entities()}
    for folder in sorted(p for p in directory.iterdir() if p.is_dir()):
        frames = []
        for path in (p for p in sorted(folder.iterdir()) if p.stat().st_size > 1):
            if path.suffix == ".parquet":
                frames.append(pd.read_parquet(path))
            elif ".jsonl" in path.name:
                frames.append(pd.read_json(path, lines=True, dtype=False, convert_dates=False))
            else:
                frames.append(pd.read_csv(path, dtype=str))
        if not frames:
            continue
        table = pd.concat(frames).astype(object)
        table = table.where(table.notna(), None)
        tables[folder.name] = table.to_dict("records")
    return tables


def corrections(tables: dict, chance: random.Random) -> dict:
    """Newer versions of some rows: other times, other amounts, other owners, other states."""
    later = "2026-02-27T00:00:00Z"
    changed = {
        # what came later to the contract has a chance of its own: all others are delivered as when every_period.json.gz was recorded
        name: [dict(r) for r in (random.Random(name) if name in NEW else chance).sample(rows, min(4, len(rows)))]
        for name, rows in tables.items()
    }
    for row in changed["accounts"]:
        row.update(country="JP", legal_entity="branch", account_type="creator", deleted_at="2026-02-10T00:00:00Z", updated_at=later)  # fmt: skip
    for row in changed["events"]:
        row.update(
            occurred_at="2026-01-15T10:00:00Z", session_id="s_moved", event_name="page.landing", received_at=later
        )
    for row in changed["subscriptions"]:
        row.update(unit_amount=4242, cancel_reason="corrected", updated_at=later)
    for row in changed["charges"]:
        row.update(status="failed", failure_code="corrected", legal_entity="branch", created_at="2026-01-20T00:00:00Z", updated_at=later)  # fmt: skip
    for row in changed["tickets"]:
        row.update(priority="urgent", status="merged", updated_at=later)
    for row in changed["conversations"]:
        row.update(ended_naturally=False, started_at="2026-01-11T00:00:00Z", updated_at=later)
    for row in changed["fx_rates"]:
        row.update(rate_to_reporting="1.5")
    moved = "2026-01-18T09:30:00Z"
    for name, values in {
        "bookings": {"confirmed_at": moved, "cancelled_at": None, "price_amount": 7777, "country": "FR"},
        "survey_responses": {"score": 1, "responded_at": moved, "question": None},
        "content_items": {"kind": "program", "archived_at": later},
        "work_items": {"kind": "bug", "priority": "critical", "completed_at": None},
        "pull_requests": {"merged_at": moved, "review_cycles": 9},
        "deployments": {"status": "failed", "recovered_at": later},
        "incidents": {"severity": "sev1", "resolved_at": moved},
        "tutor_applications": {"approved_at": None, "rejected_at": moved},
    }.items():
        for row in changed[name]:
            row.update(values, updated_at=later)
    for name, values in {
        "api_requests": {"status_code": 500, "duration_ms": 9999.5, "service": "api", "route": "/corrected"},
        "uptime_checks": {"is_up": False}, "error_events": {"level": "fatal", "service": "corrected"},
        "resource_samples": {"cpu_percent": 99}, "query_stats": {"calls": 1, "total_ms": 500}, "web_vitals": {"lcp_ms": 9999},
        "integration_calls": {"succeeded": False}, "security_events": {"kind": "breach", "severity": "critical"},
        "ai_responses": {"user_satisfied": False}, "creator_earnings": {"amount": 1234567}, "code_quality": {"test_coverage_percent": 11},
        "community_snapshots": {"value": 7}, "package_downloads": {"downloads": 5}, "reviews": {"rating": 1},
        "package_purchases": {"account_id": "acc_0000001"}, "service_states": {"is_up": None},
        "commits": {"pull_request_id": None},
    }.items():  # fmt: skip
        for row in changed[name]:
            row.update(values)
    return changed
