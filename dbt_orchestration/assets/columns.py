"""The columns of nodes as Dagster's UI shows them: type, description, tests, and origin.

The UI reads them from an asset's last materialization, or else from its definition. Definitions are
in the snapshot that webserver and daemon load, which every column would make several times as
large: so only sources, which nobody materializes, have them there.

Dagster's open-source UI does not draw column lineage. It shows descriptions as Markdown: there each
column links to the assets that it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg

SCHEMA, LINEAGE = "dagster/column_schema", "dagster/column_lineage"
# The UI shows no type that is called like this.
_UNKNOWN = "?"
_NAMED = 5
_NOT_NULL, _UNIQUE, _KEY = "not_null", "unique", "primary_key"
# What dbt gives to a generic test besides what makes it this one.
_OF_DBT = frozenset({"model", "column_name"})

Types = Mapping[str, str]


class Columns:
    """What is known of the columns of a manifest's nodes and sources.

    Args:
        manifest: dbt's manifest.json.
        lineage: for each node, column to the columns it is made of, as [unique id, column] pairs.
        keys: asset keys by unique id.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        lineage: Mapping[str, Mapping[str, Sequence[Sequence[str]]]],
        keys: Mapping[str, dg.AssetKey],
    ) -> None:
        self._every = {**manifest["nodes"], **manifest["sources"]}
        self._lineage = lineage
        self._keys = keys
        self._tests = _by_column(manifest)

    def metadata(
        self, unique_id: str, types: Types | None = None
    ) -> Mapping[str, dg.MetadataValue[Any]]:
        """An asset's metadata that says which columns it has, and what they are made of.

        Args:
            types: the type of each column in the warehouse, where that is known, by its name in
                lower case.
        """
        found: dict[str, dg.MetadataValue[Any]] = {}
        if columns := list(self._columns(unique_id, types or {})):
            others = dg.TableConstraints(other=list(self._of_table(unique_id)))
            schema = dg.TableSchema(columns=columns, constraints=others)
            found[SCHEMA] = dg.MetadataValue.table_schema(schema)
        if lineage := self._lineage.get(unique_id):
            deps = {
                name.lower(): [
                    dg.TableColumnDep(self._keys[parent], column.lower())
                    for parent, column in origins
                    if parent in self._keys
                ]
                for name, origins in lineage.items()
            }
            found[LINEAGE] = dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps))
        return found

    def _columns(self, unique_id: str, types: Types) -> Iterator[dg.TableColumn]:
        said = {n.lower(): c for n, c in (self._every[unique_id].get("columns") or {}).items()}
        made = {n.lower(): o for n, o in self._lineage.get(unique_id, {}).items()}
        for name in dict.fromkeys([*made, *types]) or said:
            about = said.get(name, {})
            rules = [*self._contract(unique_id, about), *self._tests.get((unique_id, name), ())]
            yield dg.TableColumn(
                name,
                type=types.get(name) or about.get("data_type") or _UNKNOWN,
                description="\n\n".join(
                    filter(None, (about.get("description"), self._made_of(made.get(name, ()))))
                )
                or None,
                constraints=dg.TableColumnConstraints(
                    nullable=not {_NOT_NULL, _KEY} & set(rules),
                    unique=bool({_UNIQUE, _KEY} & set(rules)),
                    other=[
                        rule for rule in dict.fromkeys(rules) if rule not in (_NOT_NULL, _UNIQUE)
                    ],
                ),
            )

    def _made_of(self, origins: Sequence[Sequence[str]]) -> str:
        """The assets and columns that a column is made of, with links, in Markdown."""
        parents: dict[str, list[str]] = {}
        for parent, column in origins:
            if parent in self._keys:
                parents.setdefault(parent, []).append(column.lower())
        named = [
            f"[{self._keys[u].path[-1]}]({asset_page(self._keys[u])})"
            f" {_listed([f'`{column}`' for column in columns])}"
            for u, columns in parents.items()
        ]
        return f"from {_listed(named)}" if named else ""

    def _contract(self, unique_id: str, column: Mapping[str, Any]) -> Iterator[str]:
        if self._is_enforced(unique_id):
            yield from map(_constraint, column.get("constraints") or ())

    def _of_table(self, unique_id: str) -> Iterator[str]:
        """What holds for several columns together."""
        if self._is_enforced(unique_id):
            for each in self._every[unique_id].get("constraints") or ():
                said = _constraint(each)
                yield f"{said}: {', '.join(each['columns'])}" if each.get("columns") else said
        yield from self._tests.get((unique_id, ""), ())

    def _is_enforced(self, unique_id: str) -> bool:
        config = self._every[unique_id].get("config") or {}
        return bool((config.get("contract") or {}).get("enforced"))


def asset_page(key: dg.AssetKey) -> str:
    """The path of an asset's page in Dagster's UI."""
    return "/assets/" + "/".join(quote(part, safe="") for part in key.path)


def _by_column(manifest: Mapping[str, Any]) -> Mapping[tuple[str, str], Sequence[str]]:
    """What generic tests say, by the node and the column that they test; "" if it is no column."""
    found: dict[tuple[str, str], list[str]] = {}
    for test in manifest["nodes"].values():
        if test["resource_type"] != "test" or not test.get("test_metadata"):
            continue
        node = test.get("attached_node") or next(iter(test["depends_on"]["nodes"]), "")
        found.setdefault((node, (test.get("column_name") or "").lower()), []).append(_test(test))
    return found


def _test(test: Mapping[str, Any]) -> str:
    """What a generic test asks for. Its mere name is what it asks of all rows, as an error."""
    about, config = test["test_metadata"], test["config"]
    name = ".".join(filter(None, (about.get("namespace"), about["name"])))
    given = [v for k, v in (about.get("kwargs") or {}).items() if k not in _OF_DBT]
    values = [v for each in given for v in (each if isinstance(each, list) else [each])]
    values = [v for v in values if not isinstance(v, bool)]
    name = f"{name}: {', '.join(map(str, values))}" if values else name
    name = f"{name} where {config['where']}" if config.get("where") else name
    return f"{name} (warns)" if config.get("severity", "error").lower() == "warn" else name


def _constraint(said: Mapping[str, Any]) -> str:
    return f"{said['type']}: {said['expression']}" if said.get("expression") else str(said["type"])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
