"""A Dagster project as people have it: each step has a process, and no failed run is retried."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from dbt_orchestration.location.definitions import build_definitions
from tests.automation.site import Site, follow
from tests.faults.moments import Call
from tests.faults.shop import End
from tests.instances import dagster_in

_HOME, _RUN = "TEST_SHOP", "TEST_SHOP_RUN_WHOSE_STEP_DIES"


@dg.definitions
def project() -> dg.Definitions:
    """What the run and its step each load. The run is in pytest's process: only the step dies."""
    home = Path(os.environ[_HOME])
    ours = build_definitions(follow(home, str(home / "remote.git")), "prod")
    if os.environ.get(_RUN, str(os.getpid())) != str(os.getpid()):
        Call("runs.landing.Landing.swapped").kill()
    theirs = dg.Definitions(executor=dg.multiprocess_executor)
    return dg.Definitions.merge(theirs, ours)


def test_a_step_that_is_killed_is_run_again(
    home: Path, undisturbed: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "dagster" / "dagster.yaml").unlink()
    monkeypatch.setenv(_HOME, str(home))
    with dagster_in(home) as instance:
        site = Site.of(home, instance)
        request = site.request()
        with patch.dict(os.environ, {_RUN: str(os.getpid())}):
            _run(site, request)
        [killed] = instance.get_runs(limit=1)
        assert killed.status is dg.DagsterRunStatus.FAILURE
        again = site.request()
        assert again.run_key != request.run_key
        _run(site, again)
        assert "nothing is due" in site.says()
        assert End.of(site) == undisturbed


def _run(site: Site, request: dg.RunRequest) -> None:
    repository = ReconstructableRepository.for_module(__name__, "project", os.getcwd())
    dg.execute_job(
        repository.get_reconstructable_job("__ASSET_JOB"),
        site.instance,
        run_config=request.run_config,
        asset_selection=list(request.asset_selection or ()),
        tags=dict(request.tags),
    )
