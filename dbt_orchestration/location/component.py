"""An environment as a Dagster component, which a ``defs.yaml`` describes.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import dagster as dg
from dagster.components.utils.defs_state import DefsStateConfig
from dagster_dbt import DbtProject, DbtProjectComponent
from dagster_dbt.dbt_project_manager import DbtProjectArgsManager, RemoteGitDbtProjectManager
from pydantic import BaseModel

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.location.definitions import build_defs
from dbt_orchestration.location.environment import Environment
from dbt_orchestration.revisions.current import loaded_revision, open_revision
from dbt_orchestration.settings.models import SettingsError

_PASSED_ON = dg.Resolver.passthrough
# What of ``include_metadata`` no run records.
_METADATA = {
    "row_count": "of a table and a seed it is recorded in any case, where the warehouse says it; of"
    " others the rows that were written are",
    "insights": "what runs cost on Snowflake is recorded with environment: {credits: true}",
}


@dataclass
class DbtEnvironmentComponent(DbtProjectComponent):
    """A dbt project that follows its branch: every push builds what it changed.

    Takes what ``dagster_dbt.DbtProjectComponent`` takes (``project``, ``select``, ``exclude``,
    ``selector``, ``translation``, ``translation_settings``), with the same asset keys and groups:
    change the ``type`` of a ``defs.yaml``, and the history of its assets stays. ``cli_args`` and
    ``op`` are refused: what a run needs is found out. Of ``include_metadata``, column metadata is
    recorded in any case, and the rest is refused.

    Example:

        .. code-block:: yaml

            type: dbt_orchestration.DbtEnvironmentComponent
            attributes:
              name: prod
              project: "{{ project_root }}/dbt"
              branch: main
    """

    name: Annotated[
        str, _PASSED_ON(description="Begins the names of jobs, schedules and sensors.")
    ] = "prod"
    branch: Annotated[
        str | None, _PASSED_ON(description="What is followed. Default: what is checked out.")
    ] = None
    environment: Annotated[
        dict[str, Any],
        dg.Resolver.default(
            description="Everything else that an environment may have: see docs/settings.md.",
            examples=[{"full_build": {"cron": "0 8 * * *"}, "on_change": "ask"}],
        ),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._root = Path.cwd()

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Other definitions may ask a component for the key of a model before it is built."""
        loaded = super().load(attributes, context)
        loaded._root = context.project_root
        return loaded

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Of one project there may be several environments."""
        said = super().defs_state_config
        return DefsStateConfig(
            key=f"DbtEnvironmentComponent[{self.name}]",
            management_type=said.management_type,
            refresh_if_dev=said.refresh_if_dev,
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of ``build_defs``.

        Raises:
            SettingsError: an attribute is wrong, or cannot be kept.
        """
        for wrong, instead in self._not_kept():
            raise SettingsError(f"{wrong}: {instead}")
        self._root = context.project_root
        return build_defs(self._environment(), translator=self.translator)

    @cached_property
    def dbt_project(self) -> DbtProject:
        """As it is loaded: what ``asset_key_for_model`` reads.

        Raises:
            SettingsError: an attribute is wrong, or there is no commit yet.
        """
        settings = self._environment().as_settings()
        settings.make_state_dir()
        digest = loaded_revision(settings, self.name)
        if not digest:
            raise SettingsError(
                f"{self.name} knows no model before its first commit is prepared: write the asset"
                " key itself, in place of asset_key_for_model"
            )
        revision = open_revision(settings, self.name, digest)
        return DbtProject(
            revision.project_dir,
            target_path=revision.directory,
            profiles_dir=DbtTarget.of(settings, self.name, revision.project_dir).profiles_dir,
        )

    def _not_kept(self) -> Iterator[tuple[str, str]]:
        """Attributes that cannot mean what they mean to dagster-dbt, and what to write instead."""
        if self.cli_args != ["build"]:
            yield (
                "cli_args",
                "each run finds out what dbt needs; remove it, and write vars into"
                " dbt_project.yml, and what it excludes as exclude",
            )
        if self.op is not None:
            yield "op", "remove it; name the environment with name"
        for kind, instead in _METADATA.items():
            if kind in self.include_metadata:
                yield f"include_metadata: {kind}", f"remove it: {instead}"
        if self.translation_settings and not self.translation_settings.enable_asset_checks:
            yield (
                "translation_settings: enable_asset_checks",
                "remove it: each test is a check here, which says whether it is due; a run leaves"
                " them out with exclude_tests",
            )

    def _environment(self) -> Environment:
        values = {"name": self.name, "branch": self.branch, **self.environment, **self._project()}
        values |= {"select": self.select, "exclude": self.exclude, "selector": self.selector}
        values.setdefault("state_dir", self._root / ".dbt-orchestration")
        return Environment(**values)

    def _project(self) -> Mapping[str, Any]:
        """What ``project`` says, in whichever of its forms."""
        if isinstance(self.project, RemoteGitDbtProjectManager):
            remote = self.project
            git = {"remote": remote.repo_url, "token": remote.token}
            if remote.repo_relative_path != ".":
                git["project_path"] = remote.repo_relative_path
            return {
                "project_dir": Path.cwd(),  # where no profile would be, either
                "profile": remote.profile,
                "target": remote.target,
                "git": {key: value for key, value in git.items() if value},
            }
        manager = self.project
        said = manager.args if isinstance(manager, DbtProjectArgsManager) else manager
        keys = ("project_dir", "profiles_dir", "profile", "target")
        return {key: getattr(said, key, None) for key in keys}
