//! `kalshi key`: your API keys. A private key goes into a file of its owner's, and on no output.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kalshi_sdk::{Credentials, OperationId};

use super::{rows, write};
use crate::{
    api::{Body, Call},
    context::Context,
    failure::{Category, Failure, Outcome},
    json::Json,
};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists your API keys.
    List,
    /// Makes a key. The exchange shows its private half once: it goes into a new file.
    Create(CreateArgs),
    /// Makes a key with the rights of the one in use, checks that it works, and deletes the old one.
    Rotate {
        /// The new file for the private key.
        #[arg(long, value_name = "FILE")]
        save: PathBuf,
    },
    /// Deletes a key.
    Delete { id: String },
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The name of the key.
    name: String,
    /// The new file for the private key.
    #[arg(long, value_name = "FILE")]
    save: PathBuf,
    /// A scope of the key, such as read or write; read alone unless set.
    #[arg(long, value_name = "SCOPE", default_value = "read")]
    scope: Vec<String>,
    /// The type of the key.
    #[arg(long = "type", default_value = "ed25519", value_parser = ["ed25519", "rsa"])]
    key_type: String,
    /// Bind the key to a subaccount.
    #[arg(long)]
    subaccount: Option<u32>,
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List => {
                let columns = ["api_key_id", "name", "scopes", "subaccount"];
                rows(context, Call::new(OperationId::GetApiKeys), "api_keys", &columns).await
            }
            Self::Create(args) => {
                let scopes = args.scope.iter().map(Json::text).collect();
                let mut body = vec![
                    ("name", Json::text(&args.name)),
                    ("key_type", Json::text(&args.key_type)),
                    ("scopes", Json::List(scopes)),
                ];
                if let Some(subaccount) = args.subaccount {
                    body.push(("subaccount", Json::number(subaccount)));
                }
                let Some(id) = generate(context, Json::object(body), &args.save).await? else {
                    return Ok(());
                };
                report(context, &id, &args.save, None)
            }
            Self::Rotate { save } => rotate(context, &save).await,
            Self::Delete { id } => {
                let about = format!("delete the key {id}");
                write(context, Call::new(OperationId::DeleteApiKey).with("api_key", id), about)
                    .await
            }
        }
    }
}

/// Makes a key and writes its private half. `None` says that nothing was sent.
async fn generate(context: &Context, body: Json, file: &Path) -> Outcome<Option<String>> {
    let call = Call::new(OperationId::GenerateApiKey).with_body(Body::new(body));
    if !call.may_send(context, "make an API key").await? {
        return Ok(None);
    }
    let answer = call.send_saving(context, file).await?;
    let id = answer.get("api_key_id").and_then(Json::as_str).unwrap_or_default();
    Ok(Some(id.to_owned()))
}

async fn rotate(context: &Context, save: &Path) -> Outcome {
    let old_id = context.credentials().await?.key_id().to_owned();
    let keys = Call::new(OperationId::GetApiKeys).send(context).await?;
    let keys = keys.get("api_keys").and_then(Json::as_list).unwrap_or_default();
    let is_it = |key: &&Json| key.get("api_key_id").and_then(Json::as_str) == Some(&old_id);
    let old = keys.iter().find(is_it).ok_or_else(|| {
        Failure::new(Category::Response, format!("the key {old_id} is not among your keys"))
    })?;
    let name = old.get("name").and_then(Json::as_str).unwrap_or("key");
    // The same rights as before: what is left out would become `read` and `write`.
    let mut body = vec![
        ("name".to_owned(), Json::text(format!("{name} (rotated)"))),
        ("key_type".to_owned(), Json::text("ed25519")),
    ];
    for right in ["scopes", "subaccount", "fcm_subtrader_id"] {
        if let Some(value) = old.get(right).filter(|value| **value != Json::Null) {
            body.push((right.to_owned(), value.clone()));
        }
    }
    let Some(new_id) = generate(context, Json::Object(body), save).await? else { return Ok(()) };
    // It must work, from the file, before the old one goes.
    let old_stays = |failure: Failure| {
        failure.with_next(format!("both keys exist: {old_id} and {new_id} ({})", save.display()))
    };
    let credentials = Credentials::from_file(&new_id, save)
        .map_err(|error| old_stays(Failure::credentials(error.to_string())))?;
    let client = context
        .client_builder()
        .await?
        .with_credentials(credentials)
        .build()
        .map_err(|error| old_stays(Failure::usage(error.to_string())))?;
    let read = client.get_api_keys().send().await;
    read.map_err(|error| old_stays(Failure::of_call(&error, OperationId::GetApiKeys.operation())))?;
    let deleted = client.delete_api_key().api_key(&*old_id).send().await;
    deleted.map_err(|error| {
        old_stays(Failure::of_call(&error, OperationId::DeleteApiKey.operation()))
    })?;
    report(context, &new_id, save, Some(&old_id))
}

fn report(context: &Context, id: &str, file: &Path, deleted: Option<&str>) -> Outcome {
    let mut members = vec![
        ("api_key_id", Json::text(id)),
        ("private_key_file", Json::text(file.display().to_string())),
    ];
    if let Some(deleted) = deleted {
        members.push(("deleted", Json::text(deleted)));
    }
    context.output.document(&Json::object(members), &[])
}
