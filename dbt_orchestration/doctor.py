"""What stands between this machine and a build: each problem in one line, with what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import yaml

from dbt_orchestration.dbt.internals import adapters, sessions
from dbt_orchestration.dbt.internals.sessions import seen_by_jinja
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.dbt.selection import Parsed
from dbt_orchestration.history.partitions import check_nodes
from dbt_orchestration.revisions.project_file import remarks
from dbt_orchestration.settings import postgres
from dbt_orchestration.settings.models import PREFIX, Settings

_ENV_VAR = re.compile(r"""env_var\(\s*\\?['"]([^'"\\]+)\\?['"]\s*(,)?""")
_UTC = ("UTC", "ETC/UTC")
# What of a target says which warehouse it is, besides what stands in each relation's name.
_WAREHOUSE = ("type", "account", "host", "port", "path", "dbname", "method", "http_path")


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is well, and what was seen or what to do."""

    what: str
    ok: bool
    message: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one finding after the other. Never prints a credential's value."""
    yield _python()
    yield Finding("dbt", True, f"dbt-core {version('dbt-core')}, Dagster {version('dagster')}")
    yield _git()
    yield from _database()
    try:
        profile = find_profile(settings)
    except ValueError as error:
        profile = Finding("profile", False, str(error))
    yield profile
    if not profile.ok:
        return
    for name in settings.environments:
        missing = missing_credentials(settings, name)
        yield Finding(
            f"{name}: credentials",
            not missing,
            f"set {', '.join(missing)}" if missing else "all that profiles.yml names are set",
        )
        if lightdash := settings.environment(name).lightdash:
            variable = f"{PREFIX}ENVIRONMENTS__{name.upper()}__LIGHTDASH__TOKEN"
            said = f"a token for {lightdash.url} is set" if lightdash.token else f"set {variable}"
            yield Finding(f"{name}: lightdash", bool(lightdash.token), said)
        if idle := settings.without_effect(name):
            yield Finding(f"{name}: settings", False, idle)
        if not missing:
            yield _guarded(f"{name}: project", lambda name=name: _parses(settings, name))  # type: ignore[misc]
            yield from _remarks(settings, name)
            yield _guarded(f"{name}: warehouse", lambda name=name: _connects(settings, name))  # type: ignore[misc]
    if len(settings.environments) > 1:
        yield _guarded("environments", lambda: _apart(settings))


def missing_credentials(settings: Settings, environment: str) -> list[str]:
    """Variables that the target of ``environment`` reads, without a default and not set."""
    targets = _targets(settings)
    target = targets.get(settings.environment(environment).target)
    names = _ENV_VAR.findall(json.dumps(target, default=str))
    known = seen_by_jinja(os.environ) | settings.dbt_environment
    return sorted({name for name, default in names if not default and not known.get(name)})


def _targets(settings: Settings) -> dict[str, object]:
    file = settings.profiles_dir / "profiles.yml"
    try:
        stated = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from None
    profile = _mapping(str(file), stated).get(settings.profile)
    outputs = _mapping(f"{file}: {settings.profile}", profile).get("outputs")
    return _mapping(f"{file}: {settings.profile}: outputs", outputs)


def _mapping(what: str, value: object) -> dict[str, object]:
    if isinstance(value, dict | None):
        return value or {}
    raise ValueError(f"{what}: it is no mapping of keys to values, as dbt wants it")


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", ok, found if ok else f"{found}: install Python 3.11, 3.12 or 3.13")


def _git() -> Finding:
    path = shutil.which("git")
    return Finding("git", bool(path), path or "not found: install git and put it on PATH")


def _database() -> Iterator[Finding]:
    file = Path(os.environ.get("DAGSTER_HOME", "")) / "dagster.yaml"
    if "DAGSTER_HOME" in os.environ and file.is_file():
        try:
            config = yaml.safe_load(file.read_text()) or {}
        except yaml.YAMLError as error:
            yield Finding("dagster.yaml", False, f"{file} is not valid YAML: {error}")
            return
        if change := postgres.plain_scheme(config):
            yield Finding("dagster.yaml", False, f"{file}: {change}")
    if url := os.environ.get(postgres.VARIABLE):
        try:
            problem = postgres.connection_problem(url)
        except ValueError as error:
            problem = str(error)
        yield Finding("PostgreSQL", not problem, problem or "connected")


def find_profile(settings: Settings) -> Finding:
    """Whether profiles.yml has the profile, and the target of every environment.

    Raises:
        ValueError: the file is not valid YAML.
    """
    file = settings.profiles_dir / "profiles.yml"
    targets = _targets(settings)
    if not targets:
        return Finding(
            "profile",
            False,
            f"{file} has no profile {settings.profile!r}: set DBT_ORCHESTRATION_PROFILE",
        )
    absent = [
        f"{name} wants target {environment.target!r}"
        for name, environment in settings.environments.items()
        if environment.target not in targets
    ]
    if absent:
        have = ", ".join(targets)
        return Finding("profile", False, f"{'; '.join(absent)}; {file} has: {have}")
    used = {environment.target for environment in settings.environments.values()}
    kinds = {str(t.get("type")) for n, t in targets.items() if n in used and isinstance(t, dict)}
    if missing := sorted(kind for kind in kinds if not _has_adapter(kind)):
        packages = " ".join(f"dbt-{kind}" for kind in missing)
        said = f"{file}: the profile {settings.profile} needs {packages}: pip install {packages}"
        return Finding("profile", False, said)
    return Finding("profile", True, f"{settings.profile} in {file}")


def _has_adapter(kind: str) -> bool:
    try:
        return find_spec(f"dbt.adapters.{kind}") is not None
    except ModuleNotFoundError:
        return False


def built_twice(settings: Settings, revisions: Mapping[str, Revision | None]) -> list[str]:
    """What is wrong with environments that build the same relation of the same warehouse.

    Each would replace what the other built, at each of its pushes, for ever. Not so snapshots: who
    writes ``target_schema`` wants one for all.

    Args:
        revisions: what each environment consists of; None if that is not known.
    """
    targets = _targets(settings)
    owners: dict[tuple[str, str], str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for name, revision in revisions.items():
        target = targets.get(settings.environment(name).target)
        stated = target if isinstance(target, dict) else {}
        warehouse = json.dumps([stated.get(key) for key in _WAREHOUSE], default=str)
        for unique_id in revision.fingerprints if revision else ():
            assert revision is not None
            relation = revision.manifest["nodes"][unique_id].get("relation_name")
            if relation and not unique_id.startswith("snapshot."):
                owner = owners.setdefault((warehouse, relation), name)
                if owner != name:
                    shared.setdefault((owner, name), []).append(relation.replace('"', ""))
    return [
        f"{owner} and {name} both build {min(relations)}"
        + (f" and {len(relations) - 1} more" if len(relations) > 1 else "")
        + f": give one of their targets ({settings.environment(owner).target},"
        f" {settings.environment(name).target}) in profiles.yml another schema"
        for (owner, name), relations in shared.items()
    ]


def _guarded(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (DbtError, RuntimeError, ValueError, yaml.YAMLError) as error:
        return Finding(what, False, " ".join(str(error).split()))


def _parses(settings: Settings, environment: str) -> str:
    # All that a code location has comes with it: `up` does not wait for that.
    from dbt_orchestration.location.definitions import check_revision

    revision = _what_is_built(settings, environment)
    manifest, commit = revision.manifest, revision.commit
    check_nodes(manifest, datetime.now(UTC))
    check_revision(settings, environment, revision)
    nodes = manifest["nodes"].values()
    count = sum(node["resource_type"] == "model" for node in nodes)
    place = f"{commit.branch} at {commit.short}" if commit else "the working tree"
    return f"{count} models parse, {place}"


def _remarks(settings: Settings, environment: str) -> Iterator[Finding]:
    with suppress(DbtError, RuntimeError, ValueError, yaml.YAMLError):  # said of it already
        project = Parsed.of(_what_is_built(settings, environment))
        for said in remarks(settings, environment, project):
            yield Finding(f"{environment}: project", False, said)


def _apart(settings: Settings) -> str:
    revisions: dict[str, Revision | None] = {}
    for name in settings.environments:
        with suppress(DbtError, RuntimeError, ValueError, yaml.YAMLError):  # said of it already
            if not missing_credentials(settings, name):
                revisions[name] = _what_is_built(settings, name)
    if wrong := built_twice(settings, revisions):
        raise ValueError("; ".join(wrong))
    return "no two build the same relation"


def _what_is_built(settings: Settings, environment: str) -> Revision:
    """The newest commit of the environment's branch; the working tree, if there is none.

    Raises:
        ValueError: the project is in a remote, which has no such branch.
    """
    from dbt_orchestration.revisions.commits import prepare_followed
    from dbt_orchestration.revisions.working_tree import prepare

    if revision := prepare_followed(settings, environment):
        return revision
    followed = settings.environment(environment)
    if settings.git.remote and followed.push.enabled:
        raise ValueError(f"there is no branch {followed.branch} in {settings.git.remote}: push it")
    return prepare(settings, environment)


def _connects(settings: Settings, environment: str) -> str:
    revision = _what_is_built(settings, environment)
    target = DbtTarget.of(settings, environment, revision.project_dir)
    DbtInvocation(target, ["debug", "--connection", "--quiet"]).finish()
    manifest = sessions.load_manifest(revision.partial_parse_path)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        other = settings.environment(environment).backfill_warehouse
        zones = operate(target, manifest, "session", scratch, warehouse=other)
    zone, own = zones["session"], zones["user"] or adapters.zone_of_duckdb(target.credentials())
    if not zone:
        return "connected"
    if str(zone).upper() not in _UTC:
        raise ValueError(
            f"the session is in the time zone {zone}, and days are cut in UTC: what sets it"
            " (a hook of the project, a login script) must not"
        )
    if not own or own.upper() in _UTC:
        return f"connected, in {zone}"
    remedy = (
        "alter user … set timezone = 'UTC'"
        if zones["user"]
        else "put `settings: {TimeZone: UTC}` into the target in profiles.yml"
    )
    return f"connected, in {zone}; a dbt build of your own would cut days in {own}: {remedy}"
