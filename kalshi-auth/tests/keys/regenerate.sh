#!/bin/sh
# Makes the key files of this folder anew, with OpenSSL, ssh-keygen and Python.
# Run it when a case is added; the tests themselves need none of these programs.
# The expected messages beside the refused keys come from `UPDATE_GOLDEN=1 cargo test -p kalshi-auth`.
set -eu
cd "$(dirname "$0")"
mkdir -p accepted refused public
umask 077
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Accepted.
openssl genrsa -traditional -out accepted/rsa-2048-pkcs1.pem 2048
openssl pkcs8 -topk8 -nocrypt -in accepted/rsa-2048-pkcs1.pem -out accepted/rsa-2048-pkcs8.pem
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out accepted/rsa-4096-genpkey.pem
openssl genrsa -out accepted/rsa-2049-odd-length.pem 2049
openssl genpkey -algorithm ed25519 -out accepted/ed25519-pkcs8.pem
python3 - <<'PY'
import base64, pathlib, re
folder = pathlib.Path("accepted")

def body(text):
    return base64.b64decode("".join(re.sub("-----.*-----", "", text).split()))

def pem(der, label="PRIVATE KEY"):
    text = base64.b64encode(der).decode()
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])

# Version 2 of PKCS#8 carries the public key too: once as the standard says, once as ring writes it.
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
seed = body((folder / "ed25519-pkcs8.pem").read_text())[-32:]
public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
public = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
start = bytes.fromhex("020101300506032b657004220420") + seed
for name, end in [("ed25519-pkcs8-v2", b"\x81\x21\x00"), ("ed25519-pkcs8-v2-ring", b"\xa1\x23\x03\x21\x00")]:
    content = start + end + public
    (folder / f"{name}.pem").write_text(pem(b"\x30" + bytes([len(content)]) + content))

# The ways in which text gets bent.
rsa = (folder / "rsa-2048-pkcs1.pem").read_text()
ed = (folder / "ed25519-pkcs8.pem").read_text()
write = lambda name, text: (folder / name).write_bytes(text.encode())
write("crlf.pem", rsa.replace("\n", "\r\n"))
write("cr-only.pem", rsa.replace("\n", "\r"))
write("escaped-line-ends.pem", rsa.strip().replace("\n", "\\n"))
write("escaped-twice-quoted.pem", '"' + rsa.replace("\n", "\\\\r\\\\n") + '"')
write("single-quoted-indented.pem", "  '\n" + "".join(f"    {l}\n" for l in ed.splitlines()) + "'  \n")
write("blanks-for-line-ends.pem", rsa.replace("\n", " "))
write("no-line-ends.pem", ed.replace("\n", ""))
write("one-long-line.pem", "-----BEGIN RSA PRIVATE KEY-----\n" + base64.b64encode(body(rsa)).decode() + "\n-----END RSA PRIVATE KEY-----")
write("byte-order-mark.pem", "\ufeff" + ed)
write("remarks-around.pem", "Bag Attributes\n    friendlyName: test\n" + rsa + "\nend of file\n")
PY

# Refused.
in=accepted/rsa-2048-pkcs1.pem
openssl rsa -traditional -aes128 -passout pass:test -in $in -out refused/encrypted-pkcs1.pem
openssl pkcs8 -topk8 -passout pass:test -in $in -out refused/encrypted-pkcs8.pem
openssl pkey -in $in -pubout -out refused/public-spki.pem
openssl rsa -in $in -RSAPublicKey_out -out refused/public-pkcs1.pem
openssl pkey -in accepted/ed25519-pkcs8.pem -pubout -out refused/public-ed25519.pem
openssl req -x509 -new -key $in -subj /CN=test -days 1 -out refused/certificate.pem
openssl req -new -key $in -subj /CN=test -out refused/certificate-request.pem
openssl pkey -in $in -outform DER -out refused/binary-der.pem
openssl ecparam -name prime256v1 -genkey -noout -out refused/ec-sec1.pem
openssl ecparam -name prime256v1 -genkey -out refused/ec-with-parameters.pem
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out refused/ec-pkcs8.pem
openssl genpkey -algorithm ed448 -out refused/ed448.pem
openssl genpkey -algorithm x25519 -out refused/x25519.pem
openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out refused/rsa-pss.pem
openssl dsaparam -genkey -noout -out "$tmp/dsa.pem" 1024
openssl pkcs8 -topk8 -nocrypt -in "$tmp/dsa.pem" -out refused/dsa-pkcs8.pem
openssl dsa -in "$tmp/dsa.pem" -traditional -out refused/dsa-traditional.pem 2>/dev/null || cp "$tmp/dsa.pem" refused/dsa-traditional.pem
openssl genrsa -traditional -out refused/rsa-1024.pem 1024
openssl genrsa -out refused/rsa-2047.pem 2047
openssl genrsa -traditional -primes 3 -out refused/rsa-three-primes.pem 2048
[ -f refused/rsa-8200.pem ] || openssl genrsa -out refused/rsa-8200.pem 8200
ssh-keygen -q -t rsa -b 2048 -N '' -C test -f "$tmp/ssh-rsa"
ssh-keygen -q -t ed25519 -N '' -C test -f "$tmp/ssh-ed25519"
cp "$tmp/ssh-rsa" refused/openssh-rsa.pem
cp "$tmp/ssh-ed25519" refused/openssh-ed25519.pem
cp "$tmp/ssh-rsa.pub" refused/openssh-public.pem
ssh-keygen -e -m RFC4716 -f "$tmp/ssh-rsa.pub" > refused/ssh2-public.pem
cat accepted/rsa-2048-pkcs8.pem accepted/ed25519-pkcs8.pem > refused/two-keys.pem
cat accepted/rsa-2048-pkcs8.pem refused/certificate.pem > refused/key-and-certificate.pem
sed 1d accepted/rsa-2048-pkcs8.pem | sed '$d' > refused/without-armor.pem
sed '$d' accepted/rsa-2048-pkcs8.pem > refused/cut-off.pem
sed '5d' accepted/rsa-2048-pkcs8.pem > refused/line-missing.pem
sed '5s/..$//' accepted/rsa-2048-pkcs8.pem > refused/characters-missing.pem
sed '5s/^..../!!!!/' accepted/rsa-2048-pkcs8.pem > refused/not-base64.pem
sed 's/END PRIVATE/END RSA PRIVATE/' accepted/rsa-2048-pkcs8.pem > refused/labels-differ.pem
sed 's/RSA PRIVATE/PRIVATE/' accepted/rsa-2048-pkcs1.pem > refused/pkcs1-under-pkcs8-label.pem
sed 's/PRIVATE/RSA PRIVATE/' accepted/rsa-2048-pkcs8.pem > refused/pkcs8-under-pkcs1-label.pem
sed 's/PUBLIC/PRIVATE/' refused/public-spki.pem > refused/public-under-private-label.pem
iconv -f UTF-8 -t UTF-16 accepted/rsa-2048-pkcs8.pem > refused/utf-16.pem
head -c 2000 /dev/urandom | tr -d '\060' > refused/random-bytes.pem
: > refused/empty.pem
printf ' \n\n' > refused/blank.pem
printf '~/.kalshi/private.pem\n' > refused/path-instead.pem
printf '{"kty":"OKP","crv":"Ed25519","d":"dGVzdA"}\n' > refused/json.pem
printf 'PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n' > refused/putty.pem
printf 'hello, this is not a key\n' > refused/prose.pem
printf -- '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----\n' > refused/pgp.pem

# Keys whose parts do not belong together, or are missing.
python3 - <<'PY'
import base64, pathlib, re

def body(name):
    text = pathlib.Path("accepted", name + ".pem").read_text()
    return base64.b64decode("".join(re.sub("-----.*-----", "", text).split()))

def write(name, der, label):
    text = base64.b64encode(der).decode()
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    pem = "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
    pathlib.Path("refused", name + ".pem").write_text(pem)

def element(tag, content):
    length = len(content).to_bytes(2, "big").lstrip(b"\0")
    head = bytes([tag]) + (bytes([0x80 + len(length)]) if len(content) >= 0x80 else b"")
    return head + (length or b"\0") + content

def number(value):
    return element(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))

def numbers(der):
    at, found = 4, []
    while at < len(der):
        length, start = der[at + 1], at + 2
        if length >= 0x80:
            size = length - 0x80
            length, start = int.from_bytes(der[start:start + size], "big"), start + size
        at = start + length
        found.append(int.from_bytes(der[start:at], "big"))
    return found

rsa = numbers(body("rsa-2048-pkcs1"))
names = ["version", "modulus", "exponent", "private", "prime-1", "prime-2", "exponent-1", "exponent-2", "coefficient"]
def with_number(name, value):
    changed = [value if n == name else old for n, old in zip(names, rsa)]
    return element(0x30, b"".join(map(number, changed)))
for name in ["exponent-1", "exponent-2", "coefficient", "prime-1", "private"]:
    value = rsa[names.index(name)]
    write(f"rsa-wrong-{name}", with_number(name, value ^ 16), "RSA PRIVATE KEY")
# The same modulo the prime, but longer than it has to be.
p = rsa[names.index("prime-1")]
write("rsa-unreduced-coefficient", with_number("coefficient", rsa[-1] + p), "RSA PRIVATE KEY")
write("rsa-even-exponent", with_number("exponent", 65536), "RSA PRIVATE KEY")
# As some programs of Java strip a key: AWS-LC by itself takes it for one of two numbers.
stripped = [n if i in (0, 1, 3) else 0 for i, n in enumerate(rsa)]
write("rsa-stripped", element(0x30, b"".join(map(number, stripped))), "RSA PRIVATE KEY")

for name in ["ed25519-pkcs8-v2", "ed25519-pkcs8-v2-ring"]:
    der = bytearray(body(name))
    der[-1] ^= 1
    write(f"{name}-of-another-key", bytes(der), "PRIVATE KEY")
seed = body("ed25519-pkcs8")[-32:]
short = b"\x02\x01\x00" + element(0x30, b"\x06\x03\x2b\x65\x70") + element(4, element(4, seed[:31]))
write("ed25519-short", element(0x30, short), "PRIVATE KEY")
PY

# Public keys, as the exchange takes them.
openssl pkey -in accepted/rsa-2048-pkcs1.pem -pubout -out public/rsa-2048.pem
openssl pkey -in accepted/rsa-4096-genpkey.pem -pubout -out public/rsa-4096.pem
openssl pkey -in accepted/rsa-2049-odd-length.pem -pubout -out public/rsa-2049.pem
openssl pkey -in accepted/ed25519-pkcs8.pem -pubout -out public/ed25519.pem
chmod 644 accepted/* refused/*.pem public/*
