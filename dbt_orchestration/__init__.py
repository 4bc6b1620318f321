"""dbt in Dagster: every model an asset, every push builds what it can have changed. See README.md.

What a Dagster project imports is here. It is loaded when it is asked for: the change engine and the
command ``plan`` do without Dagster.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbt_orchestration.assets.translator import DefaultTranslator
    from dbt_orchestration.location.component import DbtEnvironmentComponent
    from dbt_orchestration.location.definitions import build_defs
    from dbt_orchestration.location.environment import Environment

__all__ = ["DbtEnvironmentComponent", "DefaultTranslator", "Environment", "build_defs"]
_MODULES = {
    "DbtEnvironmentComponent": "location.component",
    "DefaultTranslator": "assets.translator",
    "Environment": "location.environment",
    "build_defs": "location.definitions",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
