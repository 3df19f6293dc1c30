#!/usr/bin/env bash
# Measures what the features `perps` and `klear` cost: for each crate that has them, with and without,
# the packages, the processor and wall time of a clean `cargo check` and of a clean release build, and
# the bytes of the program `kalshi`. Wall times mean something on a quiet machine only.
#
#   tools/feature-costs.sh [--check-only] [CRATE…]     (all four unless named)
set -euo pipefail
cd "$(dirname "$0")/.."
release=yes
if [ "${1:-}" = --check-only ]; then
    release=
    shift
fi
crates=("$@")
[ ${#crates[@]} -gt 0 ] || crates=(kalshi-sdk kalshi-ws kalshi-trade kalshi-cli)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

features_of() {
    case $1 in
        kalshi-sdk | kalshi-cli) echo klear,perps ;;
        kalshi-ws | kalshi-trade) echo perps ;;
        *) echo "$1 has neither feature" >&2; return 1 ;;
    esac
}

# measured NAME COMMAND…: prints the seconds of processor time and, in brackets, of wall time.
measured() {
    local TIMEFORMAT='%U %S %R' name=$1
    shift
    { time "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; } 2>"$work/time"
    awk -v name="$name" '{ printf "  %s %.1f s (%.1f)\n", name, $1 + $2, $3 }' <(tail -n 1 "$work/time")
}

packages() { cargo tree --quiet -e normal,build --prefix none "$@" | sed 's/ (\*)$//' | sort -u | wc -l; }

for crate in "${crates[@]}"; do
    added=$(features_of "$crate")
    for features in "" "$added"; do
        selected=(-p "$crate")
        [ -z "$features" ] || selected+=(--features "$features")
        printf '%s %s\n  packages %s\n' "$crate" "${features:-without}" "$(packages "${selected[@]}")"
        # Everything is compiled anew.
        rm -rf "$work/target"
        export CARGO_TARGET_DIR="$work/target"
        measured check cargo check --quiet "${selected[@]}"
        if [ -n "$release" ]; then
            rm -rf "$work/target"
            measured release cargo build --quiet --release "${selected[@]}"
            if [ "$crate" = kalshi-cli ]; then
                printf '  bytes %s\n' "$(stat -c %s "$work/target/release/kalshi")"
            fi
        fi
        unset CARGO_TARGET_DIR
    done
done
