#!/usr/bin/env bash
# Tests the scripts behind the workflows, in a repository of its own, without a network: `cargo gen`
# is the real one, and what would reach the outside (curl, git push, gh, cargo publish) is written
# down instead.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cargo build --quiet -p kalshi-gen
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/web" "$work/repo/overlay/docs" "$work/repo/tests/golden"
export GENERATOR=$target/debug/kalshi-gen WORK=$work

cat > "$work/bin/cargo" <<'SH'
#!/usr/bin/env bash
case $1 in
    gen) shift; exec "$GENERATOR" "$@" ;;
    publish) echo "publish ${*: -1} $(grep -m1 '^version' Cargo.toml)" >> "$WORK/log"
        if [ "${*: -1}" = "${PUBLISHED:-}" ]; then echo "crate already exists" >&2; exit 101; fi ;;
    *) echo "cargo $*" >> "$WORK/log" ;;
esac
SH
cat > "$work/bin/curl" <<'SH'
#!/usr/bin/env bash
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; shift; done
[ -f "$WORK/web/$(basename "$1")" ] || exit 22
cp "$WORK/web/$(basename "$1")" "$out"
SH
cat > "$work/bin/gh" <<'SH'
#!/usr/bin/env bash
echo "gh $*" >> "$WORK/log"
[ "$2" != view ]
SH
chmod +x "$work"/bin/*
export PATH=$work/bin:$PATH GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example

cp -r "$root/tools" "$work/repo/"
cd "$work/repo"
cat > openapi.yaml <<'YAML'
openapi: 3.0.0
info:
  title: Small
  version: 3.34.0
servers:
- url: https://external-api.kalshi.com/trade-api/v2
paths:
  /c:
    get:
      operationId: GetC
      responses:
        '204':
          description: No Content
  /a:
    get:
      operationId: GetA
      responses:
        '204':
          description: No Content
YAML
printf '[package]\nname = "kalshi-sdk"\nversion = "0.3.0"\n\n[features]\n' > Cargo.toml
printf '# Changelog\n\n## 0.3.0\n\nFirst.\n' > CHANGELOG.md
mkdir kalshi-types kalshi-sim
printf '[package]\nversion.workspace = true\n' > kalshi-types/Cargo.toml
printf '[package]\nversion.workspace = true\npublish = false\n' > kalshi-sim/Cargo.toml
cargo gen update > /dev/null
git init --quiet --initial-branch main
git add . && git commit --quiet --message First
git init --quiet --bare "$work/origin" && git remote add origin "$work/origin"

failed=0
expect() { # what, status, text, command...
    local what=$1 status=$2 text=$3 got=0 said
    shift 3
    said=$("$@" 2>&1) || got=$?
    if [ "$got" != "$status" ] || [[ $said != *"$text"* ]]; then
        printf 'FAILED: %s\n  expected %s and "%s", got %s and:\n%s\n' "$what" "$status" "$text" "$got" "$said"
        failed=1
    else
        echo "ok: $what"
    fi
}

expect "nothing changed, nothing is said" 0 "" tools/spec-diff.sh HEAD
expect "a base that is none" 2 "no commit" tools/spec-diff.sh nowhere
sed -i 's|  /a:|  /b:|' openapi.yaml
expect "a changed document without a changelog" 1 "CHANGELOG.md did not" tools/spec-diff.sh HEAD
echo '- Moved.' >> CHANGELOG.md
expect "a changed document with a changelog" 0 "api-removed-without-deprecation" tools/spec-diff.sh HEAD
expect "the same as annotations" 0 "::error file=openapi.yaml" tools/spec-diff.sh HEAD github
git tag v0.3.0
expect "a break after a release without a new version" 1 "needs a minor release" tools/spec-diff.sh HEAD
sed -i 's/^version = "0.3.0"/version = "0.4.0"/' Cargo.toml
expect "a break with a new version" 0 "minor release 0.4.0" tools/spec-diff.sh HEAD
echo 'paths: 7' > openapi.yaml
expect "a document that cannot be read" 2 "openapi.yaml: " tools/spec-diff.sh HEAD
git checkout --quiet .

expect "a document that cannot be fetched" 22 "" tools/spec-fetch.sh "$work/report" https://x.example/openapi.yaml
echo '<html>' > "$work/web/openapi.yaml"
expect "a page where the document should be" 2 "openapi.yaml: " tools/spec-fetch.sh "$work/report" https://x.example/openapi.yaml
sed 's/description: No Content/description: Theirs./' openapi.yaml > "$work/web/openapi.yaml"
expect "other prose is no news" 0 "" tools/spec-fetch.sh "$work/report" https://x.example/openapi.yaml
expect "and opens nothing" 0 "are the ones here" tools/spec-pr.sh "$work/report"
sed 's/3.34.0/3.35.0/; s|  /a:|  /b:|' openapi.yaml > "$work/web/openapi.yaml"
expect "news are taken over" 0 "" tools/spec-fetch.sh "$work/report" https://x.example/openapi.yaml
expect "with the metadata" 0 '"3.35.0"' cat Cargo.toml
expect "and a draft for the changelog" 0 "Trade API 3.34.0 to 3.35.0" cat CHANGELOG.md
expect "and a report" 0 "**minor release 0.4.0" cat "$work/report"
expect "a pull request is opened" 0 "" tools/spec-pr.sh "$work/report"
expect "with the versions as its title" 0 "gh pr create --head documents --title OpenAPI 3.34.0 to 3.35.0" cat "$work/log"
expect "on a branch that was pushed" 0 "documents" git -C "$work/origin" branch
git checkout --quiet main

expect "a tag that is not the version" 1 "the tag is v9.9.9" tools/release.sh v9.9.9
expect "a dry run" 0 "0.3.0+spec.3.34.0: kalshi-types kalshi-sdk" tools/release.sh v0.3.0 --dry-run
: > "$work/log"
PUBLISHED=kalshi-types expect "a release that was cut short" 0 "kalshi-types 0.3.0+spec.3.34.0 is published already" tools/release.sh v0.3.0
expect "goes on with the rest" 0 'publish kalshi-sdk version = "0.3.0+spec.3.34.0"' cat "$work/log"
git checkout --quiet .
sed -i 's/## 0.3.0/## 0.2.0/' CHANGELOG.md
expect "a release that the changelog does not know" 1 "no heading for 0.3.0" tools/release.sh v0.3.0
exit "$failed"
