"""Surveys: what people answered when they were asked how satisfied they are."""

from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger

# metric -> survey: the mean of the answers
MEANS = {
    "nps_mean_score": "nps", "support_csat": "support_csat", "help_center_quality": "help_center",
    "creator_satisfaction": "creator_satisfaction",
}  # fmt: skip


def reckon(ledger: Ledger) -> None:
    """Mean scores, the net promoter score, satisfaction with tickets, and how many answered."""
    tickets = {t["ticket_id"]: t for t in ledger.rows["tickets"]}
    for row in ledger.rows["survey_responses"]:
        is_answered = row["score"] is not None and row["responded_at"] is not None
        if row["survey"] == "csat" and row["question"] is None:
            ledger.add("csat_response_rate", row["sent_at"], row["application"], int(is_answered), 1)
        if is_answered:
            _answer(ledger, row, tickets)


def _answer(ledger: Ledger, row: BookRow, tickets: dict[str, BookRow]) -> None:
    """Count an answer to the whole survey; an answer to a single question counts for the creators' questions only."""
    when, application, survey, score = (
        row["responded_at"],
        row["application"],
        row["survey"],
        Fraction(str(row["score"])),
    )
    if row["question"] is not None:
        if survey == "creator_satisfaction":
            ledger.add_in_segment(survey, when, application, score, 1, "question", row["question"])
        return
    for metric, metric_survey in MEANS.items():
        if metric_survey == survey:
            ledger.add(metric, when, application, score, 1)
    if survey == "nps":
        ledger.add("nps", when, application, 100 * (int(score >= 9) - int(score <= 6)), 1)
    if survey == "csat":
        ticket = tickets.get(row["ticket_id"])
        ledger.add("csat", when, application, score, 1, {"channel": ticket["channel"] if ticket else None})
