"""Whether the name of a column or key says that personal data is in it: pure functions, for the languages and spellings of sources.

A name is read word by word (`userEmail`, `E-Mail 2`, `PHONE_NO`). Its last word decides what it is about: an `email` is personal,
an `email_count` is a number. Names in scripts without capitals and spaces are searched for the personal word itself.
"""

import re
import unicodedata
from functools import cache, lru_cache


def _split(words: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(words.split(separator))


# words that are personal in any place of a name, by kind
MAIL = (
    "mail emails email mails courriel correo correos epost eposta mejl usermail useremail emailaddr emailaddress mailaddress mailto kontaktmail "
    "contactmail contactemail"
)
PHONE = (
    "phone phones telephone telephones tel fax mobile cell cellphone mobilephone phonenumber telephonenumber faxnumber telefon telefone telefono "
    "telefonnummer telefonnumer handy handynummer mobilnummer mobil movil celular cellulare telemovel telefoon telefoonnummer komorkowy whatsapp msisdn "
    "userphone contactphone homephone workphone"
)
NAME = (
    "surname lastname firstname fullname middlename givenname familyname maidenname nickname username displayname realname loginname streetname "
    "birthname screenname ownername customername vorname nachname familienname geburtsname benutzername ansprechpartner prenom prenoms nom noms "
    "nombre nombres apellido apellidos cognome nome sobrenome apelido achternaam voornaam naam imie nazwisko fornamn efternamn namn soyad soyadi "
    "adiniz isim fname lname contact contacts kontakt cardholder"
)
PLACE = (
    "address addresses addr addrs streetaddress homeaddress mailingaddress street streets strasse hausnummer postcode postalcode zip zipcode plz "
    "postleitzahl anschrift adresse adressen adres adress direccion domicilio indirizzo endereco morada wohnort latitude longitude lat lng lon latlng "
    "latlon geo gps geolocation"
)
NUMBER = (
    "ip ips ipv ipaddr ipaddress ipaddresses clientip userip remoteip birth birthday birthdate birthdays geburtsdatum geburtstag naissance nacimiento "
    "nascita nascimento dob ssn passport passports iban ibans pan cvv cvc cpf dni nif pesel curp bsn imei imsi idfa gaid reisepass personalausweis "
    "sozialversicherungsnummer steuernummer kontonummer"
)
WORDS = frozenset(_split(" ".join((MAIL, PHONE, NAME, PLACE, NUMBER))))
# sequences of words that are personal only together
RUNS = tuple(
    _split(run)
    for run in _split(
        "e mail|e posta|e post|reply to|forwarded for|remote host|post code|postal code|house number|date of birth|social security|social insurance|"
        "national id|national number|identity number|identity card|id card|id number|tax id|tax number|driver license|drivers license|driver licence|"
        "driving licence|license plate|card number|card no|card num|card holder|credit card|cc number|cc num|cc no|bank account|account holder|"
        "account iban|national insurance|ni number|codice fiscale|mac address|place of birth|next of kin|nick name|street no",
        "|",
    )
)
# words before `name` that make it the name of a person
PEOPLE = frozenset(
    _split(
        "first last full middle given family maiden nick user display customer contact person personal legal billing shipping author owner employee "
        "recipient receiver holder patient guest assignee assigned reporter manager parent spouse husband wife partner child father mother to from login "
        "real client sender creator tutor student teacher member friend driver passenger buyer seller payer payee beneficiary signer signatory attendee "
        "participant visitor subscriber requester requestor approver reviewer staff doctor nurse candidate applicant guardian preferred previous former "
        "birth street sur screen complete caller callee coach learner pupil"
    )
)
# last words that make a name not personal: a count of addresses is no address
NEUTRAL = frozenset(
    _split(
        "enabled disabled count counts version type types kind kinds status state verified confirmed valid validity at on ms score rate rates ratio size "
        "length lag label labels brand level rank sold app form file files format template templates campaign sent opened clicked bounced "
        "bounces opens provider list lists quota limit preference preferences optin optout in out category flag total sum avg min max"
    )
)
# by script: words that a personal name contains, or is as a whole if a ^ is before the word
OTHER_SCRIPTS = _split(
    "фамили отчеств телефон почт адрес прізвищ імейл емейл ^имя ^фио ^імя ^ім_я ^имя_пользователя ^имя_клиента ^полное_имя дата_рождения паспорт "
    "επωνυμ τηλεφων διευθυνσ ονοματεπωνυμο ^ονομα ημερομηνια_γεννησ ηλεκτρονικο_ταχυδρομ "
    "氏名 名前 姓名 电话 電話 手机 手機 邮箱 郵箱 电邮 電郵 メール 住所 地址 身份证 身分證 携帯 ^姓 ^名 ^名字 生年月日 出生日期 郵便番号 邮编 "
    "이름 성명 전화 휴대폰 핸드폰 이메일 주소 생년월일 주민등록 "
    "^الاسم ^اسم الاسم_الكامل اسم_المستخدم اسم_العميل البريد هاتف جوال عنوان ^نام نام_خانوادگی تلفن ایمیل آدرس موبایل "
    "^שם ^שם_משפחה ^שם_פרטי ^שם_מלא טלפון כתובת דואל אימייל נייד "
    "^नाम पूरा_नाम उपनाम फोन ईमेल ^पता मोबाइल ^নাম ফোন ঠিকানা ইমেইল মোবাইল পুরো_নাম "
    "^ชื่อ ชื่อจริง ชื่อผู้ใช้ ชื่อลูกค้า นามสกุล โทรศัพท์ ที่อยู่ อีเมล มือถือ "
    "^სახელი გვარი ტელეფონ მისამართ ელფოსტა მეილ ^անուն ազգանուն հեռախոս հասցե էլփոստ "
    "^பெயர் தொலைபேசி முகவரி மின்னஞ்சல்"
)
# letters that are not a plain letter with an accent
PLAIN_LETTERS = str.maketrans("ıłøđ", "ilod")
# a personal name in Latin letters contains at least one of these; for a first search of many keys at once
STEMS = tuple(sorted({*WORDS, "name", *(run[-1] for run in RUNS)}))


# the cache is bounded, because a source may use values as keys
@lru_cache(20_000)
def is_personal_name(name: str) -> bool:
    """Whether a column's or key's name says that personal data is in it (`userEmail`, `E-Mail 2`, `ip4`, `Telefonnummer`, `氏名`)."""
    words = _split_name(name)
    if not words or words[-1] in NEUTRAL or words[0] in ("is", "has"):
        return False
    if not WORDS.isdisjoint(words) or any(_contains(words, run) for run in RUNS):
        return True
    if words[-1] in ("name", "names") and (len(words) == 1 or _is_of_people(words[:-1])):
        return True
    whole = "_".join(words)
    return not whole.isascii() and any(
        whole == stem if is_whole else stem in whole for stem, is_whole in _stems_of_other_scripts()
    )


def _is_of_people(words: list[str]) -> bool:
    # a display name may be a thing's
    return words[-1] in PEOPLE and (words[-1] != "display" or len(words) == 1 or words[-2] in PEOPLE)


def _split_name(name: str) -> list[str]:
    """A name's words in lower case, without accents and the numbers that count columns of a kind."""
    apart = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", str(name))
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", apart.translate(PLAIN_LETTERS)) if unicodedata.category(c)[0] != "M"
    )
    return [word for word in re.split(r"[\W\d_]+", plain.casefold()) if word]


def _contains(words: list[str], run: tuple[str, ...]) -> bool:
    return any(tuple(words[start : start + len(run)]) == run for start in range(len(words) - len(run) + 1))


@cache
def _stems_of_other_scripts() -> tuple[tuple[str, bool], ...]:
    return tuple(("_".join(_split_name(stem.removeprefix("^"))), stem.startswith("^")) for stem in OTHER_SCRIPTS)
