"""Which faults are tried: all with ``FAULTS=all``, and a few of each file in every CI run."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock

from tests.automation.site import Site, prepared_here
from tests.conftest import clean_environment, day
from tests.faults.shop import End, build_first, dagster_in, push

# How many of a file: each day others.
FEW = {"test_kills.py": 1, "test_killed_runs.py": 2, "test_killed_preparers.py": 1}
FEW |= {"test_broken.py": 3, "test_full_disk.py": 1, "test_killed_forms.py": 2}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not tried."""
    if os.environ.get("FAULTS") == "all":
        return
    for file, count in FEW.items():
        every = [item for item in items if item.path == Path(__file__).with_name(file)]
        chosen = random.Random(day()).sample(every, min(count, len(every)))
        left_out = [item for item in every if item not in chosen]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each state of a shop in which nothing breaks: see ``_make``.

    Made once, also for several processes of pytest-xdist.
    """
    folder = tmp_path_factory.getbasetemp()
    home = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shop"
    with FileLock(f"{home}.lock"):
        if not home.is_dir():
            with pytest.MonkeyPatch.context() as patch, prepared_here():
                clean_environment(patch)
                _make(home.with_suffix(".new"))
            home.with_suffix(".new").rename(home)
    return home


def _make(home: Path) -> None:
    pushed, asked, ended = (home / name for name in ("pushed", "asked", "ended"))
    pushed.mkdir(parents=True)
    build_first(pushed)
    with dagster_in(pushed) as instance:
        push(Site.of(pushed, instance))
    shutil.copytree(pushed, asked, symlinks=True)
    with dagster_in(asked) as instance:
        request = Site.of(asked, instance).request()
    (asked / "request.pickle").write_bytes(pickle.dumps(request))
    shutil.copytree(asked, ended, symlinks=True)
    with dagster_in(ended) as instance:
        site = Site.of(ended, instance)
        assert "nothing is due" in site.build_all()
        (home / "end.pickle").write_bytes(pickle.dumps(End.of(site)))


@pytest.fixture
def undisturbed(shop: Path) -> End:
    """What has to be true at the end."""
    end: End = pickle.loads((shop / "end.pickle").read_bytes())
    return end


@pytest.fixture
def home(
    shop: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the shop as it was pushed to, or as ``home`` is parametrized."""
    state = getattr(request, "param", "pushed")
    shutil.copytree(shop / state, tmp_path, dirs_exist_ok=True, symlinks=True)
    (tmp_path / "state" / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "state" / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dagster_in(home) as instance:
        yield instance


@pytest.fixture
def site(home: Path, instance: dg.DagsterInstance) -> Site:
    return Site.of(home, instance)
