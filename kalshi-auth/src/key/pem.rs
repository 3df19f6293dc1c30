//! The text around a key, as it comes: from files with either line end, from environment
//! variables with `\n` in place of line ends, with quotes, without line wraps.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{encrypted, malformed, public_key_found, unsupported};
use crate::error::{AuthError, AuthErrorKind};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The one block of a PEM text.
pub(super) struct Block {
    text: Zeroizing<String>,
    label: (usize, usize),
    body: (usize, usize),
}

/// Finds the block of a PEM text that has one, or says what the text is instead.
pub(super) fn single_block(text: &[u8]) -> Result<Block, AuthError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err(malformed("found UTF-16 text; save it as UTF-8 or ASCII"));
    }
    if is_der_sequence(text) {
        return Err(malformed(
            "found binary DER; turn it into PEM with `openssl pkey -inform DER -in KEY -out key.pem`",
        ));
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) if !text.contains('\0') => unescape(text),
        _ => return Err(malformed("found binary data; a key is expected as PEM text")),
    };
    if text.trim().is_empty() {
        return Err(malformed("found nothing, the text is empty; a key is expected as PEM text"));
    }

    let mut blocks = text.match_indices(BEGIN);
    let Some((begin, _)) = blocks.next() else { return Err(without_block(&text)) };
    let more = blocks.count();
    if more > 0 {
        return Err(several_blocks(&text, 1 + more));
    }

    let label_start = begin + BEGIN.len();
    let rest = text.get(label_start..).unwrap_or_default();
    let Some(label_len) = rest.find(DASHES) else { return Err(cut_off()) };
    let label = rest.get(..label_len).unwrap_or_default();
    let body_start = label_start + label_len + DASHES.len();
    let rest = text.get(body_start..).unwrap_or_default();
    let Some(body_len) = rest.find(END) else { return Err(cut_off()) };
    let end = rest.get(body_len + END.len()..).unwrap_or_default();
    if !end.strip_prefix(label).is_some_and(|end| end.starts_with(DASHES)) {
        return Err(malformed("found PEM whose END line does not match its BEGIN line"));
    }
    Ok(Block {
        label: (label_start, label_start + label_len),
        body: (body_start, body_start + body_len),
        text,
    })
}

/// Reports whether a text that should be something else, a path or a key id, is a private key by
/// mistake. Such a text must not be repeated.
pub(crate) fn looks_like_key(text: &str) -> bool {
    let compact: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    text.contains(DASHES) || decode(&compact).is_some_and(|bytes| is_der_sequence(&bytes))
}

/// Reports whether a text that should be something else, a path or a key id, may be a private key or
/// a part of one, with all that can happen to it: lines missing, dashes lost, characters cut off.
///
/// It says yes too often rather than too rarely: what it says yes to is not printed, and can still be
/// used as a path.
pub(crate) fn may_hold_key(text: &str) -> bool {
    let text = text.trim();
    // Blanks, and line ends spelled out as in an `.env` file, part the lines of a key.
    let mut joined = Zeroizing::new(text.replace("\\r", "").replace("\\n", ""));
    joined.retain(|c| !c.is_whitespace());
    looks_like_key(text)
        || text.contains("PRIVATE KEY")
        || text.chars().any(char::is_control)
        || has_run_of_key(text)
        || has_run_of_key(&joined)
}

fn has_run_of_key(text: &str) -> bool {
    text.split(|c: char| !is_base64(c)).any(Characters::are_of_a_key)
        || text
            .split(|c: char| !is_base64(c) && c != '/')
            .any(Characters::are_of_a_key_with_slashes)
}

/// Returns a path as an error may show it: whole, or its beginning if it is very long, or nothing but
/// its length if it may hold a key.
pub(crate) fn shown_path(path: &Path) -> String {
    /// Four lines of PEM. Paths of key files are shorter.
    const MAX_WHOLE: usize = 4 * 64;
    let text = path.to_string_lossy();
    let length = text.chars().count();
    if may_hold_key(&text) {
        format!("a path of {length} characters, not shown because it may hold a key")
    } else if length > MAX_WHOLE {
        let beginning: String = text.chars().take(64).collect();
        format!("{beginning}… ({length} characters)")
    } else {
        text.into_owned()
    }
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '+' || c == '='
}

/// The characters that a text without blanks, dots and dashes is made of.
struct Characters {
    length: usize,
    upper: bool,
    lower: bool,
    other: bool,
}

impl Characters {
    fn of(text: &str) -> Self {
        let any = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
        Self {
            length: text.len(),
            upper: any(u8::is_ascii_uppercase),
            lower: any(u8::is_ascii_lowercase),
            other: any(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'=')),
        }
    }

    /// Judges a run without slashes. Names of folders are shorter, or have letters of one case, or have
    /// no digits. Of 20 characters of a key, one in thirty has no digit.
    fn are_of_a_key(text: &str) -> bool {
        let Self { length, upper, lower, other } = Self::of(text);
        match length {
            ..20 => false,
            20..32 => upper && lower && other,
            32..40 => upper && lower,
            40.. => upper && lower || other && (upper || lower),
        }
    }

    /// Judges a run with slashes, which keys have, too: one in 64 characters.
    fn are_of_a_key_with_slashes(text: &str) -> bool {
        let Self { length, upper, lower, other } = Self::of(text);
        length >= 40 && upper && lower && other
    }
}

impl Block {
    pub(super) fn label(&self) -> &str {
        self.text.get(self.label.0..self.label.1).unwrap_or_default()
    }

    /// Returns the bytes of the body.
    pub(super) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, AuthError> {
        let body = self.text.get(self.body.0..self.body.1).unwrap_or_default();
        // The header lines of traditional PEM: `Proc-Type: 4,ENCRYPTED` is the only one in use.
        if body.contains("ENCRYPTED") && body.contains(':') {
            return Err(encrypted());
        }
        let mut compact = Zeroizing::new(Vec::with_capacity(body.len()));
        compact.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        decode(&compact).ok_or_else(|| {
            malformed("found PEM whose content is not Base64; it may have been cut or edited")
        })
    }
}

/// Decodes Base64 into a buffer that never moves, so that no copy of it stays behind.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// Returns the text of a PEM file, in lines of 64 characters. No copy of it stays behind.
#[cfg(feature = "server")]
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    /// The bytes of one line.
    const LINE: usize = 48;
    let lines = der.len().div_ceil(LINE);
    let frame = BEGIN.len() + END.len() + 2 * (label.len() + DASHES.len() + 1);
    let mut text = Zeroizing::new(String::with_capacity(frame + lines * (LINE / 3 * 4 + 1)));
    for part in [BEGIN, label, DASHES, "\n"] {
        text.push_str(part);
    }
    let mut buffer = Zeroizing::new([0; LINE / 3 * 4]);
    for line in der.chunks(LINE) {
        // The buffer holds a whole line of ASCII, so neither step fails.
        let length = STANDARD.encode_slice(line, &mut *buffer).unwrap_or_default();
        let characters = buffer.get(..length).unwrap_or_default();
        text.push_str(std::str::from_utf8(characters).unwrap_or_default());
        text.push('\n');
    }
    for part in [END, label, DASHES, "\n"] {
        text.push_str(part);
    }
    text
}

/// Turns `\n` and `\r`, spelled with one or more backslashes, into line ends.
fn unescape(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let escape = after.trim_start_matches('\\');
        rest = if let Some(after) = escape.strip_prefix(['n', 'r']) {
            plain.push('\n');
            after
        } else {
            plain.push('\\');
            escape
        };
    }
    plain.push_str(rest);
    plain
}

fn is_der_sequence(bytes: &[u8]) -> bool {
    let length = match *bytes {
        [0x30, short @ 0..=0x7f, ..] => 2 + usize::from(short),
        [0x30, 0x81, a, ..] => 3 + usize::from(a),
        [0x30, 0x82, a, b, ..] => 4 + (usize::from(a) << 8 | usize::from(b)),
        _ => return false,
    };
    // Text can start like this too, a zero after a long run of digits say, but its length will not
    // fit. Keys in containers are longer than a line.
    bytes.len() == length && length >= 32
}

fn without_block(text: &str) -> AuthError {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("---- BEGIN SSH2")
    {
        return public_key_found();
    }
    if text.starts_with("PuTTY-User-Key-File") {
        return unsupported(
            "found a PuTTY key; an RSA key becomes PEM with `puttygen KEY -O private-openssh -o \
             COPY` and `ssh-keygen -p -m PEM -N '' -f COPY`",
        );
    }
    if text.starts_with('{') {
        return unsupported("found JSON; a key is expected as PEM text");
    }
    if looks_like_key(text) {
        return malformed(
            "found the content of a PEM file without its BEGIN and END lines; give the whole file",
        );
    }
    if !text.contains(char::is_whitespace)
        && text.len() <= 1024
        && (text.starts_with(['/', '~', '.']) || Path::new(text).extension().is_some())
    {
        return malformed(
            "found what looks like a path; a path goes into KALSHI_PRIVATE_KEY_PATH, or into \
             `Credentials::from_file`",
        );
    }
    malformed(
        "found no PEM text; a private key starts with `-----BEGIN PRIVATE KEY-----` or \
         `-----BEGIN RSA PRIVATE KEY-----`",
    )
}

fn several_blocks(text: &str, count: usize) -> AuthError {
    // `openssl ecparam -genkey` writes the parameters in front of the key.
    if text.contains("-----BEGIN EC PRIVATE KEY-----") {
        return super::other_algorithm("an EC key");
    }
    AuthError::new(
        AuthErrorKind::MalformedKey,
        format!(
            "found {count} keys or certificates in one text; keep only the one that \
             belongs to the API key"
        ),
    )
}

fn cut_off() -> AuthError {
    malformed("found PEM that is cut off: its END line is missing")
}
