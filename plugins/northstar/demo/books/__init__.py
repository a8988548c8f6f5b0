"""The company's own books: what its metrics truly are, reckoned row by row in plain Python.

The books share nothing with the warehouse's SQL. Both follow docs/semantics as it is written, so where they agree on many random
companies, they agree on the rules. The books are exact: sums are fractions, and money is never floating point.
"""
