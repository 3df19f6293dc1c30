//! Schemas: uses of them, and what is in them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Edition, End, In, Place, Result, Said, Site, Walk, bodies::undeclared, canonical, keys, of_new,
    of_old,
};
use crate::{
    diff::{
        Kind,
        facts::{Area, Direction, FactKind, Trait, Traits},
        model::Model,
        schema::{Flat, Reading, Rest, Spot, flat, format_name, own, reading, rust_type, text},
        written::Written,
    },
    document::join,
    normalize::{Label, is_label, is_replaced},
};

/// The schemas whose types are written by hand.
const OWN_TYPES: [&str; 2] = ["FixedPointDollars", "FixedPointCount"];

/// The context of a place where a schema is used: a field, a parameter, an element, a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The Rust types, as the clients have them.
    pub(super) old_type: String,
    pub(super) new_type: String,
    pub(super) traits: Traits,
}

impl Slot {
    fn set(&mut self, what: Trait, holds: bool) {
        self.traits = self.traits.with(what, holds);
    }
}

/// Two schemas that wait to be compared.
pub(super) struct Job<'a> {
    place: Place,
    slot: Slot,
    site: Site<'a>,
}

/// Takes the schema of the contents out of a list or a map.
type Get<'g, 'a> = &'g dyn Fn(&Flat<'a>) -> Option<Spot<'a>>;

/// The contents of both schemas at a site.
struct Pair<'f, 'a> {
    old: &'f Flat<'a>,
    new: &'f Flat<'a>,
    /// The same for the clients, where overlays were applied.
    old_client: Option<Flat<'a>>,
    new_client: Option<Flat<'a>>,
}

impl<'a> Pair<'_, 'a> {
    fn of_clients(&self) -> (&Flat<'a>, &Flat<'a>) {
        (self.old_client.as_ref().unwrap_or(self.old), self.new_client.as_ref().unwrap_or(self.new))
    }
}

impl<'a> Walk<'_, 'a> {
    /// Compares named schemas that were added, removed, or that no operation led to.
    pub(super) fn schemas(&mut self) -> Result<()> {
        let (old, new) = (self.old.published, self.new.published);
        for name in keys(&old.schemas, &new.schemas) {
            let subject = format!("schema {name}");
            let carried = (self.old_carried.contains(name), self.new_carried.contains(name));
            let own = OWN_TYPES.contains(&name.as_str());
            let traits = Traits::default()
                .with(Trait::Known, own)
                .with(Trait::Kept, own)
                .with(Trait::CarriedBefore, carried.0)
                .with(Trait::CarriedAfter, carried.1);
            let kind = match (old.schemas.get(name), new.schemas.get(name), carried) {
                (Some(_), Some(after), (true, false)) => (FactKind::SchemaBecameUnreachable, after),
                (Some(_), Some(after), (false, true)) => (FactKind::SchemaBecameReachable, after),
                (Some(_), Some(_), (is_carried, _)) => {
                    if !self.compared.contains(name) {
                        // Carried, but by no operation that both documents have.
                        let sent = old.sent.contains(name) || new.sent.contains(name);
                        let direction = match (is_carried, sent) {
                            (false, _) => Direction::Document,
                            (true, true) => Direction::Request,
                            (true, false) => Direction::Response,
                        };
                        self.enqueue_named(name, direction)?;
                        self.drain()?;
                    }
                    continue;
                }
                (Some(before), None, _) => (FactKind::SchemaRemoved, before),
                (None, Some(after), _) => (FactKind::SchemaAdded, after),
                (None, None, _) => continue,
            };
            self.say(kind.0, &subject, &kind.1.pointer, Said::of(traits));
            self.name_carriers(name);
        }
        Ok(())
    }

    /// Names the carriers of the last fact, which is about this schema.
    fn name_carriers(&mut self, name: &str) {
        if let Some(fact) = self.facts.last_mut() {
            fact.schemas = Some((name.to_owned(), name.to_owned()));
        }
    }

    /// Puts a schema that both documents have under one name into the queue.
    fn enqueue_named(&mut self, name: &str, direction: Direction) -> Result<()> {
        self.enqueue_pair(name, name, direction)
    }

    /// Puts two schemas that stand for each other into the queue.
    fn enqueue_pair(&mut self, old: &str, new: &str, direction: Direction) -> Result<()> {
        let (Some(before), Some(after)) =
            (self.old.published.schema(old), self.new.published.schema(new))
        else {
            return Ok(());
        };
        let client = |edition: Edition<'_, 'a>, name: &str| {
            edition.client.and_then(|model| model.schema(name)).cloned()
        };
        let (old_client, new_client) = (client(self.old, old), client(self.new, new));
        let site = Site::new(before, old_client.as_ref(), after, new_client.as_ref());
        let subject =
            if old == new { format!("schema {new}") } else { format!("schema {old} as {new}") };
        let place = Place {
            direction,
            // Most named schemas are fields somewhere; one id for all keeps fingerprints stable.
            area: Area::Property,
            subject,
            field: String::new(),
            old_schema: old.to_owned(),
            new_schema: new.to_owned(),
            named: true,
            in_text: false,
            old_use: before.pointer.clone(),
            new_use: after.pointer.clone(),
        };
        let mut slot = self.slot(&place, "", &site, (true, true))?;
        // Null inside a named type is read by those who use it as an optional field; not by all.
        slot.set(Trait::ReadsNull, false);
        self.enqueue(place, slot, site);
        Ok(())
    }

    pub(super) fn enqueue(&mut self, place: Place, slot: Slot, site: Site<'a>) {
        let (old, new) = (&site.old.spot.pointer, &site.new.spot.pointer);
        if let Some(name) = schema_at(old)
            && old == new
        {
            self.compared.insert(name.to_owned());
        }
        if self.seen.insert((old.clone(), new.clone(), place.direction)) {
            self.queue.push_back(Job { place, slot, site });
        }
    }

    pub(super) fn drain(&mut self) -> Result<()> {
        while let Some(job) = self.queue.pop_front() {
            let (before, after) = (&job.site.old.spot, &job.site.new.spot);
            let old = flat(self.old.published.root, before).map_err(of_old)?;
            let new = flat(self.new.published.root, after).map_err(of_new)?;
            // A schema that is only another name for a second one: that one has its own turn.
            if before.name().is_some() && before.name() == after.name() {
                self.site(&job.place, &job.slot, &job.site)?;
                continue;
            }
            self.nullable(&job.place, &job.slot, &after.pointer, &old, &new);
            self.content(&job, &old, &new)?;
        }
        Ok(())
    }

    /// Learns what the clients do with a place. `required` is as the clients have it.
    pub(super) fn slot(
        &self,
        place: &Place,
        field: &str,
        site: &Site<'a>,
        required: (bool, bool),
    ) -> Result<Slot> {
        let old = client_slot(self.old, place, &place.old_schema, field, &site.old, required.0)
            .map_err(of_old)?;
        let new = client_slot(self.new, place, &place.new_schema, field, &site.new, required.1)
            .map_err(of_new)?;
        let traits = Traits::default()
            .with(Trait::Parameter, place.area == Area::Parameter)
            .with(Trait::ReadsNull, old.reads_null)
            .with(Trait::ReadsAbsence, old.reads_absence)
            .with(Trait::SendsNull, old.sends_null)
            .with(Trait::Required, required.1)
            .with(Trait::OtherType, old.ty != new.ty);
        Ok(Slot { old_type: old.ty, new_type: new.ty, traits })
    }

    /// Compares one use of a schema: the attributes beside a reference, and what stands or is
    /// referred to here.
    pub(super) fn site(&mut self, place: &Place, slot: &Slot, site: &Site<'a>) -> Result<()> {
        let (old, new) = (&site.old.spot, &site.new.spot);
        match (old.name(), new.name()) {
            (Some(a), Some(b)) if a == b => {
                let before = own(self.old.published.root, old).map_err(of_old)?;
                let after = own(self.new.published.root, new).map_err(of_new)?;
                self.nullable(place, slot, &new.pointer, &before, &after);
                self.schema_attributes(
                    place,
                    (&old.pointer, &before),
                    (&new.pointer, &after),
                    None,
                );
                let known = self.old.published.schema(a).is_some()
                    && self.new.published.schema(b).is_some();
                if !known {
                    // The reference leads nowhere in one of them: reading it says where.
                    flat(self.old.published.root, old).map_err(of_old)?;
                    flat(self.new.published.root, new).map_err(of_new)?;
                } else if place.direction != Direction::Document {
                    // Of what no operation carries, each schema has its own turn.
                    self.enqueue_named(a, place.direction)?;
                }
                Ok(())
            }
            (None, None) => {
                let before = flat(self.old.published.root, old).map_err(of_old)?;
                let after = flat(self.new.published.root, new).map_err(of_new)?;
                self.nullable(place, slot, &new.pointer, &before, &after);
                let job = Job { place: place.clone(), slot: slot.clone(), site: site.clone() };
                self.content(&job, &before, &after)
            }
            (a, b) => {
                let before = flat(self.old.published.root, old).map_err(of_old)?;
                let after = flat(self.new.published.root, new).map_err(of_new)?;
                // Another type or format says that the name is another one, too.
                if !has_other_type(old, &before, new, &after) {
                    let text = |name: Option<&str>| Some(name.unwrap_or("(in place)").to_owned());
                    let said = Said::values(text(a), text(b)).traits(slot.traits);
                    self.say_at(place, FactKind::SchemaNameChanged, In::New(&new.pointer), said);
                }
                match (a, b) {
                    // However many places refer to the two, their contents are compared once.
                    (Some(a), Some(b))
                        if is_object(&before)
                            && is_object(&after)
                            && place.direction != Direction::Document =>
                    {
                        let before = own(self.old.published.root, old).map_err(of_old)?;
                        let after = own(self.new.published.root, new).map_err(of_new)?;
                        self.nullable(place, slot, &new.pointer, &before, &after);
                        self.enqueue_pair(a, b, place.direction)
                    }
                    _ => {
                        self.enqueue(place.clone(), slot.clone(), site.clone());
                        Ok(())
                    }
                }
            }
        }
    }

    fn nullable(
        &mut self,
        place: &Place,
        slot: &Slot,
        pointer: &str,
        old: &Flat<'_>,
        new: &Flat<'_>,
    ) {
        if old.nullable == new.nullable {
            return;
        }
        let kind =
            if new.nullable { FactKind::BecameNullable } else { FactKind::BecameNotNullable };
        self.say_at(place, kind, In::New(pointer), Said::of(slot.traits));
    }

    pub(super) fn deprecated(&mut self, place: &Place, pointer: In<'_>, now: bool) {
        let kind = if now { FactKind::BecameDeprecated } else { FactKind::BecameReactivated };
        self.say_at(place, kind, pointer, Said::default());
    }

    fn content(&mut self, job: &Job<'a>, old: &Flat<'a>, new: &Flat<'a>) -> Result<()> {
        let Job { place, slot, site } = job;
        let (before, after) = (&site.old.spot, &site.new.spot);
        // What `allOf` merged is compared here, and needs no turn of its own.
        self.compared.extend(old.through.intersection(&new.through).cloned());
        let pair = Pair {
            old_client: client_flat(self.old, &site.old),
            new_client: client_flat(self.new, &site.new),
            old,
            new,
        };
        let written = {
            let client = site.old.client.as_ref().unwrap_or(before);
            Written::of(base_name(client), place.last_step(), pair.of_clients().0)
        };
        self.schema_attributes(
            place,
            (&before.pointer, old),
            (&after.pointer, new),
            Some(&written),
        );
        let other_type = old.kind != new.kind;
        if other_type || has_other_format(before, old, after, new) {
            let traits = type_traits(place, slot, site, &pair);
            let (kind, texts) = if other_type {
                let text =
                    |schema: &Flat<'_>| schema.kind.clone().unwrap_or_else(|| "any".to_owned());
                (FactKind::TypeChanged, (text(old), text(new)))
            } else {
                let text =
                    |spot: &Spot<'_>, schema: &Flat<'_>| format_name(base_name(spot), schema);
                (FactKind::FormatChanged, (text(before, old), text(after, new)))
            };
            let said = Said::values(Some(texts.0), Some(texts.1)).traits(traits);
            self.say_at(place, kind, In::New(&after.pointer), said);
            if other_type {
                return Ok(());
            }
        }
        self.values(job, &pair);
        self.fields(job, &pair)?;
        self.inner(job, &pair)?;
        self.choices(job, &pair)
    }

    /// Compares default, deprecation, bounds, and all other attributes of a schema.
    fn schema_attributes(
        &mut self,
        place: &Place,
        (old_pointer, old): (&str, &Flat<'_>),
        (new_pointer, new): (&str, &Flat<'_>),
        written: Option<&Written>,
    ) {
        for key in keys(&old.attributes, &new.attributes) {
            let (before, after) = (old.attributes.get(key), new.attributes.get(key));
            if before.map(canonical) == after.map(canonical) {
                continue;
            }
            let pointer = if after.is_some() {
                self.attribute_place(false, new_pointer, key)
            } else {
                self.attribute_place(true, old_pointer, key)
            };
            let at = if after.is_some() { In::New(&pointer) } else { In::Old(&pointer) };
            let (kind, detail) = match key.as_str() {
                "deprecated" => {
                    let truth = |value: Option<&Value>| value == Some(&Value::Bool(true));
                    if truth(before) != truth(after) {
                        self.deprecated(place, at, truth(after));
                    }
                    continue;
                }
                "default" => {
                    let change = change_word(before, after, ["added", "removed", "changed"]);
                    (FactKind::DefaultChanged, format!("default-value-{change}"))
                }
                "pattern" => {
                    let change = change_word(before, after, ["added", "removed", "changed"]);
                    let kind = match (before, after) {
                        (None, _) => FactKind::BoundSet,
                        (_, None) => FactKind::BoundRemoved,
                        // Whether another pattern accepts less cannot be decided.
                        _ => FactKind::BoundTightened,
                    };
                    (kind, format!("pattern-{change}"))
                }
                word => match bound(word) {
                    Some((name, upper)) => {
                        let (kind, change) = bound_change(before, after, upper);
                        (kind, format!("{name}-{change}"))
                    }
                    None => (FactKind::AttributeChanged, format!("attribute-{word}-changed")),
                },
            };
            let refused =
                after.is_some_and(|bound| written.is_some_and(|w| w.refused_by(key, bound)));
            let said = Said::values(before.map(text), after.map(text))
                .detail(detail)
                .traits(Traits::default().with(Trait::RefusesOurs, refused));
            self.say_at(place, kind, at, said);
        }
    }

    /// Returns the pointer of an attribute, or of the schema where `allOf` or a reference brings it
    /// in.
    fn attribute_place(&self, is_old: bool, pointer: &str, key: &str) -> String {
        let edition = if is_old { self.old } else { self.new };
        let at = join(pointer, key);
        if edition.published.root.pointer(&at).is_some() { at } else { pointer.to_owned() }
    }

    fn values(&mut self, job: &Job<'a>, pair: &Pair<'_, 'a>) {
        let Job { place, slot, site } = job;
        let pointer = In::New(&site.new.spot.pointer);
        let variants = pair.old.kind.as_deref().is_none_or(|kind| kind == "string");
        let traits = slot.traits.with(Trait::Variants, variants);
        let (old_client, new_client) = pair.of_clients();
        let (before, after) = match (&pair.old.values, &pair.new.values) {
            (None, None) => return,
            (None, Some(_)) => {
                self.say_at(place, FactKind::BecameEnum, pointer, Said::of(traits));
                return;
            }
            (Some(_), None) => {
                self.say_at(place, FactKind::BecameNotEnum, pointer, Said::of(traits));
                return;
            }
            (Some(before), Some(after)) => (before, after),
        };
        let texts = |values: &[Value]| values.iter().map(text).collect::<BTreeSet<_>>();
        let (before, after) = (texts(before), texts(after));
        let of_client = |client: &Flat<'_>| client.values.as_deref().map(texts).unwrap_or_default();
        let (known, kept) = (of_client(old_client), of_client(new_client));
        // The `type` of a message is how a client knows it.
        let names_message = self.new.published.kind == Kind::AsyncApi && place.field == "type";
        for value in before.difference(&after) {
            let traits = traits
                .with(Trait::NamesMessage, names_message)
                .with(Trait::Kept, kept.contains(value));
            let said = Said::values(Some(value.clone()), None).traits(traits);
            self.say_at(place, FactKind::ValueRemoved, pointer, said);
        }
        for value in after.difference(&before) {
            let traits = traits.with(Trait::Known, known.contains(value));
            let said = Said::values(None, Some(value.clone())).traits(traits);
            self.say_at(place, FactKind::ValueAdded, pointer, said);
        }
    }

    fn fields(&mut self, job: &Job<'a>, pair: &Pair<'_, 'a>) -> Result<()> {
        let Pair { old, new, old_client, new_client } = pair;
        for name in keys(&old.fields, &new.fields) {
            let place = job.place.below(name);
            let required = (old.required.contains(name), new.required.contains(name));
            let client = |flat: &Option<Flat<'a>>, published: bool| {
                let spot = flat.as_ref().and_then(|flat| flat.fields.get(name)).cloned();
                let declared = spot.is_some();
                let required =
                    flat.as_ref().filter(|_| declared).map(|f| f.required.contains(name));
                (spot, required.unwrap_or(published))
            };
            let (known, old_required) = client(old_client, required.0);
            let (kept, new_required) = client(new_client, required.1);
            match (old.fields.get(name), new.fields.get(name)) {
                (Some(before), Some(after)) => {
                    let site = Site::new(before, known.as_ref(), after, kept.as_ref());
                    let place = place.used_at(&before.pointer, &after.pointer);
                    let slot = self.slot(&place, name, &site, (old_required, new_required))?;
                    if required.0 != required.1 {
                        let kind = if required.1 {
                            FactKind::BecameRequired
                        } else {
                            FactKind::BecameOptional
                        };
                        let said = Said::of(slot.traits);
                        self.say_at(&place, kind, In::New(&after.pointer), said);
                    }
                    self.site(&place, &slot, &site)?;
                }
                (Some(before), None) => {
                    let end = End { spot: before.clone(), client: known };
                    let old =
                        client_slot(self.old, &place, &place.old_schema, name, &end, old_required)
                            .map_err(of_old)?;
                    let next =
                        self.client_type(&place, name, false, kept.as_ref(), new_required)?;
                    let traits = Traits::default()
                        .with(Trait::Required, required.0)
                        .with(Trait::ReadsAbsence, old.reads_absence)
                        .with(Trait::ReadsNull, old.reads_null)
                        .with(Trait::Kept, kept.is_some())
                        .with(Trait::OtherType, next.is_some_and(|next| next != old.ty));
                    let said = Said::of(traits);
                    self.say_at(&place, FactKind::FieldRemoved, In::Old(&before.pointer), said);
                }
                (None, Some(after)) => {
                    let end = End { spot: after.clone(), client: kept };
                    let new =
                        client_slot(self.new, &place, &place.new_schema, name, &end, new_required)
                            .map_err(of_new)?;
                    let was = self.client_type(&place, name, true, known.as_ref(), old_required)?;
                    let traits = Traits::default()
                        .with(Trait::Required, required.1)
                        .with(Trait::Known, known.is_some())
                        .with(Trait::OtherType, was.is_some_and(|was| was != new.ty));
                    let said = Said::of(traits);
                    self.say_at(&place, FactKind::FieldAdded, In::New(&after.pointer), said);
                }
                (None, None) => {}
            }
        }
        let declared = |name: &str| old.fields.contains_key(name) || new.fields.contains_key(name);
        let (before, after) =
            (undeclared(&old.required, declared), undeclared(&new.required, declared));
        for name in before.symmetric_difference(&after) {
            let traits = Traits::default().with(Trait::Required, after.contains(name));
            let at = In::New(&job.site.new.spot.pointer);
            let kind = FactKind::UndeclaredFieldChanged;
            self.say_at(&job.place.below(name), kind, at, Said::of(traits));
        }
        Ok(())
    }

    /// Elements of lists and values of maps.
    fn inner(&mut self, job: &Job<'a>, pair: &Pair<'_, 'a>) -> Result<()> {
        let Pair { old, new, old_client, new_client } = pair;
        let (old_pointer, new_pointer) = (&job.site.old.spot.pointer, &job.site.new.spot.pointer);
        let items = |schema: &Flat<'a>| schema.items.clone();
        let values = |schema: &Flat<'a>| match &schema.rest {
            Rest::Of(spot) => Some(spot.clone()),
            _ => None,
        };
        let kinds: [(&str, &str, Get<'_, 'a>); 2] =
            [("[]", "items", &items), ("{}", "additional-properties", &values)];
        for (step, word, get) in kinds {
            let place = job.place.below(step);
            match (get(old), get(new)) {
                (Some(before), Some(after)) => {
                    let client = |flat: &Option<Flat<'a>>| flat.as_ref().and_then(get);
                    let site = Site::new(
                        &before,
                        client(old_client).as_ref(),
                        &after,
                        client(new_client).as_ref(),
                    );
                    let place = place.used_at(&before.pointer, &after.pointer);
                    let mut slot = self.slot(&place, "", &site, (true, true))?;
                    slot.set(Trait::ReadsAbsence, true);
                    // An element that is null is no empty list.
                    slot.set(Trait::ReadsNull, slot.old_type.starts_with("Option<"));
                    self.site(&place, &slot, &site)?;
                }
                (None, None) => {}
                (before, _) => {
                    let collection = old.is_map() || old.is_list();
                    let traits = Traits::default().with(Trait::Collection, collection);
                    let (kind, at) = if before.is_none() {
                        (FactKind::ContentsDeclared, In::New(new_pointer))
                    } else {
                        (FactKind::ContentsUndeclared, In::Old(old_pointer))
                    };
                    self.say_at(&job.place, kind, at, Said::of(traits).detail(word));
                }
            }
        }
        let closed = |schema: &Flat<'_>| matches!(schema.rest, Rest::Nothing);
        if closed(old) != closed(new) {
            let word = |closed| if closed { "forbidden" } else { "allowed" };
            let said = Said::values(
                Some(word(closed(old)).to_owned()),
                Some(word(closed(new)).to_owned()),
            );
            let kind = FactKind::AdditionalFieldsChanged;
            self.say_at(&job.place, kind, In::New(new_pointer), said);
        }
        Ok(())
    }

    fn choices(&mut self, job: &Job<'a>, pair: &Pair<'_, 'a>) -> Result<()> {
        for (word, detail) in [("oneOf", "one-of"), ("anyOf", "any-of")] {
            let (before, after) = (choices(pair.old, word), choices(pair.new, word));
            let client = |flat: &Option<Flat<'a>>| {
                flat.as_ref().map(|flat| choices(flat, word)).unwrap_or_default()
            };
            let (old_client, new_client) = (client(&pair.old_client), client(&pair.new_client));
            for key in keys(&before, &after) {
                let place = job.place.below(&format!("|{key}"));
                match (before.get(key), after.get(key)) {
                    (Some(old), Some(new)) => {
                        let site = Site::new(old, old_client.get(key), new, new_client.get(key));
                        let place = place.used_at(&old.pointer, &new.pointer);
                        let slot = self.slot(&place, "", &site, (true, true))?;
                        self.site(&place, &slot, &site)?;
                    }
                    (Some(old), None) => {
                        let said = Said::values(Some(key.clone()), None).detail(detail);
                        self.say_at(&place, FactKind::ChoiceRemoved, In::Old(&old.pointer), said);
                    }
                    (None, Some(new)) => {
                        let said = Said::values(None, Some(key.clone())).detail(detail);
                        self.say_at(&place, FactKind::ChoiceAdded, In::New(&new.pointer), said);
                    }
                    (None, None) => {}
                }
            }
        }
        Ok(())
    }
}

fn choices<'a>(schema: &Flat<'a>, word: &str) -> BTreeMap<String, Spot<'a>> {
    let spots = schema.choices.get(word).into_iter().flatten();
    let keyed = spots.enumerate().map(|(index, spot)| {
        let key = spot.name().map_or_else(|| format!("#{index}"), str::to_owned);
        (key, spot.clone())
    });
    keyed.collect()
}

/// Returns the contents of a schema as the client has them. An overlay may have taken away what a
/// reference leads to: then the published contents count.
fn client_flat<'a>(edition: Edition<'_, 'a>, end: &End<'a>) -> Option<Flat<'a>> {
    flat(edition.client?.root, end.client.as_ref()?).ok()
}

/// A field as a client has it.
pub(super) struct ClientField {
    /// The Rust type, with its `Option`.
    pub(super) ty: String,
    /// Null is read, as nothing or as empty.
    reads_null: bool,
    /// Absence is read, as nothing or as empty.
    reads_absence: bool,
    /// A request holds null where the caller sets nothing.
    sends_null: bool,
}

/// Returns what a client has at a place: as its own document says, else as published.
fn client_slot<'a>(
    edition: Edition<'_, 'a>,
    place: &Place,
    schema: &str,
    field: &str,
    end: &End<'a>,
    required: bool,
) -> crate::error::Result<ClientField> {
    if let (Some(model), Some(spot)) = (edition.client, end.client.as_ref())
        && let Ok(found) = client_field(model, place, schema, field, spot, required)
    {
        return Ok(found);
    }
    client_field(edition.published, place, schema, field, &end.spot, required)
}

/// Returns what the generator makes of a place.
pub(super) fn client_field<'a>(
    model: &Model<'a>,
    place: &Place,
    schema: &str,
    field: &str,
    spot: &Spot<'a>,
    required: bool,
) -> crate::error::Result<ClientField> {
    let bare = rust_type(model.root, spot)?;
    let content = flat(model.root, spot)?;
    let sends_null = required && content.nullable;
    let inline = spot.name().is_none();
    let collection = inline && (content.is_list() || content.is_map());
    let sent = place.direction == Direction::Request || model.sent.contains(schema);
    // The field of the schema itself, not of an object inside it.
    let direct = place.field == field;
    if collection && !sent {
        let is_whole_response = direct && model.responses.contains(schema);
        let reads_absence = !(required && is_whole_response);
        return Ok(ClientField { ty: bare, reads_null: true, reads_absence, sends_null });
    }
    if collection && content.is_map() && !content.nullable {
        return Ok(ClientField { ty: bare, reads_null: false, reads_absence: false, sends_null });
    }
    if required && !sent && direct && is_label(schema, field, spot.value) {
        let is_optional = match label_of(model, spot, &content)? {
            Label::Option => true,
            Label::Text | Label::Object => false,
        };
        let ty = if is_optional { format!("Option<{bare}>") } else { bare };
        return Ok(ClientField { ty, reads_null: true, reads_absence: true, sends_null });
    }
    // The cursor of a page may be missing, whatever its schema says.
    let cursor =
        direct && matches!(field, "cursor" | "next_cursor") && schema.ends_with("Response");
    if required && !content.nullable && !cursor {
        return Ok(ClientField { ty: bare, reads_null: false, reads_absence: false, sends_null });
    }
    let reads_absence = !required || cursor;
    Ok(ClientField { ty: format!("Option<{bare}>"), reads_null: true, reads_absence, sends_null })
}

/// Returns how a label reads that is null or absent: the rule of `normalize/labels.rs`, on a
/// document as it is published.
fn label_of<'a>(
    model: &Model<'a>,
    spot: &Spot<'a>,
    content: &Flat<'a>,
) -> crate::error::Result<Label> {
    if content.nullable {
        return Ok(Label::Option);
    }
    let is_text = content.kind.as_deref() == Some("string");
    let is_plain = content.format.is_none() && !is_replaced(spot.name());
    if is_text && (content.values.is_some() || is_plain) {
        return Ok(Label::Text);
    }
    if spot.name().is_some() && !content.fields.is_empty() {
        for (name, field) in &content.fields {
            if content.required.contains(name) && !flat(model.root, field)?.nullable {
                return Ok(Label::Option);
            }
        }
        return Ok(Label::Object);
    }
    Ok(Label::Option)
}

/// Returns the name of the schema that a pointer leads to.
fn schema_at(pointer: &str) -> Option<&str> {
    pointer.strip_prefix("/components/schemas/").filter(|name| !name.contains('/'))
}

/// Returns the name of the schema that stands here or is referred to.
fn base_name<'s>(spot: &'s Spot<'_>) -> Option<&'s str> {
    spot.name().or_else(|| schema_at(&spot.pointer))
}

fn is_object(schema: &Flat<'_>) -> bool {
    schema.kind.as_deref() == Some("object")
}

fn has_other_type(before: &Spot<'_>, old: &Flat<'_>, after: &Spot<'_>, new: &Flat<'_>) -> bool {
    old.kind != new.kind || has_other_format(before, old, after, new)
}

/// Reports whether the formats differ: the stated ones, or those that the names stand for.
fn has_other_format(before: &Spot<'_>, old: &Flat<'_>, after: &Spot<'_>, new: &Flat<'_>) -> bool {
    format_name(base_name(before), old) != format_name(base_name(after), new)
}

/// Returns how values of one side fare in the type of the other.
fn type_traits(place: &Place, slot: &Slot, site: &Site<'_>, pair: &Pair<'_, '_>) -> Traits {
    let name =
        |end: &End<'_>| base_name(end.client.as_ref().unwrap_or(&end.spot)).map(str::to_owned);
    let (old_name, new_name) = (name(&site.old), name(&site.new));
    let (old, new) = pair.of_clients();
    let forward: Reading = reading(old_name.as_deref(), old, new_name.as_deref(), new);
    let backward = reading(new_name.as_deref(), new, old_name.as_deref(), old);
    // A named type may keep its name and hold something else.
    let inner =
        |name: Option<&str>, schema: &Flat<'_>| inner_type(&format_name(name, schema), schema);
    let other_inner = inner(old_name.as_deref(), old) != inner(new_name.as_deref(), new);
    slot.traits
        .with_readings(forward, backward)
        .with(Trait::TextInUrl, place.in_text && slot.new_type == "String")
        .with(Trait::OtherType, slot.old_type != slot.new_type || other_inner)
}

/// Returns the type that a scalar becomes, whatever name it has.
fn inner_type(format: &str, schema: &Flat<'_>) -> &'static str {
    match (schema.kind.as_deref(), format) {
        (Some("string"), "date-time") => "time",
        (Some("string"), "date") => "date",
        (Some("string"), "fixed-point-dollars") => "dollars",
        (Some("string"), "fixed-point-count") => "count",
        (Some("string"), "ip" | "ipv4" | "ipv6") => "address",
        (Some("string"), _) => "text",
        (Some("integer"), "int32") => "i32",
        (Some("integer"), _) => "i64",
        (Some("number"), "float") => "f32",
        (Some("number"), _) => "f64",
        (Some("boolean"), _) => "bool",
        (Some("array"), _) => "list",
        (Some("object"), _) => "object",
        _ => "any",
    }
}

/// Returns the name of a bound in ids, and whether it is an upper one.
fn bound(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "maximum" => ("max", true),
        "minimum" => ("min", false),
        "exclusiveMaximum" => ("exclusive-max", true),
        "exclusiveMinimum" => ("exclusive-min", false),
        "maxLength" => ("max-length", true),
        "minLength" => ("min-length", false),
        "maxItems" => ("max-items", true),
        "minItems" => ("min-items", false),
        "maxProperties" => ("max-properties", true),
        "minProperties" => ("min-properties", false),
        _ => return None,
    })
}

/// Returns how a bound moved. Bounds that are no numbers (`true`, in older documents) count as
/// numbers that rise.
fn bound_change(
    before: Option<&Value>,
    after: Option<&Value>,
    upper: bool,
) -> (FactKind, &'static str) {
    match (before, after) {
        (None, _) => (FactKind::BoundSet, "set"),
        (_, None) => (FactKind::BoundRemoved, "unset"),
        (Some(before), Some(after)) => {
            let less = match (before.as_i64(), after.as_i64()) {
                (Some(before), Some(after)) => after < before,
                _ => after.as_f64() < before.as_f64(),
            };
            let kind =
                if less == upper { FactKind::BoundTightened } else { FactKind::BoundLoosened };
            (kind, if less { "decreased" } else { "increased" })
        }
    }
}

fn change_word<'w>(before: Option<&Value>, after: Option<&Value>, words: [&'w str; 3]) -> &'w str {
    let [added, removed, changed] = words;
    match (before, after) {
        (None, _) => added,
        (_, None) => removed,
        _ => changed,
    }
}
