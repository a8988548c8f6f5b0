"""Growth rates: the change since the month before, over the value of that month."""

from fractions import Fraction

from northstar.demo.books.ledger import Ledger

GROWTH = {
    "mrr": "mrr_growth_rate", "registered_accounts": "registration_growth_rate", "mau": "mau_growth_rate",
    "new_creators": "creator_acquisition_growth_rate",
}  # fmt: skip


def reckon(ledger: Ledger) -> None:
    """Growth of revenue, of accounts, of their use, of new creators."""
    for (metric, month, application, segment, _), (value, _) in list(ledger.results.items()):
        later = ledger.next_month(month)
        if metric in GROWTH and segment == "" and later < ledger.as_of:
            later_value, _ = ledger.results.get((metric, later, application, "", ""), (Fraction(0), None))
            ledger.results[GROWTH[metric], later, application, "", ""] = (later_value - value, value)
