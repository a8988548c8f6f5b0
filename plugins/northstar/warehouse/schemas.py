"""The schemas of the warehouse, and the role that owns each."""

SCHEMAS = {
    "staging": "loader",
    "quarantine": "loader",
    "core": "transformer",
    "marts_candidate": "transformer",
    "marts_preview": "transformer",
    "marts": "publisher",
    "marts_history": "publisher",
    "marts_at_version": "publisher",
    "limited": "publisher",
    "explain": "explainer",
    "subscriptions": "publisher",
    "audit": "northstar_owner",
}
