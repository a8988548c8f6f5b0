"""Creators: what they make, what they earn, how they begin, and which features they take up."""

from collections import defaultdict
from datetime import datetime
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger, Scope, properties
from northstar.demo.books.times import SEVEN_DAYS

THRESHOLDS = (1000, 5000, 10000)


def reckon(ledger: Ledger) -> None:
    """Content, earnings and their growth, onboarding and its steps, adopted features, and each of them per creator."""
    _content(ledger)
    _earnings(ledger)
    items_by_creator, conversation_starts = defaultdict(list), defaultdict(list)
    for item in ledger.rows["content_items"]:
        items_by_creator[item["creator_id"]].append(item)
    for conversation in ledger.rows["conversations"]:
        conversation_starts[conversation["creator_id"]].append(conversation["started_at"])
    for account in ledger.rows["accounts"]:
        if account["account_type"] == "creator":
            _onboarding(
                ledger, account, items_by_creator[account["account_id"]], conversation_starts[account["account_id"]]
            )
            _features(ledger, account)
    for scope in ledger.scopes_of("creators"):
        if scope[2] == "" and ledger.total("creators", scope):
            _per_creator(ledger, scope, ledger.total("creators", scope))


def _content(ledger: Ledger) -> None:
    """The documents and programs that exist at each month's end."""
    for item in ledger.rows["content_items"]:
        for start, end in ledger.months:
            if item["created_at"] < end and (not item["archived_at"] or item["archived_at"] >= end):
                ledger.add(f"{item['kind']}s", start, item["application"], 1)


def _earnings(ledger: Ledger) -> None:
    """What each creator earned in a month, for the application that is their home."""
    earnings: dict[tuple[str, str, datetime], Fraction] = defaultdict(Fraction)
    for row in ledger.rows["creator_earnings"]:
        home = ledger.accounts.get(row["creator_id"])
        application, month = (
            home["application"] if home else row["application"],
            ledger.month_of(ledger.midnight(row["earned_on"])),
        )
        amount = ledger.money(row["amount"], row["currency"], row["earned_on"])
        earnings[row["creator_id"], application, month] += amount
    for (who, application, month), amount in earnings.items():
        later = ledger.next_month(month)
        if amount > 0:
            ledger.member("earning", month, application, who)
        if amount > 0 and later < ledger.as_of:
            grown = earnings.get((who, application, later), Fraction(0)) - amount
            ledger.add("creator_revenue_growth_rate", later, application, 100 * grown / amount, 1)
        for threshold in THRESHOLDS:
            if amount > threshold:
                ledger.member("over", month, application, who, {"threshold": threshold})


def _onboarding(
    ledger: Ledger, account: BookRow, content_items: list[BookRow], conversation_starts: list[datetime]
) -> None:
    """Whether a creator's first seven days had all steps of the onboarding, and each of them."""
    born: datetime = account["created_at"]
    application = account["application"]

    def is_early(when: datetime) -> bool:
        return born <= when <= born + SEVEN_DAYS

    is_done = any(
        e["event_name"] == "creator.onboarding_completed" and is_early(e["occurred_at"])
        for e in ledger.activity.get(account["account_id"], [])
    )
    ledger.add("creator_onboarding_success_rate", born, application, int(is_done), 1)
    steps = {
        "knowledge_base_uploaded": any(i["kind"] == "document" and is_early(i["created_at"]) for i in content_items),
        "program_created": any(i["kind"] == "program" and is_early(i["created_at"]) for i in content_items),
        "first_user_interaction": any(map(is_early, conversation_starts)),
    }
    metric = "creator_onboarding_step_rate"
    ledger.add(metric, born, application, int(all(steps.values())), 1)
    for step, is_taken in steps.items():
        ledger.add_in_segment(metric, born, application, int(is_taken), 1, "step", step)


def _features(ledger: Ledger, account: BookRow) -> None:
    """Which features a creator has ever used by each month's end, while the account is there."""
    born, deleted_at = account["created_at"], account["deleted_at"]
    first_used: dict[str, datetime] = {}
    for event in ledger.activity.get(account["account_id"], []):
        if event["event_name"] == "feature.used" and (not deleted_at or event["occurred_at"] < deleted_at):
            feature, at = properties(event).get("feature", "(unknown)"), max(event["occurred_at"], born)
            first_used[feature] = min(at, first_used.get(feature, at))
    for start, end in ledger.months:
        if not deleted_at or deleted_at >= end:
            for feature, at in first_used.items():
                if at < end:
                    who, application = account["account_id"], account["application"]
                    ledger.member("adopters", start, application, who, {"feature": feature})


def _per_creator(ledger: Ledger, scope: Scope, creators: Fraction) -> None:
    for metric, content in (("documents_per_creator", "documents"), ("programs_per_creator", "programs")):
        ledger.results[metric, *scope] = (ledger.total(content, scope), creators)
    ledger.results["creator_success_rate", *scope] = (Fraction(ledger.count("earning", scope)), creators)
    ledger.results["creators_earning_over", *scope] = (Fraction(ledger.count("over", scope)), creators)
    for threshold in THRESHOLDS:
        own = (*scope[:2], "threshold", str(threshold))
        ledger.results["creators_earning_over", *own] = (Fraction(ledger.count("over", own)), creators)
    for place, adopters in ledger.groups_of("adopters"):
        if place[:2] == scope[:2]:
            ledger.results["creator_feature_adoption_rate", *place] = (Fraction(len(adopters)), creators)
