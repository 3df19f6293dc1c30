//! A key id and its private key. Loaded once, shared from then on.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    backend::{Backend, PrivateKey},
    error::{AuthError, AuthErrorKind},
    key::{KeyType, ParsedKey, looks_like_key, may_hold_key, shown_path},
};

/// The variable that holds the id of the API key.
pub const KEY_ID_VAR: &str = "KALSHI_API_KEY_ID";
/// The variable that holds the PEM text of the private key.
pub const PRIVATE_KEY_VAR: &str = "KALSHI_PRIVATE_KEY";
/// The variable that holds the path of the private key's file.
pub const PRIVATE_KEY_PATH_VAR: &str = "KALSHI_PRIVATE_KEY_PATH";

/// A key of 8192 bits has 6.5 kB.
const MAX_FILE: usize = 64 * 1024;
/// The ids of the exchange are UUIDs, of 36 characters.
const MAX_KEY_ID: usize = 128;

/// The id of an API key, and the private key that belongs to it.
///
/// Parsed and checked once; cheap to clone from then on. The private key is zeroized when the last
/// clone goes, and so are the buffers that its text passed through. It cannot be read back, and
/// `Debug` does not show it.
///
/// # What is accepted
///
/// RSA keys of 2048 to 8192 bits as PKCS#1 (`RSA PRIVATE KEY`) or PKCS#8 (`PRIVATE KEY`), and
/// Ed25519 keys as PKCS#8. Line ends may be of any kind, spelled `\n`, or missing; quotes, blanks
/// and remarks around the PEM block do no harm.
///
/// Everything else is refused with what was found and what to do about it: keys of OpenSSH, with a
/// passphrase, public keys, certificates, other algorithms, several keys in one text.
///
/// ```
/// use kalshi_auth::Credentials;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README-no-such-file.pem");
/// let error = Credentials::from_file("a952bcbe-ec3b-4b5b-b8f9-11dae589608c", path).unwrap_err();
/// assert!(error.to_string().ends_with("README-no-such-file.pem: the file does not exist"));
/// ```
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    key_id: HeaderValue,
    private_key: PrivateKey,
}

impl Credentials {
    /// Reads the text of a PEM file.
    ///
    /// # Errors
    /// [`AuthErrorKind::KeyId`] if the key id is empty or cannot be a header value,
    /// [`AuthErrorKind::MalformedKey`] if the text does not hold exactly one intact key,
    /// [`AuthErrorKind::UnsupportedKey`] if it holds something else than a key to sign with.
    pub fn from_pem(key_id: impl AsRef<str>, pem: impl AsRef<[u8]>) -> Result<Self, AuthError> {
        Self::from_pem_using(Backend::default(), key_id, pem)
    }

    /// Does the same as [`from_pem`](Self::from_pem), with the library to sign with.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pem_using(
        backend: Backend,
        key_id: impl AsRef<str>,
        pem: impl AsRef<[u8]>,
    ) -> Result<Self, AuthError> {
        let key_id = parse_key_id(key_id.as_ref())?;
        let private_key = PrivateKey::new(backend, &ParsedKey::from_pem(pem.as_ref())?)?;
        Ok(Self(Arc::new(Inner { key_id, private_key })))
    }

    /// Reads a PEM file. `~` at the start of the path stands for the directory in `HOME`.
    ///
    /// # Errors
    /// [`AuthErrorKind::KeyFile`] if there is no such file, or if it cannot be read or is too large
    /// for a key; else as [`from_pem`](Self::from_pem). The message starts with the path, unless that
    /// may hold a part of a key: then with its length.
    pub fn from_file(key_id: impl AsRef<str>, path: impl AsRef<Path>) -> Result<Self, AuthError> {
        from_file_in(key_id.as_ref(), path.as_ref(), || env::var_os("HOME"))
    }

    /// Reads the environment: `KALSHI_API_KEY_ID`, and either `KALSHI_PRIVATE_KEY` with the text of
    /// the PEM file or `KALSHI_PRIVATE_KEY_PATH` with its path.
    ///
    /// An empty variable counts as one that is not set.
    ///
    /// # Errors
    /// [`AuthErrorKind::MissingCredentials`] if none of the variables is set, which
    /// [`AuthError::is_missing_credentials`] tells from the other errors;
    /// [`AuthErrorKind::Environment`] if only some are set, or both keys;
    /// else as [`from_pem`](Self::from_pem) and [`from_file`](Self::from_file). The message starts
    /// with the name of the variable.
    pub fn from_env() -> Result<Self, AuthError> {
        Self::from_vars(|name| env::var_os(name))
    }

    /// Does the same as [`from_env`](Self::from_env), with the variables of another source, such as
    /// the profile of a configuration file.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, AuthError> {
        let text = |name| text_variable(name, variable(name));
        let key_id = text(KEY_ID_VAR)?;
        let pem = text(PRIVATE_KEY_VAR)?;
        let path = text(PRIVATE_KEY_PATH_VAR)?;

        let (key_id, pem, path) = match (key_id, pem, path) {
            (None, None, None) => return Err(missing_credentials()),
            (None, _, _) => {
                return Err(environment(
                    "KALSHI_API_KEY_ID is not set, but a private key is; set it to the id of the \
                     API key that the private key belongs to",
                ));
            }
            (Some(_), None, None) => {
                return Err(environment(
                    "KALSHI_API_KEY_ID is set, but there is no private key; set KALSHI_PRIVATE_KEY \
                     to the text of its PEM file, or KALSHI_PRIVATE_KEY_PATH to the path of it",
                ));
            }
            (Some(_), Some(_), Some(_)) => {
                return Err(environment(
                    "KALSHI_PRIVATE_KEY and KALSHI_PRIVATE_KEY_PATH are both set; unset one of them",
                ));
            }
            (Some(key_id), pem, path) => (key_id, pem, path),
        };

        let key_id = unquoted(&key_id);
        parse_key_id(key_id).map_err(|error| error.in_place(KEY_ID_VAR))?;
        if let Some(pem) = pem {
            return Self::from_pem(key_id, pem.as_bytes())
                .map_err(|error| error.in_place(PRIVATE_KEY_VAR));
        }
        let path = path.unwrap_or_default();
        from_file_in(key_id, Path::new(unquoted(&path)), || variable("HOME"))
            .map_err(|error| error.in_place(PRIVATE_KEY_PATH_VAR))
    }

    /// Returns the id of the API key.
    pub fn key_id(&self) -> &str {
        self.0.key_id.to_str().unwrap_or_default()
    }

    /// Returns the kind of the private key.
    pub fn key_type(&self) -> KeyType {
        self.0.private_key.key_type()
    }

    /// Returns the library that signs.
    pub fn backend(&self) -> Backend {
        self.0.private_key.backend()
    }

    pub(crate) fn key_id_header(&self) -> &HeaderValue {
        &self.0.key_id
    }

    pub(crate) fn private_key(&self) -> &PrivateKey {
        &self.0.private_key
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("key_id", &self.key_id())
            .field("key_type", &self.key_type())
            .field("private_key", &"** redacted **")
            .finish()
    }
}

/// Returns the error for a request that needs credentials, without any.
pub(crate) fn missing_credentials() -> AuthError {
    AuthError::new(
        AuthErrorKind::MissingCredentials,
        "there are no credentials; set KALSHI_API_KEY_ID, and KALSHI_PRIVATE_KEY (PEM text) or \
         KALSHI_PRIVATE_KEY_PATH (path of a PEM file)",
    )
}

fn environment(message: &'static str) -> AuthError {
    AuthError::new(AuthErrorKind::Environment, message)
}

fn parse_key_id(key_id: &str) -> Result<HeaderValue, AuthError> {
    let problem = if key_id.is_empty() {
        "the key id is empty"
    } else if looks_like_key(key_id) {
        "the key id is a private key; it should be the id that the exchange shows beside the key"
    } else if key_id.len() > MAX_KEY_ID {
        "the key id is longer than 128 characters; it should be the id that the exchange shows"
    } else if may_hold_key(key_id) {
        "the key id looks like a part of a private key; it should be the id that the exchange shows"
    } else if !key_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        "the key id holds blanks, line ends or letters beyond ASCII; ids of the exchange do not"
    } else if let Ok(header) = HeaderValue::from_str(key_id) {
        return Ok(header);
    } else {
        "the key id cannot be sent as a header"
    };
    Err(AuthError::new(AuthErrorKind::KeyId, problem))
}

fn text_variable(
    name: &'static str,
    value: Option<OsString>,
) -> Result<Option<Zeroizing<String>>, AuthError> {
    let Some(value) = value else { return Ok(None) };
    match value.into_string().map(Zeroizing::new) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(value) => {
            drop(Zeroizing::new(value.into_encoded_bytes()));
            Err(environment("the value is not text").in_place(name))
        }
    }
}

/// Removes the quotes that some readers of `.env` files leave.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

fn from_file_in(
    key_id: &str,
    path: &Path,
    home: impl FnOnce() -> Option<OsString>,
) -> Result<Credentials, AuthError> {
    if path.to_str().is_some_and(looks_like_key) {
        return Err(key_file("a path was expected, but this is the text of a key"));
    }
    if path.as_os_str().is_empty() {
        return Err(key_file("the path is empty"));
    }
    let file = expand_home(path, home)?;
    let place = || shown_path(&file);
    let text = read_bounded(&file).map_err(|error| error.in_place(place()))?;
    Credentials::from_pem(key_id, &text).map_err(|error| match error.kind() {
        AuthErrorKind::KeyId => error,
        _ => error.in_place(place()),
    })
}

fn expand_home(path: &Path, home: impl FnOnce() -> Option<OsString>) -> Result<PathBuf, AuthError> {
    let mut parts = path.components();
    if parts.next().is_none_or(|first| first.as_os_str() != OsStr::new("~")) {
        return Ok(path.to_owned());
    }
    match home().filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(parts)),
        None => {
            Err(key_file("the path starts with `~`, but HOME is not set")
                .in_place(shown_path(path)))
        }
    }
}

/// Reads a file that may be anything, a device included, into one buffer that never moves.
fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let mut buffer = Zeroizing::new(vec![0; MAX_FILE + 1]);
    let mut length = 0;
    let mut file = File::open(path).map_err(unreadable)?;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    if length > MAX_FILE {
        return Err(key_file("the file is larger than 64 KiB, which no key is"));
    }
    buffer.truncate(length);
    Ok(buffer)
}

fn unreadable(error: io::Error) -> AuthError {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist",
        io::ErrorKind::PermissionDenied => "the file may not be read by this user",
        io::ErrorKind::IsADirectory => "this is a directory, not a file",
        _ => "the file cannot be read",
    };
    key_file(problem).with_source(error)
}

fn key_file(message: &'static str) -> AuthError {
    AuthError::new(AuthErrorKind::KeyFile, message)
}
