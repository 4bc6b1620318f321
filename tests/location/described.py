"""Environments that Python describes, and that follow a remote."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dbt_orchestration import DefaultTranslator, Environment, build_defs
from tests.automation.site import ALWAYS, Site


@dataclass
class Described(Site):
    """A site whose code locations are made as those of a Dagster project are."""

    environments: dict[str, tuple[Environment, DefaultTranslator | None]] = field(
        default_factory=dict
    )

    def load(self, name: str = "prod") -> dg.Definitions:
        environment, translator = self.environments[name]
        self.loaded[name] = build_defs(environment, translator=translator)
        return self.loaded[name]

    def describe(
        self, name: str, branch: str, translator: DefaultTranslator | None = None, **more: Any
    ) -> None:
        settings = self.settings
        environment = Environment(
            name=name,
            project_dir=settings.project_dir,
            profiles_dir=settings.profiles_dir,
            profile="duckdb",
            state_dir=settings.state_dir,
            git=settings.git,
            branch=branch,
            target=name,
            push=ALWAYS,
            **more,
        )
        self.environments[name] = environment, translator
