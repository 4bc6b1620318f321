"""Which settings of a target in profiles.yml decide what is built.

Two targets that differ only in what is listed here build the same. **A key that is not listed
counts**: the safe side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# What `target` in Jinja calls the names that relations have, which are compared themselves.
NAMES = frozenset({"database", "schema", "dbname", "catalog", "project", "dataset", "path"})
# How the warehouse is reached, and as whom; how fast; and the names, which relations have.
_ANY = frozenset(
    {
        *("type", "database", "schema", "threads", "account", "host", "hostname", "server"),
        *("port", "user", "username", "password", "role", "authenticator", "token", "method"),
        *("private_key", "private_key_path", "private_key_passphrase", "keyfile", "keyfile_json"),
        *("refresh_token", "client_id", "client_secret", "token_uri", "oauth_client_id"),
        *("oauth_client_secret", "auth_type", "http_path", "impersonate_service_account"),
        *("retries", "connect_retries", "connect_timeout", "login_timeout", "retry_all"),
        *("retry_on_database_errors", "job_retries", "keepalives_idle", "sslmode", "sslcert"),
        *("sslkey", "sslrootcert", "protocol", "proxy_host", "proxy_port", "insecure_mode"),
        *("client_session_keep_alive", "reuse_connections", "query_tag", "warehouse"),
    }
)
_OF_ADAPTER: Mapping[str, frozenset[str]] = {
    "duckdb": frozenset(
        {
            *("path", "disable_transactions", "keep_open", "filesystems", "secrets", "remote"),
            *("use_credential_provider", "motherduck_token", "flights", "is_ducklake"),
        }
    ),
    "snowflake": frozenset(
        {
            *("platform_detection_timeout_seconds", "s3_stage_vpce_dns_name"),
            *("workload_identity_provider", "workload_identity_entra_resource"),
        }
    ),
}
# Of settings within settings: how much of the machine may be used, credentials, and the time zone,
# which can be said to be UTC, as every run is anyway, and nothing else.
_NO_MATTER = re.compile(
    r"timezone|(max_)?memory_limit|max_memory|(external_|worker_)?threads|temp_directory|home_directory"
    r"|(max_)?temp_directory_size|.*progress_bar.*|(s3|azure|http|motherduck)_.*|.*_directory"
    r"|.*(password|secret|token|private_key|access_key).*",
    re.IGNORECASE,
)


def relevant_settings(adapter: str, target: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of a target, by key: ``settings.integer_division``, ``extensions``, ``attach``.

    Args:
        target: as in profiles.yml, rendered, with the usual names for aliases.
    """
    left_out = _ANY | _OF_ADAPTER.get(adapter, frozenset())
    named = {key: value for key, value in target.items() if key not in left_out}
    return dict(_flat(named, ""))


def _flat(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{above}{key}"
        if _NO_MATTER.fullmatch(str(key)):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value not in (None, [], ""):
            yield name, value
