"""A commit of which no code location can be made: whoever has prepared it, and whoever says so."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.definitions.metadata.metadata_value import (
    CodeLocationReconstructionMetadataValue,
)
from dagster._core.definitions.repository_definition import RepositoryLoadData

from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.doctor import examine
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.store import published
from dbt_orchestration.settings.allowed import ProjectFileRules
from dbt_orchestration.settings.models import SettingsError
from tests.automation.site import Site
from tests.automation.test_newest import evaluations

JOB = "jobs: {finance: {select: customers}}"
NOBODY = "jobs: {finance: {select: custmers}}"
WHY = "orchestration.yml: jobs.finance.select: there is no model 'custmers'"
FORBIDDEN = "orchestration.yml: jobs: the settings of the platform do not let a commit say that"


def begin(site: Site) -> None:
    site.build_all()


def says(site: Site, text: str, message: str) -> str:
    site.clone.write("orchestration.yml", text)
    return site.clone.push(message)


def jobs(site: Site) -> set[str]:
    return {job.name for job in site.loaded["prod"].get_repository_def().get_all_jobs()}


def with_rules(site: Site, **rules: Any) -> None:
    """The platform engineer edits environments.yaml, and the code server starts again."""
    changed = {"project_file": ProjectFileRules(**rules)}
    environments = {
        **site.settings.environments,
        "prod": site.settings.environment("prod").model_copy(update=changed),
    }
    site.settings = site.settings.model_copy(update={"environments": environments})
    site.load()


@pytest.mark.parametrize("who", ["the doctor", "somebody who checks nothing"])
def test_a_commit_that_others_have_prepared_is_checked_before_it_is_loaded(
    built: Site, who: str
) -> None:
    built.load()
    before = published("prod", built.instance.defs_state_storage)
    says(built, NOBODY, "a slip")
    if who == "the doctor":
        found = {each.what: each for each in examine(built.settings)}
        assert not found["prod: project"].ok
        assert WHY in found["prod: project"].message
    else:
        prepare_commit(built.settings, "prod")
    assert WHY in built.says()
    assert not evaluations(built)[0].passed
    assert published("prod", built.instance.defs_state_storage) == before
    assert built.load() is not None
    says(built, JOB, "the remedy")
    assert "nothing is due" in built.says()
    assert "prod_finance" in jobs(built)


def test_a_good_commit_that_others_have_prepared_is_loaded(built: Site) -> None:
    built.load()
    says(built, JOB, "finance")
    prepare_commit(built.settings, "prod")
    assert "nothing is due" in built.says()
    assert "prod_finance" in jobs(built)


def test_a_rule_that_the_loaded_commit_breaks_leaves_the_sensor_for_the_remedy(built: Site) -> None:
    built.load()
    bad = says(built, JOB, "finance")
    built.build_all()
    with_rules(built, allow=[])
    assert "prod_full_build" not in jobs(built)
    assert {"prod_pause", "prod_resume"} <= jobs(built)
    for _ in range(2):  # and it does not load the same again and again
        said = built.says()
        assert FORBIDDEN in said
        assert "\n" not in said
        assert bad[:10] in said
        assert findings(built.cursors["prod"])[-1].outcome is Outcome.BROKEN
    newest = evaluations(built)[0]
    assert not newest.passed
    assert FORBIDDEN in (newest.description or "")

    built.clone.write("orchestration.yml", "")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("the remedy")
    assert "nothing is due" in built.build_all()
    assert evaluations(built)[0].passed
    assert "prod_full_build" in jobs(built)
    assert built.query("select max(amount) from main.customers") == built.query(
        "select max(amount) from main.stg_orders"
    )


def test_a_rule_that_is_taken_back_loads_the_same_commit(built: Site) -> None:
    built.load()
    says(built, JOB, "finance")
    built.build_all()
    with_rules(built, allow=[])
    assert FORBIDDEN in built.says()
    with_rules(built)
    assert "nothing is due" in built.says()
    assert evaluations(built)[0].passed
    assert "prod_finance" in jobs(built)


def test_a_run_loads_what_the_code_location_had_that_launched_it(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_for_a_run(launched_by: DefinitionsLoadContext) -> dg.Definitions:
        pinned = {
            key: CodeLocationReconstructionMetadataValue(value)
            for key, value in launched_by.get_pending_reconstruction_metadata().items()
        }
        run = DefinitionsLoadContext(
            DefinitionsLoadType.RECONSTRUCTION, RepositoryLoadData(reconstruction_metadata=pinned)
        )
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", run)
        return built.load()

    def load() -> DefinitionsLoadContext:
        server = DefinitionsLoadContext(DefinitionsLoadType.INITIALIZATION)
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", server)
        built.load()
        monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)
        return server

    built.load()
    says(built, JOB, "finance")
    built.build_all()
    good = load()
    with_rules(built, allow=[])
    with pytest.raises(SettingsError, match=FORBIDDEN):
        load_for_a_run(good)
    assert load_for_a_run(load()).resolve_job_def("prod_pause")


def test_a_wrong_job_of_the_platform_fails_loudly(built: Site) -> None:
    built.load()
    wrong = {"jobs": {"ours": {"select": "custmers"}}}
    prod = built.settings.environment("prod")
    prod = type(prod).model_validate({**prod.model_dump(), **wrong})
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    with pytest.raises(SettingsError, match=r"environments\.prod\.jobs\.ours\.select: there is no"):
        built.load()
