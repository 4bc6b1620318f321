"""Dagster's webserver, behind a proxy with a login.

Dagster itself tells no run which person has started it. The proxy sends the name in a header, which
the environment variable ``DAGSTER_USER_HEADER`` names. A proxy that lets other web pages use a
person's session needs ``DAGSTER_OWN_PAGES=true``: then they are refused here. Where neither is set,
this is ``dagster-webserver``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster_webserver.app
from dagster_graphql.schema import create_schema
from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from graphene import Schema
from starlette.middleware import Middleware

from dbt_orchestration.ledger.run_tags import USER_TAG, shortened
from dbt_orchestration.own_pages import OwnPages

VARIABLE = "DAGSTER_USER_HEADER"
OWN_PAGES = "DAGSTER_OWN_PAGES"
Resolver = Callable[..., Any]
Tags = Sequence[Mapping[str, str]]

# The mutations that start runs. A backfill that is tried again keeps the tags that it had.
_LAUNCHES = (
    *("launchRun", "launchPipelineExecution", "launchMultipleRuns"),
    *("launchRunReexecution", "launchPipelineReexecution", "launchPartitionBackfill"),
)


class Webserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver, which tags what a person starts with the person's name."""

    def build_middleware(self) -> list[Middleware]:
        """Dagster's middleware; behind ``OwnPages``, if that is asked for.

        Raises:
            SystemExit: ``DAGSTER_OWN_PAGES`` says neither yes nor no; says so.
        """
        said = os.environ.get(OWN_PAGES, "false").strip().lower()
        if said not in {"true", "false"}:
            raise SystemExit(f"{OWN_PAGES} is {said!r}: write true or false")
        ours = [Middleware(OwnPages)] if said == "true" else []
        return [*ours, *super().build_middleware()]

    def build_graphql_schema(self) -> Schema:
        """Dagster's schema, whose mutations take the name from the header and from nobody else."""
        schema = create_schema()
        if header := os.environ.get(VARIABLE):
            fields = schema.graphql_schema.mutation_type.fields
            for name in _LAUNCHES:
                fields[name].resolve = _with_user(fields[name].resolve, header)
        return schema


def _with_user(resolve: Resolver, header: str) -> Resolver:
    def resolve_with_user(root: Any, info: Any, **arguments: Any) -> Any:
        user = info.context.source.headers.get(header, "").strip()
        for name, params in arguments.items():
            for each in params if isinstance(params, list) else [params]:
                if each is None:
                    continue
                if name == "backfillParams":
                    each["tags"] = _tags(each.get("tags"), user)
                elif name == "reexecutionParams":
                    each["extraTags"] = _tags(each.get("extraTags"), user)
                else:
                    metadata = each.get("executionMetadata") or {}
                    tags = _tags(metadata.get("tags"), user)
                    each["executionMetadata"] = {**metadata, "tags": tags}
        return resolve(root, info, **arguments)

    return resolve_with_user


def _tags(stated: Tags | None, user: str) -> Tags:
    """Without what the browser says of who it is, also of the run that is executed again."""
    others = [tag for tag in stated or () if tag["key"] != USER_TAG]
    return [*others, {"key": USER_TAG, "value": shortened(user)}] if user else others


if __name__ == "__main__":
    vars(dagster_webserver.app).update(DagsterWebserver=Webserver)
    main()  # type: ignore[no-untyped-call]
