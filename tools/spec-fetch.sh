#!/usr/bin/env bash
# Fetches the published documents and takes over what changed.
#
#   tools/spec-fetch.sh REPORT [URL...]
#
# Writes the text of a pull request to REPORT; an empty REPORT means that nothing changed. Fails if
# a document cannot be fetched, is not one, or cannot be taken over: silence would pass for "no
# change". Changes the working tree and makes no commit.
set -euo pipefail
cd "$(dirname "$0")/.."
report=${1:?where the report goes}
shift
[ $# -gt 0 ] || set -- https://docs.kalshi.com/openapi.yaml https://docs.kalshi.com/asyncapi.yaml \
    https://docs.kalshi.com/perps_openapi.yaml https://docs.kalshi.com/perps_scm_openapi.yaml \
    https://docs.kalshi.com/perps_asyncapi.yaml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

: > "$report"
for url in "$@"; do
    file=$work/$(basename "$url")
    curl --fail --silent --show-error --location --max-filesize 20000000 --max-time 60 --retry 3 \
        --output "$file" "$url"
    case $(basename "$url") in
        asyncapi*) mine=asyncapi.yaml ;;
        perps_asyncapi*) mine=perps_asyncapi.yaml ;;
        perps_openapi*) mine=perps_openapi.yaml ;;
        perps_scm_openapi*) mine=klear_openapi.yaml ;;
        *) mine=openapi.yaml ;;
    esac
    cargo gen diff "$mine" "$file" --format markdown --fail-on never > "$work/diff.md"
    if grep -q '^No change of structure' "$work/diff.md"; then
        continue
    fi
    # Of what it says, only the end: the changes stand above.
    cargo gen update --from "$file" > "$work/update.txt"
    {
        cat "$work/diff.md"
        printf '\n<details><summary>What cargo gen update said</summary>\n\n```text\n'
        sed -n '/^Overlays:/,$p' "$work/update.txt"
        printf '```\n\n</details>\n'
    } >> "$report"
done
