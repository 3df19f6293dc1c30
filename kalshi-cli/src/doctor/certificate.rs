//! The issuer of a certificate, taken out of its DER. Pure; whatever does not read has no issuer.

/// The attributes of a name, by the last number of their identifier 2.5.4.x: the organization, and
/// the common name.
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// The longest text that is shown.
const MAX_TEXT: usize = 80;

/// Returns the organization and the common name of who issued a certificate.
pub(super) fn issuer(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        body = first(body)?.2;
    }
    // The serial number and the algorithm.
    for _ in 0..2 {
        body = first(body)?.2;
    }
    let (mut name, _) = element(body, SEQUENCE)?;
    let (mut organization, mut common) = (None, None);
    while !name.is_empty() {
        let (set, rest) = element(name, SET)?;
        name = rest;
        let (pair, _) = element(set, SEQUENCE)?;
        let (kind, value) = element(pair, OBJECT)?;
        let (_, text, _) = first(value)?;
        if kind == ORGANIZATION {
            organization = printable(text);
        } else if kind == COMMON_NAME {
            common = printable(text);
        }
    }
    match (organization, common) {
        (Some(organization), Some(common)) => Some(format!("{organization} ({common})")),
        (one, other) => one.or(other),
    }
}

fn printable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}

/// Returns the contents of the first element, which must be of a kind, and what follows it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = first(bytes)?;
    (found == kind).then_some((contents, rest))
}

/// Returns the kind and the contents of the first element, and what follows it.
fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let digits = usize::from(length & 0x7f);
        if !(1..=4).contains(&digits) {
            return None;
        }
        let (number, rest) = rest.split_at_checked(digits)?;
        let length = number.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
        (length, rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((kind, contents, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "Inspecting Proxy");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Root 1");
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_issuer_is_read() {
        assert_eq!(issuer(&certificate()).as_deref(), Some("Inspecting Proxy (Root 1)"));
    }

    #[test]
    fn what_is_cut_off_has_no_issuer_and_does_not_panic() {
        let whole = certificate();
        for length in 0..whole.len() {
            let _ = issuer(&whole[..length]);
        }
        assert_eq!(issuer(&[]), None);
        assert_eq!(issuer(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = issuer(&bytes);
        }
    }
}
