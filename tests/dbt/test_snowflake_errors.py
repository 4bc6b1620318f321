"""What is said of Snowflake's refusals: the connector's errors, as it makes and dbt wraps them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dbt.adapters.snowflake.auth import private_key_from_string
from snowflake.connector import errors
from snowflake.connector.errorcode import ER_FAILED_TO_CONNECT_TO_DB, ER_HTTP_GENERAL_ERROR
from snowflake.connector.network import CREDENTIAL_REJECTION_GS_CODES

from dbt_orchestration.dbt.snowflake_errors import in_one_line

LOGIN = {
    "account": "acme-prod",
    "host": "acme-prod.snowflakecomputing.com",
    "user": "SVC_DAGSTER",
    "role": "TRANSFORMER",
    "warehouse": "TRANSFORMING",
}
HOST = "acme-prod.snowflakecomputing.com:443"


def refused(message: str, errno: int, state: str = "08001") -> errors.Error:
    """A login that is refused, as ``auth/_auth.py`` has it."""
    said = f"Failed to connect to DB: {HOST}. {message}"
    return errors.DatabaseError(said, errno=errno, sqlstate=state)


def of_sql(message: str, errno: int, state: str) -> errors.Error:
    return errors.ProgrammingError(message, errno=errno, sqlstate=state)


CASES: list[tuple[errors.Error, str]] = [
    (
        errors.OperationalError(
            "Could not connect to Snowflake backend after 3 attempt(s).Aborting",
            errno=ER_FAILED_TO_CONNECT_TO_DB,
        ),
        "Could not connect to Snowflake backend after 3 attempt(s).Aborting (250001, host"
        " acme-prod.snowflakecomputing.com): check account in profiles.yml, and",
    ),
    (
        errors.OperationalError(
            f"404 Not Found: post {HOST}/session/v1/login-request",
            errno=ER_HTTP_GENERAL_ERROR + 404,
            sqlstate="08001",
        ),
        f"404 Not Found: post {HOST}/session/v1/login-request (290404, host"
        " acme-prod.snowflakecomputing.com): correct the account",
    ),
    (
        errors.ForbiddenError(
            msg=f"Failed to connect to DB. Verify the account name is correct: {HOST}. None",
            errno=ER_FAILED_TO_CONNECT_TO_DB,
            sqlstate="08001",
        ),
        f"Verify the account name is correct: {HOST}. None (540001, host"
        " acme-prod.snowflakecomputing.com): correct the account",
    ),
    (
        refused("Incorrect username or password was specified.", 390100, "28000"),
        "Incorrect username or password was specified (390100, user SVC_DAGSTER, account"
        " acme-prod): correct user and password",
    ),
    # As connectors before 3 said it.
    (
        refused("Incorrect username or password was specified.", ER_FAILED_TO_CONNECT_TO_DB),
        "Incorrect username or password was specified (250001, user SVC_DAGSTER, account"
        " acme-prod): correct user and password",
    ),
    (
        refused("JWT token is invalid. [f0c5c2e5-8a4c-4cf2-a3ba-2b9b3f6e8c11]", 390144, "28000"),
        "JWT token is invalid (390144, user SVC_DAGSTER, account acme-prod): the user's"
        " RSA_PUBLIC_KEY or RSA_PUBLIC_KEY_2 must",
    ),
    (
        refused(
            "Role 'LOADER' specified in the connect string does not exist or not authorized."
            " Contact your local system administrator, or attempt to login with another role,"
            " e.g. PUBLIC.",
            390189,
        ),
        "Role 'LOADER' specified in the connect string does not exist or not authorized (390189,"
        " user SVC_DAGSTER): grant role TRANSFORMER to user SVC_DAGSTER",
    ),
    (
        refused(
            "Incoming request with IP/Token 203.0.113.7 is not allowed to access"
            " Snowflake. Contact your local security administrator.",
            390422,
        ),
        "Incoming request with IP/Token 203.0.113.7 is not allowed to access Snowflake (390422,"
        " user SVC_DAGSTER): have this address added",
    ),
    (
        refused("OAuth access token expired. [f0c5c2e5-8a4c-4cf2-a3ba-2b9b3f6e8c11]", 390318),
        "OAuth access token expired (390318, user SVC_DAGSTER): set a new token",
    ),
    (
        of_sql(
            "Warehouse 'TRANSFORMING' cannot be resumed because resource monitor 'MONTHLY' has"
            " exceeded its quota.",
            90073,
            "22000",
        ),
        "Warehouse 'TRANSFORMING' cannot be resumed because resource monitor 'MONTHLY' has exceeded"
        " its quota (090073): raise the monitor's CREDIT_QUOTA",
    ),
    (
        of_sql(
            "No active warehouse selected in the current session.  Select an active warehouse with"
            " the 'use warehouse' command.\n",
            606,
            "57P03",
        ),
        "No active warehouse selected in the current session. Select an active warehouse with the"
        " 'use warehouse' command (000606, warehouse TRANSFORMING, role TRANSFORMER): it is"
        " suspended",
    ),
    (
        of_sql(
            "SQL compilation error:\nObject does not exist, or operation cannot be performed.",
            2043,
            "02000",
        ),
        "Object does not exist, or operation cannot be performed (002043, role TRANSFORMER):"
        " correct the name",
    ),
    (
        of_sql(
            "SQL access control error:\nInsufficient privileges to operate on schema 'MARTS'",
            3001,
            "42501",
        ),
        "Insufficient privileges to operate on schema 'MARTS' (003001, role TRANSFORMER): grant"
        " that to the role",
    ),
    (
        of_sql(
            "SQL compilation error:\nObject 'RAW.NYC.FLIGHTS' does not exist or not authorized.",
            2003,
            "42S02",
        ),
        "Object 'RAW.NYC.FLIGHTS' does not exist or not authorized (002003, role TRANSFORMER): make"
        " it, correct its name, or grant",
    ),
    (
        of_sql(
            "Statement reached its statement or warehouse timeout of 3600 second(s) and was"
            " canceled.",
            630,
            "57014",
        ),
        "Statement reached its statement or warehouse timeout of 3600 second(s) and was canceled"
        " (000630, warehouse TRANSFORMING): raise STATEMENT_TIMEOUT_IN_SECONDS",
    ),
]


@pytest.mark.parametrize(("error", "line"), CASES, ids=[line[:30] for _, line in CASES])
def test_an_error_of_the_connector_is_one_line_that_says_what_to_do(
    error: errors.Error, line: str
) -> None:
    wrapped = f"Database Error in model fct_flights (models/fct_flights.sql)\n  {error}\n"
    with_path = f"{wrapped}  compiled code at target/run/flights/models/fct_flights.sql"
    for message in (str(error), wrapped, with_path):
        said = in_one_line(message, LOGIN)
        assert said.startswith(line)
        assert len(said.splitlines()) == 1
        assert len(said) <= 300
    assert in_one_line(wrapped, {}) == ""


def test_every_rejection_of_a_credential_that_the_connector_knows_is_known() -> None:
    for code in CREDENTIAL_REJECTION_GS_CODES:
        assert f"({code}, user SVC_DAGSTER" in in_one_line(str(refused("No.", int(code))), LOGIN)


def test_what_is_wrong_with_sql_is_left_as_it_is() -> None:
    error = of_sql("SQL compilation error: error line 3\ninvalid identifier 'MFA'", 904, "42000")
    assert in_one_line(str(error), LOGIN) == ""


@pytest.mark.parametrize("wrong", ["passphrase", "no passphrase", "no key", "one line"])
def test_a_private_key_that_cannot_be_read(wrong: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encrypted = serialization.BestAvailableEncryption(b"right")
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
    ).decode()
    assert private_key_from_string(pem, "right").key_size == 2048
    read = {
        "passphrase": (pem, "wrong"),
        "no passphrase": (pem, None),
        "no key": ("AAAA", None),
        "one line": (pem.replace("\n", "\\n"), "right"),
    }
    with pytest.raises((ValueError, TypeError)) as caught:
        private_key_from_string(*read[wrong])
    said = in_one_line(f"Database Error\n  {caught.value}", LOGIN)
    assert "(user SVC_DAGSTER): private_key must be a PKCS#8 key" in said
