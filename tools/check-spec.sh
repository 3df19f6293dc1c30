#!/usr/bin/env bash
# Does any published version of the document still turn into a client that compiles?
#
#   tools/check-spec.sh FILE...
#
# For each FILE (OpenAPI 3.0, YAML or JSON), once as it is and once with this workspace's overlays
# (actions that match nothing there are left out): generates, then compiles the hand-written half
# of the client around the result, in a copy that leaves this workspace alone. No document is kept.
#
# Prints one line for each run. Ends with 1 if one failed; the messages of the generator and of the
# compiler stand above its line. CARGO_TARGET_DIR chooses where to compile, target/check-spec by
# default; the first run compiles the dependencies, a further one takes some seconds.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-$root/target/check-spec}
mkdir -p "$target"
target=$(cd "$target" && pwd)
# One run at a time: they share the copy.
if command -v flock > /dev/null; then exec 9> "$target/lock" && flock 9; fi

cargo build --quiet --manifest-path "$root/Cargo.toml" --target-dir "$root/target" -p kalshi-gen
# Kept aside: a build that goes on here may replace the program under the run.
cp "$root/target/debug/kalshi-gen" "$target/kalshi-gen"
generator=$target/kalshi-gen

# A copy of the root package, at a place that stays the same so that cargo compiles only what changed.
copy=$target/copy
rm -rf "$copy"
mkdir -p "$copy"
cp "$root/Cargo.lock" "$root/clippy.toml" "$copy/"
cp -a "$root/src" "$copy/src"
for member in "$root"/kalshi-*; do cp -a "$member" "$copy/"; done
# Without the build script, the tests, the benches and the examples: the code is generated here.
awk '/^\[\[/ { skip = 1 } /^\[[^[]/ { skip = /^\[dev-dependencies\]/ }
     !skip { print } /^\[package\]/ { print "build = false\nautoexamples = false\nautobenches = false\nautotests = false" }' \
    "$root/Cargo.toml" > "$copy/Cargo.toml"
sed -i 's|^include!.*|include!("../generated.code");|' "$copy/src/generated.rs"

failed=0
for file in "$@"; do
    for overlays in "" --overlays; do
        what="$file${overlays:+ with overlays}"
        # The optional argument stands unquoted: empty, it is none.
        # shellcheck disable=SC2086
        if ! "$generator" --root "$root" generate --spec "$file" $overlays > "$copy/generated.code"; then
            echo "$what: does not generate"
            failed=1
        elif ! CARGO_TARGET_DIR=$target cargo check --quiet --offline -p kalshi-sdk --lib --no-default-features --features pure-rust \
            --manifest-path "$copy/Cargo.toml"; then
            echo "$what: does not compile"
            failed=1
        else
            echo "$what: compiles, $(grep -c 'pub async fn send' "$copy/generated.code") operations"
        fi
    done
done
exit "$failed"
