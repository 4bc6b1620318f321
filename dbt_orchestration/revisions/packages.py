"""dbt packages for a checkout: those of the working tree, where they are the same."""

from __future__ import annotations

from pathlib import Path

import yaml

from dbt_orchestration.invocation import DbtTarget
from dbt_orchestration.revisions.parse import run_dbt

STATED = ("packages.yml", "dependencies.yml", "package-lock.yml")


def states_packages(project_dir: Path) -> bool:
    """Whether the project wants packages at all."""
    return any(
        bool((yaml.safe_load(path.read_text()) or {}).get("packages"))
        for name in STATED[:2]
        if (path := project_dir / name).is_file()
    )


def provide_packages(target: DbtTarget, working_tree: Path, root: Path) -> None:
    """Put packages into the checkout ``target.project_dir``.

    Args:
        working_tree: the same project in the working tree, whose packages are reused if both
            state the same ones.
        root: the top of the working tree.

    Raises:
        PrepareError: the packages differ, and ``dbt deps`` cannot install them.
    """
    project = target.project_dir
    folder = _install_path(project)
    if (project / folder).exists() or not states_packages(project):
        return
    installed = working_tree / folder
    if installed.is_dir() and _stated(project) == _stated(working_tree):
        _link(installed, project / folder, root, project)
    else:
        run_dbt(target, ["deps"])


def _install_path(project: Path) -> str:
    settings = yaml.safe_load((project / "dbt_project.yml").read_text()) or {}
    return str(settings.get("packages-install-path") or "dbt_packages")


def _stated(project: Path) -> list[bytes | None]:
    paths = [project / name for name in STATED]
    return [path.read_bytes() if path.is_file() else None for path in paths]


def _link(installed: Path, folder: Path, root: Path, project: Path) -> None:
    """Link each package; one that lies in the repository is that of the checkout."""
    depth = len(installed.parent.relative_to(root).parts)
    checkout = project.parents[depth - 1] if depth else project
    folder.mkdir(parents=True)
    for package in installed.iterdir():
        source = package.resolve()
        if source.is_relative_to(root) and package.is_symlink():
            source = checkout / source.relative_to(root)
        (folder / package.name).symlink_to(source)
