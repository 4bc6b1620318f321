"""What we need of dbt's private parts to read a project; ``manifests`` has the rest.

Importing dbt and an adapter takes seconds, and so does importing Dagster: nothing here imports
either before it is asked to work. ``tests/test_dbt_internals.py`` holds the contract tests.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from dbt_orchestration.settings.models import PREFIX

SECRET = "DBT_ENV_SECRET_"
INVOCATION = "00000000-0000-0000-0000-000000000000"
# dbt's flags that are ours to set, on each command line or not at all: docs/dbt.md says why.
_OURS = (
    *("DEFER", "DEFER_TO_STATE", "DEFER_STATE", "FAVOR_STATE", "FAVOR_STATE_MODE"),
    *("STATE", "ARTIFACT_STATE_PATH", "FULL_REFRESH", "EMPTY", "SAMPLE"),
    *("EVENT_TIME_START", "EVENT_TIME_END", "RESOURCE_TYPES", "EXCLUDE_RESOURCE_TYPES"),
    *("INDIRECT_SELECTION", "FAIL_FAST", "INTROSPECT", "WRITE_JSON", "TARGET_PATH", "LOG_PATH"),
    *("PARTIAL_PARSE_FILE_PATH", "PARTIAL_PARSE_FILE_DIFF", "PP_FILE_DIFF_TEST", "PP_TEST"),
    *("PROJECT_DIR", "UPLOAD_TO_ARTIFACTS_INGEST_API", "USE_V2_PARSER", "V2_PARSER"),
)
OUR_VARIABLES = tuple(f"{prefix}{name}" for name in _OURS for prefix in ("DBT_", "DBT_ENGINE_"))
# https://github.com/theskumar/python-dotenv
_DOTENV_DISABLED = "PYTHON_DOTENV_DISABLED"
# What sets up Dagster and us: whoever may commit reads no credentials there. The run's id is told.
_NOT_FOR_JINJA, _FOR_JINJA = (PREFIX, "DAGSTER_"), frozenset({"DAGSTER_RUN_ID"})

# In the names of our settings that are credentials: docs/settings.md.
_SECRETS = ("TOKEN", "PASSWORD", "SECRET", "URL")


@contextmanager
def without_our_variables() -> Iterator[Mapping[str, str]]:
    """Hide, and yield, environment variables that change what a dbt command does, and our secrets.

    A model in Python runs in this process, and reads ``os.environ``. dbt goes into the project's
    folder, and since 1.12 takes an ``.env`` from where it is: what a commit brings may set nothing
    in this process.
    """
    secrets = [n for n in os.environ if n.startswith(PREFIX) and any(w in n for w in _SECRETS)]
    names = [*OUR_VARIABLES, *secrets]
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    disabled = os.environ.get(_DOTENV_DISABLED)
    os.environ[_DOTENV_DISABLED] = "1"
    try:
        yield hidden
    finally:
        os.environ.pop(_DOTENV_DISABLED)
        if disabled is not None:
            os.environ[_DOTENV_DISABLED] = disabled
        os.environ.update(hidden)


def parser_options() -> list[str]:
    """Options that make dbt parse by itself.

    Since dbt 1.12 a project's ``flags`` can name a command that parses in its place: a commit that
    does would run what it likes.
    """
    from dbt.cli import params

    return ["--no-use-v2-parser"] if hasattr(params, "use_v2_parser") else []


def seen_by_jinja(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of some environment variables that a project and its profile may read."""
    return {
        name: value
        for name, value in variables.items()
        if name in _FOR_JINJA or not name.upper().startswith(_NOT_FOR_JINJA)
    }


def limit_jinja(hidden: Mapping[str, str]) -> None:
    """Make ``env_var()`` see what it may, in the dbt invocation that this thread is in.

    All of dbt's Jinja reads the environment through its invocation's context.

    Args:
        hidden: as ``without_our_variables`` yields; of dbt's flags, Jinja sees all.
    """
    from dbt_common.context import get_invocation_context

    invocation = get_invocation_context()
    invocation._env = seen_by_jinja({**invocation._env, **hidden})


class Session:
    """A project that dbt has loaded for one target, and can compile.

    Attributes:
        manifest: dbt's own; None if only the project's settings were loaded.
        variables: names of the environment variables that Jinja has asked for, set or not, without
            secrets and without those of the profile.
        profile_variables: those of the profile.
    """

    def __init__(self, manifest: Any) -> None:
        self.manifest = manifest
        self.variables: set[str] = set()
        self.profile_variables: set[str] = set()
        self._config: Any = None
        self._compiler: Any = None

    @property
    def folders(self) -> dict[str, Path]:
        """Where the project and each of its installed packages lie, by name."""
        return {name: Path(each.project_root) for name, each in self._projects.items()}

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What else decides how nodes compile, of the project and of each package, by name.

        ``vars`` are as they are written: dbt renders them where they are read.
        """
        return {
            name: {
                "vars": each.vars.to_dict(),
                "dispatch": each.dispatch,
                "flags": each.flags or (self._flags_of_profile() if each is self._config else {}),
            }
            for name, each in self._projects.items()
        }

    @property
    def _projects(self) -> dict[str, Any]:
        from dbt.adapters.factory import get_adapter_package_names

        internal = set(get_adapter_package_names(self._config.credentials.type))
        every = {self._config.project_name: self._config, **self._config.load_dependencies()}
        return {name: each for name, each in every.items() if name not in internal}

    def _flags_of_profile(self) -> dict[str, Any]:
        from dbt.config.profile import read_profile

        return dict(read_profile(str(self._config.args.PROFILES_DIR)).get("config") or {})

    @property
    def names(self) -> tuple[str, str]:
        """The target's own database and schema."""
        credentials = self._config.credentials
        return str(credentials.database or ""), str(credentials.schema or "")

    @property
    def target(self) -> dict[str, Any]:
        """What Jinja sees as ``target``, with the names of secrets for their values."""
        secrets = {v: k for k, v in os.environ.items() if k.startswith(SECRET) and v.strip()}
        return {key: _hide(value, secrets) for key, value in self._config.to_target_dict().items()}

    @property
    def profile(self) -> dict[str, Any]:
        """The target as profiles.yml has it, rendered, with the names of secrets for their values.

        What is left to the adapter's default is not in it; aliases have their usual names.
        """
        from dbt.adapters.factory import load_plugin
        from dbt.config.profile import read_profile
        from dbt.config.renderer import BaseRenderer
        from dbt.context.secret import SecretContext

        config = self._config
        profiles = read_profile(str(config.args.PROFILES_DIR))
        raw = profiles[config.profile_name]["outputs"][config.target_name]
        # dbt's own renderer for profiles puts the secrets in as its last step.
        context = SecretContext(config.cli_vars).to_dict()
        rendered = BaseRenderer(context).render_data(raw)
        return dict(load_plugin(config.credentials.type).translate_aliases(rendered))

    def render(self, value: Any) -> Any:
        """A value of dbt_project.yml, rendered.

        Raises:
            dbt_common.exceptions.DbtBaseException: it cannot be.
        """
        from dbt.config.renderer import DbtProjectYamlRenderer

        # Since dbt 1.12 vars can stand in a file of their own.
        variables = {**getattr(self._config, "vars_from_file", {}), **self._config.cli_vars}
        return DbtProjectYamlRenderer(self._config, variables).render_data(value)

    def render_packages(self, value: Any) -> Any:
        """A value of packages.yml, rendered, with the names of secrets for their values.

        Raises:
            dbt_common.exceptions.DbtBaseException: it cannot be.
        """
        from dbt.config.renderer import BaseRenderer
        from dbt.context.secret import SecretContext

        return BaseRenderer(SecretContext(self._config.cli_vars).to_dict()).render_data(value)

    def write_manifest(self, path: Path) -> None:
        """Write manifest.json as dbt does, whatever ``write_json`` says, in a tenth of the time."""
        from dbt_common.utils.encoding import JSONEncoder

        # Where no other file has changed, dbt keeps those of the parse before.
        self.manifest.selectors = self._config.manifest_selectors
        content = self.manifest.writable_manifest().to_dict(
            omit_none=False, context={"artifact": True}
        )
        other = JSONEncoder().default
        try:
            written = orjson.dumps(content, default=other, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # it has an integer of more than 64 bits
            written = json.dumps(content, cls=JSONEncoder).encode()
        path.write_bytes(written)

    def compile(self, unique_id: str, variables: Mapping[str, str] | None = None) -> str:
        """The SQL of one node and of the ephemeral models it reads, without the warehouse.

        The number of the invocation is volatile, as the time is: in it stands ``INVOCATION``.
        ``dbt compile`` stops at the first node that does not compile and leaves others half made;
        this is what it does for one node.

        Args:
            variables: as of ``--vars``.

        Raises:
            dbt_common.exceptions.DbtBaseException, jinja2.TemplateError, or whatever the project's
                Jinja causes: the node does not compile.
        """
        from dbt_common.invocation import get_invocation_id

        if self._compiler is None:
            self._compiler = _make_compiler(self._config)
        if self._config.cli_vars != (variables or {}):
            self._config.cli_vars = dict(variables or {})
            for each in self.manifest.nodes.values():
                if each.is_ephemeral_model:
                    each.compiled = False  # with the others
        node = self.manifest.nodes[unique_id]
        node.compiled, node.compiled_code, node.extra_ctes = False, None, []
        node.extra_ctes_injected, node._pre_injected_sql = False, None
        made = self._compiler.compile_node(node, self.manifest, {}, write=False)
        return str(made.compiled_code).replace(get_invocation_id(), INVOCATION)


def _make_compiler(config: Any) -> Any:
    from dbt.compilation import Compiler

    class Unwritten(Compiler):  # type: ignore[misc]
        def _write_node(self, node: Any, split_suffix: str | None = None) -> Any:  # noqa: ARG002
            return node

    return Unwritten(config)


def _hide(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _hide(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(each, secrets) for each in value]
    if isinstance(value, str):
        for secret, name in secrets.items():
            value = value.replace(secret, name)
    return value


@contextmanager
def session(arguments: Sequence[str], manifest: Any = None) -> Iterator[Session]:
    """What a dbt command has when it begins: flags, profile, project, adapter and manifest.

    Args:
        arguments: a command and its options. ``parse`` parses; ``compile`` takes ``manifest``;
            ``deps`` reads settings only.

    Raises:
        dbt_common.exceptions.DbtBaseException: the project cannot be loaded.
    """
    from dbt.cli import requires
    from dbt.cli.flags import args_to_context
    from dbt_common.context import get_invocation_context

    made = Session(manifest)

    def remember(names: set[str]) -> Callable[[Any], Any]:
        def decorate(then: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def run(context: Any) -> Any:
                invocation = get_invocation_context()
                limit_jinja(hidden)
                invocation._env = _Environment(invocation._env, names)
                return then(context)

            return run

        return decorate

    def take(context: Any) -> None:
        made._config = context.obj["runtime_config"]
        made.manifest = context.obj.get("manifest")

    _hash_files_as_they_are()
    steps: list[Callable[..., Any]] = [
        *(requires.preflight, remember(made.profile_variables), requires.profile),
        *(remember(made.variables), requires.project),
        *([requires.catalogs] if hasattr(requires, "catalogs") else []),  # before dbt 1.12
        requires.runtime_config,
    ]
    if manifest is not None or arguments[0] == "parse":
        steps.append(lambda then: requires.manifest(then, write=False))
    run: Callable[[Any], Any] = take
    for step in reversed(steps):
        run = step(run)
    with without_our_variables() as hidden, args_to_context(list(arguments)) as context:
        context.obj = {"manifest": manifest, "callbacks": []}
        run(context)
        yield made


def _hash_files_as_they_are() -> None:
    """Make dbt read a file again where only white space is another than when it parsed last.

    Since 1.12 it does not, and keeps the old code: white space counts in a string, and the end of a
    line ends a comment.
    """
    from dbt.parser import read_files

    if hasattr(read_files, "normalize_file_contents"):
        read_files.normalize_file_contents = lambda contents: contents


class _Environment(dict[str, str]):
    """The environment of an invocation, which notes the names that Jinja asks for."""

    def __init__(self, values: Mapping[str, str], names: set[str]) -> None:
        super().__init__(values)
        self._names = names

    def __contains__(self, name: object) -> bool:
        if not str(name).startswith(SECRET):
            self._names.add(str(name))
        return super().__contains__(name)


def load_manifest(partial_parse: Path) -> Any:
    """The parsed project that dbt saved, as the object that ``dbtRunner`` takes.

    Reading it takes a tenth of the time of letting dbt look at every file again.
    """
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    manifest = Manifest.from_msgpack(partial_parse.read_bytes(), decoder=extended_mashumuro_decoder)
    # What Jinja sees as `graph`: dbt makes it after parsing, and saves the manifest before.
    manifest.build_flat_graph()
    return manifest


def load_credentials(
    project_dir: Path, profiles_dir: Path | None, profile: str | None, target: str | None
) -> Any:
    """dbt's credentials of a target. None leaves the choice to dbt.

    Raises:
        dbt_common.exceptions.DbtBaseException: the profile cannot be read; the message says why.
    """
    from argparse import Namespace

    from dbt.config.runtime import load_profile
    from dbt.flags import set_from_args
    from dbt_common.context import set_invocation_context

    set_invocation_context(seen_by_jinja(os.environ))
    folder = str(profiles_dir or Path.home() / ".dbt")
    set_from_args(Namespace(profiles_dir=folder, project_dir=str(project_dir)), None)
    return load_profile(str(project_dir), {}, profile, target).credentials


def answer_is_incremental(manifest: Any, answer: bool) -> None:
    """Make dbt's ``is_incremental()`` say ``answer`` for incremental models, without looking.

    dbt's own macro asks the warehouse whether the table is there. A project that has a macro of
    that name keeps it.
    """
    said = "model.config.materialized == 'incremental'" if answer else "False"
    macro = manifest.macros["macro.dbt.is_incremental"]
    macro.macro_sql = f"{{% macro is_incremental() %}}{{{{ return({said}) }}}}{{% endmacro %}}"


def compiled_code(manifest: Any, unique_id: str) -> str | None:
    """The SQL that a dbt command with this manifest left in it; None if it made none."""
    code = getattr(manifest.nodes.get(unique_id), "compiled_code", None)
    return str(code) if code else None


def write_results(result: Any, path: Path) -> None:
    """Write what a command that built or tested came to, as dbt writes its run_results.json."""
    from dbt.artifacts.schemas.run import RunResultsArtifact

    RunResultsArtifact.from_execution_results(
        results=result.results,
        elapsed_time=result.elapsed_time,
        generated_at=result.generated_at,
        args=result.args,
    ).write(str(path))


def interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in ``thread`` (CPython's PyThreadState_SetAsyncExc)."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
    )


def cancel_queries() -> None:
    """Cancel every query that dbt is running in this process."""
    from dbt.adapters.factory import FACTORY

    for adapter in list(FACTORY.adapters.values()):
        if adapter.is_cancelable():
            with adapter.connection_named("cancel"):
                adapter.cancel_open_connections()
