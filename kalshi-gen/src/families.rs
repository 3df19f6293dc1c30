//! The documents that this workspace follows: one row for each.

use std::fmt;

use proc_macro2::TokenStream;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Access, Generated, Overlay, Unmatched, asyncapi,
    document::join,
    error::{Error, Result, refuse},
    generate, generate_for,
};

/// The language that a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// HTTP.
    OpenApi,
    /// WebSocket.
    AsyncApi,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenApi => "OpenAPI",
            Self::AsyncApi => "AsyncAPI",
        })
    }
}

/// The place of a document's code in its crate, and how a caller reaches an operation.
///
/// A crate may hold the code of several documents. Each has its own `types`, `builder`,
/// `OperationId` and table, because documents use one name for different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// The name of the API in documentation.
    pub title: &'static str,
    /// The path of its module below the crate, with `::` at the end; empty for the crate itself.
    pub module: &'static str,
    /// The type that has a method for each operation, as a path below the crate.
    pub client: &'static str,
    /// True if that type borrows the client, `Perps<'a>`, so that requests may outlive it.
    pub borrows: bool,
    /// The lane of the rate limit that pays for its operations.
    pub lane: &'static str,
    /// The parameter of an example, and the expression in it that has the methods.
    pub example: (&'static str, &'static str),
    /// The prefix of the names of its files.
    pub prefix: &'static str,
}

impl Surface {
    /// The place of a document that has its crate for itself.
    pub const ROOT: Self = Self {
        title: "Trade API",
        module: "",
        client: "Client",
        borrows: false,
        lane: "EventContracts",
        example: ("client: kalshi_sdk::Client", "client"),
        prefix: "",
    };

    /// Returns a path below the module, as tokens.
    pub(crate) fn path(&self, name: &str) -> TokenStream {
        self.text(name).parse().unwrap_or_default()
    }

    /// Returns a path below the module, as text.
    pub(crate) fn text(&self, name: &str) -> String {
        format!("crate::{}{name}", self.module)
    }

    /// Returns the path of a method, for links.
    pub(crate) fn method(&self, id: &str) -> String {
        format!("crate::{}::{id}", self.client)
    }
}

/// One published document, and what becomes of it.
#[derive(Debug)]
pub struct Family {
    /// Name of the family.
    pub name: &'static str,
    /// Kind of its contents.
    pub kind: Kind,
    /// The file that holds it, below the root.
    pub file: &'static str,
    /// The folder of the overlays that belong to it.
    pub overlays: &'static str,
    /// The folder of the package that is generated from it.
    pub package: &'static str,
    /// The review file of its operations, if it has any.
    pub operations: Option<&'static str>,
    /// The review file of its types.
    pub types: &'static str,
    /// The table of `[package.metadata]` that holds its version.
    pub metadata: &'static str,
    /// The path of each of its servers: what tells the families apart.
    pub server_path: &'static str,
    /// The ways in that its client knows. An operation needs one of them.
    pub access: &'static [Access],
    /// Types that its crate writes itself, as (schema, type).
    pub by_hand: &'static [(&'static str, &'static str)],
    /// The place of its code.
    pub surface: Surface,
}

/// Every document that this workspace follows.
pub static FAMILIES: &[Family] = &[
    Family {
        name: "Trade API",
        kind: Kind::OpenApi,
        file: "openapi.yaml",
        overlays: "overlay",
        package: "",
        operations: Some("tests/golden/operations.txt"),
        types: "tests/golden/types.txt",
        metadata: "openapi",
        server_path: "/trade-api/v2",
        access: &[Access::Public, Access::Signed],
        by_hand: &[],
        surface: Surface::ROOT,
    },
    Family {
        name: "WebSocket API",
        kind: Kind::AsyncApi,
        file: "asyncapi.yaml",
        overlays: "kalshi-ws/overlay",
        package: "kalshi-ws",
        operations: None,
        types: "kalshi-ws/tests/golden/types.txt",
        metadata: "asyncapi",
        server_path: "/trade-api/ws/v2",
        access: &[Access::Public, Access::Signed],
        // A delta is the one message that arrives a hundred thousand times a second, and its texts
        // are shared.
        by_hand: &[("OrderbookDelta", "crate::Delta")],
        surface: Surface::ROOT,
    },
    Family {
        name: "perps API",
        kind: Kind::OpenApi,
        file: "perps_openapi.yaml",
        overlays: "perps_overlay",
        package: "",
        operations: Some("tests/golden/perps_operations.txt"),
        types: "tests/golden/perps_types.txt",
        metadata: "perps_openapi",
        server_path: "/trade-api/v2",
        access: &[Access::Public, Access::Signed],
        by_hand: &[],
        surface: Surface {
            title: "perps API",
            module: "perps::",
            client: "perps::Perps",
            borrows: true,
            lane: "Perpetuals",
            example: ("client: kalshi_sdk::Client", "client.perps()"),
            prefix: "perps_",
        },
    },
    Family {
        name: "Klear API",
        kind: Kind::OpenApi,
        file: "klear_openapi.yaml",
        overlays: "klear_overlay",
        package: "",
        operations: Some("tests/golden/klear_operations.txt"),
        types: "tests/golden/klear_types.txt",
        metadata: "klear_openapi",
        server_path: "/klear-api/v1",
        access: &[Access::Bearer],
        by_hand: &[],
        surface: Surface {
            title: "Klear API",
            module: "klear::",
            client: "klear::Klear",
            borrows: false,
            lane: "Clearing",
            example: ("klear: kalshi_sdk::klear::Klear", "klear"),
            prefix: "klear_",
        },
    },
    Family {
        name: "perps WebSocket API",
        kind: Kind::AsyncApi,
        file: "perps_asyncapi.yaml",
        overlays: "kalshi-ws/perps_overlay",
        package: "kalshi-ws",
        operations: None,
        types: "kalshi-ws/tests/golden/perps_types.txt",
        metadata: "perps_asyncapi",
        server_path: "/trade-api/ws/v2/margin",
        access: &[Access::Public, Access::Signed],
        by_hand: &[("MarginOrderbookDelta", "crate::perps::Delta")],
        surface: Surface {
            title: "perps WebSocket API",
            module: "perps::",
            client: "Connection",
            borrows: false,
            lane: "Perpetuals",
            example: ("connection: kalshi_ws::perps::Connection", "connection"),
            prefix: "perps_",
        },
    },
];

impl Family {
    /// Returns the family whose file has this name.
    #[must_use]
    pub fn of_file(file: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.file == file)
    }

    /// Generates what belongs to a document of this family.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be generated, with its JSON pointer; an overlay action that
    /// matches nothing, unless `unmatched` says to count those; and an operation that the client of
    /// this family has no way into.
    pub fn generate(
        &self,
        document: &str,
        overlays: &[Overlay],
        unmatched: Unmatched,
    ) -> Result<Generated> {
        let generated = match self.kind {
            Kind::OpenApi => generate_for(document, overlays, unmatched, self.surface)?,
            Kind::AsyncApi => {
                let place = asyncapi::Place { by_hand: self.by_hand, surface: self.surface };
                asyncapi::generate_messages(document, overlays, unmatched, place)?
            }
        };
        for operation in &generated.operations {
            if !operation.access.iter().any(|access| self.access.contains(access)) {
                let pointer =
                    join(&join("/paths", &operation.path), &operation.method.to_lowercase());
                let access = operation.access_text();
                refuse!(pointer, "the client of the {} cannot be {access}", self.name);
            }
        }
        Ok(generated)
    }

    /// Checks that a published document takes the place of the one that is here: the same kind, the
    /// same servers, and at least half of the operations or channels that are here.
    ///
    /// # Errors
    ///
    /// What differs, at its place in the published document.
    pub fn check(&self, published: &Value, here: &Value) -> Result<()> {
        if kind(published)? != self.kind {
            refuse!("", "this is no document of the {}: it is of the other kind", self.name);
        }
        let servers = servers(published);
        if servers.is_empty() {
            refuse!("", "this is no document of the {}: it names no server", self.name);
        }
        if let Some((pointer, path)) = servers.iter().find(|(_, path)| *path != self.server_path) {
            refuse!(
                pointer.as_str(),
                "this is no document of the {}: its server is at `{path}`, not at `{}`",
                self.name,
                self.server_path
            );
        }
        let (before, after) = (entries(here), entries(published));
        let kept = before.iter().filter(|entry| after.contains(entry)).count();
        if kept * 2 < before.len() {
            refuse!(
                "",
                "this is no document of the {}: it has {kept} of the {} {} that are here",
                self.name,
                before.len(),
                if self.kind == Kind::OpenApi { "operations" } else { "channels" }
            );
        }
        Ok(())
    }
}

/// Generates Rust for any document, OpenAPI or `AsyncAPI`, whichever family it may belong to.
///
/// # Errors
///
/// As with [`generate`].
pub fn generate_any(
    document: &str,
    overlays: &[Overlay],
    unmatched: Unmatched,
) -> Result<Generated> {
    match kind(&crate::parse(document)?) {
        Ok(Kind::AsyncApi) => {
            let place = asyncapi::Place { by_hand: &[], surface: Surface::ROOT };
            asyncapi::generate_messages(document, overlays, unmatched, place)
        }
        _ => generate(document, overlays, unmatched),
    }
}

/// Reads off which kind of document this is.
///
/// # Errors
///
/// A document that is neither OpenAPI nor `AsyncAPI`.
pub fn kind(document: &Value) -> Result<Kind> {
    if document.get("asyncapi").is_some() {
        Ok(Kind::AsyncApi)
    } else if document.get("openapi").is_some() {
        Ok(Kind::OpenApi)
    } else {
        Err(Error::new("", "this is neither an OpenAPI nor an AsyncAPI document"))
    }
}

/// Returns the place and the path of each server.
fn servers(document: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    match document.get("servers") {
        Some(Value::Array(list)) => {
            for (index, server) in list.iter().enumerate() {
                let url = server.get("url").and_then(Value::as_str).unwrap_or_default();
                let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
                let path = rest.find('/').map_or("", |at| &rest[at..]);
                found.push((format!("/servers/{index}"), path.trim_end_matches('/')));
            }
        }
        Some(Value::Object(map)) => {
            for (name, server) in map {
                let path = server.get("pathname").and_then(Value::as_str).unwrap_or_default();
                found.push((join("/servers", name), path.trim_end_matches('/')));
            }
        }
        _ => {}
    }
    found
}

/// Returns the operations of a document, as method and path, or the addresses of its channels.
fn entries(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if operation.get("operationId").is_some() {
                found.push(format!("{method} {path}"));
            }
        }
    }
    for channel in document.get("channels").and_then(Value::as_object).into_iter().flatten() {
        let address = channel.1.get("address").and_then(Value::as_str);
        found.extend(address.map(str::to_owned));
    }
    found.sort();
    found.dedup();
    found
}
