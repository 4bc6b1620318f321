"""Ask the warehouse of an environment which relations are there, one metadata query a schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dbt_orchestration.dbt.internals import adapters, sessions
from dbt_orchestration.dbt.invocation import DbtError, DbtTarget
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.revisions.explanation import BEHIND, read_explanations
from dbt_orchestration.settings.models import Settings

# Database, schema, name and type.
Relation = tuple[str, str, str, str]

_TABLES = frozenset({"table", "incremental", "seed", "snapshot"})
# dbt's own materializations, of which is known that they leave a relation of the node's name.
_SURE = _TABLES | {"view", "materialized_view", "dynamic_table", "external"}


@dataclass(frozen=True)
class Seen:
    """What was seen of a node.

    Attributes:
        there: its relation is in the warehouse.
        sure: a build of it leaves a relation there, as far as can be told from its code.
    """

    there: bool
    sure: bool


def look(
    target: DbtTarget,
    revision: Revision,
    nodes: Collection[str],
    manifest: Any,
    scratch: str,
) -> Mapping[str, Seen]:
    """Ask the warehouse of a run for these nodes and sources, by unique id.

    Args:
        manifest: dbt's own.

    Raises:
        DbtError: the warehouse cannot be reached.
    """
    wanted = _relations(revision.manifest, nodes)
    duckdb = duckdb_credentials(target)
    if not wanted or (duckdb and duckdb.path == ":memory:"):
        return {}
    schemas = sorted({relation[:2] for relation in wanted.values()})
    found = operate(
        target,
        manifest,
        "relations",
        scratch,
        schemas=[{"database": database, "schema": schema} for database, schema in schemas],
    )
    return compare(revision.manifest, wanted, [tuple(row) for row in found])


def look_at_columns(
    target: DbtTarget,
    revision: Revision,
    nodes: Collection[str],
    manifest: Any,
    scratch: str,
) -> Mapping[str, Mapping[str, str]]:
    """The columns of these nodes' relations as they are: for each node type by name, in lower case.

    Args:
        manifest: dbt's own.

    Raises:
        DbtError: the warehouse cannot be reached, or does not say.
    """
    wanted = _relations(revision.manifest, nodes)
    names = ("database", "schema", "identifier")
    relations = [dict(zip(names, relation, strict=True)) for relation in wanted.values()]
    rows = operate(target, manifest, "column_types", scratch, relations=relations)
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for *relation, column, kind in rows:
        found.setdefault(_lower(relation), {})[column.lower()] = kind
    return {u: found[key] for u, each in wanted.items() if (key := _lower(each)) in found}


def look_without_waiting(
    target: DbtTarget, revision: Revision, nodes: Collection[str], scratch: str
) -> Mapping[str, Seen]:
    """The same outside of a run; empty if a DuckDB file is in use, or cannot be told from here.

    Raises:
        DbtError: as ``look``.
    """
    credentials = duckdb_credentials(target)
    if credentials and not urlparse(credentials.path).scheme:
        path = Path(credentials.path)
        if not path.is_absolute() or not path.parent.is_dir():
            return {}  # a run may be in another folder, and a disk may be away
        if not path.exists():
            # Nothing is in it; what is attached to it may be elsewhere.
            wanted = {} if credentials.attach else _relations(revision.manifest, nodes)
            return compare(revision.manifest, wanted, ())
        if not _opens(path):
            return {}
    manifest = sessions.load_manifest(revision.partial_parse_path)
    try:
        return look(target, revision, nodes, manifest, scratch)
    finally:
        adapters.close_duckdb()


def as_it_says(
    settings: Settings, environment: str, revision: Revision, recorded: Mapping[str, str]
) -> set[str]:
    """Nodes that were built as the revision has them, and so under the name that it gives them.

    Args:
        recorded: the fingerprints that they were built with, by unique id.
    """
    explained = read_explanations(settings, environment, revision.digest)
    same = {one for one, why in explained.items() if not why.due}
    now = revision.fingerprints
    return {
        u
        for u, fingerprint in recorded.items()
        if u not in now  # a source
        or fingerprint.partition(BEHIND)[0] == now.get(u)
        or (u, fingerprint) in same
    }


def compare(
    manifest: Mapping[str, Any],
    wanted: Mapping[str, tuple[str, str, str]],
    found: Collection[Relation],
) -> Mapping[str, Seen]:
    """What of ``wanted`` is among the relations that were found, and of the type that it has."""
    kinds = {_lower(relation[:3]): relation[3].lower() for relation in found}
    own = _own_materializations(manifest)
    seen: dict[str, Seen] = {}
    for unique_id, relation in wanted.items():
        kind = kinds.get(_lower(relation), "")
        node = manifest["nodes"].get(unique_id)
        materialized = node["config"]["materialized"] if node else "external"
        sure = materialized in _SURE - own
        other = (materialized == "view" and kind == "table") or (
            materialized in _TABLES and kind == "view"
        )
        seen[unique_id] = Seen(bool(kind) and not (sure and other), sure)
    return seen


def _relations(
    manifest: Mapping[str, Any], unique_ids: Collection[str]
) -> Mapping[str, tuple[str, str, str]]:
    every = {**manifest["nodes"], **manifest["sources"]}
    found: dict[str, tuple[str, str, str]] = {}
    for unique_id in unique_ids:
        if node := every.get(unique_id):
            name = node.get("alias") or node.get("identifier") or node["name"]
            found[unique_id] = node.get("database") or "", node["schema"], name
    return found


def _lower(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _own_materializations(manifest: Mapping[str, Any]) -> set[str]:
    """Materializations that the project, or a package, has made for itself."""
    of_dbt = {"dbt", f"dbt_{manifest['metadata']['adapter_type']}"}
    own = (
        macro["name"].removeprefix("materialization_")
        for macro in manifest["macros"].values()
        if macro["name"].startswith("materialization_") and macro["package_name"] not in of_dbt
    )
    return {name.rpartition("_")[0] for name in own}


def is_missing(target: DbtTarget) -> bool:
    """Whether the DuckDB file of a warehouse is not there yet; False of any other.

    Who asks a file that is not there makes an empty one.
    """
    path = _duckdb_file(target)
    return path is not None and not path.exists()


def is_in_use(target: DbtTarget) -> bool:
    """Whether another process has the DuckDB file of a warehouse open; False of any other."""
    path = _duckdb_file(target)
    return path is not None and path.exists() and not _opens(path)


def _duckdb_file(target: DbtTarget) -> Path | None:
    credentials = duckdb_credentials(target)
    path = Path(credentials.path) if credentials else Path()
    return path if path.is_absolute() else None


def _opens(path: Path) -> bool:
    import duckdb

    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error:
        return False
    return True


def duckdb_credentials(target: DbtTarget) -> Any | None:
    """dbt's credentials of a DuckDB warehouse; None of any other."""
    from dbt_common.exceptions import DbtBaseException

    try:
        credentials = target.credentials()
    except DbtBaseException as error:
        raise DbtError(f"profiles.yml: {error}") from None
    return credentials if credentials.type == "duckdb" else None
