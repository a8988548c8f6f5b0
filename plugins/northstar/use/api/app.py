"""The API as an ASGI application. Every address but two (its description, and whether it is there) needs a token or a signature."""

import hashlib
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from functools import cache
from typing import Annotated

import orjson
import psycopg
from cachetools import LRUCache
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from northstar.base.allowance import Allowance
from northstar.base.errors import PassingError
from northstar.base.escaping import make_visible
from northstar.base.settings import Settings
from northstar.use.answers import (
    changes,
    customers,
    explanation,
    marks,
    metrics,
    query,
    shapes,
    status,
    targets,
    values,
)
from northstar.use.answers.reading import Desk, Reading, Scope, require_scope
from northstar.use.answers.refusals import Reason, Refused
from northstar.use.api import questions as q
from northstar.use.api.access import LINK, SIGNATURE, Access, Caller
from northstar.use.api.description import describe
from northstar.use.api.formats import MEDIA_TYPES, Format, render
from northstar.use.api.limits import Limits
from northstar.use.api.people import Provided, caller_of
from northstar.use.api.problems import problem
from northstar.use.marts import Published
from northstar.use.mcp.http import Door
from northstar.use.people import Headers, NoRole, person_of_proxy
from northstar.use.reads import note_read

PREFIX = "/v1"
HEALTHY = "northstar api"
HEALTH, DESCRIPTION, MCP = "/health", f"{PREFIX}/openapi.json", "/mcp"
STATUSES: dict[Reason, int] = {
    "unknown_metric": 404, "ambiguous": 400, "open": 409, "withheld": 409, "not_measured": 409, "not_published": 404, "not_allowed": 403, "bad_request": 400,
    "too_much": 422, "busy": 503,
}  # fmt: skip
WRONG_A_MINUTE, LINES_A_MINUTE = 20, 20
NO_TOKEN = "a token is needed: Authorization: Bearer ... (`northstar api token add` makes one)"
WRONG_TOKEN = "this token is not valid: it was never made, has expired or was revoked"
NO_PAGE = "pages in a browser are not answered: ask from a program, without the header Origin"
WRONG_LINK = "this link is not valid: it was changed, has expired or was revoked"
# the most memory for answers that are given again as long as their version is the newest
KEPT_BYTES = 64 * 2**20
LOG = logging.getLogger("northstar.api")


class Refusal(HTTPException):
    """A caller who is not let in. wait: seconds until it may try again; 0 for never."""

    def __init__(self, status: int, reason: str, detail: str, wait: int = 0):
        headers = {"Retry-After": str(wait)} if wait else {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        super().__init__(status, detail, headers)
        self.reason = reason


class Front:
    """Lets callers in, and answers them. access: tokens and links; desk: reads the marts."""

    def __init__(self, settings: Settings, desk: Desk):
        self.settings, self.access, self.desk = settings, Access(settings), desk
        self._provided = Provided(settings, settings.readers.oidc) if settings.readers.oidc else None
        self._requests, self._wrong, self._lines = Allowance(0), Allowance(WRONG_A_MINUTE), Allowance(LINES_A_MINUTE)
        # by tag, which says the version, the role and all that was asked
        self._kept: LRUCache[str, bytes] = LRUCache(KEPT_BYTES, getsizeof=sys.getsizeof)
        self._kept_of = 0
        self._lock = threading.Lock()

    def identify(self, request: Request) -> None:
        """Find out who asks and keep it in the request's state. Raises Refusal."""
        if "origin" in request.headers:
            # no page asks here: a browser was led to this address, such as by a name that now means it
            raise Refusal(403, "not_allowed", NO_PAGE)
        address = request.client.host if request.client else ""
        parameters = request.query_params.multi_items()
        if len({name for name, _ in parameters}) < len(parameters):
            raise Refusal(400, "bad_request", "name each parameter once")
        mark, _, token = request.headers.get("Authorization", "").partition(" ")
        is_link = SIGNATURE in request.query_params or LINK in request.query_params
        caller = None
        if is_link and not token:
            # the address as it was signed: what a client escapes otherwise is the same to both
            caller = self.access.caller_of_link(request.scope["path"], parameters) if request.method == "GET" else None
        elif mark.lower() == "bearer" and not is_link:
            caller = self.access.caller_of_token(token.strip()) or self._person(token.strip())
        elif not token:
            caller = self._of_proxy(address, request.headers)
        if caller is None:
            if not (token or is_link):
                raise Refusal(401, "not_allowed", NO_TOKEN)
            # who has a valid one is never kept waiting by others on its address
            if not self._wrong.take(address):
                raise Refusal(429, "not_allowed", "too many wrong tokens from this address", 60)
            raise Refusal(401, "not_allowed", WRONG_LINK if is_link else WRONG_TOKEN)
        request.state.caller = caller
        if not self._requests.take(caller.id, caller.per_minute):
            raise Refusal(429, "too_much", f"more than {caller.per_minute} requests in a minute", 60)

    def _person(self, token: str) -> Caller | None:
        try:
            person = self._provided.person_of_token(token) if self._provided else None
        except NoRole as exc:
            raise Refusal(403, "not_allowed", str(exc)) from exc
        return caller_of(person) if person else None

    def _of_proxy(self, address: str, headers: Headers) -> Caller | None:
        try:
            person = person_of_proxy(self.settings.readers, address, headers)
        except NoRole as exc:
            raise Refusal(403, "not_allowed", str(exc)) from exc
        return caller_of(person) if person else None

    def answer(
        self,
        request: Request,
        question: q.Question,
        scope: Scope,
        make: Callable[[Reading], shapes.Answer],
        form: Format = "json",
        is_apart: bool = False,
        is_timeless: bool = True,
    ) -> Response:
        """The answer that `make` makes, in a format; 304 where the caller has it already.

        is_timeless: the answer is the same as long as its version is the newest, so that its tag is known before it is made, and it is made once.
        """
        caller: Caller = request.state.caller
        # before anything is looked up: a refusal costs no connection
        require_scope(caller.scopes, scope)
        desk, version, tag = self.desk.of_role(caller.role), question.version, None

        def tag_of(shown: Published, is_newest: bool) -> str:
            return _tag(
                str(caller.role), str(shown), str(is_newest), request.url.path, question.model_dump_json(), form
            )

        if is_timeless and (shown := desk.still_newest()) is not None and version in (None, shown.version):
            made = self._made_before(request, question, shown, form, tag_of(shown, True))
            if made is not None:
                return made
        with desk.reading(caller.scopes, version, is_apart) as reading:
            shown = reading.shown
            try:
                if is_timeless:
                    tag = tag_of(shown, reading.is_newest)
                    made = self._made_before(request, question, shown, form, tag)
                    if made is not None:
                        return made
                content = render(make(reading), form)
            except Refused as exc:
                return problem(
                    STATUSES[exc.reason], exc.reason, str(exc), exc.choices, _headers(shown), version=shown.version, as_of=shown.as_of
                )  # fmt: skip
        self._note(request, question, shown)
        if tag is None:
            tag = _tag(content.hex())
            return _response(None if _has(request, tag) else content, shown, form, tag)
        # what a role sees can change without a new version
        if reading.is_newest and caller.role is None and sys.getsizeof(content) <= KEPT_BYTES:
            with self._lock:
                # of the versions before nothing stays in memory: somebody may have been erased since
                if shown.version > self._kept_of:
                    self._kept.clear()
                    self._kept_of = shown.version
                if shown.version == self._kept_of:
                    self._kept[tag] = content
        return _response(content, shown, form, tag)

    def _made_before(
        self, request: Request, question: q.Question, shown: Published, form: Format, tag: str
    ) -> Response | None:
        """304 where the caller has the answer, or the one that is kept; None where there is none."""
        if _has(request, tag):
            return _response(None, shown, form, tag)
        with self._lock:
            kept = self._kept.get(tag)
        if kept is None:
            return None
        self._note(request, question, shown)
        return _response(kept, shown, form, tag)

    def _note(self, request: Request, question: q.Question, shown: Published) -> None:
        caller: Caller = request.state.caller
        what = f"{request.url.path} {question.model_dump_json(exclude_defaults=True, exclude={LINK, SIGNATURE})}"
        note_read(self.settings, "api", caller.id, caller.role, what, shown.version)

    def log_failure(self, method: str, path: str, exc: Exception) -> None:
        """A traceback of what went wrong, a few in a minute; never the query of an address, which may be a signed one."""
        place = traceback.extract_tb(exc.__traceback__)[-1]
        if self._lines.take(f"{type(exc).__name__} {place.filename}:{place.lineno}"):
            LOG.error("%s %s failed", method, make_visible(path)[:200], exc_info=exc)


def build(settings: Settings, desk: Desk | None = None) -> FastAPI:
    """The application for a home."""
    desk = desk or Desk(settings)
    front = Front(settings, desk)

    def caller_of(request: Request) -> Caller:
        front.identify(request)
        caller: Caller = request.state.caller
        return caller

    door = Door(settings, desk, caller_of)
    app = FastAPI(
        title="Northstar", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=door.open
    )
    app.include_router(_routes(front))
    app.add_route(HEALTH, lambda request: PlainTextResponse(HEALTHY), include_in_schema=False)
    # made when it is asked for first, and once: whoever asks for it needs no token
    description = cache(lambda: orjson.dumps(describe(app)))
    app.add_route(
        DESCRIPTION, lambda request: Response(description(), media_type=MEDIA_TYPES["json"]), include_in_schema=False
    )
    app.router.routes.append(Route(MCP, endpoint=door, include_in_schema=False))
    app.add_middleware(Limits, log=LOG, tell=front.log_failure)

    @app.exception_handler(Refused)
    def _say_refused(request: Request, exc: Refused) -> Response:
        headers = {"Retry-After": "1"} if exc.reason == "busy" else {}
        return problem(STATUSES[exc.reason], exc.reason, str(exc), exc.choices, headers)

    @app.exception_handler(RequestValidationError)
    def _say_invalid(request: Request, exc: RequestValidationError) -> Response:
        # where and what, without the value: it may be long, or a token in the wrong place
        found = exc.errors()[0]
        where = ".".join(str(part)[:40] for part in found["loc"] if part not in ("query", "body", "path"))
        what = (
            "there is no such parameter"
            if found["type"] == "extra_forbidden"
            else str(found["msg"]).removeprefix("Value error, ")
        )
        return problem(400, "bad_request", f"{where or 'the request'}: {what}")

    @app.exception_handler(HTTPException)
    def _say_http(request: Request, exc: HTTPException) -> Response:
        reason, detail = (exc.reason, str(exc.detail)) if isinstance(exc, Refusal) else ("bad_request", str(exc.detail))
        if exc.status_code == 404:
            detail = f"there is nothing at this address; {DESCRIPTION} lists the questions"
        return problem(exc.status_code, reason, detail, headers=dict(exc.headers or {}))

    @app.exception_handler(psycopg.OperationalError)
    @app.exception_handler(PassingError)
    def _say_unavailable(request: Request, exc: Exception) -> Response:
        front.log_failure(request.method, request.url.path, exc)
        return problem(
            503, "busy", "the warehouse does not answer; ask again in a moment", headers={"Retry-After": "5"}
        )

    return app


def _routes(front: Front) -> APIRouter:
    async def identify(request: Request) -> None:
        front.identify(request)

    api = APIRouter(prefix=PREFIX, dependencies=[Depends(identify)])

    @api.get("/metrics", response_model=shapes.MetricList, summary="Which metrics there are")
    def list_metrics(request: Request, question: Annotated[q.MetricsQuestion, Query()]) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return metrics.list_metrics(reading, question.search, question.domain)

        return front.answer(request, question, "metrics", make, _form(request, question))

    @api.get(
        "/metrics/{metric}", response_model=shapes.MetricDetail, summary="What a metric is, and where it is measured"
    )
    def get_metric(request: Request, metric: q.MetricName, question: Annotated[q.Question, Query()]) -> Response:
        return front.answer(request, question, "metrics", lambda reading: metrics.get_metric(reading, metric))

    @api.get("/metrics/{metric}/values", response_model=shapes.ValueList, summary="Values of a metric, oldest first")
    def list_values(request: Request, metric: q.MetricName, question: Annotated[q.ValuesQuestion, Query()]) -> Response:
        form = _form(request, question)

        def make(reading: Reading) -> shapes.Answer:
            limit = _limit(question.limit, form, values.VALUES, values.MOST_VALUES)
            found = values.list_values(
                reading, metric, question.grain or "", question.application, question.segment, question.segment_value, question.since, question.until, question.open, limit
            )  # fmt: skip
            return _whole(found, found.is_cut, question.limit, form)

        return front.answer(request, question, "metrics", make, form)

    @api.get(
        "/metrics/{metric}/value",
        response_model=shapes.SingleValue,
        summary="One value, or the reason why there is none",
    )
    def get_value(request: Request, metric: q.MetricName, question: Annotated[q.ValueQuestion, Query()]) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return values.get_value(
                reading, metric, question.period, question.grain or "", question.application, question.segment, question.segment_value, question.open
            )  # fmt: skip

        return front.answer(request, question, "metrics", make, _form(request, question))

    @api.get(
        "/metrics/{metric}/compare",
        response_model=shapes.Comparison,
        summary="Two periods, and what the change is made of",
    )
    def compare_periods(
        request: Request, metric: q.MetricName, question: Annotated[q.CompareQuestion, Query()]
    ) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return values.compare_periods(
                reading, metric, question.newer, question.older, question.grain or "", question.application, question.segment, question.segment_value
            )  # fmt: skip

        return front.answer(request, question, "metrics", make, _form(request, question))

    @api.get("/metrics/{metric}/explain", response_model=shapes.Explanation, summary="What stands behind a value")
    def explain(request: Request, metric: q.MetricName, question: Annotated[q.ExplainQuestion, Query()]) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return explanation.explain(
                reading, metric, question.period, question.grain or "", question.application, question.segment, question.segment_value, question.rows
            )  # fmt: skip

        # rows are not shown while a run builds, so the same version can have two answers
        return front.answer(request, question, "metrics", make, is_timeless=not question.rows)

    @api.get(
        "/restatements", response_model=shapes.RestatementList, summary="Published values that a later version changed"
    )
    def list_restatements(request: Request, question: Annotated[q.RestatementsQuestion, Query()]) -> Response:
        form = _form(request, question)

        def make(reading: Reading) -> shapes.Answer:
            limit = _limit(question.limit, form, changes.RESTATEMENTS, changes.MOST_RESTATEMENTS)
            found = changes.list_restatements(
                reading, question.metric, question.application, question.since_version, limit
            )
            return _whole(found, found.is_cut, question.limit, form)

        return front.answer(request, question, "metrics", make, form)

    @api.get("/changes", response_model=shapes.ChangeList, summary="What has been published since a version")
    def what_changed(request: Request, question: Annotated[q.ChangesQuestion, Query()]) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return changes.what_changed(reading, question.since_version)

        return front.answer(request, question, "metrics", make, _form(request, question))

    @api.get("/targets", response_model=shapes.TargetList, summary="Targets with the values that they judge")
    def list_targets(request: Request, question: Annotated[q.TargetsQuestion, Query()]) -> Response:
        def make(reading: Reading) -> shapes.Answer:
            return targets.list_targets(reading, question.metric, question.application, question.zone)

        return front.answer(request, question, "metrics", make, _form(request, question))

    @api.get("/marks", response_model=shapes.MarkList, summary="What happened beside the numbers")
    def list_marks(request: Request, question: Annotated[q.MarksQuestion, Query()]) -> Response:
        form = _form(request, question)

        def make(reading: Reading) -> shapes.Answer:
            limit = _limit(question.limit, form, marks.MARKS, marks.MOST_MARKS)
            found = marks.list_marks(
                reading, question.metric, question.application, question.since, question.until, limit
            )
            return _whole(found, found.is_cut, question.limit, form)

        # a note can be written at any time, and is no new version
        return front.answer(request, question, "metrics", make, form, is_timeless=False)

    @api.get(
        "/customers",
        response_model=shapes.CustomerList,
        summary="Accounts with their MRR and how they stand (scope customers)",
    )
    def list_customers(request: Request, question: Annotated[q.CustomersQuestion, Query()]) -> Response:
        form = _form(request, question)

        def make(reading: Reading) -> shapes.Answer:
            limit = _limit(question.limit, form, customers.CUSTOMERS, customers.MOST_CUSTOMERS)
            found = customers.list_customers(
                reading, question.application, question.account_id, question.country, limit
            )
            return _whole(found, found.is_cut, question.limit, form)

        return front.answer(request, question, "customers", make, form)

    @api.get("/status", response_model=shapes.Status, summary="How fresh and how whole the newest version is")
    def get_status(request: Request, question: Annotated[q.Question, Query()]) -> Response:
        return front.answer(request, question, "metrics", status.get_status, is_timeless=False)

    def run(request: Request, question: q.SqlQuestion) -> Response:
        form = _form(request, question)

        def make(reading: Reading) -> shapes.Answer:
            limit = _limit(question.limit, form, query.QUERY_ROWS, query.MOST_QUERY_ROWS)
            found = query.run_query(reading, question.sql, limit)
            return _whole(found, found.is_cut, question.limit, form)

        return front.answer(request, question, "sql", make, form, is_apart=True, is_timeless=False)

    @api.get("/query", response_model=shapes.QueryRows, summary="The rows of one statement (scope sql)")
    def query_by_address(request: Request, question: Annotated[q.SqlQuestion, Query()]) -> Response:
        return run(request, question)

    @api.post("/query", response_model=shapes.QueryRows, summary="The rows of one statement, given as JSON (scope sql)")
    def query_by_body(request: Request, question: q.SqlQuestion) -> Response:
        return run(request, question)

    return api


def _form(request: Request, question: q.TableQuestion) -> Format:
    if question.format:
        return question.format
    accepted = request.headers.get("Accept", "")
    return next(
        (form for form, kind in MEDIA_TYPES.items() if form != "json" and kind.partition(";")[0] in accepted), "json"
    )


def _limit(given: int | None, form: Format, usual: int, most: int) -> int:
    return given or (usual if form == "json" else most)


def _whole(found: shapes.Answer, is_cut: bool, limit: int | None, form: Format) -> shapes.Answer:
    """The answer itself. A table has no place that says that rows are missing, so it has all of them, unless the caller named a limit."""
    if is_cut and limit is None and form != "json":
        raise Refused("too_much", "there are more rows than one answer has: ask for less, or name a limit")
    return found


def _headers(shown: Published) -> dict[str, str]:
    return {
        "Cache-Control": "private, no-cache", "Vary": "Authorization, Accept",
        "Northstar-Version": str(shown.version), "Northstar-As-Of": f"{shown.as_of:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip


def _response(content: bytes | None, shown: Published, form: Format, tag: str) -> Response:
    """An answer; 304 where the caller has it (None)."""
    headers = _headers(shown) | {"ETag": tag}
    if content is None:
        return Response(status_code=304, headers=headers)
    if form != "json":
        headers["Content-Disposition"] = f'attachment; filename="northstar.{form}"'
    return Response(content, 200, headers, MEDIA_TYPES[form])


def _tag(*parts: str) -> str:
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def _has(request: Request, tag: str) -> bool:
    return tag in [part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")]
