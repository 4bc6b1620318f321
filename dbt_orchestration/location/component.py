"""An environment as a Dagster component, which a ``defs.yaml`` describes.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.defs_state import DefsStateConfig
from dagster_dbt import DbtProjectComponent
from dagster_dbt.dbt_project_manager import DbtProjectArgsManager, RemoteGitDbtProjectManager

from dbt_orchestration.location.definitions import build_defs
from dbt_orchestration.location.environment import Environment
from dbt_orchestration.settings.models import SettingsError

_PASSED_ON = dg.Resolver.passthrough


@dataclass
class DbtEnvironmentComponent(DbtProjectComponent):
    """A dbt project that follows its branch: every push builds what it changed.

    Takes what ``dagster_dbt.DbtProjectComponent`` takes (``project``, ``select``, ``exclude``,
    ``selector``, ``translation``, ``translation_settings``), with the same asset keys and groups:
    change the ``type`` of a ``defs.yaml``, and the history of its assets stays. ``cli_args`` and
    ``op`` are refused: what a run needs is found out.

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
        if self.cli_args != ["build"]:
            raise SettingsError(
                "cli_args: each run finds out what dbt needs; remove it, and write vars into"
                " dbt_project.yml, and what it excludes as exclude"
            )
        if self.op is not None:
            raise SettingsError("op: remove it; name the environment with name")
        values = {"name": self.name, "branch": self.branch, **self.environment, **self._project()}
        values |= {"select": self.select, "exclude": self.exclude, "selector": self.selector}
        values.setdefault("state_dir", context.project_root / ".dbt-orchestration")
        return build_defs(Environment(**values), translator=self.translator)

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
