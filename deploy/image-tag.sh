#!/bin/sh
# Prints the tag of an image built from the commit that is checked out: version, commit, ticket.
#   0.1.0-3f2a9c1d20-DATA-123
# The ticket is the first that the commit's message names; without one the tag ends with the commit.
#
#   TICKET_PATTERN   how a ticket looks: an extended regular expression, as git.ticket_pattern in the settings
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
commit=$(git rev-parse --short=10 HEAD)
ticket=$(git show --no-patch --format=%B HEAD | grep -oE "${TICKET_PATTERN:-[A-Z]+-[0-9]+}" | head -n 1 || true)
# A registry takes 128 letters, digits, "_", "." and "-".
printf '%s\n' "$version-$commit${ticket:+-$ticket}" | tr -c 'A-Za-z0-9_.\n-' '-' | cut -c 1-128
