"""What a reader can choose on a page, and what an address says that he chose."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from northstar.base.clock import GRAINS
from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts

PERIODS = {"3 months": 3, "6 months": 6, "12 months": 12, "24 months": 24, "36 months": 36, "everything": 0}
NO_SEGMENT = "in total"
UNKNOWN = "there is no such application, metric, grain, period or segment"
# of a control that a page does not have
ANY = object()
# as Vizro writes a choice into an address (see links.page_path)
ENCODED = "b64_"


@dataclass(frozen=True)
class Choice:
    """What is chosen on a page. months: how far back, 0 for everything; segment: NO_SEGMENT for none; metric: on the page Metrics."""

    application: str = "all"
    grain: str = "month"
    months: int = 12
    segment: str = NO_SEGMENT
    metric: str = "mrr"

    @property
    def split_by(self) -> str:
        """The segment by whose values lines are split, '' for none."""
        return "" if self.segment == NO_SEGMENT else self.segment

    @property
    def period_words(self) -> str:
        """How far back, as the control says it."""
        return next(words for words, months in PERIODS.items() if months == self.months)


def is_offered(
    marts: Marts,
    application: object = ANY,
    grain: object = "month",
    months: object = 12,
    segment: object = NO_SEGMENT,
    metric: object = None,
) -> bool:
    """Whether a reader can choose these values. A request may contain any values, and its answer would be kept."""
    metrics_by_id = marts.catalogue()
    return (
        (application is ANY or application in marts.applications())
        and grain in GRAINS
        and months in list(PERIODS.values())
        and (segment == NO_SEGMENT or any(segment in entry["segments"] for entry in metrics_by_id.values()))
        and (metric is None or metric in list(metrics_by_id))
    )


def read_choice(marts: Marts, page: str, arguments: Mapping[str, str]) -> Choice:
    """What an address chooses on a page (its slug); what it does not name is as the page begins. Raises NorthstarError for what is not offered."""
    # a role that sees some applications begins with the first of them
    standard = Choice(next(iter(marts.applications()), "all"))
    application, grain, months, segment, metric = (
        _decode(arguments.get(f"{page}-{control}"), usual)
        for control, usual in (
            ("application", standard.application), ("grain", standard.grain), ("period", standard.months), ("segment", standard.segment),
            ("metric", standard.metric),
        )
    )  # fmt: skip
    if (
        not isinstance(application, str)
        or not isinstance(grain, str)
        or not isinstance(months, int)
        or not isinstance(segment, str)
        or not isinstance(metric, str)
        or not is_offered(marts, application, grain, months, segment, metric)
    ):
        raise NorthstarError(UNKNOWN)
    return Choice(application, grain, months, segment, metric)


def _decode(text: str | None, usual: object) -> object:
    if text is None:
        return usual
    if not text.startswith(ENCODED):
        return text
    body = text.removeprefix(ENCODED)
    try:
        value: object = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, RecursionError) as exc:
        raise NorthstarError(UNKNOWN) from exc
    return value
