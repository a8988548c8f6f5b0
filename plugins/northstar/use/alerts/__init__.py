"""Alerts: who is woken by what. `rules.yml` says what is looked for among landed rows; targets speak through `marts.alerts`."""
