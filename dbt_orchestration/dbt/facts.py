"""What is kept of a project besides its manifest: what else dbt knew when it parsed.

It stands in ``project.json``. What was rendered with environment variables counts by its value, so
the names of all variables that may have been read are among it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dbt_orchestration.changes.fingerprints import scheme
from dbt_orchestration.changes.profile import NAMES, relevant_settings
from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.dbt.clock import today
from dbt_orchestration.dbt.internals.sessions import SECRET, Session, seen_by_jinja
from dbt_orchestration.dbt.invocation import DbtTarget

Facts = Mapping[str, Any]

_ENV_VAR = re.compile(rb"""env_var\s*\(\s*['"]([^'"]+)['"]""")
# A call whose name is computed: when a node is built, it may read any name that stands somewhere.
_COMPUTED = re.compile(rb"""env_var\s*\(\s*(?:[^'"\s]|(['"])[^'"]*\1\s*[~+|%])""")
_QUOTED = re.compile(rb"""['"]([A-Z][A-Z0-9_]{2,})['"]""")
_PLAIN = re.compile(rb"[\s:,\[-]([A-Z][A-Z0-9_]{2,})(?=[\s,\]]|$)")
_SHELL = frozenset({"HOME", "HOSTNAME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "USER"})
# How to reach the warehouse decides nothing, and no trace of it may stand in a name.
_CREDENTIAL = re.compile(r"PASS|SECRET|TOKEN|PRIVATE_KEY", re.IGNORECASE)


def folders_of(project_dir: Path, facts: Mapping[str, Any]) -> dict[str, Path]:
    """Where the project and its installed packages lie, by name."""
    return {name: project_dir / path for name, path in facts["folders"].items()}


def read_facts(session: Session, target: DbtTarget, named: set[str]) -> dict[str, Any]:
    """What dbt knows of the project that it has parsed in ``session``.

    Args:
        named: as ``variables_named``.
    """
    database, schema = session.names
    adapter = session.manifest.metadata.adapter_type
    profile = relevant_settings(adapter, session.profile)
    # Besides what was read just now: what was when what has not changed was parsed, and whatever
    # may be read when a node is built.
    read = session.variables | set(session.manifest.env_vars) | named
    credentials = {name for name in session.profile_variables if _CREDENTIAL.search(name)}
    names = {name for name in read if not name.startswith(SECRET)}
    names -= credentials | target.variables.keys()
    connects = session.profile_variables - credentials
    return {
        "folders": {
            str(name): str(folder.relative_to(target.project_dir))
            if folder.is_relative_to(target.project_dir)
            else str(folder)
            for name, folder in session.folders.items()
        },
        "settings": _plain(session.settings),
        "database": database,
        "schema": schema,
        "jinja_target": digest_value(session.target),
        "target": {
            str(key): digest_value(value)
            for key, value in session.target.items()
            if key not in NAMES
        },
        "profile": {key: digest_value(value) for key, value in profile.items()},
        "variables": sorted(names),
        "profile_variables": sorted(connects - names - target.variables.keys()),
    }


def _plain(value: Any) -> Any:
    """The same for JSON, in which keys are strings."""
    if isinstance(value, Mapping):
        return {str(k) if isinstance(k, str) else f"({k!r})": _plain(v) for k, v in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def stamp_of(target: DbtTarget, facts: Mapping[str, Any]) -> str:
    """A digest of what decides a parse besides the project's files, as it is now.

    Args:
        facts: of the revision that was parsed.
    """
    day = today() if facts["clock"] else ""
    digest = hashlib.sha256()
    digest.update(digest_value(_without_credentials(_profiles(target))).encode())
    # The name of the DuckDB file is the name of its database; its folder is in no relation's name.
    duckdb = Path(target.variables.get("DBT_DUCKDB_PATH", "")).name
    digest.update(repr((*versions(), target.profile, target.target, duckdb, day)).encode())
    seen = seen_by_jinja(os.environ)
    for name in (*facts["variables"], *facts["profile_variables"]):
        digest.update(f"\0{name}={seen.get(name)}".encode())
    return digest.hexdigest()[:8]


def _profiles(target: DbtTarget) -> Any:
    try:
        return _plain(yaml.safe_load(profiles_of(target).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None  # dbt says what is wrong with it


def _without_credentials(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_credentials(v) for k, v in value.items() if not _CREDENTIAL.search(k)}
    return [_without_credentials(each) for each in value] if isinstance(value, list) else value


def versions() -> list[str]:
    """Of what makes a revision."""
    return [scheme(), version("dbt-core")]


def variables_named(files: Iterable[Path]) -> set[str]:
    """Names of environment variables that Jinja in these files may read, whenever it is rendered.

    Where a name is computed, those are all names in the files that could be one.
    """
    names, others, computed = set[bytes](), set[bytes](), False
    for path in files:
        content = path.read_bytes() if path.is_file() else b""
        names.update(_ENV_VAR.findall(content))
        others.update(_QUOTED.findall(content))
        others.update(_PLAIN.findall(content) if path.suffix in (".yml", ".yaml") else ())
        computed = computed or bool(_COMPUTED.search(content))
    found = {name.decode(errors="replace") for name in names}
    return found | ({name.decode() for name in others} - _SHELL if computed else set())


def profiles_of(target: DbtTarget) -> Path:
    return (target.profiles_dir or target.project_dir) / "profiles.yml"
