#!/usr/bin/env bash
# Publishes a tag: every crate in the order of their dependencies, with the version of the Trade
# API as build metadata.
#
#   tools/release.sh TAG [--dry-run]
#
# TAG is v0.3.0 and must be the version in Cargo.toml. A dry run prints what would be done and
# writes nothing. A crate that is published already is left alone, so that a run which was cut
# short can be repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:?a tag}
dry=${2:-}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
spec=$(awk '/^info:/ { inside = 1; next } /^[^ ]/ { inside = 0 } inside && $1 == "version:" { print $2; exit }' openapi.yaml | tr -d "'\"")
[ "$tag" = "v$version" ] || { echo "the tag is $tag, Cargo.toml says $version" >&2; exit 1; }
[[ $spec =~ ^[0-9A-Za-z.-]+$ ]] || { echo "openapi.yaml has no version that can be metadata: $spec" >&2; exit 1; }
grep -q "^## $version" CHANGELOG.md || { echo "CHANGELOG.md has no heading for $version" >&2; exit 1; }
full="$version+spec.$spec"

# Those that others depend on come first; what is not published says so in its manifest.
crates=()
for crate in kalshi-types kalshi-auth kalshi-gen kalshi-ws kalshi-fanout kalshi-sdk kalshi-trade kalshi-sim kalshi-cli; do
    manifest=$crate/Cargo.toml
    [ "$crate" = kalshi-sdk ] && manifest=Cargo.toml
    [ -f "$manifest" ] || continue
    grep -q '^publish = false' "$manifest" && continue
    crates+=("$crate")
done

echo "$full: ${crates[*]}"
if [ "$dry" = --dry-run ]; then exit 0; fi
# The packages ship the generated code, for builds without the feature `generate`.
trap 'rm -rf shipped kalshi-ws/shipped' EXIT
cargo gen package
# Dependencies are asked for by the plain version: build metadata takes no part in matching.
sed -i "0,/^version = \"$version\"/s//version = \"$full\"/" Cargo.toml
cargo update --workspace --quiet
for crate in "${crates[@]}"; do
    if ! output=$(cargo publish --locked --allow-dirty -p "$crate" 2>&1); then
        case $output in
            *"already exists"* | *"already uploaded"*) echo "$crate $full is published already" ;;
            *) echo "$output" >&2; exit 1 ;;
        esac
    fi
done
