"""Use of the product: who was active in a month, who was active again in the next, and who used which feature."""

from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger, properties


def reckon(ledger: Ledger) -> None:
    """Monthly active accounts, their share of the registered ones, retention and churn of users, adoption of features."""
    for event in ledger.rows["events"]:
        _count_activity(ledger, event)
    _active_accounts(ledger)
    _user_retention(ledger)
    _features(ledger)


def _count_activity(ledger: Ledger, event: BookRow) -> None:
    """Count the account of an event as active, unless the event failed, or the account was deleted before."""
    who, when, application = event["account_id"], event["occurred_at"], event["application"]
    account = ledger.accounts.get(who)
    deleted_at = account and account["deleted_at"]
    if not who or event["event_name"].endswith("_failed") or (deleted_at and when >= deleted_at):
        return
    kind = account["account_type"] if account else None
    ledger.member("mau", when, application, who, {"channel": event["channel"], "account_type": kind})
    home = account["application"] if account else application
    ledger.member("own_mau", when, home, (who, home), {"account_type": kind})
    if event["event_name"] == "feature.used":
        feature = properties(event).get("feature", "(unknown)")
        ledger.member("feature_users", when, application, who, {"feature": feature})


def _active_accounts(ledger: Ledger) -> None:
    for scope, members in ledger.groups_of("mau"):
        ledger.results["mau", *scope] = (Fraction(len(members)), None)
        registered = ledger.total("registered_accounts", scope)
        if scope[2] == "" and registered:
            ledger.results["mau_rate", *scope] = (Fraction(len(members)), registered)


def _user_retention(ledger: Ledger) -> None:
    """User retention and churn: of those active in their own application in a month, who was active there in the next."""
    for (month, application, segment, value), members in ledger.groups_of("own_mau"):
        later, place = ledger.next_month(month), (application, segment, value)
        if later < ledger.as_of:
            stayed, total = len(members & ledger.sets.get(("own_mau", later, *place), set())), len(members)
            ledger.results["user_retention_rate", later, *place] = (Fraction(stayed), Fraction(total))
            ledger.results["user_churn_rate", later, *place] = (Fraction(total - stayed), Fraction(total))


def _features(ledger: Ledger) -> None:
    for (month, application, segment, value), users in ledger.groups_of("feature_users"):
        active = ledger.count("mau", (month, application, "", ""))
        if active:
            ledger.results["feature_adoption_rate", month, application, segment, value] = (
                Fraction(len(users)),
                Fraction(active),
            )
