"""The schemas of the warehouse and who owns each."""

SCHEMAS = {
    "staging": "loader",
    "quarantine": "loader",
    "core": "transformer",
    "marts_candidate": "transformer",
    "marts": "publisher",
    "marts_history": "publisher",
    "marts_at_version": "publisher",
    "audit": "northstar_owner",
}
