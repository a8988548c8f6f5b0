"""Who is let in: tokens that are kept hashed, links for one question, and nothing of either in the log."""

import json
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from northstar.base.errors import NorthstarError
from northstar.cli.main import main
from northstar.use.api.access import FILE, Access
from northstar.use.api.links import sign
from tests.support import accessible_to_others


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_token_is_shown_once_and_kept_hashed(warehouse, capsys):
    def api(*words) -> tuple[int, str, str]:
        return main(["api", *words, "--home", str(warehouse.home)]), *capsys.readouterr()

    status, printed, _ = api("token", "add", "sheet", "--scope", "metrics", "--scope", "sql", "--days", "30")
    token = printed.strip()
    assert status == 0 and token.startswith("northstar_") and len(token) > 50
    kept = (warehouse.home / FILE).read_text()
    assert token not in kept and token.rpartition("_")[2] not in kept
    assert accessible_to_others(warehouse.home / FILE) == []
    listed = api("token", "list")[1]
    assert "sheet" in listed and "metrics, sql" in listed and token not in listed
    access = Access(warehouse)
    assert access.caller_of_token(token).scopes == {"metrics", "sql"}
    assert "there is a token called 'sheet'" in api("token", "add", "sheet")[2]
    link = api("link", "add", "/v1/customers?limit=3&format=csv")[1].strip()
    assert link.startswith("http://127.0.0.1:") and "signature=" in link
    identity = api("link", "list")[1].splitlines()[2].split()[0]
    assert api("link", "revoke", identity)[0] == 0 and "(no rows)" in api("link", "list")[1]
    assert api("token", "revoke", "sheet")[0] == 0
    # a process that has read the file before sees it at once
    assert access.caller_of_token(token) is None
    for wrong in (("token", "revoke", "sheet"), ("token", "add"), ("link", "add"), ("link", "revoke", "0"), ("token", "add", "x", "--scope", "root"), ("token", "add", "x", "--days", "0")):  # fmt: skip
        status, _, said = api(*wrong)
        assert status == 1 and said.startswith("northstar: ") and said.count("\n") == 1, wrong


def test_a_token_expires_and_a_damaged_file_lets_nobody_in(warehouse):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    access = Access(warehouse, lambda: now[0])
    token = access.add_token("short", ["metrics"], days=1)
    link = dict(
        part.split("=") for part in urlsplit(access.add_link("/v1/status", [], "metrics", days=1)).query.split("&")
    )
    for hours, is_valid in ((23, True), (1, False)):
        now[0] += timedelta(hours=hours)
        assert (access.caller_of_token(token) is not None) is is_valid
        assert (access.caller_of_link("/v1/status", list(link.items())) is not None) is is_valid
    (warehouse.home / FILE).write_text("{}x")
    with pytest.raises(NorthstarError, match="is damaged"):
        access.caller_of_token(token)
    (warehouse.home / FILE).unlink()
    assert access.caller_of_token(token) is None


def test_whoever_guesses_learns_nothing(access, stranger, address):
    token = access.add_token("narrow", ["metrics"])
    identity = token.split("_")[1]
    wrong = [
        "x", "northstar_", "northstar_00000000_", f"northstar_{identity}_", f"northstar_{identity}_{'A' * 43}", f"northstar_00000000_{token.rpartition('_')[2]}",
        token[:-1], f"{token}x", token.upper(), token.replace("northstar", "other"), "A" * 8_000,
    ]  # fmt: skip
    answers = [stranger.get("/v1/status", headers=bearer(text)) for text in wrong]
    # an id that exists and one that does not are refused in the same words
    assert {(a.status_code, a.text) for a in answers} == {(401, answers[0].text)}
    for headers in (
        {},
        {"Authorization": "Basic cmVhZGVyOng="},
        {"Authorization": token},
        {"Cookie": f"token={token}"},
    ):
        assert stranger.get("/v1/status", headers=headers).status_code == 401
    assert stranger.get(f"/v1/status?token={token}").status_code == 401
    # nor does a wrong scope say whether there is anything
    for path in ("/v1/customers?account_id=a", "/v1/customers?account_id=b", "/v1/query?sql=select 1", "/v1/query?sql=nonsense", "/v1/metrics/mrr/explain?rows=true"):  # fmt: skip
        refused = stranger.get(path, headers=bearer(token))
        assert refused.status_code == 403 and refused.json()["reason"] == "not_allowed" and "needs the scope" in refused.json()["detail"]  # fmt: skip
    statuses = {stranger.get("/v1/status", headers=bearer("x")).status_code for _ in range(30)}
    assert 429 in statuses
    # whoever has a valid one is not kept waiting by others on the same address
    assert stranger.get("/v1/status", headers=bearer(token)).status_code == 200


def test_a_token_has_so_many_requests_a_minute(access, stranger):
    token, other = (
        access.add_token(name, ["metrics"], per_minute=count) for name, count in (("few", 3), ("many", 100))
    )
    answers = [stranger.get("/v1/metrics?search=mrr", headers=bearer(token)) for _ in range(5)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["Retry-After"] == "60" and "more than 3 requests" in answers[-1].json()["detail"]
    assert stranger.get("/v1/metrics?search=mrr", headers=bearer(other)).status_code == 200


def test_a_link_leads_to_its_question_and_to_no_other(access, address, stranger):
    link = sign(access, "/v1/metrics/mrr/values?grain=month&segment=country&format=csv", 30)
    found = httpx.get(f"{address}{link}")
    assert found.status_code == 200 and found.text.startswith("period,")
    # as another program escapes the same address
    assert httpx.get(f"{address}{link.replace('mrr', 'm%72r').replace('month', 'mon%74h')}").status_code == 200
    titled = sign(access, "/v1/metrics/Net revenue retention/value?format=csv", 30)
    assert " " not in titled and httpx.get(f"{address}{titled}").status_code == 200
    sql = sign(access, "/v1/query?sql=select 1 %2B 1 as two&format=csv", 30)
    assert httpx.get(f"{address}{sql}").text == "two\r\n2\r\n"
    changed = [
        link.replace("grain=month", "grain=day"), link.replace("segment=country&", ""), link.replace("/mrr/", "/arr/"), link.replace("values", "value"), f"{link}&version=1",
        f"{link}&grain=day", link[:-1], link.replace("link=", "link=0"), f"{link}&signature=x", sql.replace("1+%2B+1", "2+%2B+2"), link.partition("&signature")[0],
        f"/v1/customers?{urlsplit(link).query}", link.replace("signature=", "signature=%00"),
    ]  # fmt: skip
    for target in changed:
        assert target not in (link, sql)
        answer = httpx.get(f"{address}{target}")
        assert answer.status_code in (400, 401, 429) and "value" not in answer.text.partition("\n")[0].split(","), (
            target
        )
    assert httpx.post(f"{address}{sql}", json={"sql": "select 1"}).status_code in (401, 429)
    access.revoke_link(next(k.id for k in access.kept().links if f"link={k.id}" in link))
    assert httpx.get(f"{address}{link}").status_code in (401, 429)
    for target, words in (
        ("/v1/nothing", "is no question of the API"), ("/v1/status?x=1", "has no parameter 'x'"), ("/v1/openapi.json", "is no question"),
        ("/v1/metrics/mrr/explain?rows=true", "does not lead to the rows"), ("/v1/status?link=1", "signed already"),
        ("/v1/metrics?search=a&search=b", "each parameter once"), ("", "is no question"),
    ):  # fmt: skip
        with pytest.raises(NorthstarError, match=words):
            sign(access, target, 30)


def test_neither_tokens_nor_signatures_come_into_the_log(access, address, caplog, client, token):
    caplog.set_level(logging.DEBUG)
    signed = sign(access, "/v1/metrics/mrr/values?segment=country&segment_value=needle-in-a-query", 30)
    link = f"{address}{signed}"
    httpx.get(link)
    httpx.get(link.replace("segment=country", "segment=colour"))
    client.get("/v1/status")
    client.get(f"/v1/status?{token}=1")
    client.get("/v1/query", params={"sql": "select 'needle-in-a-query'"})
    httpx.get(f"{address}/v1/status", headers={"Authorization": f"Bearer {token}x"})
    # what the client itself logs is not ours
    lines = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert any("GET /v1/metrics/mrr/values 4" in line or "GET /v1/metrics/mrr/values 2" in line for line in lines)
    log = json.dumps(lines)
    secrets = [token, token.rpartition("_")[2], signed.partition("signature=")[2], "needle-in-a-query"]
    assert [secret for secret in secrets if secret in log] == []
