"""Several machines share Dagster's database and its storage of states, and no disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.definitions.metadata.metadata_value import (
    CodeLocationReconstructionMetadataValue,
)
from dagster._core.definitions.repository_definition.repository_definition import (
    RepositoryLoadData,
)

from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.location import installation
from dbt_orchestration.revisions.store import published, state_key
from dbt_orchestration.settings.models import SettingsError
from tests.automation.site import Site, launched_by
from tests.instances import dagster_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with dagster_in(tmp_path) as instance:
        yield Site.of(tmp_path, instance, keep_revisions=1)


def replace_machine(site: Site) -> None:
    shutil.rmtree(site.settings.state_dir / "revisions")


def stored(site: Site) -> dict[str, Path]:
    """The revisions that are in the storage, by their commits."""
    home = Path(site.instance.storage_directory()).parent
    folders = [path for path in home.rglob("*") if path.is_file() and "-" in path.name]
    key = state_key("prod").split("/")[-1]
    return {path.name[:40]: path for path in folders if key in path.parent.name}


def test_old_revisions_go_from_the_storage_whoever_stored_them(site: Site) -> None:
    """The published one stays, and so does what a run has still to open."""
    shas = []
    for subject in "0123":
        shas.append(site.clone.push(subject))
        site.tick()
        site.load()
        if subject == "1":
            job = site.loaded["prod"].resolve_implicit_global_asset_job_def()
            loaded = published("prod", site.instance.defs_state_storage)
            launched_by(site.instance, job, str(loaded))
        replace_machine(site)
        site.load()
    # The last but one was loaded when the newest was published.
    assert sorted(stored(site)) == sorted(shas[1:])


def test_a_run_that_cannot_fetch_its_revision_says_what_is_missing_and_where_it_looked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.tick()
    digest = str(published("prod", site.instance.defs_state_storage))
    [archive] = stored(site).values()
    archive.unlink()
    replace_machine(site)
    assert site.load().resolve_sensor_def("prod_push")  # a code server prepares it again
    pinned = CodeLocationReconstructionMetadataValue(digest)
    run = DefinitionsLoadContext(
        DefinitionsLoadType.RECONSTRUCTION,
        RepositoryLoadData(reconstruction_metadata={"dbt_orchestration/prod": pinned}),
    )
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", run)
    with pytest.raises(PrepareError) as refused:
        site.load()
    assert digest in str(refused.value)
    assert str(archive.parents[1]) in str(refused.value)


def test_a_code_server_without_its_dagster_yaml_refuses_to_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"there is no dagster\.yaml.*Put the dagster\.yaml"):
        installation.load_definitions("prod")


def test_a_code_server_of_another_dagster_than_the_daemon_says_so_in_the_ui(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a Dagster project, too: there a DAGSTER_HOME without a dagster.yaml can be right."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "code-server"))
    own = tmp_path / "daemon"
    own.mkdir()
    site.load()
    with dagster_in(own) as daemon:
        said = replace(site, instance=daemon).tick().skip_message or ""
    assert f"into its DAGSTER_HOME ({tmp_path / 'code-server'})" in said
