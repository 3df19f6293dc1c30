#!/usr/bin/env bash
# Spelling.
set -euo pipefail
cd "$(dirname "$0")/.."

bin="$(tools/venv.sh checks tools/requirements.txt)"
"$bin/typos" --config typos.toml
