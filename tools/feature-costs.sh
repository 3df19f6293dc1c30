#!/usr/bin/env bash
# Measures what the features `perps` and `klear` cost: for each crate that has them, with and without,
# the packages, the processor and wall time of a `cargo check` and of a release build of everything of
# this workspace, and the bytes of the program `kalshi`. Packages of others are the same either way, and
# are compiled before; one that is compiled again is an error. Wall times mean something on a quiet
# machine only.
#
#   tools/feature-costs.sh [--check-only] [CRATE…]     (all five unless named)
set -euo pipefail
cd "$(dirname "$0")/.."
release=yes
if [ "${1:-}" = --check-only ]; then
    release=
    shift
fi
crates=("$@")
[ ${#crates[@]} -gt 0 ] || crates=(kalshi-sdk kalshi-ws kalshi-trade kalshi-sim kalshi-cli)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

features_of() {
    case $1 in
        kalshi-sdk | kalshi-cli) echo klear,perps ;;
        kalshi-ws | kalshi-trade | kalshi-sim) echo perps ;;
        *) echo "$1 has neither feature" >&2; return 1 ;;
    esac
}

packages() { cargo tree --quiet -e normal,build --prefix none "$@" | sed 's/ (\*)$//' | sort -u | wc -l; }

mapfile -t own < <(cargo metadata --no-deps --format-version 1 | grep -o '"name":"kalshi-[a-z]*","version"' | cut -d '"' -f 4)

# measured check|build ARGUMENT…: compiles all of this workspace anew, and prints the seconds of
# processor time and, in brackets, of wall time.
measured() {
    local TIMEFORMAT='%U %S %R' command=$1 profile=()
    shift
    [ "$command" = check ] || profile=(--release)
    cargo clean --quiet "${profile[@]}" "${own[@]/#/--package=}"
    { time cargo "$command" "${profile[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; } 2>"$work/time"
    if grep -E '^ +(Compiling|Checking) ' "$work/log" | grep -v ' (/' >&2; then
        echo "packages of others were compiled again" >&2
        exit 1
    fi
    awk -v name="$command ${profile[*]}" '{ printf "  %s %.1f s (%.1f)\n", name, $1 + $2, $3 }' <(tail -n 1 "$work/time")
}

export CARGO_TARGET_DIR="$work/target"
for crate in "${crates[@]}"; do
    added=$(features_of "$crate")
    cargo check --quiet -p "$crate"
    [ -z "$release" ] || cargo build --quiet --release -p "$crate"
    for features in "" "$added"; do
        selected=(-p "$crate")
        [ -z "$features" ] || selected+=(--features "$features")
        printf '%s %s\n  packages %s\n' "$crate" "${features:-without}" "$(packages "${selected[@]}")"
        measured check "${selected[@]}"
        if [ -n "$release" ]; then
            measured build "${selected[@]}"
            program=${crate/kalshi-cli/kalshi}
            [ ! -e "$work/target/release/$program" ] || printf '  bytes %s\n' "$(stat -c %s "$work/target/release/$program")"
        fi
    done
done
