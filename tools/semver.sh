#!/usr/bin/env bash
# Holds the public API against the last release. Before 1.0 a generated crate may break with a minor
# release, which cargo-semver-checks knows. Does nothing before the first release.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$(git describe --tags --match 'v[0-9]*' --abbrev=0 2> /dev/null) || { echo "no release yet"; exit 0; }
cargo semver-checks --baseline-rev "$tag" -p kalshi-types -p kalshi-auth -p kalshi-sdk
