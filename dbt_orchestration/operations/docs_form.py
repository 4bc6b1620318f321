"""dbt's documentation of an environment, as one page in a folder that a web server can serve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field
from upath import UPath

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.operations.dbt_command import DOCS, DbtForm
from dbt_orchestration.operations.dbt_here import Here
from dbt_orchestration.operations.form import Answer, RefusedError, form_job
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.settings.models import Settings

# What dbt writes with `--static`: the page with all that it shows.
_PAGE, _INDEX = "static_index.html", "index.html"


class DocsForm(dg.Config):
    """What to write of the documentation."""

    catalog: bool = Field(
        default=True,
        description="Ask the warehouse which columns its tables have; else what the project says.",
    )


def docs_folder(settings: Settings, environment: str) -> UPath:
    """Where an environment's documentation is."""
    return UPath(settings.docs.folder or settings.state_dir / "docs") / environment


def docs_job(loaded: Loaded) -> dg.JobDefinition:
    """A job that writes it."""

    def answer(instance: dg.DagsterInstance, form: DocsForm) -> Answer:
        at = loaded.newest(instance)
        page, url = docs_folder(at.settings, at.name) / _INDEX, at.settings.docs.page_of(at.name)
        try:
            page.fs  # noqa: B018 (a bucket needs a package that speaks with it)
        except (ImportError, ValueError) as error:
            raise RefusedError(f"docs.folder: {page} cannot be written: {error}") from None
        options = ["--static", *([] if form.catalog else ["--empty-catalog"])]
        here = Here(at, at.revision, DbtForm(command=DOCS, arguments=options))
        commit = f" at {at.revision.commit.short}" if at.revision.commit else ""

        def write(context: dg.OpExecutionContext) -> Mapping[str, Any]:
            made = here.run(context).folder / _PAGE
            try:
                _put(made, page)
            except Exception as error:  # whatever the bucket's own package raises
                raise PlainFailure(f"docs.folder: {page} cannot be written: {error}") from error
            return {"docs": dg.MetadataValue.url(url) if url else dg.MetadataValue.path(str(page))}

        plan, why = f"`{here.command}`{commit}", f"writes dbt docs{commit}"
        return Answer(plan, why, f"It is {url or page}.", act=write)

    return form_job(
        loaded.name,
        "docs",
        DocsForm,
        answer,
        f"dbt docs of the newest commit that is loaded, as one page in"
        f" {docs_folder(loaded.settings, loaded.name)}.",
        op="docs_of",
        pool=loaded.settings.pool,
    )


def _put(made: Path, page: UPath) -> None:
    """Write the page so that whoever reads it meanwhile sees the old one, or all of the new."""
    if not isinstance(page, Path):
        page.write_bytes(made.read_bytes())
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    new = page.with_suffix(".new")
    shutil.copyfile(made, new)
    new.replace(page)
