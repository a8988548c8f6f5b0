"""`make bench`: what Northstar costs, beside its peers in the same run."""
