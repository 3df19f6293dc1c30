#!/usr/bin/env bash
# Points clients of another language at the simulator: the official Python SDK, unmodified, with each
# of its methods, also while reads trail; and Python's websockets. Needs Python 3 with venv, and a
# package index.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
# The SDK asks for a newer Python than it needs.
bin="$(tools/venv.sh clients kalshi-sim/tests/python/requirements.txt --ignore-requires-python)"

cargo build --package kalshi-sim --features ui
folder=""
exchange=""
stop() {
    [[ -z "$exchange" ]] || kill "$exchange" 2>/dev/null || true
    [[ -z "$folder" ]] || rm -rf "$folder"
}
trap stop EXIT

# Starts a simulator whose reads trail by this much.
start() {
    stop
    folder="$(mktemp -d)"
    "$target/debug/kalshi-sim" --lag "$1" --admin-port 0 --new-key "$folder/trader.pem" \
        --new-maker-key "$folder/maker.pem" --new-fcm-key "$folder/fcm.pem" \
        >"$folder/out" 2>"$folder/err" &
    exchange=$!
    for _ in $(seq 100); do
        grep -q '^admin API on' "$folder/out" && break
        sleep 0.1
    done
    base_url="$(sed -n 's/^listening on //p' "$folder/out")"
    admin_url="$(sed -n 's/^admin API on //p' "$folder/out")"
    trader=(00000000-0000-4000-8000-000000000000 "$folder/trader.pem")
    maker=(00000000-0000-4000-8000-000000000001 "$folder/maker.pem")
    fcm=(00000000-0000-4000-8000-000000000003 "$folder/fcm.pem")
}

run() {
    timeout 120 "$bin/python" "kalshi-sim/tests/python/$1" "${@:2}"
}

cargo build --package kalshi-sim --features ui
start none
run streams.py "$base_url" "${trader[@]}"
run official_sdk.py "$base_url" "$admin_url" "${trader[@]}" "${maker[@]}"
for lag in none realistic; do
    start "$lag"
    printf 'reads that trail: %s\n' "$lag"
    run every_method.py "$base_url" "${trader[@]}" "${maker[@]}" "${fcm[@]}"
done

# The other direction: Python's websockets as the exchange's end, for kalshi-ws. By the build of
# the whole workspace, as in the tests: -p would choose other features.
"$bin/python" kalshi-ws/tests/python/peer.py \
    cargo test --workspace --features kalshi-cli/fanout,kalshi-cli/klear,kalshi-cli/perps --test all -- --ignored --exact \
    websocket::websockets_for_python_are_read_and_answered
