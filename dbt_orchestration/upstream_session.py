"""Sessions of dbt in UTC: what we need of dbt's private parts for that.

``tests/test_upstream_dbt.py`` holds the contract test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_UTC = frozenset({"utc", "uct", "gmt", "universal", "zulu"})


def keep_sessions_in_utc() -> None:
    """Make every session that dbt opens in this process a session in UTC.

    dbt writes the limits of batches in UTC, and a warehouse reads them, and cuts days, in the zone
    of the session. Each command registers its adapter before it connects. It fails, with a
    ``DbtBaseException``, where the profile wants another zone.
    """
    from dbt.adapters.factory import FACTORY

    register = FACTORY.register_adapter
    if getattr(register, "in_utc", False):
        return

    def register_in_utc(config: Any, *args: Any, **kwargs: Any) -> None:
        _set_utc(config, FACTORY)
        register(config, *args, **kwargs)

    register_in_utc.in_utc = True  # type: ignore[attr-defined]
    FACTORY.register_adapter = register_in_utc


def _set_utc(config: Any, factory: Any) -> None:
    credentials = config.credentials
    if credentials.type == "duckdb":
        kept: dict[str, Any] = {}
        for name, value in (credentials.settings or {}).items():
            _refuse_other_zone(config.target_name, name, value)
            kept |= {} if name.lower() == "timezone" else {name: value}
        for name, value in (credentials.config_options or {}).items():
            _refuse_other_zone(config.target_name, name, value)
        credentials.settings = {**kept, "TimeZone": "UTC"}
    elif credentials.type == "snowflake":
        manager = factory.get_adapter_class_by_name("snowflake").ConnectionManager
        if not getattr(manager.open, "in_utc", False):
            manager.open = classmethod(_open_in_utc(manager.open.__func__))


def _refuse_other_zone(target: str, name: str, zone: Any) -> None:
    from dbt_common.exceptions import DbtBaseException

    if name.lower() == "timezone" and str(zone).lower().removeprefix("etc/") not in _UTC:
        raise DbtBaseException(
            f"target {target} sets the time zone {zone} in profiles.yml: remove it, for runs are in"
            " UTC (docs/incremental.md)"
        )


def _open_in_utc(open_session: Callable[..., Any]) -> Callable[..., Any]:
    # A setting of the session wins over those of the user and the account.
    def open_in_utc(cls: Any, connection: Any) -> Any:
        was_open = connection.state == "open"
        connection = open_session(cls, connection)
        if not was_open:
            connection.handle.cursor().execute("alter session set timezone = 'UTC'")
        return connection

    open_in_utc.in_utc = True  # type: ignore[attr-defined]
    return open_in_utc
