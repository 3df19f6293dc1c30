#!/usr/bin/env bash
# Runs every example against the embedded exchange, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."

# What would lead an example to a real environment.
unset KALSHI_ENV KALSHI_API_KEY_ID KALSHI_PRIVATE_KEY KALSHI_PRIVATE_KEY_PATH

# Those that would go on until Ctrl-C stop by themselves.
export EXAMPLE_SECONDS=3

cargo build --examples
folder="${CARGO_TARGET_DIR:-target}/debug/examples"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
failed=()

run() {
    printf '\n-- %s\n' "$*"
    timeout 120 "$folder/$1" "${@:2}" || failed+=("$*")
}

for file in examples/*.rs; do
    run "$(basename "$file" .rs)"
done
# The reads of a real exchange trail what it does.
for example in batch_orders cancel_all live_portfolio place_order portfolio quickstart rfq_maker; do
    EXAMPLE_LAG=realistic run "$example"
done
run hold_markets 10000
run book
run fills
run perps
run klear
# Takes a minute more if an order whose answer was lost has to be proven absent.
EXAMPLE_SECONDS=10 run market_maker
run recorder record "$scratch"
run recorder play "$scratch"
run recorder play "$scratch" 10
if ((${#failed[@]} > 0)); then
    printf '\nfailed: %s\n' "${failed[*]}" >&2
    exit 1
fi
