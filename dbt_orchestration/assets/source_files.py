"""Where a person opens the file of a node: on the git host at the commit, or on the laptop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg

from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.revisions.addresses import file_page
from dbt_orchestration.revisions.kept import checkout_of
from dbt_orchestration.settings.models import Settings

CODE_REFERENCES = "dagster/code_references"


@dataclass(frozen=True)
class SourceFiles:
    """Where the files of a project and its packages are opened.

    A commit's own files lie where only this package looks for them. People have them on the git
    host, or, where the remote is a repository of this machine, in their working tree.

    Attributes:
        pages: the page of each package that is in the commit, by its name.
        folders: where others lie, for people.
    """

    pages: Mapping[str, str]
    folders: Mapping[str, Path]

    @classmethod
    def of(cls, settings: Settings, revision: Revision) -> SourceFiles:
        """Those of a revision."""
        commit, folders = revision.commit, revision.folders
        if commit is None:
            return cls({}, folders)
        project, checkout = (p.resolve() for p in (revision.project_dir, checkout_of(revision)))
        pages: dict[str, str] = {}
        own: dict[str, Path] = {}
        for name, folder in folders.items():
            real = folder.resolve()
            # A package that dbt has installed is in no commit; a local one is a link to what is.
            if commit.url and (real == project or folder.is_symlink()):
                path = real.relative_to(checkout).as_posix()
                pages[name] = file_page(commit, "" if path == "." else path)
            else:
                own[name] = Path(
                    os.path.normpath(settings.project_dir / os.path.relpath(real, project))
                )
        return cls(pages, own)

    def metadata(self, node: Mapping[str, Any]) -> Mapping[str, dg.CodeReferencesMetadataValue]:
        """An asset's metadata that says where its file is; none if a person has it nowhere."""
        name, path = node["package_name"], node["original_file_path"]
        reference: dg.UrlCodeReference | dg.LocalFileCodeReference
        if page := self.pages.get(name):
            reference = dg.UrlCodeReference(url=f"{page}/{quote(Path(path).as_posix())}")
        elif name in self.folders and (file := self.folders[name] / path).is_file():
            reference = dg.LocalFileCodeReference(file_path=str(file))
        else:
            return {}
        return {CODE_REFERENCES: dg.CodeReferencesMetadataValue(code_references=[reference])}
