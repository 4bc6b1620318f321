"""The process that prepares a commit. What it is to do comes through its standard input.

``revisions.follow.Follower`` starts it, so that a tick of the sensor does not have to wait.
"""

from __future__ import annotations

import pickle
import sys

from dbt_orchestration.location.definitions import check_revision

if __name__ == "__main__":
    follower, sha, recorded = pickle.load(sys.stdin.buffer)
    sys.exit(follower.work(sha, recorded, check_revision))
