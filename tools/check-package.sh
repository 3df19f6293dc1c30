#!/usr/bin/env bash
# Packages every crate that is published and builds a program outside the workspace from the
# packages alone: the root must not reach for a file that it does not ship.
set -euo pipefail
cd "$(dirname "$0")/.."

crates=(kalshi-types kalshi-auth kalshi-gen kalshi-ws kalshi-sdk)
packages=(); for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
cargo package --quiet --allow-dirty --no-verify "${packages[@]}"

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for crate in "${crates[@]}"; do
    tar -xzf "$target/package/$crate-$version.crate" -C "$work"
done

mkdir -p "$work/hello/src"
{
    printf '[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'
    printf 'kalshi-sdk = { version = "%s", features = ["streams"] }\n\n[patch.crates-io]\n' "$version"
    for crate in "${crates[@]}"; do printf '%s = { path = "../%s-%s" }\n' "$crate" "$crate" "$version"; done
} > "$work/hello/Cargo.toml"
cat > "$work/hello/src/main.rs" <<'RUST'
fn main() -> Result<(), kalshi_sdk::Error> {
    let demo = kalshi_sdk::Environment::Demo;
    let client = kalshi_sdk::Client::builder().with_environment(demo).build()?;
    println!("{} operations at {}", kalshi_sdk::OPERATIONS.len(), client.base_url());
    println!("{} kinds of messages", kalshi_sdk::streams::MESSAGE_KINDS.len());
    Ok(())
}
RUST
# The workspace's lock file and target folder: nothing is compiled or resolved anew.
cp Cargo.lock "$work/hello/"
CARGO_TARGET_DIR="$target/package-check" cargo run --quiet --manifest-path "$work/hello/Cargo.toml"
