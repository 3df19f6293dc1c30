//! From facts to verdicts: one row for each kind of change, direction and circumstance.
//!
//! What the rows know of the client: unknown fields are ignored, enums of text are open, bounds
//! and defaults are left to the server, a list or map of a response may be null or missing, an
//! optional field may be null or missing, everything else of a response must be there and be
//! readable. Overlays can make a field optional; [`Trait::ReadsNull`] and
//! [`Trait::ReadsAbsence`] take them into account. Required fields of a body are checked
//! by the compiler, required parameters when the request is sent. Structs are `non_exhaustive`, so that a new field breaks no code. A
//! schema that no operation and no message carries makes no type.
//!
//! Bounds (`minimum`, `maximum`, lengths, numbers of items, `pattern`): the client never checks
//! them, the server always did. Where a document published none, a new bound may be as old as the
//! server, so it is `behaves`: the caller chooses the values, and a few of them may be refused. It
//! `breaks` only if it refuses values that our types write by themselves: the text form of an
//! amount or a time, the values of an enum, the seconds or milliseconds of our age, or everything
//! that an integer of that width holds. A lower bound of zero for an integer that Rust has as
//! signed refuses none of those. Where a published bound becomes narrower, values that were
//! promised to work fail: that `breaks`.

use serde::Serialize;

use super::facts::{Direction, FactKind, Trait, Traits};

/// The effect on code that calls this crate when it is generated anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceImpact {
    /// The API is the same.
    Same,
    /// The API grows.
    Adds,
    /// The compiler warns.
    Deprecates,
    /// It compiles, and the client itself refuses it before sending.
    Refuses,
    /// It does not compile.
    Breaks,
}

/// The effect on a client that is deployed already when the exchange changes to the new document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WireImpact {
    /// Every call goes on as before.
    Works,
    /// Calls succeed and may mean something else, or some values of the caller are refused.
    Behaves,
    /// Some call that worked fails.
    Breaks,
}

/// Both verdicts, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) source: SourceImpact,
    pub(super) wire: WireImpact,
    pub(super) why: &'static str,
}

/// The direction that a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Any,
    Only(Direction),
}

/// The source impact of a row, which may depend on the Rust types alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Is(SourceImpact),
    /// `Breaks` if the Rust type is another one, else this.
    ByType(SourceImpact),
}

/// One verdict.
#[derive(Debug)]
struct Row {
    kind: FactKind,
    on: On,
    /// All of these hold; a row without any is the last of its kind and direction.
    when: &'static [Trait],
    source: Source,
    wire: WireImpact,
    why: &'static str,
}

const fn row(
    kind: FactKind,
    on: On,
    when: &'static [Trait],
    source: Source,
    wire: WireImpact,
    why: &'static str,
) -> Row {
    Row { kind, on, when, source, wire, why }
}

const ANY: On = On::Any;
const REQUEST: On = On::Only(Direction::Request);
const RESPONSE: On = On::Only(Direction::Response);
const ERROR: On = On::Only(Direction::Error);
const DOCUMENT: On = On::Only(Direction::Document);

const SAME: Source = Source::Is(SourceImpact::Same);
const ADDS: Source = Source::Is(SourceImpact::Adds);
const DEPRECATES: Source = Source::Is(SourceImpact::Deprecates);
const REFUSES: Source = Source::Is(SourceImpact::Refuses);
const BREAKS: Source = Source::Is(SourceImpact::Breaks);
const BY_TYPE: Source = Source::ByType(SourceImpact::Same);

const WORKS: WireImpact = WireImpact::Works;
const BEHAVES: WireImpact = WireImpact::Behaves;
const FAILS: WireImpact = WireImpact::Breaks;

/// No row says anything about a schema without operations but this.
const UNREACHABLE: &str =
    "unreachable: no operation and no message carries it, no type is made of it";

const OWN: &str = "its type is one of this crate's own and stays, whatever the document has";

/// The verdicts. The first row that fits counts.
#[rustfmt::skip]
#[cfg_attr(not(test), expect(clippy::enum_glob_use, reason = "the columns say which enum it is"))]
const TABLE: &[Row] = {
    use FactKind::*;
    use Trait::*;
    &[
    // Operations
    row(OperationAdded,       ANY, &[],           ADDS,       WORKS,   "one more method"),
    row(OperationRemoved,     ANY, &[],           BREAKS,     FAILS,   "deployed clients call it, and its method is gone in Rust"),
    row(OperationRenamed,     ANY, &[SameMethod], SAME,       WORKS,   "the method keeps its name"),
    row(OperationRenamed,     ANY, &[],           BREAKS,     WORKS,   "the method is named after it"),
    row(OperationDeprecated,  ANY, &[],           DEPRECATES, WORKS,   "the compiler warns; the exchange means to remove it"),
    row(OperationReactivated, ANY, &[],           SAME,       WORKS,   "the compiler no longer warns"),
    row(TagAdded,             ANY, &[],           SAME,       WORKS,   "a tag is a word of the operation table"),
    row(TagRemoved,           ANY, &[],           SAME,       WORKS,   "a tag is a word of the operation table"),
    row(SecurityAdded,        ANY, &[],           REFUSES,    FAILS,   "deployed clients do not sign it; without credentials it is refused before sending"),
    row(SecurityRemoved,      ANY, &[],           SAME,       WORKS,   "a signature does no harm"),
    row(SecurityChanged,      ANY, &[],           SAME,       WORKS,   "whether it is signed stays the same"),
    row(OperationAttributeChanged, ANY, &[],      SAME,       WORKS,   "no code is made of it"),

    // Parameters
    row(ParameterAdded,   ANY, &[Known],    BY_TYPE, WORKS,   "an overlay declares it already, perhaps with another type"),
    row(ParameterAdded,   ANY, &[Required], REFUSES, FAILS,   "deployed clients do not send it; calls compile without it and are refused before sending"),
    row(ParameterAdded,   ANY, &[],         ADDS,    WORKS,   "it may be left out"),
    row(ParameterRemoved, ANY, &[Kept],     BY_TYPE, BEHAVES, "an overlay still declares it; the exchange may ignore or refuse it"),
    row(ParameterRemoved, ANY, &[],         BREAKS,  BEHAVES, "deployed clients still send it, to be ignored or refused; its setter is gone"),
    row(ParameterRenamed, ANY, &[],         BREAKS,  WORKS,   "the setter is named after it"),
    row(ParameterSchemaChanged,    ANY, &[], BREAKS, BEHAVES, "only one of the documents has a schema for it"),
    row(ParameterAttributeChanged, ANY, &[], SAME,   BEHAVES, "the client sends it as before, whatever the document now asks for"),

    // Bodies
    row(RequestBodyAdded,          ANY, &[Required], REFUSES, FAILS,   "deployed clients send none; calls compile without it and are refused"),
    row(RequestBodyAdded,          ANY, &[],         ADDS,    WORKS,   "it may be left out"),
    row(RequestBodyRemoved,        ANY, &[],         BREAKS,  BEHAVES, "deployed clients still send it; its setter is gone in Rust"),
    // An optional body that is left out is sent as `{}`.
    row(RequestBodyBecameRequired, ANY, &[],         REFUSES, BEHAVES, "without a body deployed clients send `{}`; calls without one are refused before sending"),
    row(RequestBodyBecameOptional, ANY, &[],         ADDS,    WORKS,   "it may be left out"),
    row(SuccessStatusAdded,        ANY, &[],         SAME,    WORKS,   "every 2xx is read as the success"),
    row(SuccessStatusRemoved,      ANY, &[],         SAME,    WORKS,   "every 2xx is read as the success"),
    row(FailureStatusAdded,        ANY, &[],         SAME,    WORKS,   "every failure becomes the one error type"),
    row(FailureStatusRemoved,      ANY, &[],         SAME,    WORKS,   "every failure becomes the one error type"),
    row(MediaTypeAdded,   RESPONSE, &[NoBody],       BREAKS,  FAILS,   "a body where deployed clients expect none is no success to them; the result is another type in Rust"),
    row(MediaTypeAdded,   RESPONSE, &[],             SAME,    BEHAVES, "no code is made of a second media type"),
    row(MediaTypeAdded,   ERROR,    &[],             SAME,    WORKS,   "every failure becomes the one error type"),
    row(MediaTypeAdded,   ANY,      &[],             SAME,    WORKS,   "JSON is sent as before"),
    row(MediaTypeRemoved, ERROR,    &[],             SAME,    WORKS,   "every failure becomes the one error type"),
    row(MediaTypeRemoved, REQUEST,  &[],             BREAKS,  FAILS,   "deployed clients send it"),
    row(MediaTypeRemoved, ANY,      &[],             BREAKS,  FAILS,   "deployed clients read it"),
    row(BodySchemaChanged,    ERROR, &[],            SAME,    WORKS,   "every failure becomes the one error type"),
    row(BodySchemaChanged,    ANY,   &[],            BREAKS,  BEHAVES, "only one of the documents has a schema for it"),
    row(BodyAttributeChanged, ANY,   &[],            SAME,    WORKS,   "no code is made of it"),

    // Channels and messages
    row(ChannelAdded,            ANY, &[],                    ADDS,   WORKS,   "one more channel"),
    row(ChannelRemoved,          ANY, &[],                    BREAKS, FAILS,   "subscriptions to it are refused, and it is gone in Rust"),
    row(ChannelAddressChanged,   ANY, &[],                    SAME,   FAILS,   "deployed clients subscribe by the old name"),
    row(ChannelAttributeChanged, ANY, &[],                    SAME,   WORKS,   "no code is made of it"),
    row(ChannelMessageAdded,     ANY, &[],                    ADDS,   WORKS,   "unknown messages are passed on unread"),
    row(ChannelMessageRemoved,   ANY, &[],                    SAME,   BEHAVES, "it no longer comes on this channel"),
    row(ChannelMessageChanged,   ANY, &[],                    BREAKS, BEHAVES, "another message has this name"),
    row(MessageAdded,            ANY, &[UnreadableAsAnother], ADDS,   FAILS,   "deployed clients know another message of this `type` and cannot read this one as that"),
    row(MessageAdded,            ANY, &[ReadAsAnother],       ADDS,   BEHAVES, "deployed clients know another message of this `type` and read this one as that"),
    row(MessageAdded,            ANY, &[Sent],                ADDS,   WORKS,   "one more command"),
    row(MessageAdded,            ANY, &[],                    ADDS,   WORKS,   "unknown messages are passed on unread"),
    row(MessageRemoved,          ANY, &[Sent],                BREAKS, FAILS,   "deployed clients send it"),
    row(MessageRemoved,          ANY, &[],                    BREAKS, BEHAVES, "it no longer comes, and is gone in Rust"),
    row(MessageDirectionChanged, ANY, &[],                    BREAKS, FAILS,   "it travels the other way"),
    row(MessagePayloadChanged,   ANY, &[],                    BREAKS, FAILS,   "only one of the documents has a payload for it"),
    row(MessageAttributeChanged, ANY, &[],                    SAME,   WORKS,   "no code is made of it"),

    // Named schemas
    row(SchemaAdded,             ANY, &[Known],               SAME,   WORKS,   OWN),
    row(SchemaAdded,             ANY, &[CarriedAfter],        ADDS,   WORKS,   "one more type"),
    row(SchemaAdded,             ANY, &[],                    SAME,   WORKS,   UNREACHABLE),
    row(SchemaRemoved,           ANY, &[Kept],                SAME,   WORKS,   OWN),
    row(SchemaRemoved,           ANY, &[CarriedBefore],       BREAKS, WORKS,   "its type is gone in Rust"),
    row(SchemaRemoved,           ANY, &[],                    SAME,   WORKS,   UNREACHABLE),
    row(SchemaBecameReachable,   ANY, &[Known],               SAME,   WORKS,   OWN),
    row(SchemaBecameReachable,   ANY, &[],                    ADDS,   WORKS,   "an operation or message carries it now: one more type"),
    row(SchemaBecameUnreachable, ANY, &[Kept],                SAME,   WORKS,   OWN),
    row(SchemaBecameUnreachable, ANY, &[],                    BREAKS, WORKS,   "unreachable: no operation and no message carries it any more, its type is gone in Rust"),
    row(SchemaNameChanged,  DOCUMENT, &[],                    SAME,   WORKS,   UNREACHABLE),
    row(SchemaNameChanged,       ANY, &[],                    BY_TYPE, WORKS,  "the type is named after the schema; its contents are compared on their own"),

    // Fields
    row(FieldAdded,      DOCUMENT, &[],             SAME,    WORKS,   UNREACHABLE),
    row(FieldAdded,      ANY,      &[Known],        BY_TYPE, WORKS,   "an overlay declares it already, perhaps with another type"),
    row(FieldAdded,      REQUEST,  &[Required],     BREAKS,  FAILS,   "deployed clients do not send it; code that builds the body without it does not compile"),
    row(FieldAdded,      REQUEST,  &[],             ADDS,    WORKS,   "it may be left out"),
    row(FieldAdded,      ERROR,    &[],             ADDS,    WORKS,   "errors are read whatever they hold"),
    row(FieldAdded,      ANY,      &[],             ADDS,    WORKS,   "unknown fields are ignored"),
    row(FieldRemoved,    DOCUMENT, &[],             SAME,    WORKS,   UNREACHABLE),
    row(FieldRemoved,    REQUEST,  &[Kept],         BY_TYPE, BEHAVES, "an overlay still declares it; the exchange may ignore or refuse it"),
    row(FieldRemoved,    REQUEST,  &[],             BREAKS,  BEHAVES, "deployed clients still send it, to be ignored or refused; the field is gone in Rust"),
    row(FieldRemoved,    RESPONSE, &[ReadsAbsence, Kept], BY_TYPE, WORKS, "deployed clients read a response without it; an overlay still declares it"),
    row(FieldRemoved,    RESPONSE, &[ReadsAbsence], BREAKS,  WORKS,   "deployed clients read a response without it; the field is gone in Rust"),
    row(FieldRemoved,    RESPONSE, &[],             BREAKS,  FAILS,   "deployed clients cannot read a response without it; the field is gone in Rust"),
    row(FieldRemoved,    ANY,      &[],             BREAKS,  WORKS,   "errors are read whatever they hold; the field is gone in Rust"),
    row(BecameRequired,  DOCUMENT, &[],             SAME,    WORKS,   UNREACHABLE),
    row(BecameRequired,  REQUEST,  &[Parameter],    REFUSES, FAILS,   "deployed clients may leave it out; calls that do so compile and are refused before sending"),
    row(BecameRequired,  REQUEST,  &[],             BREAKS,  FAILS,   "deployed clients may leave it out; code that builds the body without it does not compile"),
    row(BecameRequired,  ANY,      &[],             BY_TYPE, WORKS,   "it is there more often than before"),
    row(BecameOptional,  DOCUMENT, &[],             SAME,    WORKS,   UNREACHABLE),
    row(BecameOptional,  REQUEST,  &[Parameter],    ADDS,    WORKS,   "setters take it as before"),
    row(BecameOptional,  REQUEST,  &[],             BY_TYPE, WORKS,   "it is sent as before"),
    row(BecameOptional,  RESPONSE, &[ReadsAbsence], BY_TYPE, WORKS,   "deployed clients read a response without it"),
    row(BecameOptional,  RESPONSE, &[],             BY_TYPE, FAILS,   "deployed clients cannot read a response without it"),
    row(BecameOptional,  ANY,      &[],             BY_TYPE, WORKS,   "errors are read whatever they hold"),
    row(BecameNullable,  DOCUMENT, &[],             SAME,    WORKS,   UNREACHABLE),
    row(BecameNullable,  RESPONSE, &[ReadsNull],    BY_TYPE, WORKS,   "deployed clients read null here"),
    row(BecameNullable,  RESPONSE, &[],             BY_TYPE, FAILS,   "deployed clients cannot read null here"),
    row(BecameNullable,  REQUEST,  &[],             BY_TYPE, WORKS,   "it is sent as before"),
    row(BecameNullable,  ANY,      &[],             BY_TYPE, WORKS,   "errors are read whatever they hold"),
    row(BecameNotNullable, DOCUMENT, &[],           SAME,    WORKS,   UNREACHABLE),
    row(BecameNotNullable, REQUEST, &[SendsNull],   BY_TYPE, FAILS,   "deployed clients can send null here"),
    row(BecameNotNullable, REQUEST, &[],            BY_TYPE, WORKS,   "no client sends null here"),
    row(BecameNotNullable, ANY,    &[],             BY_TYPE, WORKS,   "deployed clients read values as before"),
    row(UndeclaredFieldChanged,  ANY, &[],          SAME,    WORKS,   "no code is made of a field without a schema"),
    row(AdditionalFieldsChanged, ANY, &[],          SAME,    WORKS,   "objects are read as open, and only declared fields are sent"),

    // Types and formats
    row(TypeChanged,   DOCUMENT, &[],            SAME,    WORKS,   UNREACHABLE),
    row(TypeChanged,   RESPONSE, &[ReadsNew],    BY_TYPE, WORKS,   "the old type reads the new values"),
    row(TypeChanged,   RESPONSE, &[GuessesNew],  BY_TYPE, BEHAVES, "a whole number is read as whole dollars or contracts, which it may not be"),
    row(TypeChanged,   RESPONSE, &[],            BY_TYPE, FAILS,   "the old type cannot read the new values"),
    row(TypeChanged,   REQUEST,  &[TextInUrl],   BY_TYPE, WORKS,   "in a URL everything is text"),
    row(TypeChanged,   REQUEST,  &[FitsNew],     BY_TYPE, WORKS,   "what deployed clients send fits the new type"),
    row(TypeChanged,   REQUEST,  &[],            BY_TYPE, FAILS,   "what deployed clients send does not fit the new type"),
    row(TypeChanged,   ANY,      &[],            BY_TYPE, WORKS,   "errors are read whatever they hold"),
    row(FormatChanged, DOCUMENT, &[],            SAME,    WORKS,   UNREACHABLE),
    row(FormatChanged, RESPONSE, &[ReadsNew],    BY_TYPE, WORKS,   "the old type reads the new values"),
    row(FormatChanged, RESPONSE, &[GuessesNew],  BY_TYPE, BEHAVES, "a whole number is read as whole dollars or contracts, which it may not be"),
    row(FormatChanged, RESPONSE, &[],            BY_TYPE, FAILS,   "the old type cannot read the new values"),
    row(FormatChanged, REQUEST,  &[TextInUrl],   BY_TYPE, WORKS,   "in a URL everything is text"),
    row(FormatChanged, REQUEST,  &[FitsNew],     BY_TYPE, WORKS,   "what deployed clients send fits the new format"),
    row(FormatChanged, REQUEST,  &[],            BY_TYPE, FAILS,   "what deployed clients send does not fit the new format"),
    row(FormatChanged, ANY,      &[],            BY_TYPE, WORKS,   "errors are read whatever they hold"),
    row(ContentsDeclared,   DOCUMENT, &[],           SAME,   WORKS, UNREACHABLE),
    row(ContentsDeclared,   REQUEST,  &[Collection], BREAKS, FAILS, "deployed clients may send any contents; the document now says which"),
    row(ContentsDeclared,   ANY,      &[Collection], BREAKS, WORKS, "deployed clients read any contents; the document now says which"),
    row(ContentsDeclared,   ANY,      &[],           SAME,   WORKS, "no code is made of the contents here"),
    row(ContentsUndeclared, DOCUMENT, &[],           SAME,   WORKS, UNREACHABLE),
    row(ContentsUndeclared, RESPONSE, &[Collection], BREAKS, FAILS, "deployed clients read the old contents; the document now allows any"),
    row(ContentsUndeclared, ANY,      &[Collection], BREAKS, WORKS, "the document now allows any contents"),
    row(ContentsUndeclared, ANY,      &[],           SAME,   WORKS, "no code is made of the contents here"),

    // Values and choices
    row(BecameEnum,    DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(BecameEnum,    REQUEST,  &[Variants],   BREAKS,  FAILS, "deployed clients may send other values"),
    row(BecameEnum,    REQUEST,  &[],           BY_TYPE, FAILS, "deployed clients may send other values"),
    row(BecameEnum,    ANY,      &[Variants],   BREAKS,  WORKS, "deployed clients read the values as text"),
    row(BecameEnum,    ANY,      &[],           BY_TYPE, WORKS, "deployed clients read the values as before"),
    row(BecameNotEnum, DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(BecameNotEnum, ANY,      &[Variants],   BREAKS,  WORKS, "enums are open: any text is read and sent"),
    row(BecameNotEnum, ANY,      &[],           BY_TYPE, WORKS, "any value is read and sent"),
    row(ValueAdded,    DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(ValueAdded,    ANY,      &[Known],      SAME,    WORKS, "an overlay names this value already"),
    row(ValueAdded,    RESPONSE, &[],           ADDS,    WORKS, "enums are open: deployed clients keep the text of an unknown value"),
    row(ValueAdded,    ANY,      &[],           ADDS,    WORKS, "one more value to choose"),
    row(ValueRemoved,  DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(ValueRemoved,  RESPONSE, &[NamesMessage], BREAKS, FAILS, "deployed clients know the message by this text"),
    row(ValueRemoved,  REQUEST,  &[Kept],       SAME,    FAILS, "callers may send it; an overlay still names the value"),
    row(ValueRemoved,  REQUEST,  &[Variants],   BREAKS,  FAILS, "deployed clients may send it; the variant is gone in Rust"),
    row(ValueRemoved,  REQUEST,  &[],           SAME,    FAILS, "deployed clients may send it"),
    row(ValueRemoved,  ANY,      &[Kept],       SAME,    WORKS, "it is no longer sent; an overlay still names the value"),
    row(ValueRemoved,  ANY,      &[Variants],   BREAKS,  WORKS, "it is no longer sent; the variant is gone in Rust"),
    row(ValueRemoved,  ANY,      &[],           SAME,    WORKS, "it is no longer sent"),
    row(ChoiceAdded,   DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(ChoiceAdded,   RESPONSE, &[],           BREAKS,  FAILS, "choices are closed: deployed clients read the old ones"),
    row(ChoiceAdded,   ANY,      &[],           BREAKS,  WORKS, "choices are closed: matches must name the new one"),
    row(ChoiceRemoved, DOCUMENT, &[],           SAME,    WORKS, UNREACHABLE),
    row(ChoiceRemoved, REQUEST,  &[],           BREAKS,  FAILS, "deployed clients may send it; it is gone in Rust"),
    row(ChoiceRemoved, ANY,      &[],           BREAKS,  WORKS, "it is no longer sent; it is gone in Rust"),

    // What else a schema says
    row(BecameDeprecated,  DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(BecameDeprecated,  ANY,      &[],            DEPRECATES, WORKS,   "the compiler warns"),
    row(BecameReactivated, ANY,      &[],            SAME,       WORKS,   "the compiler no longer warns"),
    row(DefaultChanged,    REQUEST,  &[],            SAME,       BEHAVES, "clients that leave it out send nothing, so the exchange's new default applies to them"),
    row(DefaultChanged,    DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(DefaultChanged,    ANY,      &[],            SAME,       WORKS,   "defaults of responses are not used"),
    row(BoundSet,          REQUEST,  &[RefusesOurs], SAME,       FAILS,   "the exchange refuses values as our type writes them"),
    row(BoundSet,          REQUEST,  &[],            SAME,       BEHAVES, "the document published no bound: the exchange may refuse some values of the caller, perhaps as it always did"),
    row(BoundSet,          DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(BoundSet,          ANY,      &[],            SAME,       WORKS,   "the client checks no bounds of what it reads"),
    row(BoundTightened,    REQUEST,  &[],            SAME,       FAILS,   "the exchange refuses values that the document allowed"),
    row(BoundTightened,    DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(BoundTightened,    ANY,      &[],            SAME,       WORKS,   "the client checks no bounds of what it reads"),
    row(BoundLoosened,     REQUEST,  &[],            SAME,       WORKS,   "the exchange takes more than before"),
    row(BoundLoosened,     DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(BoundLoosened,     ANY,      &[],            SAME,       WORKS,   "the client checks no bounds of what it reads"),
    row(BoundRemoved,      REQUEST,  &[],            SAME,       WORKS,   "the exchange takes more than before"),
    row(BoundRemoved,      DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(BoundRemoved,      ANY,      &[],            SAME,       WORKS,   "the client checks no bounds of what it reads"),
    row(AttributeChanged,  REQUEST,  &[],            SAME,       BEHAVES, "the client sends it as before, whatever the document now asks for"),
    row(AttributeChanged,  DOCUMENT, &[],            SAME,       WORKS,   UNREACHABLE),
    row(AttributeChanged,  ANY,      &[],            SAME,       WORKS,   "no code is made of it"),

    // The document as such
    row(ServerAdded,           ANY, &[], SAME, WORKS,   "no code is made of it"),
    row(ServerChanged,         ANY, &[], SAME, BEHAVES, "hosts are constants of this crate: compare with Environment"),
    row(SecuritySchemeAdded,   ANY, &[], SAME, WORKS,   "no code is made of it"),
    row(SecuritySchemeChanged, ANY, &[], SAME, BEHAVES, "signing is written by hand: compare with kalshi-auth"),
    row(VersionChanged,        ANY, &[], SAME, WORKS,   "the document's own version"),
    row(PartChanged,           ANY, &[], SAME, WORKS,   "no code is made of it"),
    ]
};

/// The verdict on a kind without a row. A test proves that none is without.
const UNLISTED: Verdict = Verdict {
    source: SourceImpact::Breaks,
    wire: WireImpact::Breaks,
    why: "no rule knows this change: treat it as a break",
};

/// Judges one fact.
pub(super) fn verdict(kind: FactKind, direction: Direction, traits: Traits) -> Verdict {
    let on = |row: &Row| match row.on {
        On::Any => true,
        On::Only(only) => only == direction,
    };
    let mut rows = TABLE.iter().filter(|row| row.kind == kind && on(row));
    let Some(row) = rows.find(|row| row.when.iter().all(|&what| traits.has(what))) else {
        return UNLISTED;
    };
    let source = match row.source {
        Source::Is(source) => source,
        Source::ByType(_) if traits.has(Trait::OtherType) => SourceImpact::Breaks,
        Source::ByType(otherwise) => otherwise,
    };
    Verdict { source, wire: row.wire, why: row.why }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTIONS: [Direction; 4] =
        [Direction::Request, Direction::Response, Direction::Error, Direction::Document];

    #[test]
    fn every_kind_of_fact_has_a_verdict_in_every_direction() {
        for &kind in FactKind::ALL {
            for direction in DIRECTIONS {
                assert_ne!(
                    verdict(kind, direction, Traits::default()).why,
                    UNLISTED.why,
                    "{kind:?} {direction}"
                );
            }
        }
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (index, later) in TABLE.iter().enumerate() {
            let hides = |earlier: &&Row| {
                earlier.kind == later.kind
                    && (earlier.on == On::Any || earlier.on == later.on)
                    && earlier.when.iter().all(|what| later.when.contains(what))
            };
            let earlier = TABLE.iter().take(index).find(hides);
            assert!(earlier.is_none(), "{later:?} is hidden by {earlier:?}");
        }
    }

    #[test]
    fn rows_of_a_kind_stand_together() {
        for &kind in FactKind::ALL {
            let places: Vec<usize> =
                TABLE.iter().enumerate().filter(|(_, r)| r.kind == kind).map(|(i, _)| i).collect();
            let apart = places.windows(2).any(|pair| pair[1] != pair[0] + 1);
            assert!(!apart && !places.is_empty(), "{kind:?}: {places:?}");
        }
    }

    #[test]
    fn every_trait_decides_something() {
        for &what in Trait::ALL {
            let used = TABLE.iter().any(|row| row.when.contains(&what));
            assert!(used || what == Trait::OtherType, "{what:?} is in no row");
        }
    }

    #[test]
    fn nothing_that_is_unreachable_breaks_anything() {
        for row in TABLE.iter().filter(|row| row.why == UNREACHABLE) {
            assert_eq!((row.source, row.wire), (SAME, WORKS), "{row:?}");
        }
    }
}
