#!/usr/bin/env bash
# Packages every crate that is published, with the generated code that they ship, and unpacks them
# into FOLDER. Prints the name and the folder of each.
#
#   tools/unpack-packages.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?a folder}

crates=(kalshi-types kalshi-auth kalshi-gen kalshi-ws kalshi-fanout kalshi-sdk kalshi-trade kalshi-sim kalshi-cli)
packages=(); for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
# In a checkout there is none, before and after.
trap 'rm -rf shipped kalshi-ws/shipped' EXIT
rm -rf shipped kalshi-ws/shipped
cargo gen package
cargo package --quiet --allow-dirty --no-verify "${packages[@]}"

target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for crate in "${crates[@]}"; do
    tar -xzf "$target/package/$crate-$version.crate" -C "$folder"
    echo "$crate $folder/$crate-$version"
done
