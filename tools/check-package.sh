#!/usr/bin/env bash
# Packages every crate that is published and builds a program outside the workspace from the
# packages alone: the root must not reach for a file that it does not ship. Builds it once with the
# feature `generate` and once with the code that the packages ship: both are the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools/unpack-packages.sh "$work" > "$work/crates"

mkdir -p "$work/hello/src"
# manifest SETTINGS: depends on kalshi-sdk with them, and on the packages alone.
manifest() {
    printf '[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2024"\n\n[dependencies]\n'
    printf 'kalshi-sdk = { version = "%s", %s }\n\n[patch.crates-io]\n' "$version" "$1"
    while read -r crate folder; do printf '%s = { path = "%s" }\n' "$crate" "$folder"; done < "$work/crates"
}
cat > "$work/hello/src/main.rs" <<'RUST'
fn main() -> Result<(), kalshi_sdk::Error> {
    let demo = kalshi_sdk::Environment::Demo;
    let client = kalshi_sdk::Client::builder().with_environment(demo).build()?;
    println!("{} operations at {}", kalshi_sdk::OPERATIONS.len(), client.base_url());
    println!("{} kinds of messages", kalshi_sdk::streams::MESSAGE_KINDS.len());
    let more = (kalshi_sdk::perps::OPERATIONS.len(), kalshi_sdk::klear::OPERATIONS.len());
    println!("{} operations of perps, {} of Klear", more.0, more.1);
    println!("{} kinds of messages of perps", kalshi_sdk::streams::perps::MESSAGE_KINDS.len());
    Ok(())
}
RUST
# The workspace's lock file and target folder: nothing is compiled or resolved anew.
cp Cargo.lock "$work/hello/"
export CARGO_TARGET_DIR="$target/package-check"

# out_dir CRATE: where its build script wrote, in the build that stands in $work/messages.
out_dir() {
    grep '"reason":"build-script-executed"' "$work/messages" | grep "/$1-$version#" \
        | sed -n 's/.*"out_dir":"\([^"]*\)".*/\1/p'
}

for way in generated shipped; do
    settings='features = ["klear", "perps", "streams"]'
    [ "$way" = shipped ] && settings='default-features = false, features = ["aws-lc-rs", "klear", "perps", "rustls", "streams"]'
    manifest "$settings" > "$work/hello/Cargo.toml"
    cargo build --quiet --manifest-path "$work/hello/Cargo.toml" --message-format json-render-diagnostics > "$work/messages"
    for crate in kalshi-sdk kalshi-ws; do
        out=$(out_dir "$crate")
        for file in "$work/$crate-$version/shipped"/*.rs; do
            cmp "$file" "$out/$(basename "$file")"
        done
    done
    if cargo tree --quiet --manifest-path "$work/hello/Cargo.toml" -e normal,build --prefix none | grep -q '^kalshi-gen '; then
        [ "$way" = generated ] || { echo "the program depends on kalshi-gen without \`generate\`" >&2; exit 1; }
    fi
    echo "$way:"
    "$CARGO_TARGET_DIR/debug/hello"
done

# Documents that the code was not made from are refused.
echo '# changed' >> "$work/kalshi-sdk-$version/openapi.yaml"
if said=$(cargo build --quiet --manifest-path "$work/hello/Cargo.toml" 2>&1); then
    echo "shipped code was taken for another document" >&2
    exit 1
fi
[[ $said == *"was not made from this openapi.yaml"* ]] || { printf '%s\n' "$said" >&2; exit 1; }
