#!/usr/bin/env bash
# Checks each feature of the published crates on its own, and that none of them is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

check() {
    echo "$*"
    cargo check --quiet "$@"
}

# Each feature beside the library that signs, of which there has to be one, and `generate`: what is
# shipped in place of generating is in the published packages only (tools/check-package.sh).
for feature in aws-lc-rs pure-rust; do
    check -p kalshi-sdk --no-default-features --features "generate,$feature"
done
for feature in gzip http2 klear native-tls perps rustls server socks streams; do
    # TLS by the operating system needs its headers, which a bare machine may not have.
    if [ "$feature" = native-tls ] && ! pkg-config --exists openssl 2>/dev/null; then
        echo "skipped native-tls: no OpenSSL headers here"
        continue
    fi
    check -p kalshi-sdk --no-default-features --features "generate,pure-rust,$feature"
done
check -p kalshi-ws --no-default-features --features generate
check -p kalshi-ws --no-default-features --features generate,perps
# A checkout has no shipped code: a build without `generate` stops there and names the feature.
for crate in kalshi-sdk kalshi-ws; do
    [ "$crate" = kalshi-ws ] && features=() folder=kalshi-ws/shipped || features=(--features aws-lc-rs) folder=shipped
    [ -e "$folder" ] && { echo "$folder is here: remove it, tools/check-package.sh writes its own" >&2; exit 1; }
    if said=$(cargo check --quiet -p "$crate" --no-default-features "${features[@]}" 2>&1); then
        echo "$crate compiles without \`generate\` in a checkout" >&2
        exit 1
    fi
    [[ $said == *'Turn on the feature `generate`'* ]] || { printf '%s\n' "$said" >&2; exit 1; }
done
check -p kalshi-auth --no-default-features --features aws-lc-rs,pure-rust
for backend in aws-lc-rs pure-rust; do
    check -p kalshi-auth --no-default-features --features "$backend"
    for feature in async middleware server; do
        check -p kalshi-auth --no-default-features --features "$backend,$feature"
    done
done
if cargo check --quiet -p kalshi-auth --no-default-features 2>/dev/null; then
    echo "kalshi-auth compiles without a library to sign with" >&2
    exit 1
fi
# Without `perps` and `klear`, which the tests of the workspace turn on.
check -p kalshi-trade
# Without `nats`, which its own tests turn on.
check -p kalshi-fanout
check -p kalshi-sim
check -p kalshi-cli
check -p kalshi-cli --features fanout
check -p kalshi-types --no-default-features
for feature in centi-units chrono rust_decimal; do
    check -p kalshi-types --no-default-features --features "$feature"
done
# The simulator as a library, and with its page.
check -p kalshi-sim --lib
check -p kalshi-sim --lib --features ui
check -p kalshi-gen --lib --no-default-features
check -p kalshi-gen --lib --no-default-features --features review

# What compares documents, and a whole implementation of JSONPath, are not compiled by a build script.
if cargo tree --quiet -p kalshi-sdk -e normal,build --prefix none | grep -E '^(serde_json_path|nom|clap|prettyplease) '; then
    echo "the build script compiles more of the generator than it needs" >&2
    exit 1
fi

# Without `generate` the build scripts have no dependencies.
if cargo tree --quiet -p kalshi-sdk --no-default-features --features aws-lc-rs,rustls,streams -e normal,build --prefix none \
    | grep -E '^(kalshi-gen|progenitor-impl|openapiv3|serde_norway) '; then
    echo "kalshi-sdk without the feature generate depends on the generator" >&2
    exit 1
fi

# A program that only calls operations compiles no WebSocket.
if cargo tree --quiet -p kalshi-sdk -e normal,build --prefix none | grep -E '^(kalshi-ws|tokio-tungstenite) '; then
    echo "kalshi-sdk without the feature streams depends on a WebSocket" >&2
    exit 1
fi

# The simulator as a library has not one byte of its page, and the page is no package.
folder="${CARGO_TARGET_DIR:-target}"
page='Order book by price'
cargo build --quiet -p kalshi-sim --lib
if grep -Fq "$page" "$folder/debug/libkalshi_sim.rlib"; then
    echo "kalshi-sim without the feature ui has its page" >&2
    exit 1
fi
cargo build --quiet -p kalshi-sim --lib --features ui
grep -Fq "$page" "$folder/debug/libkalshi_sim.rlib" || { echo "no page with the feature ui" >&2; exit 1; }

# Perpetual futures and the clearing house are code, and no package.
packages() { cargo tree --quiet -e normal,build --prefix none "$@" | sed 's/ (\*)$//' | sort -u; }
for features in "kalshi-sdk klear,perps" "kalshi-sim ui" "kalshi-sim perps" "kalshi-ws perps" "kalshi-trade perps" "kalshi-cli klear,perps"; do
    read -r crate added <<<"$features"
    if ! diff <(packages -p "$crate") <(packages -p "$crate" --features "$added"); then
        echo "$crate depends on other packages with the features $added" >&2
        exit 1
    fi
done

# Without them none of their names is there, and none of their code is generated.
tools/check-default-build.sh

# A library that signs is replaced by the other, and not added to.
if cargo tree --quiet -p kalshi-sdk -e normal --prefix none | grep -E '^(rsa|sha2|ed25519-dalek) '; then
    echo "kalshi-sdk signs with AWS-LC and depends on the other libraries" >&2
    exit 1
fi

# Signing alone brings no HTTP client.
if cargo tree --quiet -p kalshi-auth --no-default-features --features pure-rust -e normal --prefix none | grep -E '^(reqwest|hyper) '; then
    echo "kalshi-auth without features depends on an HTTP client" >&2
    exit 1
fi
