"""The company's own books: what its metrics truly are, reckoned row by row in plain Python.

Nothing here is shared with the warehouse's SQL. Both follow docs/semantics as it is written, so where they agree on many random
companies, it is the rules that they agree on. Exact: sums are fractions, money is never floating point.
"""
