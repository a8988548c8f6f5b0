"""Alerts: what is wrong, and whom it is sent to. `rules.yml` says what is looked for among landed rows; missed targets are in `marts.alerts`."""
