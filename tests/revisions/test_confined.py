"""A commit reaches its own files only, whatever whoever committed it would like to read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.compare import Comparison, compare
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.settings.models import Settings
from tests.automation.site import Clone

PROJECT = "name: shop\nprofile: duckdb\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    (folder / "macros").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: outside\n")
    (folder / "secrets.csv").write_text("password\nhunter2\n")
    return folder


Attack = Callable[[Clone, Path], None]


def link_to_file(clone: Clone, outside: Path) -> None:
    (clone.folder / "dbt" / "seeds" / "users.csv").symlink_to(outside / "secrets.csv")


def link_to_folder(clone: Clone, outside: Path) -> None:
    (clone.folder / "dbt" / "more").symlink_to(os.path.join(*[".."] * 30, str(outside)[1:]))


def link_by_another(clone: Clone, outside: Path) -> None:
    (clone.folder / "up").symlink_to(".")
    (clone.folder / "dbt" / "seeds" / "users.csv").symlink_to("../../up/../../../../secrets")


@pytest.mark.parametrize(
    ("attack", "path"),
    [
        (link_to_file, "dbt/seeds/users.csv"),
        (link_to_folder, "dbt/more"),
        (link_by_another, "dbt/seeds/users.csv"),
    ],
)
def test_a_link_out_of_the_checkout_is_refused(
    clone: Clone, settings: Settings, outside: Path, attack: Attack, path: str
) -> None:
    attack(clone, outside)
    sha = clone.push("a link")
    with pytest.raises(PrepareError, match=rf"^{sha[:10]}: {path} is a symbolic link to .*outside"):
        prepare_commit(settings, "prod")
    wanted = Comparison(clone.folder / "dbt", sha, cache=settings.state_dir / "cache")
    with pytest.raises(GitError, match=f"{path} is a symbolic link to"):
        compare(wanted, lambda _: None)


def test_a_link_inside_is_followed(clone: Clone, settings: Settings) -> None:
    models = clone.folder / "dbt" / "models"
    (models / "totals.sql").rename(clone.folder / "totals.sql")
    (models / "totals.sql").symlink_to("../../totals.sql")
    clone.push("a link")
    assert "model.shop.totals" in prepare_commit(settings, "prod").fingerprints


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("packages-install-path", "{outside}/installed"),
        ("packages-install-path", "../../../../installed"),
        ("packages-install-path", "{{{{ '../../../..' }}}}/installed"),
        ("model-paths", "[models, '{outside}']"),
        ("seed-paths", "['../../../../../outside']"),
        ("docs-paths", "['{outside}']"),
    ],
)
def test_a_path_out_of_the_checkout_is_refused(
    clone: Clone, settings: Settings, outside: Path, key: str, value: str
) -> None:
    quoted = value if value.startswith("[") else f'"{value}"'
    (clone.folder / "pkg").mkdir()
    (clone.folder / "pkg" / "dbt_project.yml").write_text("name: pkg\n")
    clone.write("packages.yml", "packages: [{local: ../pkg}]\n")
    clone.write("dbt_project.yml", f"{PROJECT}{key}: {quoted.format(outside=outside)}\n")
    sha = clone.push("a path")
    said = rf"^{sha[:10]}: dbt_project.yml: {key}: .* is outside the repository"
    with pytest.raises(PrepareError, match=said):
        prepare_commit(settings, "prod")
    assert not list(settings.state_dir.parent.rglob("installed"))


def test_a_path_out_of_a_package_is_refused(
    clone: Clone, settings: Settings, outside: Path
) -> None:
    (clone.folder / "pkg").mkdir()
    (clone.folder / "pkg" / "dbt_project.yml").write_text(f"name: pkg\nseed-paths: ['{outside}']\n")
    clone.write("packages.yml", "packages: [{local: ../pkg}]\n")
    clone.push("a package")
    with pytest.raises(PrepareError, match=r"pkg/dbt_project.yml: seed-paths: .* is outside"):
        prepare_commit(settings, "prod")


@pytest.mark.parametrize(
    "entry",
    [
        "local: ../../../../../outside",
        "local: {outside}",
        "git: {outside}",
        "git: file://{outside}",
        "git: '--upload-pack=touch x'",
        "{{git: https://example.com/a.git, subdirectory: ../../..}}",
    ],
)
def test_a_package_from_outside_is_refused(
    clone: Clone, settings: Settings, outside: Path, entry: str
) -> None:
    (clone.folder / "pkg").mkdir()
    (clone.folder / "pkg" / "dbt_project.yml").write_text("name: pkg\n")
    clone.write("packages.yml", "packages:\n- local: ../pkg\n")
    # It is refused wherever it stands: here in the file of a package.
    (clone.folder / "pkg" / "packages.yml").write_text(
        f"# others\npackages:\n- {entry.format(outside=outside)}\n"
    )
    sha = clone.push("a package")
    said = rf"^{sha[:10]}: \.\./pkg/packages.yml, line 3: .* outside the repository"
    with pytest.raises(PrepareError, match=said):
        prepare_commit(settings, "prod")
