"""What Snowflake refuses whatever the SQL is: logins, roles, warehouses, quotas.

The numbers are Snowflake's and those of snowflake-connector-python (``errorcode.py``,
``network.py``). Older connectors say 250001 of every login that is refused: then the words tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NUMBER = re.compile(r"\b(\d{6})(?: \((\w{5})\))?: ")
# What stands before and behind the sentence that says something.
_BEFORE = re.compile(
    r"^(?:None: |SQL (?:compilation|access control|execution) error: "
    r"|Failed to connect to DB(?:: \S+|)\. )+"
)
_BEHIND = re.compile(r"\s*\[[0-9a-f-]+\]|\s*(?:compiled code at|Contact your local) .*$")
# Characters of what Snowflake says: what to do has to fit in the same line.
_MOST_SAID = 120


@dataclass(frozen=True)
class _Refusal:
    """An error that is always answered in the same way.

    Attributes:
        numbers: of Snowflake or the connector, as they write them.
        words: a pattern; whatever the number, these words mean it.
        where: of the profile, what else it is about.
        remedy: what to do; may name the user, the role, the warehouse, the account and the host.
    """

    numbers: str
    words: str
    where: str
    remedy: str


# The first that fits counts: a login is refused under 250001 for many reasons.
_REFUSALS = (
    _Refusal(
        "090073",
        r"resource monitor .* has exceeded its quota",
        "",
        "raise the monitor's CREDIT_QUOTA, give the warehouse another monitor, or wait for the"
        " next interval",
    ),
    _Refusal(
        "000666",
        r"virtual warehouses have been suspended",
        "account {account}",
        "have an administrator pay: Snowsight, Admin, Billing",
    ),
    _Refusal(
        "000606",
        r"No active warehouse selected",
        "warehouse {warehouse}, role {role}",
        "it is suspended (set AUTO_RESUME = TRUE), is not there, or the role lacks USAGE on it",
    ),
    _Refusal(
        "002043",
        r"does not exist, or operation cannot be performed",
        "role {role}",
        "correct the name (in profiles.yml, snowflake_warehouse or backfill_warehouse), or grant"
        " the role USAGE on it",
    ),
    _Refusal(
        "390186 390189",
        r"Role .* specified in the connect string",
        "user {user}",
        "grant role {role} to user {user}, or set another role in profiles.yml",
    ),
    _Refusal(
        "003001",
        r"Insufficient privileges",
        "role {role}",
        "grant that to the role, or set another role in profiles.yml",
    ),
    _Refusal(
        "090105",
        r"does not have a current database",
        "role {role}",
        "grant the role USAGE on the database, or correct its name in profiles.yml",
    ),
    _Refusal(
        "002003",
        r"does not exist or not authorized",
        "role {role}",
        "make it, correct its name, or grant the role USAGE on its database and schema, and what it"
        " needs of the object",
    ),
    _Refusal(
        "390144 394300 394301 394302 394303 394304 394305 394306",
        r"JWT token (?:is|has)",
        "user {user}, account {account}",
        "the user's RSA_PUBLIC_KEY or RSA_PUBLIC_KEY_2 must belong to the private key of"
        " profiles.yml; check account and user, and this machine's clock",
    ),
    _Refusal(
        "390100",
        r"Incorrect username or password",
        "user {user}, account {account}",
        "correct user and password in profiles.yml; a service user needs a key pair",
    ),
    _Refusal(
        "390101 390102",
        r"User (?:access disabled|temporarily locked)|user account has been temporarily locked",
        "user {user}",
        "have an administrator set DISABLED = FALSE or MINS_TO_UNLOCK = 0 of the user",
    ),
    _Refusal(
        "390422",
        r"is not allowed to access Snowflake",
        "user {user}",
        "have this address added to the network policy of the user or the account, or go out"
        " through one that is in it",
    ),
    _Refusal(
        "390303 390318",
        r"OAuth access token|reauth with your auth provider",
        "user {user}",
        "set a new token; with oauth_client_id, oauth_client_secret and a refresh token in"
        " profiles.yml dbt gets one itself",
    ),
    _Refusal(
        "390112 390114 390195",
        r"(?:Authentication|ID) token (?:has expired|is invalid)",
        "user {user}",
        "run it again; if it happens in long runs, set client_session_keep_alive: true in"
        " profiles.yml",
    ),
    _Refusal(
        "",
        r"Failed to connect to DB.*(?:\bMFA\b|[Mm]ulti-factor)",
        "user {user}",
        "nobody answers a prompt here: make it a service user (TYPE = SERVICE) with a key pair",
    ),
    _Refusal(
        "250008 250009",
        r"Unable to open a browser",
        "user {user}",
        "externalbrowser is for laptops: use a key pair here",
    ),
    _Refusal(
        "251008",
        r"could not decrypt key|private key is (?:not )?encrypted|Could not deserialize key data"
        r"|Unable to load PEM file|no BEGIN/END delimiters for a private key",
        "user {user}",
        "private_key must be a PKCS#8 key, PEM with its line breaks, and private_key_passphrase its"
        " own; nothing for a key that is not encrypted",
    ),
    _Refusal(
        "290404 290403",
        r"Verify the account name is correct|404 Not Found: post",
        "host {host}",
        "correct the account in profiles.yml: organization-account, as Snowsight shows it",
    ),
    _Refusal(
        "000630",
        r"reached its statement or warehouse timeout",
        "warehouse {warehouse}",
        "raise STATEMENT_TIMEOUT_IN_SECONDS, take a bigger warehouse (snowflake_warehouse), or"
        " choose fewer partitions",
    ),
    _Refusal(
        "000604",
        r"SQL execution canceled",
        "warehouse {warehouse}",
        "somebody cancelled the query in Snowflake: run it again",
    ),
    _Refusal(
        "290429 290500 290502 290503 290504",
        r"Service is unavailable",
        "host {host}",
        "run it again later: https://status.snowflake.com",
    ),
    _Refusal(
        "250001 250003 250005 254004 254007",
        r"Could not connect to Snowflake backend",
        "host {host}",
        "check account in profiles.yml, and that this machine reaches the host: DNS, proxy,"
        " firewall",
    ),
)


def in_one_line(message: str, login: Mapping[str, str]) -> str:
    """What an error is, where, and what to do; "" if it is not one of Snowflake's that we know.

    Args:
        message: as dbt or the connector says it.
        login: who connects, of ``adapters.snowflake_login``; empty if it is not to Snowflake.
    """
    if not login:
        return ""
    flat = " ".join(message.split())
    numbered = _NUMBER.search(flat)
    number = numbered[1] if numbered else ""
    spoken = next((r for r in _REFUSALS if re.search(r.words, flat)), None)
    refusal = spoken or next((r for r in _REFUSALS if number and number in r.numbers), None)
    if refusal is None:
        return ""
    said = _BEHIND.sub("", _BEFORE.sub("", flat[numbered.end() :] if numbered else flat))
    place = refusal.where.format(**login)
    what = ", ".join(part for part in (number, place) if part)
    return f"{_cut(said)} ({what}): {refusal.remedy.format(**login)}"


def _cut(said: str) -> str:
    said = said.strip().rstrip(".")
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID].rstrip()}…"
