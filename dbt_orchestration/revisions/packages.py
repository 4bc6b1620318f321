"""dbt packages for a checkout: those of another one, where they are the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.layout import (
    PROJECT,
    Layout,
    PrepareError,
    Renderer,
    read_yaml,
    refuse_outside,
)
from dbt_orchestration.dbt.parse import run_dbt
from dbt_orchestration.revisions.addresses import transport_of
from dbt_orchestration.revisions.git import refuse_links

_LOCK = "package-lock.yml"
_FETCHED = frozenset({"https", "http", "ssh", "git"})


def stated_packages(target: DbtTarget, lock: bool = True) -> str:
    """A digest of all that decides which packages a project has; "" if it wants none.

    Those are what packages.yml or dependencies.yml says, rendered, in the project and in each
    local package, and the lock file. What a local package consists of is no matter: it is read
    where it lies.

    Args:
        lock: whether the lock file counts.

    Raises:
        PrepareError: one of the files cannot be read.
    """
    with Renderer(target) as renderer:
        stated = list(_stated(target.project_dir, "", renderer, set()))
    if not any(entries for _, _, entries in stated):
        return ""
    file = target.project_dir / _LOCK
    locked = file.read_text() if lock and file.is_file() else None
    where = os.path.relpath(Layout.of(target).installed, target.project_dir)
    return hashlib.sha256(json.dumps([stated, locked, where], default=str).encode()).hexdigest()


def _stated(
    root: Path, package: str, renderer: Renderer, been: set[str]
) -> Iterator[tuple[str, str, Any]]:
    """The folder, the name and the packages of a project and of the local packages it wants."""
    been.add(package)
    # dbt takes paths in the files of packages, too, from the root project.
    folder = root / package
    entries = read_yaml(folder / "dependencies.yml").get("packages")
    if entries is None:
        entries = renderer.packages(read_yaml(folder / "packages.yml").get("packages"))
    if not isinstance(entries, list | None):
        raise PrepareError(f"{folder / 'packages.yml'}: packages is no list")
    name = str(read_yaml(folder / PROJECT).get("name"))
    yield package, name, entries or []
    for entry in entries or ():
        local = entry.get("local") if isinstance(entry, dict) else None
        if local and str(local) not in been:
            yield from _stated(root, str(local), renderer, been)


def _confine(target: DbtTarget, root: Path) -> None:
    """Let a checkout read its own files only; whoever may commit is not to read this machine.

    Raises:
        PrepareError: a path in dbt_project.yml, or a package, is outside ``root``.
    """
    with Renderer(target) as renderer:
        refuse_outside(target.project_dir, root, renderer)
        been: set[str] = set()
        # One package after the other: nothing is read of one that is refused.
        for package, _, entries in _stated(target.project_dir, "", renderer, been):
            for number, entry in enumerate(entries):
                if isinstance(entry, dict) and (what := _outside(target.project_dir, root, entry)):
                    where = _where(target.project_dir / package, number)
                    raise PrepareError(f"{where}: {what} is outside the repository")


def _outside(project_dir: Path, root: Path, entry: dict[str, Any]) -> str:
    """What of a package is not in the checkout, and not fetched from another host; or ""."""
    local, git, inside = (entry.get(key) for key in ("local", "git", "subdirectory"))
    if local and not (project_dir / str(local)).resolve().is_relative_to(root.resolve()):
        return f"local: {local}"
    if git and transport_of(str(git)) not in _FETCHED:
        return f"git: {git}"
    if inside and os.path.normpath(str(inside)).startswith(("..", "/")):
        return f"subdirectory: {inside}"
    return ""


def _where(folder: Path, number: int) -> str:
    """The file and line of a package that a project states."""
    file = folder / "dependencies.yml"
    if read_yaml(file).get("packages") is None:
        file = folder / "packages.yml"
    top: Any = yaml.compose(file.read_text(encoding="utf-8"))
    [entries] = [value for key, value in top.value if key.value == "packages"]
    return f"{file}, line {entries.value[number].start_mark.line + 1}"


def install_packages(target: DbtTarget) -> None:
    """Install what the project states into its own folder, unless that was done.

    Raises:
        PrepareError: ``dbt deps`` cannot install it.
    """
    if not (stated := stated_packages(target)):
        return
    marker = Layout.of(target).installed / ".installed"
    if marker.is_file() and marker.read_text() == stated:
        return
    run_dbt(target, ["deps"])
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(stated_packages(target))  # with the lock file that dbt may have written


def provide_packages(target: DbtTarget, working_tree: Path, root: Path) -> None:
    """Put packages into the checkout ``target.project_dir``.

    Args:
        working_tree: the same project in the working tree, whose packages are reused if both
            state the same ones.
        root: the top of the working tree.

    Raises:
        PrepareError: the packages differ, and ``dbt deps`` cannot install them.
    """
    depth = len(working_tree.relative_to(root).parts)
    checkout = target.project_dir.parents[depth - 1] if depth else target.project_dir
    _confine(target, checkout)
    folder = Layout.of(target).installed
    # A commit without a lock file takes whatever satisfies it.
    lock = (target.project_dir / _LOCK).is_file()
    if folder.exists() or not (stated := stated_packages(target, lock)):
        return
    other = replace(target, project_dir=working_tree)
    installed = Layout.of(other).installed
    if installed.is_dir() and stated == stated_packages(other, lock):
        _link(installed, folder, root, checkout)
        if not lock and (working_tree / _LOCK).is_file():
            shutil.copy(working_tree / _LOCK, target.project_dir)
    else:
        run_dbt(target, ["deps"])


def copy_packages(target: DbtTarget, root: Path, others: Mapping[Path, str | None]) -> str:
    """Put packages into the checkout of ``target``, which has to stand on its own, and to move.

    Args:
        root: the top of the checkout.
        others: what other checkouts state, by their tops, from which the same packages are copied.

    Returns:
        What is stated: see ``stated_packages``.

    Raises:
        PrepareError: the packages differ, and ``dbt deps`` cannot install them; or something of the
            project or of a package is outside the checkout.
        GitError: a link in a package leads out of the checkout.
    """
    _confine(target, root)
    folder, stated = Layout.of(target).installed, stated_packages(target)
    if stated and not folder.exists():
        _provide(target, root, folder, stated, others)
    if folder.is_dir():
        refuse_links(root)
        with Renderer(target) as renderer:
            for package in filter(Path.is_dir, folder.iterdir()):
                refuse_outside(package, root, renderer)
    return stated


def _provide(
    target: DbtTarget, root: Path, folder: Path, stated: str, others: Mapping[Path, str | None]
) -> None:
    # Where the commit has no lock file, dbt's own is kept with the packages: since dbt 1.12 that
    # alone may name those that packages want.
    lock, kept = target.project_dir / _LOCK, folder / _LOCK
    locked = lock.is_file()
    for other, same in others.items():
        installed = other / folder.relative_to(root)
        if same == stated and (locked or (installed / _LOCK).is_file()):
            shutil.copytree(installed, folder, symlinks=True)
            if not locked:
                shutil.copy(kept, lock)
            return
    run_dbt(target, ["deps"])
    if not locked:
        shutil.copy(lock, kept)
    for package in folder.iterdir():
        inside = package.resolve()
        if package.is_symlink() and inside.is_relative_to(root.resolve()):
            # A local package: dbt links it by a path that ends when the checkout moves.
            package.unlink()
            package.symlink_to(os.path.relpath(inside, folder.resolve()))


def _link(installed: Path, folder: Path, root: Path, checkout: Path) -> None:
    """Link each package; one that lies in the repository is that of the checkout."""
    folder.mkdir(parents=True)
    for package in installed.iterdir():
        source = package.resolve()
        if source.is_relative_to(root) and package.is_symlink():
            source = checkout / source.relative_to(root)
        (folder / package.name).symlink_to(source)
