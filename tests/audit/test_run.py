"""Each check of the gate has been seen to fail: one violation is planted, that check and its name stop the publish."""

import pytest

from northstar.audit.run import _verdict, run_audit
from northstar.audit.suites import BOUNDARIES, read_suites
from northstar.base.errors import NorthstarError
from northstar.publish.merge import _passed_checks
from northstar.warehouse import db
from tests.support import silent

CANDIDATE = "marts_candidate"
# the company may have no alert of its own
ALERT = (
    "insert into marts_candidate.alerts (alert_id, target_id, cause, metric_id, application, segment, segment_value, grain, severity, opened_at, closed_at, rule, value, "
    "threshold, targets_missed, fired_90_days, action) select alert_id, target_id, cause, 'mrr', 'web', '', '', 'day', 'warning', now() - interval '1 day', "
    "closed_at::timestamptz, rule, 0, threshold, 1, 1, 'notify owner' from (values "
)
VIOLATIONS = {
    "staging.every_row_read_is_accounted_for": "update audit.landing_batches set rows_read = rows_read + 1 where batch_id = (select max(batch_id) from audit.landing_batches where run_id is not null)",
    "staging.quarantine_is_small": "insert into quarantine.rows (source, entity, path, reasons, batch_id) select source, entity, 'x', '{x}', batch_id from audit.landing_batches cross join lateral generate_series(1, rows_read) where entity = 'events'",
    "staging.no_refused_consent_is_stored": "update staging.events set consent = false where event_id = (select min(event_id) from staging.events)",
    "staging.emails_are_hashed": "update staging.accounts set email = 'x@y.org' where account_id = (select min(account_id) from staging.accounts)",
    "staging.account_types_are_known": "update staging.accounts set account_type = 'alien' where account_id = (select min(account_id) from staging.accounts)",
    "staging.charge_statuses_are_known": "update staging.charges set status = 'maybe' where charge_id = (select min(charge_id) from staging.charges)",
    "staging.ticket_statuses_are_known": "update staging.tickets set status = 'lost' where ticket_id = (select min(ticket_id) from staging.tickets)",
    "staging.intervals_do_not_run_backwards": "update staging.subscriptions set valid_to = valid_from - interval '1 day' where valid_to is not null",
    "staging.visible_rows_of_an_item_do_not_overlap": "update staging.subscriptions set valid_to = null where not _is_overlapping",
    "staging.every_currency_in_use_has_a_rate": "delete from staging.fx_rates where currency = 'EUR'",
    "staging.rates_are_in_the_stated_currency": "update staging.fx_rates set currency = 'USD' where currency = 'GBP' and rate_date = (select min(rate_date) + 7 from staging.fx_rates)",
    "staging.rates_are_positive": "update staging.fx_rates set rate_to_reporting = 0 where rate_date = (select min(rate_date) from staging.fx_rates)",
    "marts.a_series_has_one_point_for_each_period": "insert into core.metrics_visitors select * from core.metrics_visitors where grain = 'month'",
    "marts.every_point_is_seen": "update core.metrics_visitors set series_id = 1 where grain = 'week'",
    "marts.values_are_null_for_a_reason_and_only_then": "update core.metrics_payments set null_reason = 'none' where value is not null and grain = 'month'",
    "marts.no_period_begins_at_or_after_as_of": "update core.metrics_visitors set period_start = '2026-03-01' where grain = 'month' and period_start = '2026-02-01'",
    "marts.periods_begin_where_their_grain_does": "update core.metrics_visitors set period_start = period_start + interval '1 day' where grain = 'week'",
    "marts.every_value_is_in_the_catalogue": "update core.metrics_visitors set metric_id = 'unheard_of' where grain = 'month'",
    "marts.a_series_is_in_one_state_at_a_time": "update marts_candidate.metric_series set holds_until = holds_from + interval '1 month' where grain = 'month'",
    "marts.a_number_names_one_series": "update marts_candidate.metric_series set series_id = 1",
    "marts.every_series_is_in_the_catalogue": "update marts_candidate.metric_series set segment = 'unheard_of' where grain = 'month'",
    "marts.no_series_begins_at_or_after_as_of": "update marts_candidate.metric_series set begins_at = '2026-03-01' where grain = 'month'",
    "marts.additive_metrics_add_up_over_applications": "update core.metrics_events set numerator = numerator + 1 where application = 'all' and grain = 'month' and segment = ''",
    "marts.additive_metrics_add_up_over_segments": "update core.metrics_events set numerator = numerator + 1 where grain = 'month' and segment = 'event_name' and segment_value = 'page.view'",
    "marts.cash_is_the_landed_charges_less_refunds": "update core.metrics_payments set numerator = numerator + 0.01 where metric_id = 'cash_collected' and grain = 'day' and segment = '' and application != 'all'",
    "marts.movements_explain_every_change": "update marts_candidate.mrr_movements set amount_exact = amount_exact + 0.01 where movement_type = 'new'",
    "marts.movement_types_have_their_sign": "update marts_candidate.mrr_movements set movement_type = 'churn' where movement_type = 'new'",
    "marts.an_account_is_new_once": "insert into marts_candidate.mrr_movements select * from marts_candidate.mrr_movements where movement_type = 'new'",
    "marts.steps_lead_from_opening_to_closing": "update core.mrr_bridge_by_period set transferred_out_mrr = 0 where transferred_out_mrr != 0",
    "marts.a_period_opens_as_the_last_one_closed": "update core.mrr_bridge_by_period set opening_mrr = opening_mrr + 0.01, closing_mrr = closing_mrr + 0.01 where segment = 'country' and period_start >= '2026-02-01'",
    "marts.steps_are_the_metrics": "update core.metrics_revenue set numerator = numerator + 0.01 where metric_id = 'expansion_mrr' and segment = 'plan_tier'",
    "marts.what_leaves_one_tier_enters_another": "update marts_candidate.mrr_transfers set amount_exact = amount_exact + 0.01",
    "marts.an_account_takes_along_what_it_has": "update marts_candidate.mrr_transfers set from_plan_tier = to_plan_tier",
    "marts.a_month_opens_as_the_last_one_closed": "update marts_candidate.mrr_by_account set mrr_at_start_exact = 1 where month = '2026-02-01'",
    "marts.accounts_add_up_to_mrr": "update marts_candidate.mrr_by_account set mrr_at_end_exact = mrr_at_end_exact + 1",
    "marts.customers_have_what_their_movements_add_up_to": "update marts_candidate.customers set mrr_exact = mrr_exact + 1",
    "marts.every_deployment_and_incident_is_marked": "delete from marts_candidate.source_marks where mark_id = (select min(mark_id) from marts_candidate.source_marks)",
    "marts.cells_never_exceed_the_cohort": "update marts_candidate.cohort_retention set retained_accounts = cohort_size + 1",
    "marts.cohorts_do_not_change_their_size": "update marts_candidate.cohort_retention set cohort_size = cohort_size + 1 where months_since = 1",
    "marts.stages_never_grow": "update marts_candidate.funnel_stages set visitors = visitors + 100000 where stage_number = 2",
    "marts.reasons_add_up_to_the_churn": "insert into marts_candidate.churn_reasons select application, month, 'made_up', 1, 99 from (select application, date_trunc('month', movement_date::timestamp)::date as month from marts_candidate.mrr_movements where movement_type = 'churn' limit 1) as one",
    "marts.every_landed_charge_is_a_payment": "delete from marts_candidate.fct_payments where charge_id = (select min(charge_id) from marts_candidate.fct_payments)",
    "marts.payments_have_a_reporting_amount": "update marts_candidate.fct_payments set amount_reporting = null where charge_id = (select min(charge_id) from marts_candidate.fct_payments)",
    "marts.every_counted_ticket_is_there": "delete from marts_candidate.fct_tickets where ticket_id = (select min(ticket_id) from marts_candidate.fct_tickets)",
    "marts.sessions_hold_every_event_that_names_one": "update marts_candidate.fct_sessions set events = events + 1",
    "marts.every_landed_account_is_there": "delete from marts_candidate.dim_accounts where account_id = (select min(account_id) from marts_candidate.dim_accounts)",
    "marts.every_visible_subscription_row_is_there": "delete from marts_candidate.fct_subscription_periods where subscription_item_id = (select min(subscription_item_id) from marts_candidate.fct_subscription_periods)",
    "marts.every_landed_booking_is_there": "delete from marts_candidate.fct_bookings where booking_id = (select min(booking_id) from marts_candidate.fct_bookings)",
    "marts.bookings_have_a_reporting_price": "update marts_candidate.fct_bookings set price_reporting = null where booking_id = (select min(booking_id) from marts_candidate.fct_bookings)",
    "marts.every_target_is_judged": "delete from marts_candidate.metric_status where target_id = (select min(target_id) from marts_candidate.metric_status)",
    "marts.nobody_converts_who_was_not_exposed": "update marts_candidate.experiment_results set converted = exposed + 1",
    "marts.intervals_hold_the_share": "update marts_candidate.experiment_results set conversion_percent = 101",
    "marts.every_session_enters_once": "update marts_candidate.user_paths set sessions = sessions + 1 where from_event = '(entry)'",
    "marts.a_target_has_one_open_alert": ALERT
    + "('a', 't', 'c', null, 'target', 1), ('b', 't', 'd', null, 'target', 1)) as planted (alert_id, target_id, cause, closed_at, rule, threshold)",
    "marts.a_cause_has_one_open_alert": ALERT
    + "('a', 't', 'c', null, 'target', 1), ('b', 'u', 'c', null, 'target', 1)) as planted (alert_id, target_id, cause, closed_at, rule, threshold)",
    "marts.alerts_close_after_they_open": ALERT
    + "('a', 't', 'c', now() - interval '2 days', 'target', 1)) as planted (alert_id, target_id, cause, closed_at, rule, threshold)",
    "marts.an_alert_says_what_it_was_compared_with": ALERT
    + "('a', 't', 'c', null, 'target', null::numeric)) as planted (alert_id, target_id, cause, closed_at, rule, threshold)",
    "marts.amounts_in_the_reporting_currency_are_those_of_metric_values": "insert into marts_candidate.entity_values select metric_id, grain, period_start, application, segment, segment_value, 'USD', value, 'USD', value + 1 from marts_candidate.metric_values where metric_id = 'cash_collected' and grain = 'month' and segment = 'country' and value > 0",
    "marts.mrr_is_never_negative": "update marts_candidate.fct_subscription_periods set mrr_in_currency = -1",
}
# columns that the tables themselves hold to: a violation cannot even be planted
HELD_BY_THE_TABLE = {"staging.account_ids_are_present", "staging.charge_ids_are_present"}


# what the marts' suites call changed: the build's logs, by the key of the model
CHANGED = {
    "dim_accounts": "account_id",
    "fct_bookings": "booking_id",
    "fct_payments": "charge_id",
    "fct_sessions": "application, session_id",
    "fct_subscription_periods": "subscription_item_id",
    "fct_tickets": "ticket_id",
    "mrr_by_account": "account_id, application, month",
    "mrr_movements": "application, account_id",
    "mrr_transfers": "application, account_id",
    "user_paths": "month",
}


def tables_of(statement: str) -> list[str]:
    words = statement.replace("(", " ").split()
    return [words[words.index(verb) + 1] for verb in ("update", "into", "from") if verb in words][:1]


def run_id(settings) -> int:
    with db.connect(settings, "owner") as connection:
        return connection.execute(
            "select max(run_id) as id from audit.runs where published_version is not null"
        ).fetchone()["id"]


def groups() -> list[tuple]:
    """The violations of a boundary, in groups that can be planted together: no table twice in one."""
    found = []
    for name, statement in VIOLATIONS.items():
        boundary, table = name.split(".")[0], tables_of(statement)[0]
        fitting = next((g for g in found if g[0] == boundary and table not in g[1]), None)
        if fitting is None:
            fitting = (boundary, {})
            found.append(fitting)
        fitting[1][table] = name
    return [(boundary, tuple(names.values())) for boundary, names in found]


def count_everything_as_changed(connection, run: int) -> None:
    """What the warehouse would hold in an hourly run that had changed every row of every table."""
    connection.execute("update audit.runs set is_full = false where run_id = %s", [run])
    connection.execute(
        "update core.run_context set is_full = false, since_batch_id = 0, previous_as_of = '1970-01-01', run_id = %s",
        [run],
    )
    connection.execute(
        "insert into core.touched_periods (model, grain, period_start) select m, grain, period_start "
        "from core.periods cross join unnest(array['mrr_by_period', 'mrr_movements_by_period']) as m"
    )
    for table, columns in CHANGED.items():
        connection.execute(
            f"create table {CANDIDATE}._changed__{table} as select distinct {columns} from {CANDIDATE}.{table}"
        )
        connection.execute(f"alter table {CANDIDATE}._changed__{table} owner to transformer")


@pytest.fixture(params=["nightly", "hourly"])
def audited(built, request):
    """The built warehouse with the run whose audit is looked at, as the one mode or the other."""
    run = run_id(built)
    with db.connect(built, "owner") as connection:
        kept = connection.execute("select * from core.run_context").fetchone()
        if request.param == "hourly":
            count_everything_as_changed(connection, run)
    yield built, run
    with db.connect(built, "owner") as connection:
        connection.execute("update audit.runs set is_full = true where run_id = %s", [run])
        connection.execute(
            "update core.run_context set is_full = %(is_full)s, since_batch_id = %(since_batch_id)s, "
            "previous_as_of = %(previous_as_of)s, run_id = %(run_id)s", kept
        )  # fmt: skip
        connection.execute("truncate core.touched, core.touched_periods")
        for table in CHANGED:
            connection.execute(f"drop table if exists {CANDIDATE}._changed__{table}")


@pytest.fixture
def planted(audited, request):
    """A group of violations; what was there is put back afterwards."""
    settings, run = audited
    boundary, names = request.param
    statements = [VIOLATIONS[name] for name in names]
    with db.connect(settings, "owner") as connection:
        for number, statement in enumerate(statements):
            connection.execute(f"create table public.kept_{number} as select * from {tables_of(statement)[0]}")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, f"the violation changes nothing: {statement}"
        # what a build writes it logs, wrong periods too
        connection.execute(
            "insert into core.touched_periods (model, grain, period_start) "
            "select distinct 'metrics_visitors', grain, period_start from core.metrics_visitors"
        )
    yield settings, run, boundary, names
    with db.connect(settings, "owner") as connection:
        for number, statement in enumerate(statements):
            table = tables_of(statement)[0]
            identity = "overriding system value" if table in ("audit.landing_batches", "quarantine.rows") else ""
            connection.execute(f"delete from {table}")
            connection.execute(f"insert into {table} {identity} select * from public.kept_{number}")
            connection.execute(f"drop table public.kept_{number}")


@pytest.mark.parametrize(
    "planted", groups(), indirect=True, ids=lambda g: f"{g[0]}, {g[1][0].split('.')[1]} and others"
)
def test_violations_fail_their_checks(planted):
    settings, run, boundary, names = planted
    with pytest.raises(NorthstarError, match="the audit stopped the publish"):
        run_audit(settings, run, boundaries=(boundary,), progress=silent)
    with db.connect(settings, "owner") as connection:
        newest = connection.execute(
            "select distinct on (check_name) check_name, success, severity, observed from audit.checks where run_id = %s and boundary = %s "
            "order by check_name, checked_at desc", [run, boundary]
        ).fetchall()  # fmt: skip
    failed = {f"{boundary}.{c['check_name']}" for c in newest if not c["success"] and c["severity"] == "error"}
    assert set(names) <= failed
    assert not [c for c in newest if (c["observed"] or "").startswith("could not be run")]


def test_the_company_as_published_passes(audited):
    settings, run = audited
    result = run_audit(settings, run, progress=silent)
    assert result["run"] - result["passed"] == result["warned"]
    with db.connect(settings, "owner") as connection:
        left = connection.execute("select relname from pg_class where relname like '\\_scoped%'").fetchall()
    assert not left, "what was copied for the checks is taken away"


def test_an_audit_that_runs_again_replaces_what_it_said_before(built):
    """As when an audit failed, its cause was mended and somebody cleared the task: the first attempt must not stop the publish."""
    run = run_id(built)
    with db.connect(built, "owner") as connection:
        before = connection.execute("select count(*) as n from audit.checks where run_id = %s", [run]).fetchone()["n"]
        connection.execute("update staging.fx_rates set rate_to_reporting = -rate_to_reporting")
    try:
        with pytest.raises(NorthstarError, match="rates_are_positive"):
            run_audit(built, run, boundaries=("staging",), progress=silent)
    finally:
        with db.connect(built, "owner") as connection:
            connection.execute("update staging.fx_rates set rate_to_reporting = -rate_to_reporting")
    run_audit(built, run, progress=silent)
    with db.connect(built, "publisher") as connection:
        assert _passed_checks(connection, run)["run"] == before
    with db.connect(built, "owner") as connection:
        told_twice = connection.execute(
            "select entity from audit.reconciliations where run_id = %s and source = 'files' group by 1 having count(*) > 1",
            [run],
        ).fetchall()
    assert not told_twice


def test_an_hourly_run_looks_at_what_changed_alone(audited):
    settings, run = audited
    with db.connect(settings, "owner") as connection:
        is_full = connection.execute("select is_full from audit.runs where run_id = %s", [run]).fetchone()["is_full"]
        if not is_full:
            connection.execute(f"truncate {CANDIDATE}._changed__fct_payments")
        connection.execute(
            f"create table public.kept as select charge_id, amount_reporting from {CANDIDATE}.fct_payments"
        )
        connection.execute(f"update {CANDIDATE}.fct_payments set amount_reporting = null")
    try:
        if is_full:
            with pytest.raises(NorthstarError, match="payments_have_a_reporting_amount"):
                run_audit(settings, run, boundaries=("marts",), progress=silent)
        else:
            run_audit(settings, run, boundaries=("marts",), progress=silent)
    finally:
        with db.connect(settings, "owner") as connection:
            connection.execute(
                f"update {CANDIDATE}.fct_payments as p set amount_reporting = kept.amount_reporting "
                "from public.kept where kept.charge_id = p.charge_id"
            )
            connection.execute("drop table public.kept")


def test_every_error_check_has_been_seen_to_fail(built):
    names = {
        f"{b}.{c.name}"
        for b in BOUNDARIES
        for s in read_suites(built.root, b)
        for c in s.checks
        if c.severity == "error"
    }
    assert names == set(VIOLATIONS) | HELD_BY_THE_TABLE


def test_every_suite_is_about_a_table_that_exists(built):
    with db.connect(built, "owner") as connection:
        for boundary in BOUNDARIES:
            for suite in read_suites(built.root, boundary):
                row = connection.execute("select to_regclass(%s) as t", [f"{suite.schema}.{suite.table}"]).fetchone()
                assert row["t"], suite.table


def test_every_check_that_failed_is_named():
    failed = [
        {"boundary": "marts", "suite": "metric_points", "check_name": f"check_{n}", "severity": "error", "success": False, "observed": "1",
         "expected": "", "failing_rows": 1, "sample": [{"message": f"row {n}"}]}
        for n in range(3)
    ]  # fmt: skip
    with pytest.raises(
        NorthstarError,
        match=r"metric_points.check_0: 1 rows: row 0; also failed: metric_points.check_1, metric_points.check_2; the last",
    ):
        _verdict(failed, silent)
