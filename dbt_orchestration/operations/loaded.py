"""What a form works on: an environment, and the commit that it is now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.due import Ledger
from dbt_orchestration.revisions.store import open_commit, published
from dbt_orchestration.settings.models import Settings


@dataclass(frozen=True)
class Loaded:
    """An environment at the revision that a code location has loaded.

    Attributes:
        name: the environment's.
        assets_of: what another revision of it consists of.
        check: raises PrepareError where no code location could be made of another revision.
    """

    settings: Settings
    name: str
    revision: Revision
    dbt: DbtAssets
    assets_of: Callable[[Revision], DbtAssets]
    check: Callable[[Revision], None]

    @property
    def branch(self) -> str:
        """The branch that the environment follows."""
        return self.settings.environment(self.name).branch

    def at(self, revision: Revision) -> Loaded:
        """At another revision, whose orchestration.yml may say something else."""
        dbt = self.assets_of(revision)
        return replace(self, settings=dbt.env.settings, revision=revision, dbt=dbt)

    def newest(self, instance: dg.DagsterInstance) -> Loaded:
        """At the commit that is published now.

        A webserver learns a moment after the daemon, whose sensor said what is due, that the code
        location has loaded another commit. Until then it launches a form as it was before.

        Raises:
            PrepareError: that commit is not there any more.
        """
        storage = instance.defs_state_storage
        digest = published(self.name, storage) or self.revision.digest
        if digest == self.revision.digest or not self.settings.environment(self.name).push.enabled:
            return self
        return self.at(open_commit(self.settings, self.name, digest, storage))

    def ledger(self, instance: dg.DagsterInstance) -> Ledger:
        """What is recorded of it, compared with its revision."""
        return Ledger(self.settings, self.name, instance, self.revision, self.dbt)
