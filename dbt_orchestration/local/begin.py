"""``dbt-orchestration init``: files that say what goes without saying, to be changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from dbt_orchestration.settings.models import Settings, config_file, root

_ENVIRONMENTS = """\
# What is served: each environment is a branch of git, built into a target of profiles.yml.
# `dbt-orchestration up` and `dbt-orchestration doctor` say what is wrong with it.
environments:
  {name}:
    branch: {branch}              # its newest commit is what is built
    target: {target}
    on_change: rebuild            # or ask, or forward_only: what a change does to history
    full_build:
      cron: "0 8 * * *"
      timezone: Asia/Seoul
    # jobs:
    #   finance:                  # a job of its own, by dbt's selection
    #     select: "tag:finance"
    #     schedule: {{cron: "0 7 * * 1", timezone: Asia/Seoul}}
  # dev:                          # needs a target, and so a schema, of its own
  #   branch: dev
  #   target: dev
  #   full_build: {{enabled: false}}
"""


def write_files(settings: Settings) -> Mapping[Path, bool]:
    """Write the files that are not there; whether each was written."""
    name, environment = next(iter(settings.environments.items()))
    text = _ENVIRONMENTS.format(name=name, branch=environment.branch, target=environment.target)
    files = {
        config_file(): text,
        root() / "workspace.yaml": "# For `dagster dev`; `dbt-orchestration up` needs none.\n"
        + workspace(settings.environments),
    }
    written = {}
    for file, content in files.items():
        written[file] = not file.exists()
        if written[file]:
            file.write_text(content, encoding="utf-8")
    return written


def workspace(environments: Iterable[str]) -> str:
    """A workspace.yaml with a code location for each environment."""
    locations = [
        {
            "python_module": {
                "module_name": "dbt_orchestration.definitions",
                "attribute": name,
                "location_name": name,
            }
        }
        for name in environments
    ]
    return yaml.safe_dump({"load_from": locations}, sort_keys=False)
