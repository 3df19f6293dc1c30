//! Operations and their parameters.

use std::collections::BTreeSet;

use super::{
    In, Place, Result, Said, Site, Slot, Walk, canonical, keys, of_new, of_old,
    schemas::client_field,
};
use crate::{
    diff::{
        facts::{Area, Direction, FactKind, Trait, Traits},
        model::{Operation, Parameter},
        schema::{rust_type, text},
    },
    names::{method_name, type_name},
};

impl<'a> Walk<'_, 'a> {
    pub(super) fn operation(&mut self, key: &str) -> Result<()> {
        let (before, after) =
            (self.old.published.operations.get(key), self.new.published.operations.get(key));
        match (before, after) {
            (Some(old), Some(new)) => self.same_operation(key, old, new),
            (Some(old), None) => {
                let warning =
                    if old.deprecated { "with-deprecation" } else { "without-deprecation" };
                let said = Said::values(Some(old.id.clone()), None).detail(warning);
                self.say(FactKind::OperationRemoved, &old.title, &old.pointer, said);
                Ok(())
            }
            (None, Some(new)) => {
                let said = Said::values(None, Some(new.id.clone()));
                self.say(FactKind::OperationAdded, &new.title, &new.pointer, said);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn same_operation(
        &mut self,
        key: &str,
        old: &Operation<'a>,
        new: &Operation<'a>,
    ) -> Result<()> {
        let (title, pointer) = (&new.title, &new.pointer);
        if old.id != new.id {
            let method = |id: &str| type_name(id).map(|builder| method_name(&builder));
            let same = method(&old.id) == method(&new.id);
            let said = Said::values(Some(old.id.clone()), Some(new.id.clone()))
                .traits(Traits::default().with(Trait::SameMethod, same));
            self.say(FactKind::OperationRenamed, title, pointer, said);
        }
        if old.deprecated != new.deprecated {
            let kind = if new.deprecated {
                FactKind::OperationDeprecated
            } else {
                FactKind::OperationReactivated
            };
            self.say(kind, title, pointer, Said::default());
        }
        for tag in old.tags.iter().chain(&new.tags).collect::<BTreeSet<_>>() {
            match (old.tags.contains(tag), new.tags.contains(tag)) {
                (true, false) => {
                    let said = Said::values(Some(tag.clone()), None);
                    self.say(FactKind::TagRemoved, title, pointer, said);
                }
                (false, true) => {
                    let said = Said::values(None, Some(tag.clone()));
                    self.say(FactKind::TagAdded, title, pointer, said);
                }
                _ => {}
            }
        }
        if canonical(&old.security) != canonical(&new.security) {
            let kind = match (old.signed, new.signed) {
                (false, true) => FactKind::SecurityAdded,
                (true, false) => FactKind::SecurityRemoved,
                _ => FactKind::SecurityChanged,
            };
            let said = Said::values(Some(text(&old.security)), Some(text(&new.security)));
            self.say(kind, title, pointer, said);
        }
        let place = Place {
            direction: Direction::Document,
            area: Area::Whole,
            subject: title.clone(),
            field: String::new(),
            old_schema: String::new(),
            new_schema: String::new(),
            named: false,
            in_text: false,
            old_use: old.pointer.clone(),
            new_use: pointer.clone(),
        };
        self.attributes(
            &place,
            FactKind::OperationAttributeChanged,
            (&old.pointer, &old.attributes),
            (pointer, &new.attributes),
        );
        for parameter in keys(&old.parameters, &new.parameters) {
            self.parameter(key, title, parameter)?;
        }
        self.request_body(key, old, new)?;
        self.responses(key, old, new)
    }

    fn parameter(&mut self, operation: &str, title: &str, key: &(String, String)) -> Result<()> {
        let of = |model: &'_ crate::diff::model::Model<'a>| {
            model.operations.get(operation).and_then(|o| o.parameters.get(key)).cloned()
        };
        let (before, after) = (of(self.old.published), of(self.new.published));
        let (old_client, new_client) = (self.old.client.and_then(of), self.new.client.and_then(of));
        let Some(named) = after.as_ref().or(before.as_ref()) else { return Ok(()) };
        let used_at = |parameter: Option<&Parameter<'_>>| {
            parameter.map(|parameter| parameter.used_at.clone()).unwrap_or_default()
        };
        let at = Place {
            direction: Direction::Request,
            area: Area::Parameter,
            subject: title.to_owned(),
            field: format!("{} {}", key.0, named.name),
            old_schema: "Request".to_owned(),
            new_schema: "Request".to_owned(),
            named: false,
            in_text: true,
            old_use: used_at(before.as_ref()),
            new_use: used_at(after.as_ref()),
        };
        let (old, new) = match (before, after) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(new)) => {
                let other = self.other_type(old_client.as_ref(), new_client.as_ref())?;
                let traits = Traits::default()
                    .with(Trait::Parameter, true)
                    .with(Trait::Required, new.required)
                    .with(Trait::Known, old_client.is_some())
                    .with(Trait::OtherType, other);
                let pointer = In::New(&new.pointer);
                self.say_at(&at, FactKind::ParameterAdded, pointer, Said::of(traits));
                return Ok(());
            }
            (Some(old), None) => {
                let other = self.other_type(old_client.as_ref(), new_client.as_ref())?;
                let traits = Traits::default()
                    .with(Trait::Parameter, true)
                    .with(Trait::Required, old.required)
                    .with(Trait::Kept, new_client.is_some())
                    .with(Trait::OtherType, other);
                let pointer = In::Old(&old.pointer);
                self.say_at(&at, FactKind::ParameterRemoved, pointer, Said::of(traits));
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        if old.name != new.name {
            let said = Said::values(Some(old.name.clone()), Some(new.name.clone()));
            self.say_at(&at, FactKind::ParameterRenamed, In::New(&new.pointer), said);
        }
        let slot = self.parameter_slot((&old, old_client.as_ref()), (&new, new_client.as_ref()))?;
        let pointer = new.pointer.clone();
        if old.required != new.required {
            let kind =
                if new.required { FactKind::BecameRequired } else { FactKind::BecameOptional };
            self.say_at(&at, kind, In::New(&pointer), Said::of(slot.traits));
        }
        if old.deprecated != new.deprecated {
            self.deprecated(&at, In::New(&pointer), new.deprecated);
        }
        self.attributes(
            &at,
            FactKind::ParameterAttributeChanged,
            (&old.pointer, &old.attributes),
            (&new.pointer, &new.attributes),
        );
        match (&old.schema, &new.schema) {
            (Some(before), Some(after)) => {
                let client = |parameter: Option<Parameter<'a>>| parameter.and_then(|p| p.schema);
                let (old_client, new_client) = (client(old_client), client(new_client));
                let site = Site::new(before, old_client.as_ref(), after, new_client.as_ref());
                let at = at.used_at(&before.pointer, &after.pointer);
                self.site(&at, &slot, &site)
            }
            (None, None) => Ok(()),
            _ => {
                let kind = FactKind::ParameterSchemaChanged;
                self.say_at(&at, kind, In::New(&pointer), Said::default());
                Ok(())
            }
        }
    }

    /// Learns what the clients do with a parameter, each given as published and as the client has
    /// it.
    fn parameter_slot(
        &self,
        (old, old_client): (&Parameter<'a>, Option<&Parameter<'a>>),
        (new, new_client): (&Parameter<'a>, Option<&Parameter<'a>>),
    ) -> Result<Slot> {
        let mut slot = Slot::default();
        if old.schema.is_some() && new.schema.is_some() {
            if let Some(schema) = &old_client.unwrap_or(old).schema {
                let root = self.old.client.filter(|_| old_client.is_some());
                let root = root.unwrap_or(self.old.published).root;
                slot.old_type = rust_type(root, schema).map_err(of_old)?;
            }
            if let Some(schema) = &new_client.unwrap_or(new).schema {
                let root = self.new.client.filter(|_| new_client.is_some());
                let root = root.unwrap_or(self.new.published).root;
                slot.new_type = rust_type(root, schema).map_err(of_new)?;
            }
        }
        slot.traits = Traits::default()
            .with(Trait::Parameter, true)
            .with(Trait::Required, new.required)
            .with(Trait::OtherType, slot.old_type != slot.new_type);
        Ok(slot)
    }

    /// Reports whether a parameter that overlays declare on both sides has two types.
    fn other_type(&self, old: Option<&Parameter<'a>>, new: Option<&Parameter<'a>>) -> Result<bool> {
        let (Some(old_model), Some(new_model)) = (self.old.client, self.new.client) else {
            return Ok(false);
        };
        let (Some(old), Some(new)) =
            (old.and_then(|p| p.schema.as_ref()), new.and_then(|p| p.schema.as_ref()))
        else {
            return Ok(false);
        };
        let old = rust_type(old_model.root, old).map_err(of_old)?;
        let new = rust_type(new_model.root, new).map_err(of_new)?;
        Ok(old != new)
    }

    /// Returns the type that a field has for a client, `None` where it has none.
    pub(super) fn client_type(
        &self,
        place: &Place,
        field: &str,
        is_old: bool,
        spot: Option<&crate::diff::schema::Spot<'a>>,
        required: bool,
    ) -> Result<Option<String>> {
        let (edition, schema) =
            if is_old { (self.old, &place.old_schema) } else { (self.new, &place.new_schema) };
        let (Some(model), Some(spot)) = (edition.client, spot) else { return Ok(None) };
        let found = client_field(model, place, schema, field, spot, required);
        let found = found.map_err(|error| if is_old { of_old(error) } else { of_new(error) })?;
        Ok(Some(found.ty))
    }
}
