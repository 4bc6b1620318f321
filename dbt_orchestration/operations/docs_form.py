"""dbt's documentation of an environment, as one page in a folder that a web server can serve."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field
from upath import UPath

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.ledger.pushes import about_commit
from dbt_orchestration.ledger.run_tags import TICKET_TAG, run_tags
from dbt_orchestration.operations.dbt_command import DOCS, DbtForm
from dbt_orchestration.operations.dbt_here import Here
from dbt_orchestration.operations.form import Answer, RefusedError, form_job
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.settings.models import Settings

# What dbt writes with `--static`: the page with all that it shows.
_PAGE, _INDEX = "static_index.html", "index.html"
# dbt has the button of its lineage graph in the corner.
_FOOT = (
    '<div style="position: fixed; right: 100px; bottom: 0; z-index: 9; padding: 2px 8px;'
    ' background: #fff; font-size: 11px">{}</div>'
)


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
        commit = at.revision.commit
        said = f"{at.name} at {commit.short} {commit.title}" if commit else at.name

        def write(context: dg.OpExecutionContext) -> Mapping[str, Any]:
            made = (here.run(context).folder / _PAGE).read_bytes()
            try:
                _put(_signed(made, said), page)
            except Exception as error:  # whatever the bucket's own package raises
                raise PlainFailure(f"docs.folder: {page} cannot be written: {error}") from error
            return {"docs": dg.MetadataValue.url(url) if url else dg.MetadataValue.path(str(page))}

        place = f" at {commit.short}" if commit else ""
        return Answer(
            f"`{here.command}`{place}",
            f"writes dbt docs{place}",
            f"It is {url or page}.",
            # One that is launched again has the ticket of the commit that it was of.
            {TICKET_TAG: "", **run_tags(at.name, at.revision)},
            about_commit(commit) if commit else {},
            act=write,
        )

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


def _signed(made: bytes, said: str) -> bytes:
    """dbt's page, which says at its foot what it is of."""
    before, end, after = made.rpartition(b"</body>")
    return before + _FOOT.format(html.escape(said)).encode() + end + after if end else made


def _put(made: bytes, page: UPath) -> None:
    """Write the page so that whoever reads it meanwhile sees the old one, or all of the new."""
    if not isinstance(page, Path):
        page.write_bytes(made)
        return
    page.parent.mkdir(parents=True, exist_ok=True)
    new = page.with_suffix(".new")
    new.write_bytes(made)
    new.replace(page)
