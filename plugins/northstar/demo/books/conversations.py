"""Conversations: whether they came to their end, how good the answers were, and the busiest hour of messages."""

from collections import defaultdict
from datetime import datetime
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger
from northstar.demo.books.times import hour_of

JUDGEMENTS = {
    "ai_satisfaction_rate": "user_satisfied", "ai_relevance_rate": "is_relevant", "ai_accuracy_rate": "is_accurate",
    "ai_helpfulness_rate": "is_helpful",
}  # fmt: skip


def reckon(ledger: Ledger) -> None:
    """Completed conversations, judged answers, peak messages in an hour."""
    for row in ledger.rows["conversations"]:
        is_natural = row["ended_naturally"] is True and not row["ended_at_is_to_come"]
        when, channel = row["started_at"], {"channel": row["channel"]}
        ledger.add("conversation_completion_rate", when, row["application"], int(is_natural), 1, channel)
    for row in ledger.rows["ai_responses"]:
        _answer(ledger, row)
    _busiest_hours(ledger)


def _answer(ledger: Ledger, row: BookRow) -> None:
    when, application = row["created_at"], row["application"]
    for metric, column in JUDGEMENTS.items():
        if row[column] is not None:
            ledger.add(metric, when, application, int(row[column]), 1)
    if row["confidence"] is not None:
        ledger.add("ai_confidence", when, application, Fraction(str(row["confidence"])), 1)


def _busiest_hours(ledger: Ledger) -> None:
    messages: dict[tuple[str, datetime], int] = defaultdict(int)
    for message in ledger.rows["messages"]:
        for application in (message["application"], "all"):
            messages[application, hour_of(message["sent_at"])] += 1
    peaks: dict[tuple[datetime, str], int] = defaultdict(int)
    for (application, hour), number in messages.items():
        peaks[ledger.month_of(hour), application] = max(number, peaks[ledger.month_of(hour), application])
    for (month, application), number in peaks.items():
        ledger.results["peak_messages_per_hour", month, application, "", ""] = (Fraction(number), None)
