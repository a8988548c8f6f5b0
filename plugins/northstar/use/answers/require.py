"""What every question is asked before it is answered: whether what it names exists."""

import difflib

from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused

# how many similar names a refusal gives
NEAR = 8


def require_application(reading: Reading, application: str, is_filter: bool = True) -> str:
    """The application, 'all' for none. Raises Refused, with the ones that there are, for one that has no values.

    is_filter: 'all' is the rows of whatever the caller sees, and no total over all applications, which not every role may see.
    """
    applications = reading.applications()
    if (application or "all") == "all" and "all" not in applications:
        if is_filter:
            return "all"
        raise Refused(
            "not_allowed", f"this role sees no totals over all applications; it sees {', '.join(applications) or 'none'}", applications[:NEAR]
        )  # fmt: skip
    if (application or "all") not in applications:
        raise Refused(
            "bad_request", f"there is no application {application[:60]!r}; there are {', '.join(applications)}",
            near_names(application, applications) or applications,
        )  # fmt: skip
    return application or "all"


def require_part(reading: Reading, metric: str, segment: str) -> None:
    """Raises Refused for a segment, or a total, that the reading's role does not see."""
    role = reading.settings.readers.roles.get(reading.role or "")
    if role is not None and role.segment is not None and segment != role.segment:
        raise Refused("not_allowed", f"this role sees {metric} by {role.segment} only", [role.segment])


def require_limit(limit: int, most: int) -> None:
    """Raises Refused for a limit that is none."""
    if not 1 <= limit <= most:
        raise Refused("bad_request", f"limit: give 1 to {most:,}")


def near_names(name: str, known: list[str]) -> list[str]:
    """The known names that are most like a name: written almost so, or with a word of it."""
    written = difflib.get_close_matches(name, known, NEAR, 0.6)
    words = {word for word in name.split("_") if len(word) > 2}
    sharing = [other for other in known if words & set(other.split("_"))]
    return list(dict.fromkeys([*written, *sharing]))[:NEAR]
