"""People sign on at a real OpenID Connect provider on loopback: to the pages, and to the API with its tokens."""

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import httpx
import oidc_provider_mock
import pytest
from flask import Flask
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from northstar.base.config_files import ConfigError, read_config
from northstar.base.readers import Readers
from northstar.use.api.app import Front, Refusal
from northstar.use.api.people import Provided
from northstar.use.pages import door
from northstar.use.pages.sign_on import BACK, SIGN_OFF, SIGN_ON
from northstar.use.people import NoRole

PAGES = "http://localhost:8050"


@pytest.fixture(scope="module")
def provider():
    people = (
        ("ann", {"email": "ann@example.org", "groups": ["cooks", "web-team"]}),
        ("boss", {"email": "boss@example.org", "groups": ["web-team", "staff"]}),
        ("nobody", {"email": "nobody@example.org", "groups": ["cooks"]}),
    )
    users = [oidc_provider_mock.User(sub=name, claims=claims) for name, claims in people]
    with oidc_provider_mock.run_server_in_thread(user_claims=users) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def settings(warehouse, provider, monkeypatch):
    monkeypatch.setenv("NORTHSTAR_SECRET_OIDC_CLIENT_SECRET", "secret")
    readers = {
        "roles": {"web": {"applications": ["web"]}},
        # who is in both sees what the first one says
        "groups": {"staff": "everything", "web-team": "web"},
        "oidc": {"issuer": provider, "client_id": "northstar", "pages": PAGES, "audience": "northstar"},
    }
    return replace(warehouse, readers=Readers.model_validate(readers))


@pytest.fixture
def browser(settings):
    return browser_of(settings)


def browser_of(settings):
    server = Flask("pages")

    def who():
        person = door.person_of_request()
        return f"{person.name} {person.role}"

    server.add_url_rule("/", "root", who)
    door.require_key(server, settings)
    return server.test_client()


def ask(browser, path, **headers):
    return browser.get(path, base_url=PAGES, headers={"Accept": "text/html", **headers})


def sign_on(browser, name, path="/"):
    """The provider's answer to somebody who says who he is: the address that leads back."""
    led = ask(browser, path)
    assert led.status_code == 303 and urlsplit(led.location).path == SIGN_ON
    to_provider = ask(browser, led.location)
    asked = dict(parse_qsl(urlsplit(to_provider.location).query))
    assert asked["code_challenge_method"] == "S256" and asked["state"] and asked["nonce"]
    assert asked["redirect_uri"] == PAGES + BACK
    answer = httpx.post(to_provider.location, data={"sub": name})
    assert answer.status_code == 302
    parts = urlsplit(answer.headers["Location"])
    return f"{parts.path}?{parts.query}"


def test_a_person_signs_on_and_is_their_role(browser):
    back = sign_on(browser, "ann", "/?metric=mrr")
    entered = ask(browser, back)
    assert entered.status_code == 303 and entered.location == "/?metric=mrr"
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "ann" not in ask(browser, SIGN_ON).location
    assert ask(browser, "/").text == "ann@example.org web"
    # the same answer of the provider lets nobody else in, and nobody twice
    assert ask(browser, back).status_code == 403
    assert ask(browser.application.test_client(), back).status_code == 403
    ask(browser, SIGN_OFF)
    assert ask(browser, "/").status_code == 303


def test_groups_decide_and_are_looked_up_with_each_request(browser, settings):
    assert ask(browser, sign_on(browser, "boss")).status_code == 303
    assert ask(browser, "/").text == "boss@example.org None"
    nobody = browser_of(settings)
    assert ask(nobody, sign_on(nobody, "nobody")).status_code == 403 and ask(nobody, "/").status_code == 303
    # the file no longer says what it said when she signed on
    ann = browser_of(settings)
    ask(ann, sign_on(ann, "ann"))
    fewer = replace(settings, readers=settings.readers.model_copy(update={"groups": {"staff": "everything"}}))
    later = browser_of(fewer)
    for part in ann._cookies.values():
        later.set_cookie(part.key, part.value, domain="localhost")
    assert ask(ann, "/").text == "ann@example.org web" and ask(later, "/").status_code == 403
    # a cookie that somebody wrote
    forged = browser_of(settings)
    forged.set_cookie(part.key, part.value[:-2] + "xx", domain="localhost")
    assert ask(forged, "/").status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//elsewhere.example.org",
        "https://elsewhere.example.org",
        "/\\elsewhere.example.org",
        "\\\\elsewhere",
        "/a\nb",
        "javascript:x",
    ],
)
def test_nobody_is_led_elsewhere(browser, elsewhere):
    to_provider = browser.get(SIGN_ON, base_url=PAGES, query_string={"next": elsewhere})
    back = urlsplit(httpx.post(to_provider.location, data={"sub": "ann"}).headers["Location"])
    assert ask(browser, f"{back.path}?{back.query}").location == "/"


def test_what_is_no_page_is_not_led_to_the_provider_and_the_password_still_lets_in(browser, settings):
    assert ask(browser, "/", Accept="application/json").status_code == 401
    assert ask(browser, "/", **{"Sec-Fetch-Mode": "cors"}).status_code == 401
    assert browser.post("/", base_url=PAGES, headers={"Accept": "text/html"}).status_code == 401
    assert ask(browser, "/", **door.credentials(settings)).text == "password None"
    lost = replace(
        settings,
        readers=settings.readers.model_copy(
            update={"oidc": settings.readers.oidc.model_copy(update={"issuer": "http://127.0.0.1:9"})}
        ),
    )
    assert ask(browser_of(lost), SIGN_ON).status_code == 503


def test_the_api_takes_the_provider_s_tokens_and_no_others(settings, provider):
    def token_of(name):
        asked = {
            "client_id": "northstar",
            "redirect_uri": "http://localhost/back",
            "response_type": "code",
            "scope": "openid email groups",
        }
        led = httpx.post(f"{provider}/oauth2/authorize", params=asked, data={"sub": name})
        code = dict(parse_qsl(urlsplit(led.headers["Location"]).query))["code"]
        given = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
        return (
            httpx.post(f"{provider}/oauth2/token", data=given, auth=("northstar", "secret"))
            .raise_for_status()
            .json()["id_token"]
        )

    provided = Provided(settings, settings.readers.oidc)
    ann, boss = (provided.person_of_token(token_of(name)) for name in ("ann", "boss"))
    assert (ann.name, ann.role, boss.role) == ("ann@example.org", "web", None)
    with pytest.raises(NoRole):
        provided.person_of_token(token_of("nobody"))
    right = token_of("ann")
    header, body, signature = right.split(".")
    # made by somebody else, changed, unsigned, of another time, for another
    own = RSAKey.generate_key(2048)
    claims = {"iss": provider, "aud": "northstar", "sub": "ann", "groups": ["staff"], "exp": int(time.time()) + 600}
    kid = jwt.decode(right, provided._keys).header.get("kid")
    wrong = [
        jwt.encode({"alg": "RS256"} | ({"kid": kid} if kid else {}), claims, own), f"{header}.{body}.", f"{header}.{body[:-2]}AA.{signature}",
        "eyJhbGciOiJub25lIn0." + body + ".", "..", "a.b.c", "x" * 20_000, "", jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("secret" * 8)),
    ]  # fmt: skip
    assert [provided.person_of_token(text) for text in wrong] == [None] * len(wrong)
    for changed in ({"audience": "another"}, {"audience": None}, {"issuer": f"{provider}/other"}):
        other = Provided(settings, settings.readers.oidc.model_copy(update=changed))
        other._keys = provided._keys
        assert other.person_of_token(right) is None
    # of keys that are the provider's: one that is over, that has not begun, and that says of whom or until when nothing
    known = Provided(settings, settings.readers.oidc)
    known._keys = KeySet([own])
    signed = {
        name: jwt.encode({"alg": "RS256"}, claims | more, own)
        for name, more in (("right", {}), ("over", {"exp": 1}), ("later", {"nbf": 4_000_000_000}))
    }
    for name in ("exp", "sub", "aud", "iss"):
        signed[name] = jwt.encode({"alg": "RS256"}, {key: value for key, value in claims.items() if key != name}, own)
    assert {name for name, text in signed.items() if known.person_of_token(text)} == {"right"}
    caller = Front(settings, None)._person(right)
    assert caller.role == "web" and caller.id == "person ann@example.org"
    with pytest.raises(Refusal):
        Front(settings, None)._person(token_of("nobody"))


FILES = (
    ("roles: {web: {applications: all}}", "would see everything"),
    ("roles: {web: {applications: []}}", "applications"),
    ("roles: {web: {applications: [web, all]}}", "'all' is no application"),
    ("roles: {web: {applications: [web], segment: country}}", "together"),
    ("roles: {web: {applications: [web], values: [DE]}}", "together"),
    ("roles: {everything: {applications: [web]}}", "what no role is"),
    ("roles: {'we b': {applications: [web]}}", "a role's name"),
    ("roles: {a_role_with_a_long_name: {applications: [web]}}", "a role's name"),
    ("groups: {staff: nobody}", "there is no role"),
    ("proxy: {addresses: [0.0.0.0/0]}", "whole world"),
    ("proxy: {addresses: [proxy.example.org]}", "no address"),
    ("proxy: {addresses: []}", "addresses"),
    ("oidc: {issuer: 'http://login.example.org', client_id: x, pages: 'https://p.example.org'}", "https://"),
    ("oidc: {issuer: 'https://login.example.org', client_id: x, pages: 'http://p.example.org'}", "https://"),
    (
        "oidc: {issuer: 'https://l.example.org', client_id: x, pages: 'https://p.example.org', scopes: [email]}",
        "openid",
    ),
)


@pytest.mark.parametrize(("text", "said"), FILES)
def test_a_file_that_says_less_than_it_seems_to_is_refused_in_one_line(text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        read_config(text, "readers.yml", Readers)
    assert "\n" not in str(refused.value)
