#!/usr/bin/env bash
# What a branch changes in the exchange's documents, against the commit that it goes to.
#
#   tools/spec-diff.sh BASE [FORMAT]
#
# FORMAT is text (default), markdown or github. Reads the repository and writes only below a folder
# of its own. Ends with 0 if no document changed or the changelog has an entry for what did; with 1
# if CHANGELOG.md or the version in Cargo.toml was left behind; with 2 if something cannot be read.
# What breaks does not fail: the version that it needs is checked, and said.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?the commit to compare with}
format=${2:-text}
git rev-parse --quiet --verify "$base^{commit}" > /dev/null || { echo "no commit: $base" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

version() { sed -n 's/^version = "\(.*\)"/\1/p' | head -n 1; }
old_version=$(git show "$base:Cargo.toml" | version)
new_version=$(version < Cargo.toml)
status=0
for file in openapi.yaml asyncapi.yaml perps_openapi.yaml klear_openapi.yaml perps_asyncapi.yaml; do
    [ -f "$file" ] || continue
    if ! git cat-file -e "$base:$file" 2> /dev/null; then
        echo "$file is new"
        continue
    fi
    git show "$base:$file" > "$work/$file"
    cmp -s "$work/$file" "$file" && continue
    cargo gen diff "$work/$file" "$file" --file "$file" --format "$format" --fail-on never \
        --crate-version "$old_version" || exit 2
    if git diff --quiet "$base" -- CHANGELOG.md; then
        echo "error: $file changed, CHANGELOG.md did not: add what users have to know" >&2
        status=1
    fi
    part=$(cargo gen diff "$work/$file" "$file" --format json --fail-on never --crate-version "$old_version" \
        | sed -n 's/^ *"part": "\(.*\)",*$/\1/p')
    # Before the first release of a version the number in Cargo.toml has been raised already.
    if { [ "$part" = minor ] || [ "$part" = major ]; } && [ "$old_version" = "$new_version" ] \
        && git rev-parse --quiet --verify "refs/tags/v$old_version" > /dev/null; then
        echo "error: $file needs a $part release after $old_version, which is published" >&2
        status=1
    fi
done
exit "$status"
