"""What has to be known of a dbt project before dbt can parse it, as dbt renders it.

dbt is imported only where there is Jinja to render: it takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dbt_orchestration.dbt.invocation import DbtError, DbtTarget, dbt_session
from dbt_orchestration.settings.found import STATE

PROJECT = "dbt_project.yml"
_FOLDERS = {"packages-install-path": "dbt_packages", "target-path": "target", "log-path": "logs"}
_OURS = frozenset({"target-path", "log-path"})
# Where dbt finds files, through links to other folders, too.
_SOURCES = {
    **{f"{kind}-paths": [f"{kind}s"] for kind in ("model", "seed", "test", "macro", "snapshot")},
    **{"analysis-paths": ["analyses"], "function-paths": ["functions"]},
    **{key: [] for key in ("docs-paths", "asset-paths", "source-paths", "data-paths", "osi-paths")},
}


class PrepareError(RuntimeError):
    """The project cannot be prepared. The message is dbt's own, with file and line."""


@dataclass(frozen=True)
class Layout:
    """Where things lie in a project.

    Attributes:
        installed: the folder of installed packages.
        written: folders that dbt writes to.
        sources: folders that dbt reads.
    """

    project_dir: Path
    installed: Path
    written: tuple[Path, ...]
    sources: tuple[Path, ...]

    @classmethod
    def of(cls, target: DbtTarget) -> Layout:
        """Raises:
        PrepareError: dbt_project.yml cannot be read.
        """
        with Renderer(target) as renderer:
            named = named_folders(target.project_dir, renderer)
        [installed], *written = (named.pop(key) for key in _FOLDERS)
        return cls(
            target.project_dir,
            installed,
            tuple(folder for folders in written for folder in folders),
            tuple(folder for folders in named.values() for folder in folders),
        )

    def source_files(self) -> Iterator[Path]:
        """The project's files and those of its installed packages."""
        left_out = {self.installed, *self.written, self.project_dir / ".venv"}
        yield from self._files(self.project_dir, left_out)
        if self.installed.is_dir():
            yield from self._files(self.installed, set(), follow=True)

    def _files(
        self,
        folder: Path,
        left_out: Collection[Path],
        above: frozenset[str] = frozenset(),
        follow: bool = False,
    ) -> Iterator[Path]:
        follow = follow or folder in self.sources
        above |= {os.path.realpath(folder)}
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = folder / entry.name
            if not entry.is_dir():
                if not _is_data(entry.name):
                    yield path
            elif entry.name in (".git", STATE) or path in left_out:
                continue
            elif (
                not entry.is_symlink()
                or path in self.sources
                or (follow and os.path.realpath(path) not in above)
            ):
                yield from self._files(path, left_out, above, follow)


class Renderer:
    """dbt's renderers of dbt_project.yml and packages.yml."""

    def __init__(self, target: DbtTarget) -> None:
        self._target = target
        self._stack = ExitStack()
        self._session: Any = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def project(self, value: Any) -> Any:
        """A value of dbt_project.yml.

        Raises:
            PrepareError: dbt cannot render it.
        """
        return self._render(value, "render", PROJECT)

    def packages(self, value: Any) -> Any:
        """A value of packages.yml; instead of the values of secrets it has their names.

        Raises:
            PrepareError: dbt cannot render it.
        """
        return self._render(value, "render_packages", "packages.yml")

    def _render(self, value: Any, how: str, file: str) -> Any:
        if not _has_jinja(value):
            return value
        from dbt_common.exceptions import DbtBaseException

        try:
            if self._session is None:
                self._session = self._stack.enter_context(dbt_session(self._target, ["deps"]))
            return getattr(self._session, how)(value)
        except (DbtError, DbtBaseException) as error:
            raise PrepareError(f"{self._target.project_dir / file}: {str(error).strip()}") from None


def named_folders(project_dir: Path, renderer: Renderer) -> dict[str, list[Path]]:
    """The folders of a project or a package, by the key of dbt_project.yml that names them.

    Raises:
        PrepareError: dbt_project.yml cannot be read.
    """
    stated = read_yaml(project_dir / PROJECT)
    named = {key: stated.get(key) or default for key, default in {**_FOLDERS, **_SOURCES}.items()}
    named = renderer.project(named)
    listed = {key: each if isinstance(each, list) else [each] for key, each in named.items()}
    return {key: [project_dir / str(each) for each in paths] for key, paths in listed.items()}


def refuse_outside(project_dir: Path, root: Path, renderer: Renderer) -> None:
    """Raises:
    PrepareError: a project or a package has a folder outside the checkout ``root``.
    """
    for key, folders in named_folders(project_dir, renderer).items():
        for folder in folders:
            # Where dbt writes its target and its log is ours to say.
            if key not in _OURS and not folder.resolve().is_relative_to(root.resolve()):
                stated = os.path.relpath(folder, project_dir)
                raise PrepareError(
                    f"{project_dir / PROJECT}: {key}: {stated} is outside the repository"
                )


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file; an empty one if it is not there, or has none.

    Raises:
        PrepareError: it cannot be read, or is something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PrepareError(f"{path}: {error}") from None
    if not isinstance(content, dict | None):
        raise PrepareError(f"{path}: it is no mapping of keys to values, as dbt wants it")
    return content or {}


def _has_jinja(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_jinja, value.values()))
    if isinstance(value, list):
        return any(map(_has_jinja, value))
    return isinstance(value, str) and "{" in value


def _is_data(file: str) -> bool:
    return file == ".user.yml" or file.endswith((".duckdb", ".duckdb.wal", ".log", ".pyc"))
