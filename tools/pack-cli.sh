#!/usr/bin/env bash
# Packs the program `kalshi` of a release build with its completions, manual pages and licenses into
# target/kalshi-VERSION-TARGET.tar.gz. Without TARGET it takes the build for this machine, and with
# PROFILE another profile than release.
#
#   tools/pack-cli.sh [TARGET] [PROFILE]
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-}
profile=${2:-release}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name="kalshi-$version-${target:-local}"
program="target/${target:+$target/}$profile/kalshi"
[ -x "$program" ] || program="$program.exe"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/$name/completions"
cp "$program" LICENSE-APACHE LICENSE-MIT kalshi-cli/README.md "$work/$name/"
for shell in bash zsh fish; do "$program" completions "$shell" > "$work/$name/completions/kalshi.$shell"; done
"$program" docs --format man --folder "$work/$name/man"
tar -czf "target/$name.tar.gz" -C "$work" "$name"
echo "target/$name.tar.gz"
