#!/usr/bin/env bash
# Measures what depending on kalshi-sdk costs: packages, and processor and wall time of a clean
# `cargo check` and a clean release build of a program that makes a client and sends one request.
# Once as it is, and once without the feature `generate`, from the packages as they are published.
# Beside them, each in turn in the same run, plain reqwest and the leanest other crate of the field.
# Wall times mean something on a quiet machine only; processor times move less.
#
#   tools/hello-world.sh [--check-only] [OTHER_CRATE@VERSION]     (kalshi-trade-rs@0.6.0 unless named)
#
# The results are recorded in ARCHITECTURE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
release=yes
if [ "${1:-}" = --check-only ]; then
    release=
    shift
fi
other=${1:-kalshi-trade-rs@0.6.0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# project NAME DEPENDENCIES MAIN; kept in $work/NAME.
project() {
    mkdir -p "$work/$1/src"
    printf '[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n[dependencies]\n%s\ntokio = { version = "1", features = ["macros", "rt-multi-thread"] }\n' "$2" > "$work/$1/Cargo.toml"
    printf '%s\n' "$3" > "$work/$1/src/main.rs"
}

ours='
#[tokio::main]
async fn main() -> Result<(), kalshi_sdk::Error> {
    let client = kalshi_sdk::Client::builder().with_environment(kalshi_sdk::Environment::Demo).build()?;
    println!("{:?}", client.get_exchange_status().send().await?);
    Ok(())
}'
project kalshi-sdk "kalshi-sdk = { path = \"$root\" }" "$ours"
# The packages have the generated code that a checkout has not.
mkdir "$work/packages"
tools/unpack-packages.sh "$work/packages" > "$work/crates"
project shipped 'kalshi-sdk = { version = "*", default-features = false, features = ["aws-lc-rs", "rustls"] }' "$ours"
{
    printf '\n[patch.crates-io]\n'
    while read -r crate folder; do printf '%s = { path = "%s" }\n' "$crate" "$folder"; done < "$work/crates"
} >> "$work/shipped/Cargo.toml"
project reqwest 'reqwest = "0.13"
serde = { version = "1", features = ["derive"] }
serde_json = "1"' '
#[tokio::main]
async fn main() -> Result<(), reqwest::Error> {
    let url = "https://external-api.demo.kalshi.co/trade-api/v2/exchange/status";
    println!("{}", reqwest::get(url).await?.text().await?);
    Ok(())
}'
# What the other crate calls its client is its own affair: linking it is what costs.
project other "${other%@*} = \"=${other#*@}\"" "
use $(echo "${other%@*}" | tr - _) as _;
#[tokio::main]
async fn main() {}"

# cost COMMAND...: processor and wall seconds of it, built from nothing.
cost() {
    local target TIMEFORMAT='%U %S %R'
    target=$(mktemp -d -p "$work")
    { time CARGO_TARGET_DIR=$target "$@" > "$work/log" 2>&1; } 2> "$work/time" || {
        cat "$work/log" >&2
        exit 1
    }
    rm -rf "$target"
    awk '{ printf "%.1f %.1f\n", $1 + $2, $3 }' "$work/time"
}

row() { printf '%-26s %8s %10s %11s %12s %13s\n' "$@"; }

row crate packages 'check CPU' 'check wall' 'release CPU' 'release wall'
for name in kalshi-sdk shipped reqwest other; do
    cd "$work/$name"
    cargo fetch --quiet
    # Those that are compiled for this machine, the program itself left out.
    packages=$(cargo tree --quiet --prefix none -e normal,build --no-dedupe --format '{p}' | sed 's/ (.*$//' | sort -u | grep -vc '^hello ')
    times=$(cost cargo check)
    read -r check_cpu check_wall <<< "$times"
    release_cpu=- release_wall=-
    if [ -n "$release" ]; then
        times=$(cost cargo build --release)
        read -r release_cpu release_wall <<< "$times"
    fi
    label=$name
    [ "$name" = shipped ] && label='kalshi-sdk, no generate'
    [ "$name" = other ] && label=$other
    row "$label" "$packages" "$check_cpu" "$check_wall" "$release_cpu" "$release_wall"
done
