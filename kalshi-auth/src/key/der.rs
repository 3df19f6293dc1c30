//! The bytes within PEM: which key they are, and where its parts are. What the numbers of a key have to
//! do with each other is for the library to check that computes with them.

use zeroize::Zeroizing;

use super::{
    ParsedKey, check_rsa_size, damaged_ed25519, damaged_rsa, malformed, other_algorithm,
    public_key_found,
};
use crate::error::AuthError;

/// `rsaEncryption`, 1.2.840.113549.1.1.1.
pub(super) const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
/// `id-Ed25519`, 1.3.101.112.
pub(super) const ED25519: &[u8] = b"\x2b\x65\x70";

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: the attributes of PKCS#8.
const ATTRIBUTES: u8 = 0xa0;
/// `[1]`, as the standard tags the public key of PKCS#8: in place of the tag of a bit string.
const PUBLIC_KEY: u8 = 0x81;
/// `[1]`, as `ring` tags it: around a bit string. Its keys are common among Rust programs.
const PUBLIC_KEY_OF_RING: u8 = 0xa1;

/// The rest of a run of elements. Every method takes one from the front.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a>(&'a [u8]);

/// PKCS#8, which wraps a key of any algorithm.
struct WrappedKey<'a> {
    algorithm: Algorithm<'a>,
    private_key: &'a [u8],
    public_key: Option<&'a [u8]>,
}

/// The algorithm of a wrapped key.
pub(super) struct Algorithm<'a> {
    pub(super) oid: &'a [u8],
    has_parameters: bool,
}

/// The numbers of an RSA key in PKCS#1, big-endian and without leading zeros.
pub(crate) struct RsaNumbers<'a> {
    pub(crate) modulus: &'a [u8],
    pub(crate) public_exponent: &'a [u8],
    pub(crate) private_exponent: &'a [u8],
    pub(crate) prime_1: &'a [u8],
    pub(crate) prime_2: &'a [u8],
    pub(crate) exponent_1: &'a [u8],
    pub(crate) exponent_2: &'a [u8],
    pub(crate) coefficient: &'a [u8],
    has_two_primes: bool,
}

/// Reads PKCS#8.
pub(crate) fn pkcs8_private_key(der: &[u8]) -> Result<ParsedKey, AuthError> {
    let key = WrappedKey::read(der).ok_or_else(|| {
        pkcs1_or_public(der).unwrap_or_else(|| {
            malformed("found a `PRIVATE KEY` whose content is damaged; copy the whole file again")
        })
    })?;
    match key.algorithm.oid {
        RSA => pkcs1_private_key(key.private_key),
        ED25519 => ed25519_private_key(&key).ok_or_else(damaged_ed25519),
        other => Err(other_algorithm(algorithm_name(other))),
    }
}

/// Reads PKCS#1, which is RSA only.
pub(super) fn pkcs1_private_key(der: &[u8]) -> Result<ParsedKey, AuthError> {
    let Some(key) = RsaNumbers::read(der) else {
        if WrappedKey::read(der).is_some() {
            return Err(malformed(
                "found a key in the form of PKCS#8 under the label of PKCS#1; the lines around it \
                 have to say `PRIVATE KEY`",
            ));
        }
        return Err(damaged_rsa());
    };
    check_rsa_size(bits(key.modulus))?;
    if !key.has_two_primes {
        return Err(malformed("found an RSA key of more than two primes; make another one"));
    }
    if !key.is_plausible() {
        return Err(damaged_rsa());
    }
    Ok(ParsedKey::Rsa(Zeroizing::new(der.to_vec())))
}

fn ed25519_private_key(key: &WrappedKey<'_>) -> Option<ParsedKey> {
    if key.algorithm.has_parameters {
        return None;
    }
    let mut inner = Elements(key.private_key);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(inner.take(OCTET_STRING).filter(|seed| seed.len() == 32)?);
    let public_key = match key.public_key {
        Some(bytes) => Some(bytes.try_into().ok()?),
        None => None,
    };
    inner.is_empty().then_some(ParsedKey::Ed25519 { seed, public_key })
}

impl<'a> Elements<'a> {
    /// Returns the content of `der` if it is one element of this kind, and nothing else.
    pub(super) fn only(tag: u8, der: &'a [u8]) -> Option<&'a [u8]> {
        let mut elements = Self(der);
        elements.take(tag).filter(|_| elements.is_empty())
    }

    /// Returns the elements of a sequence that is all of `der`.
    pub(super) fn of_sequence(der: &'a [u8]) -> Option<Self> {
        Self::only(SEQUENCE, der).map(Self)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes an element of this kind, and returns its content.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_is(tag).then(|| self.take_any())?
    }

    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// Takes an element of a kind whose tag is one byte. Lengths have the one form that DER allows.
    fn take_any(&mut self) -> Option<&'a [u8]> {
        let (&[_, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&[length], rest) = rest.split_first_chunk()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (&length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(length)), rest)
            }
            // Nothing that is read here has 64 KiB.
            _ => return None,
        };
        let is_shortest = match first {
            0x81 => length >= 0x80,
            0x82 => length >= 0x100,
            _ => true,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        is_shortest.then_some(content)
    }

    /// Takes a whole number that is not negative, and returns its bytes without leading zeros.
    pub(super) fn take_number(&mut self) -> Option<&'a [u8]> {
        match self.take(INTEGER)? {
            [0, number @ ..] if number.first().is_some_and(|first| *first >= 0x80) => Some(number),
            [0] => Some(&[]),
            number if number.first().is_some_and(|first| (1..0x80).contains(first)) => Some(number),
            _ => None,
        }
    }

    /// Takes a bit string of whole bytes.
    pub(super) fn take_bytes(&mut self) -> Option<&'a [u8]> {
        self.take(BIT_STRING)?.strip_prefix(&[0])
    }

    /// Takes the name of an algorithm, and what belongs to it.
    pub(super) fn take_algorithm(&mut self) -> Option<Algorithm<'a>> {
        let mut parts = Self(self.take(SEQUENCE)?);
        let oid = parts.take(OBJECT_IDENTIFIER).filter(|oid| !oid.is_empty())?;
        let has_parameters = !parts.is_empty();
        if has_parameters {
            parts.take_any()?;
        }
        parts.is_empty().then_some(Algorithm { oid, has_parameters })
    }
}

impl<'a> WrappedKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut parts = Elements::of_sequence(der)?;
        let version = parts.take_number()?;
        let algorithm = parts.take_algorithm()?;
        let private_key = parts.take(OCTET_STRING)?;
        if parts.next_is(ATTRIBUTES) {
            parts.take_any()?;
        }
        let public_key = if parts.next_is(PUBLIC_KEY) {
            Some(parts.take_any()?.strip_prefix(&[0])?)
        } else if parts.next_is(PUBLIC_KEY_OF_RING) {
            let mut inner = Elements(parts.take_any()?);
            Some(inner.take_bytes().filter(|_| inner.is_empty())?)
        } else {
            None
        };
        // The second version is the one with the public key.
        let has_public_key = match version {
            [] => false,
            [1] => true,
            _ => return None,
        };
        (parts.is_empty() && has_public_key == public_key.is_some()).then_some(Self {
            algorithm,
            private_key,
            public_key,
        })
    }
}

impl<'a> RsaNumbers<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let mut parts = Elements::of_sequence(der)?;
        let has_two_primes = match parts.take_number()? {
            [] => true,
            [1] => false,
            _ => return None,
        };
        let numbers = Self {
            modulus: parts.take_number()?,
            public_exponent: parts.take_number()?,
            private_exponent: parts.take_number()?,
            prime_1: parts.take_number()?,
            prime_2: parts.take_number()?,
            exponent_1: parts.take_number()?,
            exponent_2: parts.take_number()?,
            coefficient: parts.take_number()?,
            has_two_primes,
        };
        if !has_two_primes {
            parts.take(SEQUENCE)?;
        }
        parts.is_empty().then_some(numbers)
    }

    /// Reports whether the numbers are ones of a key, as far as that can be seen without arithmetic.
    /// The libraries differ in what they make of a key that lacks some, or has an exponent as large as
    /// they like.
    fn is_plausible(&self) -> bool {
        let below_modulus = |number: &&[u8]| {
            !number.is_empty() && (number.len(), *number) < (self.modulus.len(), self.modulus)
        };
        is_public_key(self.modulus, self.public_exponent)
            && [
                self.private_exponent,
                self.prime_1,
                self.prime_2,
                self.exponent_1,
                self.exponent_2,
                self.coefficient,
            ]
            .iter()
            .all(below_modulus)
    }
}

/// Reports whether these may be the numbers of a public RSA key: the exponent has 2 to 33 bits.
pub(super) fn is_public_key(modulus: &[u8], exponent: &[u8]) -> bool {
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    is_odd(modulus) && is_odd(exponent) && (2..=33).contains(&bits(exponent))
}

/// Returns the number of bits of a number without leading zero bytes.
pub(super) fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

pub(super) fn algorithm_name(oid: &[u8]) -> &'static str {
    match oid {
        b"\x2a\x86\x48\xce\x3d\x02\x01" => "an EC key",
        b"\x2a\x86\x48\xce\x38\x04\x01" => "a DSA key",
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" => "an RSA key that is marked for RSASSA-PSS only",
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x03\x01" => "a Diffie-Hellman key",
        b"\x2b\x65\x6e" => "an X25519 key",
        b"\x2b\x65\x6f" => "an X448 key",
        b"\x2b\x65\x71" => "an Ed448 key",
        RSA => "an RSA key",
        ED25519 => "an Ed25519 key",
        _ => "a key of another algorithm",
    }
}

/// Recognizes what else is found under the label `PRIVATE KEY`, after the label was edited.
fn pkcs1_or_public(der: &[u8]) -> Option<AuthError> {
    if RsaNumbers::read(der).is_some() {
        return Some(malformed(
            "found an RSA key in the form of PKCS#1 under the label of PKCS#8; the lines around it \
             have to say `RSA PRIVATE KEY`",
        ));
    }
    let mut parts = Elements::of_sequence(der)?;
    parts.take_algorithm()?;
    parts.take_bytes()?;
    parts.is_empty().then(public_key_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_in_the_one_form_that_der_allows() {
        let long = [&b"\x04\x81\x80"[..], &[7; 128]].concat();
        let longer = [&b"\x04\x82\x01\x00"[..], &[7; 256]].concat();
        for (der, content) in
            [(&b"\x04\x00"[..], 0), (b"\x04\x01\x07", 1), (&long, 128), (&longer, 256)]
        {
            assert_eq!(Elements::only(OCTET_STRING, der), Some(&vec![7; content][..]), "{der:x?}");
            assert_eq!(Elements::only(BIT_STRING, der), None, "another kind: {der:x?}");
            assert_eq!(
                Elements::only(OCTET_STRING, &[der, b"\0"].concat()),
                None,
                "{der:x?} and more"
            );
            assert_eq!(
                Elements::only(OCTET_STRING, &der[..der.len() - 1]),
                None,
                "{der:x?} cut off"
            );
        }
        let padded = [&b"\x04\x82\x00\x80"[..], &[7; 128]].concat();
        for der in
            [&b""[..], b"\x04", b"\x04\x80\0\0", b"\x04\x81\x01\x07", &padded, b"\x04\xff\x01"]
        {
            assert_eq!(Elements::only(OCTET_STRING, der), None, "{der:x?}");
        }
    }

    #[test]
    fn a_number_is_read_in_its_shortest_form_and_not_below_zero() {
        for (der, number) in [
            (&b"\x02\x01\x00"[..], Some(&b""[..])),
            (b"\x02\x01\x01", Some(b"\x01")),
            (b"\x02\x01\x7f", Some(b"\x7f")),
            (b"\x02\x02\x00\x80", Some(b"\x80")),
            (b"\x02\x02\x01\x00", Some(b"\x01\x00")),
            (b"\x02\x00", None),
            (b"\x02\x01\x80", None),
            (b"\x02\x02\x00\x7f", None),
            (b"\x02\x02\x00\x00", None),
            (b"\x02\x02\xff\x7f", None),
        ] {
            assert_eq!(Elements(der).take_number(), number, "{der:x?}");
        }
    }

    #[test]
    fn an_exponent_has_two_to_33_bits() {
        let modulus = [0xff; 256];
        for (exponent, is_good) in [
            (&b"\x03"[..], true),
            (b"\x01\x00\x01", true),
            (b"\x01\xff\xff\xff\xff", true),
            (b"", false),
            (b"\x01", false),
            (b"\x04", false),
            (b"\x02\x00\x00\x00\x01", false),
        ] {
            assert_eq!(is_public_key(&modulus, exponent), is_good, "{exponent:x?}");
        }
        assert!(!is_public_key(&[0xff, 0xfe], b"\x03"));
    }
}
