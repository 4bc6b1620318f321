"""What failed in a run, and what is said of it on the pages of the assets and of the run.

Open-source Dagster stores no event for an asset that could not be materialized, and a check on each
asset, only to say so, would be planned and recorded with each run. An observation costs something
only when something failed, and stands among the asset's events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.history.phases import descendants
from dbt_orchestration.ledger.failing import failing_since
from dbt_orchestration.ledger.failures import Failed, RunFailure
from dbt_orchestration.ledger.provenance import commit_metadata
from dbt_orchestration.ledger.run_tags import COMMIT_TAG
from dbt_orchestration.markdown import code, inline, shortened
from dbt_orchestration.revisions.last_changes import LastChanges
from dbt_orchestration.runs.cause import cause_of
from dbt_orchestration.runs.failing_line import with_failing_line
from dbt_orchestration.runs.results import QUERY_ID, status
from dbt_orchestration.runs.samples import Samples
from dbt_orchestration.runs.snowsight import query_url

AGAIN = (
    "On the run's page: Re-execute all (*) ▾ → From asset failure. That builds only what failed or"
    " was not reached. What a push corrects is built by itself."
)
_FAILED = frozenset({"error", "fail", "partial success", "runtime error"})
# Characters of a message and of SQL; how many failures are shown, and named in a line.
_MOST_MESSAGE, _MOST_SQL, _MOST_SHOWN, _MOST_NAMED = 10_000, 30_000, 10, 5

Event = Mapping[str, Any]
Metadata = dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """A node or a test that failed.

    Attributes:
        title: what it is called, for example ``model orders``.
        cause: one line.
        asset: whose page says more.
        failed: what other programs read of it.
        pages: what is shown of it, in Markdown.
    """

    title: str
    cause: str
    asset: dg.AssetKey | None
    failed: Failed
    pages: tuple[str, ...] = ()


class Failures:
    """The failures of one run, as they come; by unique id.

    Args:
        reasons: why each node is built.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        context: dg.AssetExecutionContext,
        reasons: Mapping[str, str],
    ) -> None:
        self._env = env
        self._instance = context.instance
        self._run_id = context.run.run_id
        self._reasons = reasons
        self._batches: dict[str, list[Event]] = {}
        self._changes = LastChanges(env.settings, env.revision)
        self.samples = Samples(env.revision.manifest, env.environment.failed_rows)
        self.found: dict[str, Failure] = {}

    def add(self, causes: Mapping[str, str]) -> Iterator[dg.AssetObservation]:
        """The same of nodes and tests of which no event says that they failed; hooks are neither.

        Args:
            causes: why each failed, by unique id.
        """
        for unique_id, why in causes.items():
            if unique_id not in self.found and not unique_id.startswith("operation."):
                yield from self._of_node(unique_id, why, {})

    def of_node(self, event: Event) -> Iterator[dg.AssetObservation]:
        """What a result event says on the page of its asset, if the node failed."""
        data = event["data"]
        unique_id = data["node_info"]["unique_id"]
        if event["info"]["name"] == "LogTestResult" or status(data) not in _FAILED:
            return
        if "batch_index" in data:
            self._batches.setdefault(unique_id, []).append(data)
            return
        batches = self._batches.pop(unique_id, [])
        outcome = (batches[0] if batches else data)["outcome"]
        metadata: Metadata = {}
        if batches:
            metadata["failed batches"] = ", ".join(each["description"] for each in batches)
        metadata |= _sql(self._node(unique_id), outcome)
        yield from self._of_node(unique_id, outcome["message"].strip(), metadata)

    def of_test(self, event: Event, key: dg.AssetCheckKey) -> Metadata:
        """What a result event says with the check, if the test failed or warns."""
        data = event["data"]
        unique_id, found = data["node_info"]["unique_id"], status(data)
        if found not in (*_FAILED, "warn"):
            return {}
        node, outcome = self._node(unique_id), data["outcome"]
        message = outcome["message"].strip()
        metadata: Metadata = {"message": _block(message)}
        metadata |= _sql(node, outcome)
        if node["resource_type"] == "test" and found != "error":
            seconds = float(data.get("execution_time") or 0.0)
            metadata |= self.samples.metadata(unique_id, seconds, outcome.get("sample"))
        tested = self._env.nodes.get(self._env.unique_ids[key.asset_key])
        failed = self._failed(message, node, *([tested] if tested else []))
        metadata |= self._since(key) | _last_changed(failed.changed)
        if found != "warn":
            rows = int(data.get("num_failures") or 0)
            is_data_test = node["resource_type"] == "test"
            cause = f"{rows} rows" if rows and is_data_test else cause_of(message, _title(node))
            self._keep(node, failed, cause, key.asset_key, metadata)
        return metadata

    def skipped(self, nodes: Collection[str], built: Collection[str]) -> dict[str, list[Failure]]:
        """Which of the ``nodes`` were not reached, because of what above them.

        Args:
            built: those that were.
        """
        missing = set(nodes) - set(built) - self.found.keys()
        causes: dict[str, list[Failure]] = {}
        for unique_id, failure in sorted(self.found.items()):
            for each in self._below(unique_id) & missing:
                causes.setdefault(each, []).append(failure)
        return causes

    def of_skipped(self, causes: Mapping[str, list[Failure]]) -> Iterator[dg.AssetObservation]:
        """What is said on the page of each asset that was not reached."""
        for unique_id, failures in sorted(causes.items()):
            because = titles(failures)
            metadata: Metadata = {"skipped because of": because}
            first = failures[0]
            metadata["cause"] = first.cause
            if first.asset:
                metadata["see"] = dg.MetadataValue.asset(first.asset)
            yield dg.AssetObservation(
                self._env.keys[unique_id],
                description=f"Skipped, because this failed: {inline(because)}",
                metadata=metadata,
            )

    def as_dagster_has_it(self, said: str) -> dg.Failure:
        """For the run to raise."""
        failed = {u: failure.failed for u, failure in self.found.items()}
        return RunFailure(failed, said).as_dagster_has_it(self._metadata())

    def _metadata(self) -> Metadata:
        """What the failed step says beside its message."""
        shown = [
            "\n\n".join([f"### {inline(failure.title)}", inline(failure.cause), *failure.pages])
            for failure in [*self.found.values()][:_MOST_SHOWN]
        ]
        if not shown:
            return {}
        more = len(self.found) - len(shown)
        pages = [*shown, f"… and {more} more."] if more else shown
        return {"what failed": dg.MetadataValue.md("\n\n".join(pages)), "run again": AGAIN}

    def _of_node(
        self, unique_id: str, message: str, details: Metadata
    ) -> Iterator[dg.AssetObservation]:
        node, asset = self._node(unique_id), self._env.keys.get(unique_id)
        failed, cause = self._failed(message, node), cause_of(message, _title(node))
        metadata: Metadata = {"failed": _block(message), **details}
        if node.get("relation_name"):
            metadata["relation"] = node["relation_name"]
        metadata |= commit_metadata(self._env.revision, self._reasons.get(unique_id, ""))
        metadata |= _last_changed(failed.changed)
        self._keep(node, failed, cause, asset, metadata)
        if asset:
            said = f"Failed: {inline(cause)}"
            yield dg.AssetObservation(asset, description=said, metadata=metadata)

    def _keep(
        self,
        node: Mapping[str, Any],
        failed: Failed,
        cause: str,
        asset: dg.AssetKey | None,
        metadata: Metadata,
    ) -> None:
        """Remember a failure, and say in its ``metadata`` how to go on."""
        md = dg.MarkdownMetadataValue
        shown = [v.value or "" for v in metadata.values() if isinstance(v, md)]
        metadata |= {"run again": AGAIN, "run": dg.MetadataValue.dagster_run(self._run_id)}
        self.found[node["unique_id"]] = Failure(_title(node), cause, asset, failed, tuple(shown))

    def _node(self, unique_id: str) -> Mapping[str, Any]:
        every = self._env.revision.manifest
        node: Mapping[str, Any] = every["nodes"].get(unique_id) or every["unit_tests"][unique_id]
        return node

    def _below(self, unique_id: str) -> set[str]:
        """What dbt skips after a failure of this."""
        node, manifest = self._node(unique_id), self._env.revision.manifest
        tested = set(node["depends_on"]["nodes"])
        if node["resource_type"] in ("test", "unit_test"):
            # The model itself, if it is not built, or was built beside its table only.
            return descendants(manifest, tested) | tested
        return descendants(manifest, {unique_id})

    def _failed(self, why: str, node: Mapping[str, Any], *tested: Mapping[str, Any]) -> Failed:
        """Who changed it last is known of what is in the project's own repository."""
        revision = self._env.revision
        own = revision.manifest["metadata"]["project_name"]
        files = [n["original_file_path"] for n in (node, *tested) if n["package_name"] == own]
        fingerprint = revision.fingerprints.get(node["unique_id"], "")
        return Failed(why, fingerprint, self._changes.of(*files))

    def _since(self, key: dg.AssetCheckKey) -> Metadata:
        """Since when a test fails."""
        since = failing_since(self._instance, key)
        if since is None:
            return {"fails since": "this run"}
        run = self._instance.get_run_by_id(since.run_id)
        zone = ZoneInfo(self._env.environment.full_build.timezone)
        when = datetime.fromtimestamp(since.timestamp, zone).strftime("%Y-%m-%d %H:%M")
        found: Metadata = {
            "fails since": f"{when} or before" if since.at_least else when,
            "first failed in": dg.MetadataValue.dagster_run(since.run_id),
        }
        if run and (commit := run.tags.get(COMMIT_TAG)):
            found["first failed with"] = commit
        return found


def titles(failures: Sequence[Failure]) -> str:
    """What failed, in a line."""
    more = len(failures) - _MOST_NAMED
    named = [failure.title for failure in failures[:_MOST_NAMED]]
    return ", ".join([*named, f"and {more} more"] if more > 0 else named)


def _title(node: Mapping[str, Any]) -> str:
    return f"{node['resource_type'].replace('_', ' ')} {node['name']}"


def _last_changed(commit: Commit | None) -> Metadata:
    if commit is None:
        return {}
    when = commit.committed_at[:10]
    said = f"{commit.short} {commit.title} ({commit.author}, {when})"
    url = {"last changed url": dg.MetadataValue.url(commit.url)} if commit.url else {}
    return {"last changed": said, **url}


def _sql(node: Mapping[str, Any], outcome: Mapping[str, Any]) -> Metadata:
    """The SQL of what failed, and which query of the warehouse that was."""
    found: Metadata = {}
    if sql := outcome["compiled"] or outcome["statement"]:
        marked = with_failing_line(sql, outcome["statement"], outcome["message"])
        block = code(shortened(marked, _MOST_SQL), node.get("language", "sql"))
        found["compiled SQL"] = dg.MetadataValue.md(block)
    if query_id := outcome["query_id"]:
        found[QUERY_ID] = query_id
        if url := query_url(adapters.snowflake_login().get("account", ""), query_id):
            found["query"] = dg.MetadataValue.url(url)
    return found


def _block(message: str) -> dg.MarkdownMetadataValue:
    lines = "\n".join(message.splitlines())
    return dg.MetadataValue.md(code(shortened(lines, _MOST_MESSAGE)))
