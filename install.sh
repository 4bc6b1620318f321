#!/bin/sh
# Install everything from the lock file into .venv. Needs Python 3.11 to 3.13 with pip, and a network
# the first time; quick and offline when nothing has changed.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "error: $*" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (looked for: ${PYTHON:-python3, python3.11 to 3.13}):" \
        "install one, or name it: make PYTHON=/path/to/python3.12 up"
}

stamp=.venv/.installed
wanted="$(cat uv.lock pyproject.toml | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

python="$(find_python)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

uv="$(command -v uv || true)"
if [ -z "$uv" ]; then
    uv=.uv/bin/uv
    if [ ! -x "$uv" ]; then
        echo "Installing uv into .uv …"
        rm -rf .uv
        "$python" -m venv .uv >"$log" 2>&1 ||
            fail "$python cannot make a virtual environment: $(tail -n 1 "$log")"
        .uv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9" >"$log" 2>&1 || {
            rm -rf .uv
            fail "cannot download uv. No network?"
        }
    fi
fi

echo "Installing the packages of uv.lock into .venv …"
# Compiled now, or else each process compiles them again where Python may not write bytecode.
"$uv" sync --quiet --locked --compile-bytecode --python "$python" --no-python-downloads >"$log" 2>&1 || {
    if grep -qiE 'dns|lookup|connect|timed out' "$log"; then
        fail "cannot download the packages: no network"
    fi
    cat "$log" >&2
    fail "cannot install the packages of uv.lock, see above"
}
echo "$wanted" >"$stamp"
