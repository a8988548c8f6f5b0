"""Unit economics: what an account is worth while it lasts, what it costs to win one, how the two change in a year, and what growth costs."""

from fractions import Fraction

from northstar.demo.books.ledger import Ledger, Scope, of_application


def reckon(ledger: Ledger) -> None:
    """Lifetime value, acquisition cost, their ratio and their change; payback and the burn multiple."""
    ltv, cac = _lifetime_values(ledger), _acquisition_costs(ledger)
    for scope in set(ltv) & set(cac):
        ledger.results["ltv_cac_ratio", *scope] = (ltv[scope], cac[scope])
    for metric, values_by_scope in (("ltv_growth_rate", ltv), ("cac_change_rate", cac)):
        for (month, application, segment, value), current in values_by_scope.items():
            year_before = values_by_scope.get((ledger.next_month(month, -12), application, segment, value))
            if segment == "" and year_before:
                ledger.results[metric, month, application, "", ""] = (current - year_before, year_before)
    for scope, cost in cac.items():
        ledger.results["cac_payback_months", *scope] = (cost, _margin_per_account(ledger, scope))
    _burn_multiples(ledger)


def _lifetime_values(ledger: Ledger) -> dict[Scope, Fraction]:
    """Enter lifetime values, an account's monthly margin over the monthly churn; returns the published values where there is one."""
    values: dict[Scope, Fraction] = {}
    for (metric, month, application, segment, value), (lost, base) in list(ledger.results.items()):
        scope = (month, application, segment, value)
        if metric == "customer_churn_rate" and scope[2] in ("", "plan_tier") and base:
            margin = _margin_per_account(ledger, scope)
            ledger.results["ltv", *scope] = (margin, lost / base)
            if lost and margin:
                values[scope] = ledger.rounded(margin / (lost / base))
    return values


def _margin_per_account(ledger: Ledger, scope: Scope) -> Fraction:
    """The margin of the month's end on what an account pays, 0 where nobody does."""
    paying = ledger.results.get(("paying_accounts", *scope))
    if not paying:
        return Fraction(0)
    month, application, segment, value = scope
    applications = (
        {key[2] for key in ledger.results if key[0] == "mrr"} - {"all"} if application == "all" else {application}
    )
    margins = [
        ledger.results.get(("mrr", month, name, segment, value), (Fraction(0), None))[0]
        * Fraction(str(of_application(ledger.rules.gross_margin, name)))
        for name in applications
    ]
    return sum(margins, Fraction(0)) / paying[0]


def _acquisition_costs(ledger: Ledger) -> dict[Scope, Fraction]:
    """Enter acquisition costs, the marketing spend over the accounts that began to pay; returns the published values where there is one."""
    for row in ledger.rows["marketing_spend"]:
        amount = ledger.money(row["amount"], row["currency"], row["spend_date"])
        ledger.add(
            "spend", ledger.midnight(row["spend_date"]), row["application"], amount, None, {"channel": row["channel"]}
        )
    values: dict[Scope, Fraction] = {}
    for scope in ledger.scopes_of("spend"):
        spend = ledger.total("spend", scope)
        ledger.results["marketing_spend", *scope] = (spend, None)
        if scope[2]:
            continue
        new_accounts, _ = ledger.results.get(("new_accounts", *scope), (Fraction(0), None))
        ledger.results["cac", *scope] = (spend, new_accounts)
        if new_accounts:
            values[scope] = ledger.rounded(spend / new_accounts)
    return values


def _burn_multiples(ledger: Ledger) -> None:
    """Enter what was spent less what was collected, over the net new ARR, where there is any."""
    names = ("marketing_spend", "cash_collected", "net_new_mrr")
    for scope in {key[1:] for key in ledger.results if key[0] in names and not key[3]}:
        spent, collected, gained = (ledger.results.get((name, *scope), (Fraction(0), None))[0] for name in names)
        ledger.results["burn_multiple", *scope] = (spent - collected, 12 * max(gained, Fraction(0)))
