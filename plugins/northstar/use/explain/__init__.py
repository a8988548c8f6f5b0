"""`northstar explain`: a published number, its definition, and the rows that add up to it."""
