"""Nobody is found who should not be: planted names are looked for in every byte of a home, before and after one of them is erased."""

import gzip
import shutil
import sys
from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import Operations
from northstar.demo.company import simulate
from northstar.extract.landing.directory import land_directory
from northstar.orchestration import tasks
from northstar.privacy.keys import keyed_hash
from northstar.publish.certificates import input_contents
from northstar.publish.merge import _landed_part, rollback
from northstar.runs import job, quarantine
from northstar.runs.erase import erasure as erasing
from northstar.runs.erase import rewrite as rewriting
from northstar.runs.erase.erasure import erase, erase_pending
from northstar.runs.erase.names import Names
from northstar.runs.erase.purge import forget_values
from northstar.runs.maintenance import maintain
from northstar.runs.rotate import rotate_key
from northstar.runs.verify import verify, why_not_reproducible
from northstar.use.customers import find_customer, find_customers, read_search
from northstar.use.marts import Marts
from northstar.use.notes import list_notes, write_note
from northstar.use.query import query
from northstar.use.reports.send import make_and_keep
from northstar.warehouse import db
from tests.support import WORKERS, empty, find_needles, query_as, run, select, select_at, silent, utc, write_rows

pytestmark = pytest.mark.timeout(1800)

END = utc("2026-03-01T00:00:00")
AT, LATER = "2026-02-03T10:00:00Z", "2026-02-20T10:00:00Z"
NAME, EMAIL, PHONE = "Zebulon Quixotestein", "Zebulon.Quix@planted-mail.example", "+49 151 5550 1234"
ADDRESS, IP = "17 Hollowmere Crescent", "198.51.100.77"
ACCOUNT, DEVICE, SESSION = "acc-zq-4711", "anon-zq-0815", "sess-zq-1234"
# the parts too, in whatever case
PERSONAL = ["zebulon", "quixotestein", "planted-mail", "5550 1234", "hollowmere", IP, "person1@example.com"]
LOOSE = {
    "userPhone": PHONE, "home_address": ADDRESS, "remarks": f"{NAME} called", "nested": {"first_name": "Zebulon"}, f"about {EMAIL}": 1,
}  # fmt: skip


def account(name: str = ACCOUNT, **values) -> dict:
    return {
        "account_id": name,
        "account_type": "customer",
        "application": "web",
        "country": "DE",
        "created_at": AT,
        "updated_at": AT,
        **values,
    }


def event(number: int, **values) -> dict:
    return {
        "event_id": f"planted{number}", "event_name": "feature.used", "occurred_at": AT, "received_at": AT, "application": "web",
        "ip_address": IP, **values,
    }  # fmt: skip


def charge(name: str, **values) -> dict:
    return {
        "charge_id": name, "account_id": ACCOUNT, "application": "web", "amount": 1900, "currency": "USD", "status": "succeeded",
        "created_at": AT, "updated_at": AT, **values,
    }  # fmt: skip


def planted() -> dict:
    """Rows of one person, Zebulon, in every column that could tell of him, good rows and bad ones."""
    told = {"full_name": NAME, "feature": "export", "q": f"mail to {EMAIL}", "user": ACCOUNT}
    return {
        "accounts": [
            account(email=EMAIL, full_name=NAME, **LOOSE), account("acc-friend", referred_by_account_id=ACCOUNT),
            account("acc-bad", account_type=NAME, email=EMAIL, full_name=NAME, **LOOSE),
        ],
        "events": [
            event(1, anonymous_id=DEVICE, session_id=SESSION, event_name="page.landing"),
            event(2, account_id=ACCOUNT, anonymous_id=DEVICE, session_id=SESSION, properties=told, **LOOSE),
            event(3, account_id="acc-friend", properties={"feature": "share", "with": f"/users/{ACCOUNT}/"}),
            event(4, account_id=ACCOUNT, properties=f"{{broken, {NAME}, {EMAIL}"),
        ],
        "subscriptions": [{
            "subscription_item_id": "item-zq", "subscription_id": "sub-zq", "account_id": ACCOUNT, "application": "web", "plan_id": "pro",
            "plan_tier": "pro", "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 1900, "currency": "USD",
            "status": "active", "cancel_reason": f"ask {EMAIL}", "valid_from": AT, "updated_at": AT,
        }],
        "charges": [charge("ch-zq"), charge("ch-bad", amount=NAME)],
        "refunds": [{"refund_id": "re-zq", "charge_id": "ch-zq", "amount": 500, "currency": "USD", "status": "succeeded", "created_at": LATER,
                     "updated_at": LATER, "memo": ACCOUNT}],
        "tickets": [
            {"ticket_id": name, "application": "web", "status": "open", "requester_email": EMAIL.upper(), "subject": f"{NAME} waits",
             "created_at": AT, "updated_at": AT, **owner} for name, owner in (("t-zq", {"account_id": ACCOUNT}), ("t-mail", {}))
        ],
        "survey_responses": [{"response_id": "r-zq", "survey": "nps", "account_id": ACCOUNT, "application": "web", "score": 9,
                              "comment": f"{NAME}: fine", "sent_at": AT, "responded_at": LATER, "updated_at": LATER}],
        "pull_requests": [{"pull_request_id": "pr-zq", "author": "ZebulonQuix", "opened_at": AT, "updated_at": AT}],
        "api_requests": [{"request_id": "req-zq", "service": "api", "route": f"/by-mail/{EMAIL}", "status_code": 200, "duration_ms": 5,
                          "occurred_at": AT}],
    }  # fmt: skip


def totals(settings) -> list[dict]:
    return select(
        settings, "select metric_id, grain, period_start, application, segment, segment_value, numerator, denominator, value, null_reason "
        "from metric_values order by 1, 2, 3, 4, 5, 6",
    )  # fmt: skip


@pytest.fixture(scope="module")
def peopled(warehouse, tmp_path_factory):
    """A warehouse with a small company in which Zebulon stands everywhere; what else is tried on him, in the order of the tests."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("peopled")
    simulate(source, seed=3, months=2, accounts=30, applications=("web",), end=END, monitored_days=3)
    write_rows(source, planted(), "planted")
    # an unquoted comma shifts a name into the next column
    header = "account_id,account_type,email,full_name,country,created_at,updated_at"
    (source / "accounts" / "shifted.csv").write_text(
        f"{header}\nacc-shift,customer,{EMAIL},Zebulon, Quixotestein,DE,{AT},{AT}\n"
    )
    settings = replace(warehouse, operations=Operations(lake="lake"))
    run(settings, source, END)
    yield settings, source
    shutil.rmtree(settings.home / "lake")


def test_personal_data_is_in_no_file_of_the_home(peopled):
    settings, _ = peopled
    make_and_keep(settings, "monthly", END)
    assert find_needles(settings, PERSONAL) == set()
    # and the search would find what is there
    places = {place for _, place in find_needles(settings, [ACCOUNT])}
    assert {"staging.events", "marts.fct_payments"} <= places
    assert any(place.startswith("lake/events/") for place in places)
    bad = query_as(
        settings, "loader", "select quarantine_id, row from quarantine.rows where row ->> 'account_id' = 'acc-bad'"
    )[0]
    assert quarantine.show(settings, bad["quarantine_id"], with_personal=True)["row"]["remarks"] == f"{NAME} called"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.csv.gz", gzip.compress(f"account_id,{NAME}\n{EMAIL},{ADDRESS}\n".encode() * 50)[:60]),
        ("headless.csv", f"{ACCOUNT}-x,customer,{EMAIL},{NAME}\n".encode() * 2),
        ("twice.csv", f"{NAME},{NAME},{EMAIL}\n1,2,3\n".encode()),
        ("coded.csv", f"account_id\n{EMAIL} \xff {NAME}\n".encode("latin-1")),
        ("no.parquet", f"PAR1{NAME}{EMAIL}".encode()),
    ],
    ids=["cut_short", "without_a_header", "a_column_twice", "not_utf8", "no_parquet"],
)
def test_a_file_that_cannot_be_read_is_told_of_without_its_content(peopled, tmp_path, capsys, name, content):
    settings, _ = peopled
    (tmp_path / "accounts").mkdir()
    (tmp_path / "accounts" / name).write_bytes(content)
    with pytest.raises(NorthstarError) as caught:
        land_directory(settings, None, str(tmp_path))
    told = (str(caught.value) + capsys.readouterr().out).lower()
    assert name in told and not any(needle in told for needle in PERSONAL)


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_erased_subject_is_in_no_file_and_the_numbers_stand(peopled, tmp_path, monkeypatch):
    settings, source = peopled
    before, hashed = totals(settings), keyed_hash(EMAIL, settings.secret("pii_key"))
    names = [ACCOUNT, DEVICE, SESSION, hashed]
    write_note(settings, f"a refund to {ACCOUNT}", "ana")
    assert find_customer(Marts(settings), ACCOUNT).movements
    assert {needle for needle, _ in find_needles(settings, names)} == set(names)
    # a corrected row, so that what was replaced knows him too
    write_rows(tmp_path, {"accounts": [account(email=EMAIL, country="FR", updated_at=LATER)]})
    land_directory(settings, None, str(tmp_path), progress=silent)
    write_rows(source, {"accounts": [account(email=EMAIL, updated_at="2026-02-21T10:00:00Z")]}, "again")
    land_directory(settings, None, str(source), progress=silent)

    noted = erase(settings, email=EMAIL.lower(), by="the test", progress=silent, is_later=True)
    assert noted.state == "requested" and find_needles(settings, [EMAIL]) == set()
    # dbt writes the words of the command line into its artefacts
    monkeypatch.setattr(sys, "argv", ["northstar", "erase", "--email", EMAIL])
    # killed before its last step, it goes on there when the DAG's task runs
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(erasing, "rewrite", interrupted)
        # what the server writes of a session that falls comes into its log whenever it does
        (settings.logs / "fallen.log").write_text(f"Failed process was running: select '{ACCOUNT}'")
        erasing.carry_out(settings, noted.erasure_id, silent, WORKERS[settings.home])
    (settings.logs / "fallen.log").write_text(f"Failed process was running: select '{ACCOUNT}'")
    monkeypatch.setenv("NORTHSTAR_HOME", str(settings.home))
    # a reader who began before holds no lock, and sees what was there: then it is not done
    monkeypatch.setattr(rewriting, "PATIENCE_SECONDS", 0.5)
    with db.connect(settings, "bi_reader") as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1")
        with db.connect(settings, "owner") as writer:
            writer.execute("create table public.later (x int)")
            writer.execute("drop table public.later")
        with pytest.raises(NorthstarError, match=r"a session of bi_reader \(process \d+.*still on the disk"):
            tasks.erase_subjects()
        assert erasing.certificate(settings, noted.erasure_id).state == "purged"
    # nor where one byte of the home still says it
    left = settings.home / "airflow" / "left.txt"
    left.parent.mkdir(exist_ok=True)
    left.write_text(f"a note on {ACCOUNT}")
    with pytest.raises(NorthstarError, match=r"is not done: a name is still in airflow/left\.txt; remove it there"):
        tasks.erase_subjects()
    assert erasing.certificate(settings, noted.erasure_id).state == "purged"
    left.unlink()
    assert tasks.erase_subjects() == 1
    done = erasing.certificate(settings, noted.erasure_id)
    assert (done.state, done.requested_by, done.published_version) == ("done", "the test", 2)
    assert find_needles(settings, names) == set()
    assert (
        done.rows["staging.accounts"] >= 1
        and done.rows["staging._replaced"] >= 2
        and done.rows["marts_history.fct_payments"] >= 1
    )
    assert totals(settings) == before and select(settings, "select * from metric_restatements") == []
    # his money is there, under a name that nothing leads back from
    paid = select(settings, "select account_id, amount_reporting from fct_payments where charge_id = 'ch-zq'")
    assert paid[0]["account_id"].startswith("erased-") and paid[0]["amount_reporting"] == 19
    # the pages of customers have neither name, and the note lost his
    for name in (ACCOUNT, paid[0]["account_id"]):
        with pytest.raises(NorthstarError, match="there is no customer"):
            find_customer(Marts(settings), name)
    assert {row["account_id"] for row in find_customers(Marts(settings), read_search({})).rows}.isdisjoint(names)
    assert [note["title"] for note in list_notes(settings)] == [f"a refund to {paid[0]['account_id']}"]
    friend = select(
        settings, "select referred_by_account_id, email_hash from dim_accounts where account_id = 'acc-friend'"
    )[0]
    assert friend["referred_by_account_id"] == paid[0]["account_id"]
    # and where the marts are read as they were before
    then = query(settings, "select account_id, email_hash from dim_accounts where account_id like 'erased-%'", 1)[1]
    assert then == [(paid[0]["account_id"], None)]


def only_erasure(settings) -> int:
    """The number of the one erasure of the home: other tests may have had some in the same warehouse."""
    [row] = query_as(settings, "loader", "select erasure_id from audit.erasures")
    return row["erasure_id"]


def test_erasing_again_changes_nothing_and_says_so(peopled):
    settings, _ = peopled
    before = select(settings, "select max(published_version) as v from publications")
    assert erase(settings, account_id=ACCOUNT, progress=silent).erasure_id == only_erasure(settings)
    with pytest.raises(NorthstarError, match="there is no data about this person"):
        erase(settings, email=EMAIL, progress=silent)
    assert erase_pending(settings, silent) == []
    assert select(settings, "select max(published_version) as v from publications") == before


def test_a_delivery_does_not_bring_an_erased_subject_back(peopled, tmp_path):
    settings, _ = peopled
    newer = {"updated_at": "2026-02-25T00:00:00Z", "received_at": "2026-02-25T00:00:00Z"}
    rows = {
        entity: [{**r, **{k: v for k, v in newer.items() if k in r}} for r in rows]
        for entity, rows in planted().items()
    }
    # of what another person's free text says nothing is known any more (docs/privacy.md)
    rows["events"] = [r for r in rows["events"] if r["event_id"] != "planted3"]
    write_rows(
        tmp_path, {entity: rows[entity] for entity in ("accounts", "events", "charges", "tickets")}, "redelivered"
    )
    results = {r.entity: r for r in land_directory(settings, None, str(tmp_path), progress=silent)}
    assert {entity: r.refused for entity, r in results.items()} == {
        "accounts": 1,
        "events": 3,
        "charges": 2,
        "tickets": 2,
    }
    assert find_needles(settings, [ACCOUNT, DEVICE, SESSION]) == set()
    friend = query_as(
        settings, "loader", "select referred_by_account_id as by from staging.accounts where account_id = 'acc-friend'"
    )
    assert friend == [{"by": "erased"}]
    told = query_as(settings, "loader", "select sum(rows_erased) as n from audit.landing_batches")
    assert told == [{"n": 8}]


def test_verify_says_why_a_version_from_before_cannot_be_made_again(peopled):
    settings, _ = peopled
    from northstar.runs.verify import why_not_reproducible

    assert why_not_reproducible(settings, 2) is None
    reason = why_not_reproducible(settings, 1)
    assert f"erasure {only_erasure(settings)}" in reason and "cannot be made again to the byte" in reason


# where one value of a segment alone is withheld in an application, the smallest other one of the period goes with it everywhere
WITHHELD = """
with flagged as (
    select v.*, s.segment_value is not null as is_small from metric_values as v
    left join core.small_groups as s using (segment, segment_value) where v.segment in (select segment from core.small_groups)
),
lone as (
    select metric_id, grain, period_start, application, segment from flagged group by 1, 2, 3, 4, 5
    having count(*) filter (where is_small) = 1 and count(*) > 1
),
partners as (
    select distinct on (metric_id, grain, period_start, application, segment) metric_id, grain, period_start, segment, segment_value
    from flagged join lone using (metric_id, grain, period_start, application, segment) where not is_small
    order by metric_id, grain, period_start, application, segment, coalesce(numerator, 0) = 0, abs(numerator), segment_value
)
select metric_id, grain, period_start, application, segment, segment_value from flagged
where (is_small or (metric_id, grain, period_start, segment, segment_value) in (select * from partners))
    -- what was not measured has no value to withhold
    and null_reason is distinct from 'source_missing'
"""


def test_a_rotated_key_leaves_every_join_and_number_as_it_was_and_small_groups_are_withheld(peopled, tmp_path):
    settings, _ = peopled
    joins = "select t.ticket_id from staging.accounts as a join staging.tickets as t on t.requester_email = a.email order by 1"
    joined, before, old_key = query_as(settings, "loader", joins), keyed(totals(settings)), settings.secret("pii_key")
    hashes = {
        r["email"] for r in query_as(settings, "loader", "select email from staging.accounts where email is not null")
    }
    facts = select(settings, "select * from fct_payments order by charge_id")
    known = query_as(
        settings,
        "loader",
        "select account_id from staging.accounts where email = %s",
        keyed_hash("person1@example.com", old_key),
    )

    # the full build that ends the rotation is the proof of the erasure's incremental one as well, but for what is too small to be shown
    suppressing = replace(settings, rules=settings.rules.model_copy(update={"suppress_below": 5}))
    rotated_from = select(settings, "select max(published_version) as v from publications")[0]["v"]
    rotated = rotate_key(suppressing, silent, WORKERS[settings.home])
    new_key = settings.secret("pii_key")
    assert (rotated.generation, new_key.rpartition(",")[0]) == (2, old_key) and joined
    assert query_as(settings, "loader", joins) == joined
    assert find_needles(settings, sorted(hashes)[:40]) == set()
    assert select(settings, "select * from fct_payments order by charge_id") == facts

    after = keyed(totals(settings))
    withheld = {key for key, row in after.items() if row["null_reason"] == "small_group"}
    assert withheld and {(after[k]["numerator"], after[k]["value"]) for k in withheld} == {(None, None)}
    # his friend's row was delivered again, and knows no more who it was that referred
    assert {k[0] for k in after if after[k] != before.get(k) and k not in withheld} <= {
        "viral_coefficient",
        "referral_rate",
    }
    # which those are, reckoned from every period as it was shown before
    expected = select_at(settings, WITHHELD, rotated_from)
    assert withheld == set(expected)
    assert {key[4] for key in withheld} <= {"country", "account_type", "acquisition_channel", "plan_tier"}
    # from no group can what is withheld be reckoned by taking what is shown from the total
    small = query_as(settings, "transformer", "select segment, segment_value from core.small_groups where is_too_small")
    small = {(row["segment"], row["segment_value"]) for row in small}
    parts: dict = {}
    for key in after:
        parts.setdefault(key[:5], []).append(key)
    for group in parts.values():
        hidden = [key for key in group if key in withheld]
        assert len(hidden) != 1 or len(group) == 1 or hidden[0][4:] not in small, hidden
    assert select(settings, "select 1 from cohort_retention where cohort_size < 5") == []
    assert select(settings, "select 1 from user_paths where sessions < 5") == []

    # what is delivered now joins with what was hashed before, and an erased subject stays erased
    write_rows(tmp_path, {"accounts": [account()], "tickets": [
        {"ticket_id": "t-new", "status": "open", "requester_email": " Person1@Example.com", "created_at": AT, "updated_at": AT}]})  # fmt: skip
    results = {r.entity: r for r in land_directory(settings, None, str(tmp_path), progress=silent)}
    assert results["accounts"].refused == 1
    again = query_as(settings, "loader", "select a.account_id from staging.accounts as a join staging.tickets as t on t.requester_email = a.email "
                     "where t.ticket_id = 't-new'")  # fmt: skip
    assert again == known != []
    assert find_needles(settings, PERSONAL) == set()


def keyed(rows: list[dict]) -> dict[tuple, dict]:
    return {tuple(list(row.values())[:6]): row for row in rows}


def test_what_is_older_than_its_period_goes_and_no_number_with_it(peopled):
    settings, _ = peopled
    before, second = totals(settings), sorted(select_at(settings, "select * from dim_accounts", 2))
    with db.connect(settings, "owner") as connection:
        connection.execute(
            "update marts.publications set published_at = published_at - interval '500 days' where published_version <= 2"
        )
        connection.execute(
            "update quarantine.rows set quarantined_at = now() - interval '91 days' where quarantine_id = (select min(quarantine_id) from quarantine.rows)"
        )
    keeping = replace(
        settings,
        operations=settings.operations.model_copy(update={"keep_quarantine_days": 90, "keep_versions_days": 400}),
    )
    removed = maintain(keeping, progress=silent)
    assert removed["people"] == {"quarantine": 1} and removed["versions"]["published"] and removed["versions"]["landed"]
    assert totals(settings) == before and sorted(select_at(settings, "select * from dim_accounts", 2)) == second
    for refused in (
        lambda: query(settings, "select 1", 1),
        lambda: rollback(settings, 1),
        lambda: verify(settings, 1, silent),
    ):
        with pytest.raises(NorthstarError, match="version 1 is no longer kept"):
            refused()
    again = maintain(keeping, progress=silent)
    assert again["people"] == {} and not again["versions"]["published"] and not again["versions"]["landed"]


def test_a_version_that_stands_on_rows_that_were_hashed_anew_since_is_no_ground_for_the_next_certificate(peopled):
    settings, _ = peopled
    restored, _ = rollback(settings, 2)
    assert "key 2" in why_not_reproducible(settings, restored)
    with db.connect(settings, "owner") as connection:
        last = connection.execute(
            "select run_id, built_batch_id from audit.runs where published_version is not null order by run_id desc limit 1"
        ).fetchone()
        made = input_contents(connection, None, last["built_batch_id"])
    assert _landed_part(settings, last["run_id"])["inputs"] == made


def test_an_entity_keeps_what_numbers_are_made_of_when_its_period_is_over(warehouse, tmp_path):
    empty(warehouse)
    said = {"feature": "export", "screen": "settings", "colour": "red"}
    old, new = "2025-11-10T10:00:00Z", "2026-02-20T10:00:00Z"
    events = [
        event(n, account_id=ACCOUNT, occurred_at=at, received_at=at, properties=said, colour="blue")
        for n, at in enumerate((old, new), 1)
    ]
    rows = {"accounts": [account(created_at=old, updated_at=old)], "events": events}
    run(warehouse, write_rows(tmp_path, rows), END)
    write_rows(tmp_path, {"events": [events[0] | {"received_at": "2025-11-11T10:00:00Z", "country": "FR"}]}, "again")
    first = run(warehouse, tmp_path, END)
    values = select(
        warehouse,
        "select * from metric_values order by metric_id, grain, period_start, application, segment, segment_value",
    )

    period = replace(
        warehouse, operations=warehouse.operations.model_copy(update={"keep_details_days": {"events": 60}})
    )
    second = job.run(period, "nightly", END, str(tmp_path), silent, worker=WORKERS[warehouse.home])
    with db.connect(warehouse, "loader") as connection:
        kept = connection.execute("select event_id, properties, _extra from staging.events order by 1").fetchall()
        replaced = connection.execute(
            "select row -> 'properties' as p from staging._replaced where entity = 'events'"
        ).fetchall()
        journal = connection.execute("select entity, rows from audit.details_forgotten").fetchall()
    assert [row["properties"] for row in kept] == [{"feature": "export"}, said]
    assert [row["_extra"] is None for row in kept] == [True, False]
    assert all(row["p"] == {"feature": "export"} for row in replaced)
    assert journal == [{"entity": "events", "rows": 1 + len(replaced)}]
    again = select(
        warehouse,
        "select * from metric_values order by metric_id, grain, period_start, application, segment, segment_value",
    )
    assert again == values
    assert "retention emptied" in why_not_reproducible(warehouse, first)
    assert why_not_reproducible(warehouse, second) is None
    differing = [c for c in verify(warehouse, second) if not c.is_same]
    assert not differing
    job.run(period, "nightly", END, str(tmp_path), silent, worker=WORKERS[warehouse.home])
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from audit.details_forgotten").fetchone()["n"] == 1


def test_where_one_group_alone_would_be_withheld_the_smallest_other_goes_with_it_period_by_period(warehouse, tmp_path):
    """Two small countries are withheld; of one of them no payment is known before the tenth, so until then the other would be alone."""
    countries = ["AD", "BE", *["CH"] * 5, *["DK"] * 5]
    accounts = [account(account_id=f"acc-{n}", email=None, country=c) for n, c in enumerate(countries)]
    paid = [
        ("AD", 2, 5),
        ("CH", 3, 9),
        ("DK", 3, 4),
        ("DK", 4, 7),
        ("CH", 5, 1),
        ("AD", 6, 3),
        ("BE", 10, 2),
        ("CH", 11, 6),
    ]
    charges = [
        {"charge_id": f"c{n}", "account_id": f"acc-{countries.index(c)}", "application": "web", "country": c, "amount": 100 * amount, "currency": "USD",
         "status": "succeeded", "created_at": f"2026-02-{day:02}T10:00:00Z", "updated_at": f"2026-02-{day:02}T10:00:00Z"}
        for n, (c, day, amount) in enumerate(paid)
    ]  # fmt: skip
    empty(warehouse)
    source = write_rows(tmp_path, {"accounts": accounts, "charges": charges})
    shown = run(warehouse, source, END)
    withholding = replace(warehouse, rules=warehouse.rules.model_copy(update={"suppress_below": 2}))
    job.run(withholding, "nightly", END, str(source), silent, worker=WORKERS[warehouse.home])
    assert {tuple(r.values()) for r in query_as(warehouse, "transformer", "select segment_value from core.small_groups where segment = 'country'")} \
        == {("AD",), ("BE",)}  # fmt: skip
    hidden = "select metric_id, grain, period_start, application, segment, segment_value from metric_values where null_reason = 'small_group'"
    assert set(query(warehouse, hidden)[1]) == set(select_at(warehouse, WITHHELD, shown))
    # nor can what is withheld now be had by looking back
    with pytest.raises(NorthstarError, match=f"version {shown} showed groups .* smaller than suppress_below"):
        query(warehouse, hidden, shown)
    replaced = "select count(*) as n from marts_history.metric_points"
    assert query_as(warehouse, "transformer", replaced)[0]["n"] > 0 == select(warehouse, replaced)[0]["n"]
    with db.connect(warehouse, "bi_reader") as reader:
        reader.execute("select set_config('northstar.version', %s, false)", [str(shown)])
        past = reader.execute(
            "select count(*) as n from marts_at_version.metric_values where segment = 'country' and segment_value = 'AD' and numerator > 0"
        )
        assert past.fetchone()["n"] == 0
    # the smaller of two, the first by name where neither had a payment, and nobody once the second small one pays too
    days = (
        "select to_char(period_start, 'DD'), segment_value from metric_values where metric_id = 'cash_collected' and grain = 'day' and application = 'web' "
        "and segment = 'country' and null_reason = 'small_group' and segment_value in ('CH', 'DK') and period_start < '2026-02-12' order by 1, 2"
    )
    assert query(warehouse, days)[1] == [
        ("03", "DK"), ("04", "DK"), ("05", "CH"), ("06", "CH"), ("07", "CH"), ("08", "CH"), ("09", "CH"),
    ]  # fmt: skip


def test_an_erased_persons_identifiers_are_no_known_values(warehouse):
    """Short ones too, which nobody could look for in other texts: the column says what they are."""
    empty(warehouse)
    known = "insert into audit.known_values (entity, application, column_name, value, rows, deliveries, absences, is_noted) values (%s, 'default', %s, %s, 9, 1, 0, false)"
    with db.connect(warehouse, "owner") as connection:
        connection.execute(
            "insert into audit.erasure_ids (erasure_id, kind, value, replacement) values (1, 'account', '42', 'erased-1')"
        )
        for row in (
            ("charges", "account_id", "42"),
            ("charges", "account_id", "43"),
            ("subscriptions", "plan_id", "42"),
        ):
            connection.execute(known, row)
        connection.execute(
            "insert into audit.unusual_values (entity, application, column_name, kind, value, usual, path, what, rows, of_rows, examples, batch_id) "
            "values ('charges', 'default', 'account_id', 'new', '42', '', '', '''42'' has never come before', 1, 9, '[]', 1)"
        )
        assert forget_values(connection, Names(connection, 1)) == 2
        left = connection.execute("select column_name, value from audit.known_values order by 1").fetchall()
        assert [(r["column_name"], r["value"]) for r in left] == [("account_id", "43"), ("plan_id", "42")]
        assert connection.execute("select * from audit.unusual_values").fetchall() == []
    empty(warehouse)
