"""Addresses: how git reaches a remote, and where people read of its commits, files and tickets."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.settings.models import Git

_SSH = re.compile(r"(?:ssh://)?(?:[^@/]+@)?(?P<host>[^:/]+)[:/](?:\d+/)?(?P<path>.+)")
# How a host calls the pages of a commit and of its files: of GitHub, and of what looks like it.
_GITHUB = ("commit", "blob")
_PAGES = {"bitbucket.org": ("commits", "src"), "gitlab": ("-/commit", "-/blob")}


def commit_page(url: str, sha: str) -> str:
    """The page of a commit of the remote ``url`` on its host; "" if that is not known."""
    if url.startswith(("https://", "http://")):
        address = urlsplit(url)
        host, path = address.netloc.rpartition("@")[2], address.path.strip("/")
    elif (ssh := _SSH.fullmatch(url)) and not Path(url).exists():
        host, path = ssh["host"], ssh["path"]
    else:
        return ""
    kind, _ = next((pages for known, pages in _PAGES.items() if known in host), _GITHUB)
    return f"https://{host}/{path.removesuffix('.git')}/{kind}/{sha}"


def file_page(commit: Commit, path: str) -> str:
    """The page of a file, or a folder, of a commit on its host; "" if that is not known.

    Args:
        path: in the repository.
    """
    for of_commit, of_file in (*_PAGES.values(), _GITHUB):
        repository = commit.url.removesuffix(f"/{of_commit}/{commit.sha}")
        if repository != commit.url:
            return f"{repository}/{of_file}/{commit.sha}/{quote(path)}".rstrip("/")
    return ""


def ticket_in(message: str, git: Git) -> tuple[str, str]:
    """The first ticket that a commit's message names, and its page; "" for what is not known."""
    # Not a part of a word: DATA-12 of DATA-12x is no ticket.
    if not (found := re.search(rf"(?<!\w)(?:{git.ticket_pattern})(?!\w)", message)):
        return "", ""
    return found[0], (git.ticket_url or "").replace("{ticket}", quote(found[0]))


def transport_of(url: str) -> str:
    """How git reaches ``url``, in the words of its GIT_ALLOW_PROTOCOL."""
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme.lower()
    return "ssh" if re.match(r"[^/:]+:", url) else "file"


def host_of(url: str) -> tuple[str, str]:
    """The transport and the host of ``url``; the host is "" if it is this machine."""
    transport = transport_of(url)
    if "://" in url:
        return transport, urlsplit(url).netloc.rpartition("@")[2]
    return transport, url.partition(":")[0].rpartition("@")[2] if transport == "ssh" else ""
