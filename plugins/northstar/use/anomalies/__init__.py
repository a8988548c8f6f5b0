"""Anomalies: the newest values of the level 1 and 2 metrics that their own history does not explain, with what explains them."""
