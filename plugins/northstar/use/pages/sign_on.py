"""`/sign-on`: people sign on to the pages at the OpenID Connect provider that readers.yml names.

The code flow with PKCE, a state and a nonce; Authlib checks them and the ID token's signature, issuer, audience and time. The browser keeps, signed, the
person's name and those of their groups that readers.yml names: what these may see is looked up with each request.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import FlaskOAuth2App, OAuth
from flask import Flask, Response, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from joserfc.errors import JoseError

from northstar.base.allowance import Allowance
from northstar.base.readers import Provider
from northstar.base.settings import Settings
from northstar.use.people import NoRole, Person, find_person, groups_of_claim

SIGN_ON, BACK, SIGN_OFF = "/sign-on", "/sign-on/back", "/sign-off"
PATHS = (SIGN_ON, BACK, SIGN_OFF)
PERSON = "person"
SECRET, SESSION_KEY = "oidc_client_secret", "pages_session_key"
SECONDS = 10
A_MINUTE = 30
ADDRESS_CHARACTERS = 2_000
TEXT = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
LOG = logging.getLogger(__name__)


def add_sign_on(server: Flask, settings: Settings, mark: str) -> None:
    """Let people sign on, where readers.yml names a provider. mark: tells this home's cookie from those of others on the same host."""
    provider = settings.readers.oidc
    if provider is None:
        return
    server.secret_key = settings.secret(SESSION_KEY)
    server.config.update(
        SESSION_COOKIE_NAME=f"northstar_person_{mark}", SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=urlsplit(provider.pages).scheme == "https", PERMANENT_SESSION_LIFETIME=timedelta(hours=provider.hours),
        # otherwise each answer would begin the hours anew
        SESSION_REFRESH_EACH_REQUEST=False,
    )  # fmt: skip
    client = OAuth(server).register(
        "provider", client_id=provider.client_id, client_secret=settings.known_secret(SECRET),
        server_metadata_url=f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": " ".join(provider.scopes), "code_challenge_method": "S256", "default_timeout": SECONDS},
    )  # fmt: skip
    attempts = Allowance(A_MINUTE)
    back = provider.pages.rstrip("/") + BACK

    def begin() -> ResponseReturnValue:
        session["next"] = _own_path(request.args.get("next", "/"))
        return _answer(attempts, lambda: client.authorize_redirect(back))

    def end() -> ResponseReturnValue:
        def enter() -> ResponseReturnValue:
            claims = _claims(client, provider)
            groups = [g for g in groups_of_claim(claims.get(provider.groups_claim)) if g in settings.readers.groups]
            name = str(claims.get(provider.name_claim) or claims["sub"])
            find_person(settings.readers, name, groups)
            following = _own_path(session.get("next", "/"))
            session.clear()
            session.permanent = True
            session[PERSON] = {"name": name, "groups": groups}
            return redirect(following, 303)

        return _answer(attempts, enter)

    def leave() -> ResponseReturnValue:
        session.clear()
        return Response("you are signed off here; the provider may still know you", 200, TEXT)

    server.add_url_rule(SIGN_ON, "sign_on", begin)
    server.add_url_rule(BACK, "signed_on", end)
    server.add_url_rule(SIGN_OFF, "sign_off", leave)


def person_of_session(settings: Settings) -> Person | None:
    """Who has signed on in this browser; None for nobody. Raises NoRole for somebody whose groups readers.yml no longer names."""
    if settings.readers.oidc is None:
        return None
    kept = session.get(PERSON)
    return find_person(settings.readers, kept["name"], kept["groups"]) if kept else None


def ask_to_sign_on() -> ResponseReturnValue:
    """The answer to a browser that nobody has signed on with."""
    return redirect(url_for("sign_on", next=request.full_path.rstrip("?")), 303)


def _claims(client: FlaskOAuth2App, provider: Provider) -> dict[str, object]:
    """What the provider says of the person who came back from it. Raises OAuthError or JoseError where it cannot be believed."""
    issuers = {"essential": True, "values": [provider.issuer, provider.issuer.rstrip("/") + "/"]}
    token = client.authorize_access_token(claims_options={"iss": issuers})
    claims = token.get("userinfo")
    if not claims:
        raise OAuthError(description="the provider sent no ID token")
    if provider.groups_claim not in claims and "userinfo_endpoint" in client.load_server_metadata():
        more = client.userinfo(token=token)
        # another person's would be an attack (OpenID Connect Core, 5.3.2)
        if more.get("sub") != claims["sub"]:
            raise OAuthError(description="the provider answered for another person")
        return {**more, **claims}
    return dict(claims)


def _answer(attempts: Allowance, answer: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    if not attempts.take(request.remote_addr or ""):
        return Response("too many attempts to sign on in a minute", 429, {**TEXT, "Retry-After": "60"})
    try:
        return answer()
    except NoRole as exc:
        return Response(str(exc), 403, TEXT)
    except (OAuthError, JoseError) as exc:
        LOG.warning("refused: a sign-on from %s: %s", request.remote_addr, type(exc).__name__)
        return Response("you could not be signed on; open the pages again", 403, TEXT)
    except requests.RequestException as exc:
        LOG.warning("the provider does not answer: %s", type(exc).__name__)
        return Response("the provider that people sign on at does not answer; try again in a moment", 503, TEXT)


def _own_path(given: str) -> str:
    """A path of these pages; '/' for what may lead elsewhere."""
    parts = urlsplit(given)
    is_own = given.startswith("/") and not given.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return given if is_own and "\\" not in given and given.isprintable() and len(given) <= ADDRESS_CHARACTERS else "/"
