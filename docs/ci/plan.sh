#!/bin/sh
# Posts what a pull request would rebuild as a comment on it. For any CI that has git and Python.
#
#   BASE          the branch the pull request is for, for example origin/main
#   COMMENTS_URL  where the host takes comments on this pull request:
#                   https://api.github.com/repos/OWNER/REPO/issues/NUMBER/comments
#                   https://gitlab.com/api/v4/projects/ID/merge_requests/NUMBER/notes
#                   https://api.bitbucket.org/2.0/repositories/OWNER/REPO/pullrequests/NUMBER/comments
#   TOKEN         a token that may write them; it is in no argument and no output
set -eu

base=$(git merge-base "$BASE" HEAD)
body=$(mktemp)
trap 'rm -f "$body"' EXIT

dbt-orchestration plan --base "$base" --head HEAD --format markdown >"$body"

COMMENT="$body" python3 - <<'PYTHON'
import json
import os
import urllib.request

text = open(os.environ["COMMENT"], encoding="utf-8").read()
url = os.environ["COMMENTS_URL"]
comment = {"content": {"raw": text}} if "bitbucket" in url else {"body": text}
request = urllib.request.Request(
    url,
    json.dumps(comment).encode(),
    {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['TOKEN']}"},
)
with urllib.request.urlopen(request, timeout=60) as answer:
    print(f"posted: {answer.status}")
PYTHON
