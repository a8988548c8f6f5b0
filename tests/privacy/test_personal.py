"""What looks like personal data, and what does not."""

import time

import pytest

from northstar.contract import entities
from northstar.privacy.keys import chained_hash, keyed_hash, seal, unseal
from northstar.privacy.names import is_personal_name
from northstar.privacy.personal import is_personal, is_prose, redact
from northstar.privacy.subjects import PERSON_COLUMNS, THING_IDS


@pytest.mark.parametrize(
    "text",
    ["ada@example.org", "to ada.l+x@mail.example.org!", "198.51.100.7", "at 2001:db8::8a2e:370:7334", "+49 151 555 1234", "(555) 123-4567", "fe80::1:2:3"],
)  # fmt: skip
def test_this_looks_personal(text):
    assert is_personal(text) and is_personal(redact(text)) is False


@pytest.mark.parametrize(
    "text",
    ["2025-01-31 10:20:30", "2025-01-01T00:00:00+00:00", "12:30:45", "1.2.3", "std::vector", "@angular/core", "https://x.org/a?b=3",
     "8f14e45f-ceea-467f-a8f6-12ab34cd56ef", "42", "19.99", "pro_yearly"],
)  # fmt: skip
def test_this_does_not(text):
    assert not is_personal(text) and not is_prose(text) and redact(text) == text


@pytest.mark.parametrize(
    "name", ["userEmail", "E-Mail", "ip_address", "Phone Number", "zip", "customerName", "dateOfBirth"]
)
def test_a_name_says_what_is_in_it(name):
    assert is_personal_name(name)


@pytest.mark.parametrize(
    "name", ["shoe_size", "filename", "template", "plan_name", "feature", "latency_ms", "shipment", "hotel"]
)
def test_a_name_that_says_nothing_of_the_kind(name):
    assert not is_personal_name(name)


@pytest.mark.parametrize(
    "unit", ["a", "1", "12 ", "01 ", "a:", "1.", "a@", "%25", "&a=1", "DE12", "+1", "(030) ", "\\u0040", "\uff20", "\u0660", "QUJD", "8 (495) "]
)  # fmt: skip
def test_no_text_takes_long_to_look_through(unit):
    """Without bounds in the patterns a megabyte in one word takes hours."""
    started = time.process_time()
    redact(unit * (200_000 // len(unit)))
    assert time.process_time() - started < 5


def test_the_columns_of_the_contract_and_the_models_are_no_personal_names_but_those_that_are():
    columns = {c.name for e in entities().values() for c in e.columns.values()}
    assert {name for name in columns if is_personal_name(name)} == {
        "email",
        "requester_email",
        "full_name",
        "ip_address",
    }


def test_every_identifier_of_the_contract_is_known_as_a_persons_or_a_things():
    ids = {c for e in entities().values() for c in e.columns if c.endswith("_id")}
    assert ids <= PERSON_COLUMNS.keys() | THING_IDS, ids - PERSON_COLUMNS.keys() - THING_IDS
    assert ids >= THING_IDS and not THING_IDS & PERSON_COLUMNS.keys()


def test_a_hash_that_is_stored_can_be_brought_to_a_longer_ring_without_its_value():
    assert chained_hash(keyed_hash(" Ada@Example.org", "first"), ["second"]) == keyed_hash(
        "ada@example.org", "first,second"
    )


def test_hashes_are_hmac():
    import hmac

    for key in ("k", "long" * 40):
        assert keyed_hash("Ada", key) == hmac.new(key.encode(), b"ada", "sha256").hexdigest()


def test_who_writes_hashed_before_an_address_does_not_get_it_stored():
    assert "ada" not in keyed_hash("hashed:ada@example.org", "k")


def test_a_seal_opens_with_its_key_and_no_other():
    token = seal("Ada \ud800 Lovelace", "old")
    assert token == seal("Ada \ud800 Lovelace", "old") and unseal(token, "old,new") == "Ada \ud800 Lovelace"
    assert unseal(token, "new") is None


def test_a_seal_is_told_by_its_proof_in_one_spelling_and_whatever_looks_like_one_can_be_sealed():
    token = seal("Ada", "key")
    for text in (
        "sealed:",
        "sealed:AAAA",
        "sealed:ada@example.org",
        "sealed:\u00e4",
        token + "=",
        token + "\n",
        token.replace("sealed:", "sealed: "),
    ):
        assert unseal(text, "key") is None and unseal(seal(text, "key"), "key") == text
    assert unseal(seal(token, "key"), "key") == token
