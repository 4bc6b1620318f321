"""docs/snowflake.md: each block renders with dbt's own code, and the connector takes the key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dbt.adapters.snowflake.connections import SnowflakeCredentials
from dbt.adapters.snowflake.impl import SnowflakeConfig
from snowflake.connector.auth.keypair import AuthByKeyPair

from dbt_orchestration.dbt.internals import sessions
from dbt_orchestration.dbt.snowflake_errors import in_one_line
from dbt_orchestration.settings.models import Environment
from tests.conftest import EVERY_NODE, REPOSITORY
from tests.dbt.test_snowflake_errors import LOGIN
from tests.test_docs import blocks

PAGES = [REPOSITORY / "docs" / name for name in ("snowflake.md", "snowflake.ko.md")]
TARGET = {
    "type": "snowflake",
    "account": "acme-prod",
    "user": "SVC_DAGSTER",
    "database": "FLIGHTS",
    "schema": "MARTS",
}
WAYS: list[dict[str, Any]] = [
    found
    for found in map(yaml.safe_load, blocks(PAGES[0], "yaml"))
    if found.keys() <= SnowflakeCredentials.__dataclass_fields__.keys()
]


def test_both_pages_have_the_same_blocks_and_tables() -> None:
    english, korean = (page.read_text() for page in PAGES)
    for language in ("yaml", "sql", "text"):
        same = [[line.strip() for line in "".join(blocks(p, language)).split("\n")] for p in PAGES]
        assert same[0] == same[1]
    for start in ("#", "|", "1.", "2.", "3.", "4."):
        first, second = (
            [line for line in page.splitlines() if line.startswith(start)]
            for page in (english, korean)
        )
        assert len(first) == len(second), start


def test_what_a_model_and_an_environment_may_say() -> None:
    said = [yaml.safe_load(block) for block in blocks(PAGES[0], "yaml")]
    configs = [model["config"] for each in said for model in each.get("models", ())]
    assert [config.popitem()[0] for config in configs] == ["snowflake_warehouse", "transient"]
    assert {"snowflake_warehouse", "transient"} <= SnowflakeConfig.__dataclass_fields__.keys()
    [environments] = [each["environments"] for each in said if "environments" in each]
    assert Environment.model_validate(environments["prod"]).backfill_warehouse == "REBUILDING"


def test_every_number_on_the_page_has_a_line() -> None:
    rows = re.findall(r"^\| .* \| ([\d ,to]+) \|$", PAGES[0].read_text(), re.MULTILINE)
    numbers = re.findall(r"\d{6}", " ".join(rows))
    assert len(numbers) > 20
    for number in numbers:
        assert f"({number}" in in_one_line(f"{number} (08001): Refused.", LOGIN), number


@pytest.mark.parametrize("way", WAYS, ids=lambda way: next(iter(way)))
def test_a_way_to_log_in_renders_and_an_encrypted_key_signs(
    way: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encrypted = serialization.BestAvailableEncryption(b"a passphrase")
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
    )
    (tmp_path / "key.p8").write_bytes(pem)
    monkeypatch.setenv("DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY", pem.decode())
    monkeypatch.setenv("DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", "a passphrase")
    monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_PATH", str(tmp_path / "key.p8"))
    for name in ("TOKEN", "OAUTH_CLIENT_SECRET"):
        monkeypatch.setenv(f"DBT_ENV_SECRET_SNOWFLAKE_{name}", name)
    monkeypatch.setenv("SNOWFLAKE_OAUTH_CLIENT_ID", "ours")
    profile = {"any": {"target": "prod", "outputs": {"prod": {**TARGET, **way}}}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profile))
    monkeypatch.setattr(SnowflakeCredentials, "_get_access_token", lambda self: self.token)

    credentials = sessions.load_credentials(EVERY_NODE, tmp_path, "any", "prod")
    arguments = credentials.auth_args()
    if authenticator := way.get("authenticator"):
        assert arguments["authenticator"] == authenticator
        assert arguments.get("token") == ("TOKEN" if "token" in way else None)
        return
    login = AuthByKeyPair(private_key=arguments["private_key"])
    token = login.prepare(account=credentials.account, user=credentials.user)
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"])
    fingerprint = AuthByKeyPair.calculate_public_key_fingerprint(key)
    assert claims["iss"] == f"ACME-PROD.SVC_DAGSTER.{fingerprint}"
