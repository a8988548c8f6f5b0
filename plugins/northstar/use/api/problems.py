"""Refusals as RFC 9457 has them (application/problem+json), in one line."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.responses import Response

from northstar.base.exact_json import dumps
from northstar.use.answers.plain import plain

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int,
    reason: str,
    detail: str,
    choices: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> Response:
    """A refusal: the reason for programs, the detail for people, what could be asked instead, and the version that was asked."""
    content = {
        "type": f"urn:northstar:refused:{reason}", "title": HTTPStatus(status).phrase, "status": status, "reason": reason, "detail": detail,
        "choices": list(choices), **more,
    }  # fmt: skip
    return Response(dumps(plain(content)), status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)
