"""dbt packages for a checkout: those of another one, where they are the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
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


def copy_packages(target: DbtTarget, root: Path, others: Iterable[Path]) -> None:
    """Put packages into the checkout of ``target``, which has to stand on its own, and to move.

    Args:
        root: the top of the checkout.
        others: the same project in other checkouts, whose packages are copied if they are the same.

    Raises:
        PrepareError: the packages differ, and ``dbt deps`` cannot install them.
    """
    project = target.project_dir
    folder = _install_path(project)
    if (project / folder).exists() or not states_packages(project):
        return
    for other in others:
        if (other / folder).is_dir() and _stated(project) == _stated(other):
            shutil.copytree(other / folder, project / folder, symlinks=True)
            return
    lock = project / "package-lock.yml"
    locked = lock.is_file()
    run_dbt(target, ["deps"])
    if not locked:
        # It is not the commit's: the next one with the same packages.yml has none either.
        lock.unlink(missing_ok=True)
    for package in (project / folder).iterdir():
        inside = package.resolve()
        if package.is_symlink() and inside.is_relative_to(root.resolve()):
            # A local package: dbt links it by a path that ends when the checkout moves.
            package.unlink()
            package.symlink_to(os.path.relpath(inside, (project / folder).resolve()))


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
