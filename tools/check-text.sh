#!/usr/bin/env bash
# Spelling. Needs Python 3 with venv, and a package index.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${CARGO_TARGET_DIR:-target}/check-text"
requirement="typos==1.52.0"
if [ "$(cat "$venv/installed.txt" 2>/dev/null)" != "$requirement" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$requirement"
    echo "$requirement" >"$venv/installed.txt"
fi
"$venv/bin/typos" --config typos.toml
