"""Alerts: who is woken by what. `rules.yml` says what is looked for among landed rows; targets speak through `marts.alerts`."""

from northstar.use.alerts.evaluate import evaluate
from northstar.use.alerts.notices import acknowledge, listed, mute

__all__ = ["acknowledge", "evaluate", "listed", "mute"]
