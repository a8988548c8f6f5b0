"""`northstar lineage`: from a landed column to the panel of a page, and back."""
