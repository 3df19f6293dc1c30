#!/bin/sh
# Proves with programs that share no code with this crate that its signatures are right: makes new
# keys with OpenSSL, signs with the example `sign` in both builds, and verifies with OpenSSL and, if
# it is installed, with Python's `cryptography`. Then shows that wrong input is one line on stderr
# and exit code 2.
#
#     kalshi-auth/tests/verify-signatures.sh
set -eu
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
checks=0

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

openssl genrsa -traditional -out "$tmp/rsa-pkcs1.pem" 2048 2>/dev/null
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$tmp/rsa-pkcs8.pem" 2>/dev/null ||
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$tmp/rsa-pkcs8.pem" 2>/dev/null
openssl genpkey -algorithm ed25519 -out "$tmp/ed25519.pem"
sed 's/$/\r/' "$tmp/rsa-pkcs1.pem" > "$tmp/rsa-crlf.pem"
awk '{ printf "%s\\n", $0 }' "$tmp/rsa-pkcs8.pem" > "$tmp/rsa-one-line.pem"

python=no
if python3 -c 'import cryptography' 2>/dev/null; then
    python=yes
else
    echo "note: Python's cryptography is not installed, so OpenSSL alone verifies" >&2
fi

# Signs, and verifies the message that we expect, not one that the program under test printed.
check() { # features, key file, key file that OpenSSL reads, method, path, signed text
    timestamp=$((1703123456789 + checks))
    # shellcheck disable=SC2086
    cargo run -q -p kalshi-auth $1 --example sign -- \
        --key-id test-key --key "$tmp/$2" "$4" "$5" --timestamp $timestamp > "$tmp/headers"
    [ "$(wc -l < "$tmp/headers")" -eq 3 ] || fail "there are not three headers: $*"
    grep -qx 'KALSHI-ACCESS-KEY: test-key' "$tmp/headers" || fail "key id: $*"
    grep -qx "KALSHI-ACCESS-TIMESTAMP: $timestamp" "$tmp/headers" || fail "timestamp: $*"
    sed -n 's/^KALSHI-ACCESS-SIGNATURE: //p' "$tmp/headers" > "$tmp/signature.txt"
    openssl base64 -d -A -in "$tmp/signature.txt" -out "$tmp/signature"
    printf '%s%s' "$timestamp" "$6" > "$tmp/message"
    openssl pkey -in "$tmp/$3" -pubout -out "$tmp/public.pem"

    case "$3" in
    rsa*)
        openssl dgst -sha256 -verify "$tmp/public.pem" -sigopt rsa_padding_mode:pss \
            -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256 \
            -signature "$tmp/signature" "$tmp/message" > /dev/null || fail "OpenSSL: $*"
        ;;
    *)
        openssl pkeyutl -verify -rawin -pubin -inkey "$tmp/public.pem" \
            -sigfile "$tmp/signature" -in "$tmp/message" > /dev/null || fail "OpenSSL: $*"
        ;;
    esac
    if [ $python = yes ]; then
        python3 - "$tmp" <<'PY' || fail "Python: $*"
import base64, pathlib, sys
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

folder = pathlib.Path(sys.argv[1])
key = load_pem_public_key((folder / "public.pem").read_bytes())
signature = base64.b64decode((folder / "signature.txt").read_text().strip(), validate=True)
message = (folder / "message").read_bytes()
if isinstance(key, rsa.RSAPublicKey):
    key.verify(signature, message, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
else:
    key.verify(signature, message)
PY
    fi
    checks=$((checks + 1))
}

refuse() { # start of the message, arguments
    start=$1
    shift
    code=0
    cargo run -q -p kalshi-auth --example sign -- "$@" > "$tmp/out" 2> "$tmp/err" || code=$?
    [ $code -eq 2 ] || fail "exit code $code: $*"
    [ ! -s "$tmp/out" ] || fail "output: $*"
    [ "$(wc -l < "$tmp/err")" -eq 1 ] || fail "not one line: $*"
    grep -q -e "$start" "$tmp/err" || fail "message: $* said $(cat "$tmp/err")"
    checks=$((checks + 1))
}

balance=/trade-api/v2/portfolio/balance
orders=/trade-api/v2/portfolio/orders
for features in '' '--no-default-features --features aws-lc-rs'; do
    check "$features" rsa-pkcs1.pem rsa-pkcs1.pem GET $balance GET$balance
    check "$features" rsa-pkcs8.pem rsa-pkcs8.pem get "$orders?limit=5&cursor=a?b" GET$orders
    check "$features" rsa-crlf.pem rsa-pkcs1.pem DELETE $orders/a%2Fb%20c DELETE$orders/a%2Fb%20c
    check "$features" rsa-one-line.pem rsa-pkcs8.pem POST $orders POST$orders
    check "$features" ed25519.pem ed25519.pem GET $balance GET$balance
    check "$features" ed25519.pem ed25519.pem GET /trade-api/ws/v2 GET/trade-api/ws/v2
done

refuse 'does not exist' --key-id k --key "$tmp/none.pem" GET /
refuse 'public key' --key-id k --key "$tmp/public.pem" GET /
refuse '--key-id is missing' --key "$tmp/ed25519.pem" GET /
refuse 'usage:' --key-id k --key "$tmp/ed25519.pem" GET
refuse 'must start with' --key-id k --key "$tmp/ed25519.pem" GET portfolio
refuse 'milliseconds' --key-id k --key "$tmp/ed25519.pem" GET / --timestamp now

echo "$checks checks passed (OpenSSL: yes, Python: $python)"
