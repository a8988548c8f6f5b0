"""How much a column of a file looks like one of the contract, by its name and by its values."""

import re
import unicodedata
from collections.abc import Sequence

from northstar.contract import Column, Entity

# words that mean the same; the first of each line is the contract's
SAME = [
    "account konto kunde kunden customer client user member buyer requester contact person cust subscriber",
    "amount price total value sum gross revenue paid betrag preis summe net cost brutto netto",
    "created erstellt angelegt registriert eroeffnet date datetime timestamp opened started when registered placed signup booked ordered since datum zeit time",
    "updated geaendert modified changed last edited",
    "id nummer ref reference number no nr key uuid guid identifier code",
    "country land nation pays pais",
    "currency ccy cur waehrung",
    "status state stage",
    "email mail",
    "reason why cause",
    "charge zahlung zahlungen bestellung bestellungen rechnung rechnungen beleg payment order invoice transaction sale purchase",
    "refund erstattung erstattungen gutschrift gutschriften return creditnote",
    "ticket case issue",
    "event ereignis ereignisse aktion action activity",
    "name bezeichnung title label",
    "channel kanal via medium source",
    "quantity menge anzahl qty count units seats",
    "interval frequency cycle period",
    "priority prioritaet dringlichkeit urgency severity",
    "occurred happened logged",
    "plan tarif product package tier sku",
    "subscription vertrag vertraege abo abos abonnement abonnements contract contracts",
    "kind type",
    "score rating stars",
    "session visit",
    "anonymous visitor device distinct",
    "full fullname",
    "canceled cancelled ended",
]
CANONICAL = {word: line.split()[0] for line in SAME for word in line.split()}
# words that add nothing to a name
EMPTY = {"at", "on", "of", "the", "utc", "is", "has", "my", "am"}
PHRASES = {
    "firstseen": "created",
    "signedup": "created",
    "joined": "created",
    "lastupdate": "updated",
    "lastseen": "updated",
    "e mail": "email",
    "kundennummer": "kunden nummer",
    "kundennr": "kunden nummer",
    "beginn": "valid from",
    "ende": "valid to",
}
# values of allowed sets that mean the same; the keys are the contract's
MEANINGS = {
    "succeeded": "refunded partially_refunded paid success successful completed complete ok captured settled done approved bezahlt",
    "failed": "failure declined error rejected refused fehlgeschlagen abgelehnt",
    "pending": "open processing waiting in_progress uncaptured awaiting offen",
    "canceled": "cancelled void voided ended expired terminated",
    "active": "live current",
    "trialing": "trial in_trial",
    "past_due": "overdue",
    "solved": "resolved done fixed completed",
    "open": "in_progress to_do todo",
    "closed": "archived",
    "on_hold": "hold",
    "urgent": "dringend critical p1 highest blocker",
    "high": "hoch p2 major",
    "normal": "mittel medium p3 moderate standard",
    "low": "niedrig gering p4 minor lowest",
    "month": "monthly months m",
    "year": "yearly annual annually years y",
    "week": "weekly weeks w",
    "day": "daily days d",
    "customer": "client buyer",
    "user": "member",
    "organic": "organisch organic_search seo",
    "paid_search": "anzeige anzeigen sem cpc adwords google_ads ppc",
    "paid_social": "facebook instagram linkedin facebook_ads",
    "referral": "empfehlung referrals",
    "other": "unknown",
    "error": "err exception",
    "warning": "warn",
    "fatal": "critical",
    "mobile_app": "ios android mobile app",
    "web": "website browser",
}  # fmt: skip
# letters with two dots are written out in the words above; every other accent is left off
WRITTEN_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
BOOLEANS = {"true", "false", "yes", "no", "y", "n", "t", "f", "0", "1"}


def _plain(text: str) -> str:
    """A text in small letters without accents."""
    written_out = unicodedata.normalize("NFC", text).lower().translate(WRITTEN_OUT)
    return "".join(c for c in unicodedata.normalize("NFD", written_out) if not unicodedata.combining(c))


def words(name: str) -> frozenset[str]:
    """The words of a name, each in the contract's own form."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    plain = re.sub(r"[^a-z0-9]+", " ", _plain(spaced)).strip()
    plain = PHRASES.get(plain.replace(" ", ""), PHRASES.get(plain, plain))
    found = set()
    for word in plain.split():
        single = word if word in CANONICAL else word[:-1] if word.endswith("s") and len(word) > 3 else word
        if single not in EMPTY:
            found.add(CANONICAL.get(single, single))
    # the date of a change is no date of creation
    return frozenset(found - {"created"} if "updated" in found else found)


def likeness(name: str, column: Column, entity: Entity) -> float:
    """How much a name is like a contract column's, from 0 to 1."""
    own, wanted = words(name), words(column.name)
    if not own or not wanted:
        return 0.0
    if own == wanted:
        return 1.0
    about = words(entity.name)
    # `Ref` in a file of tickets is the ticket's, and so is `Ticket` alone
    if column.name == entity.key[0] and len(entity.key) == 1 and wanted - own <= about | {"id"} and own <= wanted | {"id"}:  # fmt: skip
        return 0.9
    # a time that says no more is when an event happened
    if own == {"created"} and wanted == {"occurred"}:
        return 0.8
    if wanted - own == {"id"} and own <= wanted:
        return 0.8
    shared = own & wanted
    return 0.7 * len(shared) / len(own | wanted) if shared else 0.0


def meant(value: str, allowed: Sequence[str]) -> str | None:
    """The allowed value that a text means; None where it means none, or no single one."""
    plain = re.sub(r"[^a-z0-9]+", "_", _plain(value)).strip("_")
    if plain in allowed:
        return plain
    found = {one for one in allowed if plain in MEANINGS.get(one, "").split()}
    return found.pop() if len(found) == 1 else None
