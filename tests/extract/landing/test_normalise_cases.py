"""What sources were seen to deliver: empty texts, numbers that went through a spreadsheet or a type, codes in any case, values out of range."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from northstar.contract import entities
from northstar.contract.codes import CODES
from northstar.extract.landing.normalise import normalise
from northstar.privacy.guard import Guard
from northstar.privacy.keys import unseal

AT = "2025-01-01T00:00:00Z"
ROWS = {
    "accounts": {"account_id": "a1", "account_type": "customer", "created_at": AT, "updated_at": AT},
    "events": {"event_id": "e1", "event_name": "page.view", "occurred_at": AT, "received_at": AT},
    "subscriptions": {
        "subscription_item_id": "i", "subscription_id": "s", "account_id": "a", "plan_id": "p", "billing_interval": "month", "interval_count": "1",
        "quantity": "1", "unit_amount": "1000", "currency": "USD", "status": "active", "valid_from": AT, "updated_at": AT,
    },
    "charges": {"charge_id": "c", "account_id": "a", "amount": "1", "currency": "USD", "status": "succeeded", "created_at": AT, "updated_at": AT},
    "survey_responses": {"response_id": "r", "survey": "nps", "sent_at": AT, "updated_at": AT},
    "fx_rates": {"rate_date": "2025-01-01", "currency": "EUR", "rate_to_reporting": "1.1"},
    "package_purchases": {"package_purchase_id": "p", "account_id": "a", "sessions_total": "5", "amount": "1", "currency": "USD", "purchased_at": AT},
    "query_stats": {"query_id": "q", "window_start": AT, "calls": "1", "total_ms": "1"},
    "api_requests": {"request_id": "q", "service": "api", "status_code": "200", "occurred_at": AT},
    "market_size": {"as_of": "2025-01-01", "addressable_accounts": "5"},
    "marketing_spend": {"spend_date": "2025-01-01", "channel": "x", "amount": "1", "currency": "USD"},
    "integration_calls": {"call_id": "c", "integration": "x", "succeeded": "true", "occurred_at": AT},
}  # fmt: skip


def landed(entity: str, **given) -> tuple[dict | None, list[str]]:
    """What lands of a row of texts (or of Arrow arrays of one value), and why it does not."""
    row = {**ROWS[entity], **given}
    arrays = {
        name: value if isinstance(value, pa.Array) else pa.array([value], pa.string()) for name, value in row.items()
    }
    raw = pa.RecordBatch.from_arrays([*arrays.values(), pa.array([1])], names=[*arrays, "_line"])
    done = normalise(entities()[entity], raw, Guard("key"))
    reasons = done.bad[0][1] if done.bad else []
    return (done.rows.to_pylist() or [None])[0], reasons


@pytest.mark.parametrize("blank", ["", " ", "\t \n", "\u00a0\u3000"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_a_text_that_is_empty_or_blank_is_null_in_every_type(blank, kind):
    value = pa.array(
        [blank.encode() if pa.types.is_binary(kind) else blank],
        pa.binary() if pa.types.is_binary(kind) else pa.string(),
    ).cast(kind)
    row, reasons = landed(
        "events", account_id=value, consent=value, properties=value, channel=value, country=value, remark=value
    )
    assert reasons == []
    assert [row[name] for name in ("account_id", "consent", "properties", "channel", "country", "_extra")] == [None] * 6
    assert landed("events", event_id=value)[1] == ["event_id: required"]
    assert landed("events", occurred_at=value)[1] == ["occurred_at: required"]
    assert landed("charges", amount=value)[1] == ["amount: required"]
    assert landed("events", application=value)[0]["application"] == "default"


def test_a_text_that_says_something_stays_as_it_was_written():
    for text in (" a ", "\u00e9", "e\u0301", "NULL", "0"):
        assert landed("events", account_id=text)[0]["account_id"] == text


@pytest.mark.parametrize(
    ("given", "lands"),
    [
        (pa.array([Decimal("0E-7")], pa.decimal128(20, 7)), 0), (pa.array([Decimal(7)], pa.decimal128(20, 7)), 7),
        (pa.array([Decimal(7)], pa.decimal256(60, 30)), 7), (pa.array([1e10]), 10**10), (pa.array([0.0], pa.float32()), 0),
        (pa.array([5.0], pa.float16()), 5), (pa.array([7], pa.uint64()), 7), ("1e3", 1000), ("1.5E+10", 15 * 10**9), ("7.50e1", 75), ("0E-7", 0),
    ],
)  # fmt: skip
def test_a_whole_number_is_whole_in_any_type_and_notation(given, lands):
    assert landed("query_stats", calls=given)[0]["calls"] == lands
    assert landed("charges", amount=given)[0]["amount"] == lands


@pytest.mark.parametrize("given", [pa.array([Decimal("7.5")], pa.decimal128(20, 7)), pa.array([1.5]), pa.array([float("nan")]), pa.array([float("inf")]), pa.array([1e19]), "1.55e1", "1e30", "1e-1"])  # fmt: skip
def test_a_number_with_a_fraction_or_without_end_is_not_whole(given):
    (reason,) = landed("query_stats", calls=given)[1]
    assert re.fullmatch(r"calls: '.+' is not a whole number", reason)


@pytest.mark.parametrize(
    ("given", "lands"),
    [
        ("0.1", "0.1"), ("1e-12", "0.000000000001"), ("99999999999999999999999999.999999999999", "99999999999999999999999999.999999999999"),
        ("12.50000000000000000000", "12.5"), (pa.array([Decimal("0.1")], pa.decimal128(38, 20)), "0.1"), (pa.array([0.1], pa.float32()), "0.1"),
        # what a float writes of 0.1 + 0.2, and of a third: its digits beyond fifteen are none
        ("0.30000000000000004", "0.3"), (pa.array([0.1 + 0.2]), "0.3"), (pa.array([100 / 3]), None), ("33.3333333333333", None),
        ("0.0000000000001", None), ("1e-13", None), (pa.array([1e-13]), None), ("0.1000000000001", None), ("1.00000000000000000001", None),
        (pa.array([Decimal("0.1000000000001")], pa.decimal128(38, 20)), None), ("1e26", None), (pa.array([float("inf")]), None), ("12,5", None),
    ],
)  # fmt: skip
def test_an_amount_has_the_digits_that_were_written_or_does_not_land(given, lands):
    row, reasons = landed("charges", amount=given)
    if lands is None:
        assert (
            re.fullmatch("amount: '.+' (has more than twelve digits after the point|is not a number.*)", reasons[0])
            and len(reasons) == 1
        )
    else:
        assert row["amount"] == Decimal(lands)


def test_a_measurement_of_more_digits_is_rounded():
    assert landed("api_requests", duration_ms=pa.array([100 / 3]))[0]["duration_ms"] == Decimal("33.333333333333")


@pytest.mark.parametrize(
    ("given", "lands"),
    [(pa.array([12345678901.0]), "12345678901"), (pa.array([5.0]), "5"), (pa.array([Decimal("0E-7")], pa.decimal128(20, 7)), "0.0000000"),
     (pa.array([Decimal(12345678901234567890)], pa.decimal128(20, 0)), "12345678901234567890"), (pa.array([2**63], pa.uint64()), "9223372036854775808")],
)  # fmt: skip
def test_a_typed_number_is_an_id_in_plain_digits(given, lands):
    assert landed("charges", charge_id=given)[0]["charge_id"] == lands


def test_typed_numbers_are_true_and_false():
    for given, value in ((Decimal("0E-7"), False), (Decimal(1), True)):
        assert landed("integration_calls", succeeded=pa.array([given], pa.decimal128(20, 7)))[0]["succeeded"] is value
    assert landed("integration_calls", succeeded=pa.array([1.0]))[0]["succeeded"] is True
    assert landed("events", consent=pa.array([None], pa.float64()))[0]["consent"] is None
    assert landed("integration_calls", succeeded=pa.array([2.0]))[1] == ["succeeded: '2.0' is not true or false"]


def test_times_without_separators_are_iso_8601_too():
    for text in ("20250210T100000Z", "20250210T110000+0100", "20250210T110000.000+01:00"):
        assert landed("events", occurred_at=text)[0]["occurred_at"] == datetime(2025, 2, 10, 10, tzinfo=UTC)
    assert landed("fx_rates", rate_date="20250210")[0]["rate_date"] == date(2025, 2, 10)
    for text in ("20250210T100000", "20251310T100000Z", "20250210T10Z"):
        assert len(landed("events", occurred_at=text)[1]) == 1


# codes


@pytest.mark.parametrize("text", ["us", " US", "Us\n"])
def test_a_country_is_brought_to_upper_case(text):
    assert landed("accounts", country=text)[0]["country"] == "US"


@pytest.mark.parametrize("text", ["usd", " Usd "])
@pytest.mark.parametrize("entity", [name for name, e in entities().items() if "currency" in e.columns and name in ROWS])
def test_a_currency_is_brought_to_upper_case(entity, text):
    assert landed(entity, currency=text)[0]["currency"] == "USD"


@pytest.mark.parametrize("text", ["US Dollar", "XXX", "$", "UDS"])
def test_what_is_no_currency_goes_to_quarantine(text):
    assert landed("charges", currency=text)[1] == ["currency: no code of ISO 4217"]


@pytest.mark.parametrize("text", ["Germany", "DEU", "XX", "UK"])
def test_what_is_no_country_is_unknown_and_kept_sealed(text):
    row, reasons = landed("charges", country=text)
    assert (row["country"], reasons) == (None, [])
    assert unseal(json.loads(row["_extra"])["country"], "key") == text


def test_a_key_with_what_is_no_country_goes_to_quarantine():
    assert landed("market_size", country="Germany")[1] == ["country: no code of ISO 3166-1 alpha-2"]


def test_every_column_that_is_named_like_a_code_is_one():
    columns = [c for e in entities().values() for c in e.columns.values()]
    assert {c.name for c in columns if c.code} == {c.name for c in columns if c.name in CODES}
    assert all(c.code == c.name for c in columns if c.code)


# ranges


@pytest.mark.parametrize(
    ("entity", "given", "reason"),
    [
        ("subscriptions", {"interval_count": "0"}, "interval_count: '0' is less than 1"),
        ("subscriptions", {"discount_percent": "-20"}, "discount_percent: '-20' is less than 0"),
        ("subscriptions", {"discount_percent": "100.5"}, "discount_percent: '100.5' is more than 100"),
        ("subscriptions", {"discount_amount": "-1"}, "discount_amount: '-1' is less than 0"),
        ("subscriptions", {"quantity": "-1"}, "quantity: '-1' is less than 0"),
        ("subscriptions", {"unit_amount": "-1"}, "unit_amount: '-1' is less than 0"),
        ("package_purchases", {"sessions_total": "0"}, "sessions_total: '0' is less than 1"),
        ("fx_rates", {"rate_to_reporting": "0"}, "rate_to_reporting: '0' is not more than 0"),
        ("fx_rates", {"rate_to_reporting": "1e-13"}, "rate_to_reporting: '1e-13' is not more than 0"),
        ("market_size", {"addressable_accounts": "-1"}, "addressable_accounts: '-1' is less than 0"),
        ("survey_responses", {"score": "11"}, "score: not 0 to 10, whole, of survey nps"),
        ("survey_responses", {"score": "-1"}, "score: not 0 to 10, whole, of survey nps"),
        ("survey_responses", {"score": "8.5"}, "score: not 0 to 10, whole, of survey nps"),
        ("survey_responses", {"survey": "csat", "score": "0"}, "score: not 1 to 5, of survey csat"),
        ("survey_responses", {"survey": "help_center", "score": "6"}, "score: not 1 to 5, of survey help_center"),
    ],
)
def test_a_value_out_of_its_range_goes_to_quarantine(entity, given, reason):
    assert landed(entity, **given) == (None, [reason])


def test_values_at_the_ends_of_their_ranges_land():
    for survey, score in (("nps", "0"), ("nps", "10"), ("csat", "1"), ("csat", "4.5"), ("nps", None)):
        assert landed("survey_responses", survey=survey, score=score)[1] == []
    assert landed("subscriptions", discount_percent="100", quantity="0", unit_amount="0")[1] == []


def test_what_a_note_says_of_a_range_is_a_rule_of_the_contract():
    """A range that stands in a note alone is kept by nobody."""
    for entity in entities().values():
        for column in entity.columns.values():
            place, note = f"{entity.name}.{column.name}", column.note or ""
            allowed = {(low, high) for _, low, high in column.ranges} | {(column.min, column.max)}
            for low, high in re.findall(
                r"(\d+(?:\.\d+)?)\s*(?:\.\.|to|-)\s*(\d+(?:\.\d+)?)", re.sub(r"ISO [\d-]+", "", note)
            ):
                assert (float(low), float(high)) in allowed, place
            assert ("ISO 3166" in note) == (column.code == "country"), place
            assert ("ISO 4217" in note) == (column.code == "currency"), place
            assert ("whole" in note) == (bool(column.whole) or (column.type == "int" and "whole" in note)), place
            if column.ranges:
                by = entity.columns[column.by]
                assert {value for value, _, _ in column.ranges} == set(by.values), place
                assert set(column.whole) <= set(by.values), place
            if column.name.endswith("_percent"):
                assert (column.min, column.max) == (0, 100), place
            if column.name.endswith(("_rate", "confidence")):
                assert (column.min, column.max) == (0, 1), place
            if column.type in ("int", "decimal") and place != "creator_earnings.amount":
                # what is counted or measured is never negative; a creator's day may be, when money is taken back
                assert column.ranges or (column.min if column.above is None else column.above) is not None, place


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T15:59:60.5-08:00", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2025-02-28T24:00:00Z", datetime(2025, 3, 1, tzinfo=UTC)),
        ("2025-02-28 24:00+01:00", datetime(2025, 2, 28, 23, tzinfo=UTC)),
        ("20250228T240000Z", datetime(2025, 3, 1, tzinfo=UTC)),
        ("2025-01-05t10:00:00z", datetime(2025, 1, 5, 10, tzinfo=UTC)),
        ("2025-01-05T10:00:00,25Z", datetime(2025, 1, 5, 10, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_a_leap_second_the_end_of_a_day_small_letters_and_a_comma_are_iso_8601_too(text, moment):
    row, reasons = landed("charges", created_at=text)
    assert reasons == [] and row["created_at"] == moment


@pytest.mark.parametrize(
    "text",
    ["2025-01-05T24:00:01Z", "2025-01-05T10:30:60Z", "2025-01-05T23:59:61Z", "2025-02-29T24:00:00Z", "2025-01-05T25:00:00Z", "2025-01-05t10:00:00"],
)  # fmt: skip
def test_what_is_no_time_goes_to_quarantine(text):
    row, reasons = landed("charges", created_at=text)
    assert row is None and reasons[0].startswith(f"created_at: '{text}' is not a")


@pytest.mark.parametrize(
    ("entity", "column", "text", "lands"),
    [
        ("charges", "status", "SUCCEEDED", "succeeded"),
        ("charges", "status", " Failed ", "failed"),
        ("subscriptions", "billing_interval", "Month", "month"),
        ("survey_responses", "survey", "NPS", "nps"),
    ],
)
def test_a_word_of_a_fixed_set_is_that_word_in_any_case(entity, column, text, lands):
    row, reasons = landed(entity, **{column: text})
    assert reasons == [] and row[column] == lands
    row, reasons = landed(entity, **{column: f"{text.strip()}x"})
    assert row is None and f"{column}: '{text.strip()}x' is not one of" in reasons[0]


@pytest.mark.parametrize("document", ['{"id":"cus_1","email":"ada@example.com"}', '["a"]', "[]", "{}", '[{"id":1}]'])
def test_a_document_is_no_id(document):
    row, reasons = landed("charges", account_id=document)
    assert row is None and reasons == ["account_id: a JSON document where an id is expected"]
    nested = pa.array([json.loads(document)]) if document not in ("[]", "{}") else document
    assert landed("charges", account_id=nested)[1] == reasons


@pytest.mark.parametrize(
    "given", ["1.23457E+19", "1E+15", "1.2345678901234567e+19", pa.array([12345678901234567890.0])]
)
def test_an_id_that_has_lost_its_digits_goes_to_quarantine(given):
    assert landed("charges", charge_id=given)[1] == ["charge_id: an id that was made a number and has lost its digits"]


@pytest.mark.parametrize("given", ["1e10", "1e+x", "12E+10", "a1.5E+19"])
def test_an_id_that_looks_like_a_number_with_an_exponent_may_be_one(given):
    assert landed("charges", charge_id=given)[0]["charge_id"] == given


def test_a_duration_is_no_amount():
    amount = pa.array([timedelta(seconds=5)])
    assert landed("charges", amount=amount)[1] == ["amount: '0:00:05' is not a number"]
    assert landed("fx_rates", rate_to_reporting=amount)[1] == ["rate_to_reporting: '0:00:05' is not a number"]


@pytest.mark.parametrize("name", ["{3F2504E0-4F89-11D3-9A0C-0305E82C3301}", "[x]", "{}x"])
def test_an_id_in_brackets_is_an_id(name):
    row, reasons = landed("charges", account_id=name)
    assert reasons == [] and row["account_id"] == name
