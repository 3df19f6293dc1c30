//! A new key in the place of the one in use.
//!
//! ```text
//! cargo run --example rotate_api_key -- [FILE]
//! ```
//!
//! The new private key is shown once, so it is written to a file (which must not exist yet) and proven
//! there before the old key is deleted. By default the file is in the folder for temporary files.
//!
//! Without `KALSHI_ENV` it talks to an exchange in this process; with `KALSHI_ENV=demo`,
//! `KALSHI_API_KEY_ID` and `KALSHI_PRIVATE_KEY_PATH` to the demo environment.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

mod common;

use std::{
    env,
    error::Error,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use kalshi_sdk::{
    Client, Credentials,
    auth::{Clock, SystemClock},
    types::{ApiKeyType, GenerateApiKeyRequest},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, exchange) = common::connect().await?;
    let path = match env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None if exchange.is_some() => {
            env::temp_dir().join(format!("kalshi-example-{}.pem", SystemClock.now().as_millis()))
        }
        None => return Err("name the file for the new private key".into()),
    };
    let old_id = client.credentials().ok_or("no credentials")?.key_id().to_owned();
    let keys = client.get_api_keys().send().await?.into_inner().api_keys;
    let old =
        keys.into_iter().find(|key| key.api_key_id == old_id).ok_or("the key is not listed")?;

    // The same rights as before: what is left out would become `read` and `write`.
    let mut new = GenerateApiKeyRequest::builder()
        .name(format!("{} (rotated)", old.name))
        .key_type(ApiKeyType::Ed25519)
        .scopes(old.scopes);
    if let Some(subaccount) = old.subaccount {
        new = new.subaccount(subaccount);
    }
    let made = client.generate_api_key().body(new).send().await?.into_inner();
    write_secret(&path, made.private_key.expose())?;
    println!("new key {} in {}", made.api_key_id, path.display());

    // It must work, from the file, before the old one goes.
    let renewed = Client::builder()
        .with_environment(client.environment().clone())
        .with_credentials(Credentials::from_file(&made.api_key_id, &path)?)
        .build()?;
    renewed.get_api_keys().send().await?;
    renewed.delete_api_key().api_key(&*old_id).send().await?;
    println!("old key {old_id} is deleted");

    if exchange.is_some() {
        // The exchange of this process ends with it, and so does the use of the key.
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// Writes a new file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
