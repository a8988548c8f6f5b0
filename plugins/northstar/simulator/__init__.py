"""The demonstration company: source files of a made-up business, the same bytes for the same seed.

It covers the entities that events, payments and tickets need; what the other domains need comes with their metrics.
"""

from northstar.simulator.company import simulate

__all__ = ["simulate"]
