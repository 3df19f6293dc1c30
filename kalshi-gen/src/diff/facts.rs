//! The facts that a comparison emits: what changed, where, and what is known of that place. No
//! fact carries a verdict; `rules` has one row for each kind.

use std::fmt;

use serde::Serialize;

use super::schema::Reading;

/// The direction in which a changed part travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the client to the exchange.
    Request,
    /// From the exchange to the client, as a success or on a stream.
    Response,
    /// From the exchange to the client, as a failure: one error type, whatever its body.
    Error,
    /// Neither: a part of the document as such.
    Document,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Error => "error",
            Self::Document => "document",
        })
    }
}

/// Defines an enum together with the list of its variants, which tests walk.
macro_rules! listed {
    ($(#[$attribute:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$variant),+];
        }
    };
}

listed! {
    /// The kind of a change.
    FactKind {
        // Operations.
        OperationAdded,
        OperationRemoved,
        OperationRenamed,
        OperationDeprecated,
        OperationReactivated,
        TagAdded,
        TagRemoved,
        SecurityAdded,
        SecurityRemoved,
        SecurityChanged,
        OperationAttributeChanged,
        // Parameters.
        ParameterAdded,
        ParameterRemoved,
        ParameterRenamed,
        ParameterSchemaChanged,
        ParameterAttributeChanged,
        // Bodies.
        RequestBodyAdded,
        RequestBodyRemoved,
        RequestBodyBecameRequired,
        RequestBodyBecameOptional,
        SuccessStatusAdded,
        SuccessStatusRemoved,
        FailureStatusAdded,
        FailureStatusRemoved,
        MediaTypeAdded,
        MediaTypeRemoved,
        BodySchemaChanged,
        BodyAttributeChanged,
        // Channels and messages.
        ChannelAdded,
        ChannelRemoved,
        ChannelAddressChanged,
        ChannelAttributeChanged,
        ChannelMessageAdded,
        ChannelMessageRemoved,
        ChannelMessageChanged,
        MessageAdded,
        MessageRemoved,
        MessageDirectionChanged,
        MessagePayloadChanged,
        MessageAttributeChanged,
        // Schemas.
        SchemaAdded,
        SchemaRemoved,
        SchemaBecameReachable,
        SchemaBecameUnreachable,
        SchemaNameChanged,
        FieldAdded,
        FieldRemoved,
        BecameRequired,
        BecameOptional,
        BecameNullable,
        BecameNotNullable,
        TypeChanged,
        FormatChanged,
        BecameEnum,
        BecameNotEnum,
        ValueAdded,
        ValueRemoved,
        ChoiceAdded,
        ChoiceRemoved,
        ContentsDeclared,
        ContentsUndeclared,
        UndeclaredFieldChanged,
        AdditionalFieldsChanged,
        BecameDeprecated,
        BecameReactivated,
        DefaultChanged,
        BoundSet,
        BoundTightened,
        BoundLoosened,
        BoundRemoved,
        AttributeChanged,
        // The document as such.
        ServerAdded,
        ServerChanged,
        SecuritySchemeAdded,
        SecuritySchemeChanged,
        VersionChanged,
        PartChanged,
    }
}

listed! {
    /// A trait of the place where something changed. It does not decide the consequences.
    Trait {
        /// The part is required: in the new document, in the old one for what was removed.
        Required,
        /// It stands in a query, path or header.
        Parameter,
        /// The deployed client reads null here.
        ReadsNull,
        /// The deployed client reads a response in which it is missing.
        ReadsAbsence,
        /// The deployed client can send null here.
        SendsNull,
        /// The Rust type before is another than the one after.
        OtherType,
        /// The old Rust type reads every value of the new schema, as it is meant.
        ReadsNew,
        /// The old Rust type reads every value of the new schema, perhaps in another sense.
        GuessesNew,
        /// The new schema accepts what the old Rust type writes.
        FitsNew,
        /// A URL carries it and the new type is text.
        TextInUrl,
        /// The values are variants of an enum in Rust.
        Variants,
        /// The values are those of `type`, by which a client tells messages apart.
        NamesMessage,
        /// The Rust type holds the declared contents: a list or a map.
        Collection,
        /// A new bound refuses values that our type writes by itself, whatever the caller chooses.
        RefusesOurs,
        /// An overlay declares it for the deployed client already.
        Known,
        /// An overlay still declares it for the next client.
        Kept,
        /// The method keeps its name in Rust.
        SameMethod,
        /// Operations or messages of the old document carry it.
        CarriedBefore,
        /// Operations or messages of the new document carry it.
        CarriedAfter,
        /// There was no body before.
        NoBody,
        /// The client sends it.
        Sent,
        /// The deployed client knows another message of this `type`, and reads this one as that.
        ReadAsAnother,
        /// The deployed client knows another message of this `type`, and cannot read this one.
        UnreadableAsAnother,
    }
}

/// A set of [`Trait`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits(u32);

impl Traits {
    pub(super) fn with(self, what: Trait, holds: bool) -> Self {
        let bit = 1 << (what as u32);
        Self(if holds { self.0 | bit } else { self.0 & !bit })
    }

    pub(super) fn has(self, what: Trait) -> bool {
        self.0 & (1 << (what as u32)) != 0
    }

    /// Adds how values of one schema fare in the type of the other.
    pub(super) fn with_readings(self, forward: Reading, backward: Reading) -> Self {
        self.with(Trait::ReadsNew, forward == Reading::Reads)
            .with(Trait::GuessesNew, forward == Reading::Guesses)
            .with(Trait::FitsNew, backward == Reading::Reads)
    }
}

/// The kind of a place, for the id of a change there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Parameter,
    Property,
    Body,
    /// An operation, message, channel or the document: ids there have no prefix.
    Whole,
}

/// One difference between two documents.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) kind: FactKind,
    /// The part of the id that the kind alone does not give: the name of a bound, of a word.
    pub(super) detail: String,
    pub(super) direction: Direction,
    pub(super) area: Area,
    pub(super) subject: String,
    pub(super) field: String,
    /// The schemas that hold the place, for the list of carriers.
    pub(super) schemas: Option<(String, String)>,
    /// The place below the subject.
    pub(super) pointer: String,
    /// The shared definition that a reference at that place leads to.
    pub(super) definition: Option<String>,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) traits: Traits,
    /// For a new message whose `type` deployed clients know: how it differs from each of those
    /// messages, which the clients may take it for.
    pub(super) taken_for: Vec<Vec<Fact>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trait_has_a_bit_of_its_own() {
        for &one in Trait::ALL {
            let set = Traits::default().with(one, true);
            for &other in Trait::ALL {
                assert_eq!(set.has(other), one == other, "{one:?} {other:?}");
            }
            assert_eq!(set.with(one, false), Traits::default());
        }
    }
}
