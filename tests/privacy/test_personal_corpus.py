"""How much of what is personal is found, and how much that is harmless is taken for it, on a corpus that was there before the rules."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from northstar.contract import entities
from northstar.extract.landing.normalise import normalise
from northstar.privacy.guard import Guard

CORPUS = Path(__file__).parent / "corpus"
RECALL, FALSE_ALARMS = 0.95, 0.01
AT = "2025-01-01T00:00:00Z"
ROWS = {
    "extra": ("accounts", {"account_id": "a", "account_type": "customer", "created_at": AT, "updated_at": AT}),
    "country": ("accounts", {"account_id": "a", "account_type": "customer", "created_at": AT, "updated_at": AT}),
    "properties": ("events", {"event_id": "e", "event_name": "x", "occurred_at": AT, "received_at": AT}),
    "route": ("api_requests", {"request_id": "r", "service": "api", "status_code": "200", "duration_ms": "5", "occurred_at": AT}),
}  # fmt: skip
COLUMNS = {"properties": "properties", "route": "route", "country": "country"}


def corpus(half: str) -> list[dict]:
    return [json.loads(line) for line in (CORPUS / f"personal_{half}.jsonl").read_text().splitlines()]


def stored(item: dict) -> str | None:
    """What is kept of an item's value: of a row that lands, or of one that does not."""
    entity, row = ROWS[item["place"]]
    name = COLUMNS.get(item["place"], item["name"])
    done = normalise(
        entities()[entity], pa.RecordBatch.from_pylist([{**row, name: item["value"], "_line": 1}]), Guard("key")
    )
    if not done.rows.num_rows:
        return next(iter(done.bad))[2].get(name)
    landed = done.rows.to_pylist()[0]
    if item["place"] != "extra":
        return landed[name]
    kept = json.loads(landed["_extra"] or "{}")
    return kept.get(name)


def taken_for_personal(item: dict) -> bool:
    """Whether the value, or its secret part, can no longer be read."""
    kept = stored(item)
    if kept is None:
        return True
    secret = item.get("secret", item["value"])
    plain = [kept, json.dumps(secret)[1:-1] if item["personal"] else kept]
    try:
        document = json.loads(item["value"])
    except ValueError:
        document = None
    if not item["personal"]:
        return json.loads(kept) != document if isinstance(document, dict | list) else kept != item["value"]
    return kept != item["value"] and secret not in kept and plain[1] not in kept


@pytest.mark.parametrize("half", ["seen", "kept"])
@pytest.mark.slow
def test_what_is_personal_is_found_and_what_is_harmless_left(half, capsys):
    items = corpus(half)
    personal, harmless = ([i for i in items if i["personal"] is p] for p in (True, False))
    missed = [i for i in personal if not taken_for_personal(i)]
    alarms = [i for i in harmless if taken_for_personal(i)]
    recall, false = 1 - len(missed) / len(personal), len(alarms) / len(harmless)
    with capsys.disabled():
        print(f"\n{half}: recall {recall:.1%} of {len(personal)}, false alarms {false:.1%} of {len(harmless)}")
    # of the kept half nothing may be read here, or it is no longer kept
    told = [missed[:5], alarms[:5]] if half == "seen" else [len(missed), len(alarms)]
    assert recall >= RECALL and false <= FALSE_ALARMS, told
