"""The addresses of the pages, with what is chosen on them."""

import json
from base64 import urlsafe_b64encode
from urllib.parse import urlencode

ROOT = "Executive"
# the argument of an address that names an earlier version
AS_OF = "as_of"


def slug(title: str) -> str:
    """A page's name in addresses and element ids."""
    return title.lower().replace(" ", "-")


def page_path(title: str, **chosen: object) -> str:
    """The path of a page on which these values of its controls are chosen (application, metric, grain, ...)."""
    name = slug(title)
    # the form in which Vizro writes a choice into an address
    encoded = {
        f"{name}-{control}": "b64_" + urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        for control, value in chosen.items()
    }
    return ("/" if name == slug(ROOT) else f"/{name}") + ("?" + urlencode(encoded) if encoded else "")


def all_values_path(metric: str, application: str, grain: str, segment: str) -> str:
    """The address of a metric's newest values by all values of a segment."""
    given = {"metric": metric, "application": application, "grain": grain, "segment": segment}
    return f"/why/values?{urlencode(given)}"


def path_as_of(path: str, version: int | None) -> str:
    """A path of the pages as of a version; as it is for None."""
    return path if version is None else f"{path}{'&' if '?' in path else '?'}{AS_OF}={version}"
