"""Why a question has no answer: a reason that programs can branch on, with its words for people."""

from collections.abc import Sequence
from typing import Literal, get_args

from northstar.base.errors import NorthstarError

# unknown_metric: no metric is called so. ambiguous: the question can mean several things. open: the period is not over, or the window that counts
# has not passed. withheld: the group is too small to be shown. not_measured: nothing that the metric stands on was landed by then.
# not_published: there is no such version any more, or not yet. not_allowed: the caller has no right to ask this. bad_request: the question names
# something that does not exist. too_much: the answer is larger, or takes longer, than one answer may. busy: too many questions at once
Reason = Literal[
    "unknown_metric", "ambiguous", "open", "withheld", "not_measured", "not_published", "not_allowed", "bad_request", "too_much", "busy"
]  # fmt: skip
REASONS: tuple[Reason, ...] = get_args(Reason)


class Refused(NorthstarError):
    """A question that has no answer. choices: what could be asked instead, such as metrics of similar names."""

    def __init__(self, reason: Reason, message: str, choices: Sequence[str] = ()):
        super().__init__(message)
        self.reason, self.choices = reason, tuple(choices)
