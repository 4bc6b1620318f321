"""What nobody has to set: where a dbt project lies, and what it, its profile and git say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

PROJECT, PROFILES = "dbt_project.yml", "profiles.yml"
STATE = ".dbt-orchestration"
_DEFAULT = "default"


def find_project(folder: Path) -> Path | None:
    """The dbt project in ``folder``, or else the only one directly below it; None if there is none.

    Raises:
        ValueError: there is more than one below it.
    """
    if (folder / PROJECT).is_file():
        return folder
    found = sorted(path.parent for path in folder.glob(f"*/{PROJECT}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} has several dbt projects ({names}): name one")
    return found[0] if found else None


def find_profiles(project_dir: Path) -> Path:
    """The folder of profiles.yml, looked for where dbt looks."""
    if named := os.environ.get("DBT_PROFILES_DIR"):
        return Path(named).expanduser().resolve()
    home = Path.home() / ".dbt"
    places = (project_dir, Path.cwd(), home)
    return next((place for place in places if (place / PROFILES).is_file()), project_dir)


def profile_of(project_dir: Path, profiles_dir: Path) -> str:
    """The profile that the project names; else the only one that there is."""
    stated = _read(project_dir / PROJECT).get("profile")
    if isinstance(stated, str):
        return _rendered(stated)
    known = [name for name in _read(profiles_dir / PROFILES) if name != "config"]
    return known[0] if len(known) == 1 else _DEFAULT


def target_of(profiles_dir: Path, profile: str) -> str:
    """The profile's own target."""
    stated = _read(profiles_dir / PROFILES).get(profile)
    target = stated.get("target") if isinstance(stated, dict) else None
    return _rendered(target) if isinstance(target, str) else _DEFAULT


def branch_of(project_dir: Path, remote: str | None) -> str | None:
    """The branch that is checked out, or the remote's default; None if there is no git."""
    if remote:
        line = _git(Path.cwd(), "ls-remote", "--symref", "--", remote, "HEAD").partition("\t")[0]
        return line.removeprefix("ref: refs/heads/") or None
    head = _git(project_dir, "symbolic-ref", "--short", "HEAD")
    if head or not _git(project_dir, "rev-parse", "--git-dir"):
        return head or None
    # A commit is checked out, and no branch.
    return _git(project_dir, "rev-parse", "--abbrev-ref", "origin/HEAD").removeprefix("origin/")


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; "" if it refuses, or is not there."""
    if not folder.is_dir():
        return ""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(file: Path) -> Mapping[str, Any]:
    """What a YAML file of dbt says; nothing if it cannot be read, which dbt will say."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _rendered(text: str) -> str:
    """A text as dbt renders it where only ``env_var`` is known."""

    def env_var(name: str, default: str | None = None) -> str:
        return os.environ.get(name, default or "")

    try:
        return jinja2.Environment(autoescape=False).from_string(text).render(env_var=env_var)
    except jinja2.TemplateError:
        return text
