#!/usr/bin/env bash
# Shows with programs outside the workspace that the features `perps` and `klear` change nothing in
# a build without them: none of their public names is there, and none of their code is generated.
#
# The programs are compiled against the libraries of builds that tools/check-features.sh makes
# anyway, so that nothing is compiled for this alone.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "$*" >&2; exit 1; }

# build NAME ARGUMENTS…: checks a package, and keeps what cargo says of it under a name.
build() {
    local name=$1
    shift
    cargo check --quiet --message-format json "$@" > "$work/$name"
}

# library NAME CRATE: the file of a library in a build.
library() {
    local crate=$2 found
    found=$(grep '"reason":"compiler-artifact"' "$work/$1" | grep -F "\"kind\":[\"lib\"]" \
        | grep -F "\"name\":\"$crate\"" | grep -o "\"[^\"]*/lib$crate-[^\"]*\.rmeta\"" | tr -d '"' | tail -n 1)
    [ -n "$found" ] || fail "no $crate in the build $1"
    printf '%s\n' "$found"
}

# program NAME CRATE TEXT: compiles a program with that one library.
program() {
    local file
    file=$(library "$1" "$2")
    printf '%s\n' "$3" > "$work/program.rs"
    rustc --edition 2024 --crate-type lib --emit metadata --out-dir "$work" -A warnings \
        --extern "$2=$file" -L "dependency=$(dirname "$file")" "$work/program.rs" 2> "$work/said"
}

# has NAME PATH: a program can name it.
has() { program "$1" "${2%%::*}" "use $2;" || { cat "$work/said" >&2; fail "the build $1 has no $2"; }; }

# lacks NAME PATH: a program cannot name it, because it is not there or private, and does not compile
# for that reason.
lacks() {
    if program "$1" "${2%%::*}" "use $2;"; then
        fail "$2 can be named without its feature"
    fi
    grep -qE '^error\[E0(432|603)\]' "$work/said" || { cat "$work/said" >&2; fail "the program with $2 fails for another reason"; }
}

# generated NAME CRATE: the folder of the generated code in a build.
generated() {
    grep '"reason":"build-script-executed"' "$work/$1" | grep -E "/$2#|#$2@" \
        | sed -n 's/.*"out_dir":"\([^"]*\)".*/\1/p' | tail -n 1
}

build trade -p kalshi-trade
build sim -p kalshi-sim --lib
# With the features, so that a name that is not there is not one that is spelled wrong.
build sdk-perps -p kalshi-sdk --no-default-features --features generate,pure-rust,perps
build sdk-klear -p kalshi-sdk --no-default-features --features generate,pure-rust,klear
build ws-perps -p kalshi-ws --no-default-features --features generate,perps

for name in kalshi_sdk::Client kalshi_sdk::OPERATIONS kalshi_ws::Connection kalshi_trade::placement::Placements; do
    has trade "$name"
done
for name in kalshi_sim::Exchange kalshi_sim::MarketPlan kalshi_sim::STREAM_PATH; do
    has sim "$name"
done
for name in kalshi_sdk::perps kalshi_sdk::perps::OPERATIONS; do
    has sdk-perps "$name"
    lacks trade "$name"
done
for name in kalshi_sdk::klear kalshi_sdk::klear::OPERATIONS kalshi_sdk::klear::Klear; do
    has sdk-klear "$name"
    lacks trade "$name"
done
for name in kalshi_ws::perps kalshi_ws::perps::Event; do
    has ws-perps "$name"
    lacks trade "$name"
done
# These libraries are not built with the feature here: what they name with it is read in their sources.
for name in PerpsControl PerpsMarketPlan CorporateAction PERPS_STREAM_PATH; do
    grep -rqE "pub (struct|enum|const) $name\b" kalshi-sim/src || fail "kalshi-sim has no $name"
    lacks sim "kalshi_sim::$name"
done
for name in journal::Product journal::TriggerIntent placement::perps; do
    grep -rqE "pub (enum|mod|struct) ${name##*::}\b" kalshi-trade/src || fail "kalshi-trade has no $name"
    lacks trade "kalshi_trade::$name"
done

# Neither a file nor an operation of theirs is generated.
for crate in kalshi-sdk kalshi-ws; do
    folder=$(generated trade "$crate")
    [ -e "$folder/generated.rs" ] || fail "no generated code of $crate"
    found=$(find "$folder" -name 'perps*' -o -name 'klear*')
    [ -z "$found" ] || fail "$crate generates $found without the features"
done
operations() { grep -oE '/margin/|margin_order|settlement_balance' "$1"/*.rs | sort -u; }
[ -n "$(operations "$(generated sdk-perps kalshi-sdk)")" ] || fail "no operation of perpetual futures is generated with the feature"
found=$(operations "$(generated trade kalshi-sdk)" || true)
[ -z "$found" ] || fail "kalshi-sdk generates operations without the features: $found"
