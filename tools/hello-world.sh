#!/usr/bin/env bash
# Measures what depending on kalshi-sdk costs: packages, clean `cargo check`, clean release build,
# of a program that makes a client and sends one request. Beside it, in the same run, plain reqwest
# and another crate of the field. Nothing else should run on the machine.
#
#   tools/hello-world.sh [OTHER_CRATE@VERSION]     (kalshi-trade-rs@0.6.0 unless named)
#
# The results are recorded in ARCHITECTURE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
other=${1:-kalshi-trade-rs@0.6.0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# project NAME DEPENDENCIES MAIN
project() {
    mkdir -p "$work/$1/src"
    printf '[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n[dependencies]\n%s\ntokio = { version = "1", features = ["macros", "rt-multi-thread"] }\n' "$2" > "$work/$1/Cargo.toml"
    printf '%s\n' "$3" > "$work/$1/src/main.rs"
}

project kalshi-sdk "kalshi-sdk = { path = \"$root\" }" '
#[tokio::main]
async fn main() -> Result<(), kalshi_sdk::Error> {
    let client = kalshi_sdk::Client::builder().with_environment(kalshi_sdk::Environment::Demo).build()?;
    println!("{:?}", client.get_exchange_status().send().await?);
    Ok(())
}'
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
use ${other%%@*} as _;
#[tokio::main]
async fn main() {}"
sed -i "s/^use .* as _;/use $(echo "${other%@*}" | tr - _) as _;/" "$work/other/src/main.rs"

printf '%-28s %9s %9s %9s\n' crate packages check release
for name in kalshi-sdk reqwest other; do
    cd "$work/$name"
    cargo fetch --quiet
    packages=$(cargo tree --quiet --prefix none -e normal,build --no-dedupe | sed 's/ (\*)$//; s/ (.*)$//' | sort -u | grep -vc '^hello ')
    seconds() {
        local start=$SECONDS
        CARGO_TARGET_DIR=$(mktemp -d -p "$work") "$@" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
        echo $((SECONDS - start))
    }
    check=$(seconds cargo check)
    release=$(seconds cargo build --release)
    label=$name
    [ "$name" = other ] && label=$other
    printf '%-28s %9s %8ss %8ss\n' "$label" "$packages" "$check" "$release"
done
