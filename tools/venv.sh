#!/usr/bin/env bash
# Installs the requirements of a file into a Python environment of their own, unless they are there,
# and prints the folder of its programs. Needs Python 3 with venv, and a package index.
# tools/venv.sh NAME REQUIREMENTS [OPTION OF PIP ...]
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${CARGO_TARGET_DIR:-target}/venv/$1"
if ! cmp -s "$2" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${@:3}" --requirement "$2" >&2
    cp "$2" "$venv/installed.txt"
fi
printf '%s\n' "$venv/bin"
