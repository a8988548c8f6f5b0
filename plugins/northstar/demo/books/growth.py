"""Growth rates: the change since the month before, over the value of that month; of cash since the same month a year before."""

from fractions import Fraction

from northstar.demo.books.ledger import Ledger

GROWTH = {
    "mrr": "mrr_growth_rate", "registered_accounts": "registration_growth_rate", "mau": "mau_growth_rate",
    "new_creators": "creator_acquisition_growth_rate",
}  # fmt: skip
NOTHING = (Fraction(0), None)


def reckon(ledger: Ledger) -> None:
    """Growth of revenue, of accounts, of their use, of new creators, of cash as it came and without exchange rates."""
    for (metric, month, application, segment, name), (value, _) in list(ledger.results.items()):
        later = ledger.next_month(month)
        if metric in GROWTH and segment == "" and later < ledger.as_of:
            later_value, _ = ledger.results.get((metric, later, application, "", ""), NOTHING)
            ledger.results[GROWTH[metric], later, application, "", ""] = (later_value - value, value)
        year_later = ledger.next_month(month, 12 if ledger.grain == "month" else 1)
        if metric == "cash_collected" and value and year_later < ledger.as_of:
            scope = (year_later, application, segment, name)
            for collected, growth in (
                ("cash_collected", "cash_growth_rate"),
                ("cash_collected_constant_currency", "cash_growth_rate_constant_currency"),
            ):
                later_value, _ = ledger.results.get((collected, *scope), NOTHING)
                ledger.results[growth, *scope] = (later_value - value, value)
