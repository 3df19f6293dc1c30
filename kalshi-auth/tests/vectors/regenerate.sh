#!/bin/sh
# Makes the golden vectors anew: messages signed by OpenSSL and by Python's `cryptography`, never by
# the code under test. The keys come from ../keys. Needs openssl and `pip install cryptography`.
set -eu
cd "$(dirname "$0")"

vector() { # case, key, signer, timestamp, method, path
    mkdir -p "$1"
    cp "../keys/accepted/$2" "$1/test-key.pem"
    openssl pkey -in "$1/test-key.pem" -pubout -out "$1/public-key.pem"
    printf '%s\n%s\n%s\n' "$4" "$5" "$6" > "$1/request.txt"
    printf '%s%s%s' "$4" "$(printf %s "$5" | tr '[:lower:]' '[:upper:]')" "${6%%\?*}" > "$1/message.txt"
    case "$3" in
    openssl)
        openssl version | cut -d" " -f1,2 > "$1/signed-by.txt"
        if grep -q RSA "$1/test-key.pem" || openssl pkey -in "$1/test-key.pem" -noout -text | grep -q modulus; then
            openssl dgst -sha256 -sign "$1/test-key.pem" -sigopt rsa_padding_mode:pss \
                -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256 "$1/message.txt"
        else
            openssl pkeyutl -sign -rawin -inkey "$1/test-key.pem" -in "$1/message.txt"
        fi | openssl base64 -A > "$1/signature.txt"
        ;;
    python)
        python3 - "$1" <<'PY'
import base64, pathlib, sys
import cryptography
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

folder = pathlib.Path(sys.argv[1])
key = load_pem_private_key((folder / "test-key.pem").read_bytes(), None)
message = (folder / "message.txt").read_bytes()
if isinstance(key, rsa.RSAPrivateKey):
    pss = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
    signature = key.sign(message, pss, SHA256())
else:
    signature = key.sign(message)
(folder / "signature.txt").write_text(base64.b64encode(signature).decode())
(folder / "signed-by.txt").write_text(f"Python cryptography {cryptography.__version__}\n")
PY
        ;;
    esac
    echo >> "$1/signature.txt"
}

balance=/trade-api/v2/portfolio/balance
vector rsa-balance-openssl rsa-2048-pkcs1.pem openssl 1703123456789 GET $balance
vector rsa-balance-python rsa-2048-pkcs8.pem python 1703123456789 GET $balance
vector rsa-4096-query-cut rsa-4096-genpkey.pem openssl 1703123456790 GET '/trade-api/v2/portfolio/orders?limit=5&cursor=a%2Fb?c'
vector rsa-odd-length-delete rsa-2049-odd-length.pem python 1703123456791 DELETE /trade-api/v2/portfolio/orders/a%20b
vector rsa-websocket rsa-2048-pkcs1.pem python 1703123456792 GET /trade-api/ws/v2
vector ed25519-balance-openssl ed25519-pkcs8.pem openssl 1703123456789 GET $balance
vector ed25519-balance-python ed25519-pkcs8.pem python 1703123456789 GET $balance
vector ed25519-lower-case-method ed25519-pkcs8.pem python 1703123456793 post '/trade-api/v2/portfolio/orders?'
vector ed25519-percent-encoded ed25519-pkcs8.pem openssl 1703123456794 GET '/trade-api/v2/markets/KX%2FA%25B..%C3%A9'
vector ed25519-websocket-margin ed25519-pkcs8.pem python 0 GET /trade-api/ws/v2/margin
