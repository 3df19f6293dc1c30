#!/usr/bin/env bash
# Runs every example of the root package against the embedded exchange, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

# What would lead an example to a real environment.
unset KALSHI_ENV KALSHI_API_KEY_ID KALSHI_PRIVATE_KEY KALSHI_PRIVATE_KEY_PATH

cargo build --examples
folder="${CARGO_TARGET_DIR:-target}/debug/examples"
failed=()
for file in examples/*.rs; do
    name="$(basename "$file" .rs)"
    printf '\n-- %s\n' "$name"
    timeout 120 "$folder/$name" || failed+=("$name")
done
if ((${#failed[@]} > 0)); then
    printf '\nfailed: %s\n' "${failed[*]}" >&2
    exit 1
fi
