//! The names of changes, in the vocabulary of oasdiff where that has a word for it, and their
//! mirror images. Names say what changed, never what follows.

use super::facts::{Area, Direction, Fact, FactKind, Trait};

/// Returns the id of a fact.
pub(super) fn id(fact: &Fact) -> String {
    use FactKind as K;
    let detail = fact.detail.as_str();
    let at = |suffix: &str| format!("{}-{suffix}", prefix(fact.direction, fact.area));
    let body = body(fact.direction);
    let necessity = if fact.traits.has(Trait::Required) { "required" } else { "optional" };
    let fixed = match fact.kind {
        K::OperationAdded => "endpoint-added",
        // `detail` tells whether a warning came first.
        K::OperationRemoved => return format!("api-removed-{detail}"),
        K::OperationRenamed => "api-operation-id-updated",
        K::OperationDeprecated => "endpoint-deprecated",
        K::OperationReactivated => "endpoint-reactivated",
        K::TagAdded => "api-tag-added",
        K::TagRemoved => "api-tag-removed",
        K::SecurityAdded => "api-security-added",
        K::SecurityRemoved => "api-security-removed",
        K::SecurityChanged => "api-security-changed",
        K::OperationAttributeChanged => "api-attribute-changed",
        K::ParameterAdded => return format!("new-{necessity}-request-parameter"),
        K::ParameterRemoved => "request-parameter-removed",
        K::ParameterRenamed => "request-parameter-renamed",
        K::ParameterSchemaChanged => "request-parameter-schema-changed",
        K::ParameterAttributeChanged => "request-parameter-attribute-changed",
        K::RequestBodyAdded => return format!("request-body-added-{necessity}"),
        K::RequestBodyRemoved => "request-body-removed",
        K::RequestBodyBecameRequired => "request-body-became-required",
        K::RequestBodyBecameOptional => "request-body-became-optional",
        K::SuccessStatusAdded => "response-success-status-added",
        K::SuccessStatusRemoved => "response-success-status-removed",
        K::FailureStatusAdded => "response-non-success-status-added",
        K::FailureStatusRemoved => "response-non-success-status-removed",
        K::MediaTypeAdded => return format!("{body}-media-type-added"),
        K::MediaTypeRemoved => return format!("{body}-media-type-removed"),
        K::BodySchemaChanged => return format!("{body}-body-schema-changed"),
        K::BodyAttributeChanged => return format!("{body}-attribute-changed"),
        K::ChannelAdded => "channel-added",
        K::ChannelRemoved => "channel-removed",
        K::ChannelAddressChanged => "channel-address-changed",
        K::ChannelAttributeChanged => "channel-attribute-changed",
        K::ChannelMessageAdded => "channel-message-added",
        K::ChannelMessageRemoved => "channel-message-removed",
        K::ChannelMessageChanged => "channel-message-changed",
        K::MessageAdded => "message-added",
        K::MessageRemoved => "message-removed",
        K::MessageDirectionChanged => "message-direction-changed",
        K::MessagePayloadChanged => "message-payload-changed",
        K::MessageAttributeChanged => "message-attribute-changed",
        K::SchemaAdded => "schema-added",
        K::SchemaRemoved => "schema-removed",
        K::SchemaBecameReachable => "schema-became-reachable",
        K::SchemaBecameUnreachable => "schema-became-unreachable",
        K::SchemaNameChanged => return at("schema-name-changed"),
        K::FieldAdded | K::FieldRemoved => return field(fact, necessity),
        K::BecameRequired => return at("became-required"),
        K::BecameOptional => return at("became-optional"),
        K::BecameNullable => return at("became-nullable"),
        K::BecameNotNullable => return at("became-not-nullable"),
        K::TypeChanged => return at("type-changed"),
        K::FormatChanged => return at("format-changed"),
        K::BecameEnum => return at("became-enum"),
        K::BecameNotEnum => return at("became-not-enum"),
        K::ValueAdded => return at("enum-value-added"),
        K::ValueRemoved => return at("enum-value-removed"),
        K::ChoiceAdded => return at(&format!("{detail}-added")),
        K::ChoiceRemoved => return at(&format!("{detail}-removed")),
        K::ContentsDeclared => return at(&format!("{detail}-schema-added")),
        K::ContentsUndeclared => return at(&format!("{detail}-schema-removed")),
        K::UndeclaredFieldChanged => return at(&format!("undeclared-became-{necessity}")),
        K::AdditionalFieldsChanged => return at("additional-properties-changed"),
        K::BecameDeprecated => return at("deprecated"),
        K::BecameReactivated => return at("reactivated"),
        K::DefaultChanged
        | K::BoundSet
        | K::BoundTightened
        | K::BoundLoosened
        | K::BoundRemoved
        | K::AttributeChanged => return at(detail),
        K::ServerAdded
        | K::ServerChanged
        | K::SecuritySchemeAdded
        | K::SecuritySchemeChanged
        | K::VersionChanged
        | K::PartChanged => return detail.to_owned(),
    };
    fixed.to_owned()
}

fn body(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Error => "error",
        Direction::Response | Direction::Document => "response",
    }
}

fn prefix(direction: Direction, area: Area) -> &'static str {
    match (direction, area) {
        (Direction::Request, Area::Parameter) => "request-parameter",
        (Direction::Request, Area::Property) => "request-property",
        (Direction::Request, _) => "request-body",
        (Direction::Response, Area::Body) => "response-body",
        (Direction::Response, _) => "response-property",
        (Direction::Error, Area::Body) => "error-body",
        (Direction::Error, _) => "error-property",
        (Direction::Document, Area::Body) => "schema",
        (Direction::Document, _) => "schema-property",
    }
}

fn field(fact: &Fact, necessity: &str) -> String {
    let added = fact.kind == FactKind::FieldAdded;
    let change = if added { "added" } else { "removed" };
    match (fact.direction, fact.area) {
        (Direction::Request, Area::Property | Area::Body) if added => {
            format!("new-{necessity}-request-property")
        }
        (Direction::Request, Area::Property | Area::Body) => "request-property-removed".to_owned(),
        (Direction::Response, _) => format!("response-{necessity}-property-{change}"),
        _ => format!("{}-{change}", prefix(fact.direction, fact.area)),
    }
}

/// Every id that stands alone, with the ids that the same change has when it is undone. Ids of
/// schemas are made of a place and a change: see [`mirrors`].
const MIRRORS: [(&str, &[&str]); 22] = [
    ("endpoint-added", &["api-removed-without-deprecation", "api-removed-with-deprecation"]),
    ("api-operation-id-updated", &["api-operation-id-updated"]),
    ("endpoint-deprecated", &["endpoint-reactivated"]),
    ("api-tag-added", &["api-tag-removed"]),
    ("api-security-added", &["api-security-removed"]),
    ("new-required-request-parameter", &["request-parameter-removed"]),
    ("new-optional-request-parameter", &["request-parameter-removed"]),
    ("new-required-request-property", &["request-property-removed"]),
    ("new-optional-request-property", &["request-property-removed"]),
    ("request-body-added-required", &["request-body-removed"]),
    ("request-body-added-optional", &["request-body-removed"]),
    ("response-required-property-added", &["response-required-property-removed"]),
    ("response-optional-property-added", &["response-optional-property-removed"]),
    ("response-success-status-added", &["response-success-status-removed"]),
    ("response-non-success-status-added", &["response-non-success-status-removed"]),
    ("schema-added", &["schema-removed"]),
    ("schema-became-reachable", &["schema-became-unreachable"]),
    ("channel-added", &["channel-removed"]),
    ("channel-message-added", &["channel-message-removed"]),
    ("message-added", &["message-removed"]),
    ("message-direction-changed", &["message-direction-changed"]),
    ("document-changed", &["document-changed"]),
];

/// Returns the ids that the same change may have when it is undone.
#[must_use]
pub fn mirrors(id: &str) -> Vec<String> {
    const ENDS: [(&str, &str); 15] = [
        ("-added", "-removed"),
        ("-became-required", "-became-optional"),
        ("-became-nullable", "-became-not-nullable"),
        ("-became-enum", "-became-not-enum"),
        ("-enum-value-added", "-enum-value-removed"),
        ("-one-of-added", "-one-of-removed"),
        ("-any-of-added", "-any-of-removed"),
        ("-increased", "-decreased"),
        ("-set", "-unset"),
        ("-deprecated", "-reactivated"),
        ("-default-value-added", "-default-value-removed"),
        ("-pattern-added", "-pattern-removed"),
        ("-media-type-added", "-media-type-removed"),
        ("-property-added", "-property-removed"),
        ("-error-code-added", "-error-code-removed"),
    ];
    let mut found: Vec<String> = Vec::new();
    for (one, others) in MIRRORS {
        if one == id {
            found.extend(others.iter().map(|&other| other.to_owned()));
        }
        if others.contains(&id) {
            found.push(one.to_owned());
        }
    }
    for (one, other) in ENDS {
        // `-unset` ends with `set`, but not with `-set`.
        if let Some(stem) = id.strip_suffix(one) {
            found.push(format!("{stem}{other}"));
        }
        if let Some(stem) = id.strip_suffix(other) {
            found.push(format!("{stem}{one}"));
        }
    }
    if id.ends_with("-changed") || id.ends_with("-renamed") {
        found.push(id.to_owned());
    }
    found.sort();
    found.dedup();
    found
}
