"""Personal numbers and addresses, detected by their form and their check digits.

Text is full of numbers, and masking a price as a telephone number is damage. So each kind has to
pass a proof:

    resident-number  a calendar date and the check digit, which numbers since October 2020 lack
    card-number      a prefix that is issued, and the check digit (Luhn; ISO/IEC 7812-1, annex B)
    phone-number     a prefix that exists in Korea; without separators only mobile numbers
    account-number   10 to 14 digits after the name of a bank or the word 계좌; banks differ in form
    email            a name, @ and a domain with a dot
"""

import datetime
import re

__all__ = [
    "ACCOUNT",
    "CARD",
    "EMAIL",
    "LONG_NUMBER",
    "PHONE",
    "RESIDENT",
    "is_account",
    "is_card",
    "is_resident",
]

# The prefilter: no number below is shorter.
LONG_NUMBER = re.compile("[0-9][0-9 .)-]{8,}[0-9]")

RESIDENT = re.compile(
    "(?<![0-9-])([0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(?: ?- ?)?([1-8])([0-9]{6})"
    "(?![0-9]|-[0-9])"
)
_WITHOUT_CHECK_DIGIT = datetime.date(2020, 10, 1)
_RESIDENT_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)

CARD = re.compile(
    r"(?<![0-9-])(?:[0-9]{4}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|3[47][0-9]{2}([ -]?)[0-9]{6}\2[0-9]{5})"
    "(?![0-9]|-[0-9])"
)
# Visa; Mastercard; American Express; JCB, Diners; Discover, UnionPay; the Korean issuers' own.
_CARD_PREFIX = re.compile("4|5[1-5]|2[2-7]|3[4-7]|6[0245]|9[0-9]")

PHONE = re.compile(
    "(?<![0-9A-Za-z_.,-])(?![01]{11})(?:"  # a number of base 2 is nobody's
    r"(?:\+?82[ -]?(?:\(0\))?|0)1"
    r"(?:0[-. ]?[0-9]{4}[-. ]?[0-9]{4}|[16-9][-. ][2-9][0-9]{2,3}[-. ][0-9]{4})"
    r"|\(?0(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[2-8])(?:\) ?| ?- ?)[1-9][0-9]{2,3} ?- ?[0-9]{4}"
    ")(?![0-9]|[.,-][0-9])"
)

ACCOUNT = re.compile(
    "((?:계좌(?:번호)?|[가-힣A-Za-z]{1,6}(?:은행|뱅크)|농협|수협|신협|새마을금고|우체국)[^0-9\n]{0,20})"
    "([0-9]{2,6}(?:-[0-9]{1,8}){1,3}|[0-9]{10,14})(?![0-9]|[.,-][0-9])"
)
_DATE = re.compile("(?:19|20)[0-9]{2}-[0-9]{1,2}-[0-9]{1,2}")

EMAIL = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    "[A-Za-z]{2,18}(?![A-Za-z0-9@])"
)


def is_resident(match: re.Match[str]) -> bool:
    """Whether a match of RESIDENT is a resident or foreigner registration number.

    The seventh digit encodes the century (1, 2, 5, 6: 1900s; 3, 4, 7, 8: 2000s) and whether it is a
    foreigner's (5 to 8).
    """
    kind = int(match[4])
    try:
        year = (1900 if kind in (1, 2, 5, 6) else 2000) + int(match[1])
        born = datetime.date(year, int(match[2]), int(match[3]))
    except ValueError:
        return False
    digits = [int(digit) for digit in "".join(match.groups())]
    total = sum(weight * digit for weight, digit in zip(_RESIDENT_WEIGHTS, digits, strict=False))
    if digits[-1] == ((13 if kind >= 5 else 11) - total % 11) % 10:
        return True
    return "-" in match[0] and _WITHOUT_CHECK_DIGIT <= born < datetime.date(2040, 1, 1)


def is_card(match: re.Match[str]) -> bool:
    """Whether a match of CARD is a card number."""
    digits = [int(digit) for digit in match[0] if digit.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return total % 10 == 0 and _CARD_PREFIX.match(match[0]) is not None


def is_account(match: re.Match[str]) -> bool:
    """Whether a match of ACCOUNT has the digits of an account and does not begin with a date."""
    digits = sum(character.isdigit() for character in match[2])
    return 10 <= digits <= 14 and _DATE.match(match[2]) is None
