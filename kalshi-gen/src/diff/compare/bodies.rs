//! Request bodies and responses.

use std::collections::BTreeSet;

use super::{In, Place, Result, Said, Site, Walk, keys};
use crate::{
    diff::{
        facts::{Area, Direction, FactKind, Trait, Traits},
        model::{Body, Model, Operation},
        schema::Spot,
    },
    document::join,
};

/// One of the bodies of an operation.
#[derive(Clone, Copy, Debug)]
enum Which<'c> {
    Request,
    /// The status in the old document and in the new one.
    Response(&'c str, &'c str),
}

fn is_success(code: &str) -> bool {
    code.starts_with('2')
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn request_body(
        &mut self,
        key: &str,
        old: &Operation<'a>,
        new: &Operation<'a>,
    ) -> Result<()> {
        let required = |required| Said::of(Traits::default().with(Trait::Required, required));
        let mut place = body_place(Direction::Request, new, "", "Request");
        match (&old.body, &new.body) {
            (None, None) => Ok(()),
            (None, Some(body)) => {
                place.new_use.clone_from(&body.used_at);
                let said = required(body.required);
                self.say_at(&place, FactKind::RequestBodyAdded, In::New(&body.pointer), said);
                Ok(())
            }
            (Some(body), None) => {
                place.old_use.clone_from(&body.used_at);
                let said = required(body.required);
                self.say_at(&place, FactKind::RequestBodyRemoved, In::Old(&body.pointer), said);
                Ok(())
            }
            (Some(before), Some(after)) => {
                place.old_use.clone_from(&before.used_at);
                place.new_use.clone_from(&after.used_at);
                if before.required != after.required {
                    let kind = if after.required {
                        FactKind::RequestBodyBecameRequired
                    } else {
                        FactKind::RequestBodyBecameOptional
                    };
                    self.say_at(&place, kind, In::New(&after.pointer), Said::default());
                }
                self.body(key, Which::Request, &place, before, after)
            }
        }
    }

    pub(super) fn responses(
        &mut self,
        key: &str,
        old: &Operation<'a>,
        new: &Operation<'a>,
    ) -> Result<()> {
        let direction =
            |code: &str| if is_success(code) { Direction::Response } else { Direction::Error };
        let mut arrived = Vec::new();
        for code in keys(&old.responses, &new.responses) {
            let mut place = body_place(direction(code), new, code, "Response");
            match (old.responses.get(code), new.responses.get(code)) {
                (Some(body), None) => {
                    place.old_use.clone_from(&body.used_at);
                    let kind = if is_success(code) {
                        FactKind::SuccessStatusRemoved
                    } else {
                        FactKind::FailureStatusRemoved
                    };
                    self.say_at(&place, kind, In::Old(&body.pointer), Said::default());
                }
                (None, Some(body)) => {
                    arrived.push(code);
                    place.new_use.clone_from(&body.used_at);
                    let kind = if is_success(code) {
                        FactKind::SuccessStatusAdded
                    } else {
                        FactKind::FailureStatusAdded
                    };
                    self.say_at(&place, kind, In::New(&body.pointer), Said::default());
                }
                _ => {}
            }
        }
        for (code, before) in &old.responses {
            // A success under another status is compared with the one that took its place.
            let moved = arrived.iter().find(|code| is_success(code)).filter(|_| is_success(code));
            let (now, after) = match (new.responses.get(code), moved) {
                (Some(after), _) => (code, after),
                (None, Some(now)) => match new.responses.get(*now) {
                    Some(after) => (*now, after),
                    None => continue,
                },
                (None, None) => continue,
            };
            let field = if is_success(code) { "" } else { code };
            let mut place = body_place(direction(code), new, field, "Response");
            place.old_use.clone_from(&before.used_at);
            place.new_use.clone_from(&after.used_at);
            self.body(key, Which::Response(code, now), &place, before, after)?;
        }
        Ok(())
    }

    fn body(
        &mut self,
        key: &str,
        which: Which<'_>,
        place: &Place,
        before: &Body<'a>,
        after: &Body<'a>,
    ) -> Result<()> {
        self.attributes(
            place,
            FactKind::BodyAttributeChanged,
            (&before.pointer, &before.attributes),
            (&after.pointer, &after.attributes),
        );
        for media in keys(&before.content, &after.content) {
            let at = |body: &Body<'_>| join(&join(&body.pointer, "content"), media);
            match (before.content.get(media), after.content.get(media)) {
                (Some(_), None) => {
                    let said = Said::values(Some(media.clone()), None);
                    let pointer = at(before);
                    self.say_at(place, FactKind::MediaTypeRemoved, In::Old(&pointer), said);
                }
                (None, Some(_)) => {
                    let traits = Traits::default().with(Trait::NoBody, before.content.is_empty());
                    let said = Said::values(None, Some(media.clone())).traits(traits);
                    let pointer = at(after);
                    self.say_at(place, FactKind::MediaTypeAdded, In::New(&pointer), said);
                }
                (Some(Some(old)), Some(Some(new))) => {
                    let client = |model: Option<&Model<'a>>, is_old| {
                        client_body(model?, key, which, is_old, media)
                    };
                    let (old_client, new_client) =
                        (client(self.old.client, true), client(self.new.client, false));
                    let site = Site::new(old, old_client.as_ref(), new, new_client.as_ref());
                    let place = place.clone().used_at(&old.pointer, &new.pointer);
                    let slot = self.slot(&place, "", &site, (true, true))?;
                    self.site(&place, &slot, &site)?;
                }
                (Some(None), Some(None)) | (None, None) => {}
                _ => {
                    let pointer = at(after);
                    let kind = FactKind::BodySchemaChanged;
                    self.say_at(place, kind, In::New(&pointer), Said::default());
                }
            }
        }
        Ok(())
    }
}

fn client_body<'a>(
    model: &Model<'a>,
    key: &str,
    which: Which<'_>,
    is_old: bool,
    media: &str,
) -> Option<Spot<'a>> {
    let operation = model.operations.get(key)?;
    let body = match which {
        Which::Request => operation.body.as_ref()?,
        Which::Response(old, new) => operation.responses.get(if is_old { old } else { new })?,
    };
    body.content.get(media)?.clone()
}

fn body_place(direction: Direction, new: &Operation<'_>, field: &str, suffix: &str) -> Place {
    let schema = format!("{} {suffix}", new.id);
    Place {
        direction,
        area: Area::Body,
        subject: new.title.clone(),
        field: field.to_owned(),
        old_schema: schema.clone(),
        new_schema: schema,
        named: false,
        in_text: false,
        old_use: String::new(),
        new_use: String::new(),
    }
}

/// Returns the fields that a document requires without declaring them.
pub(super) fn undeclared(
    required: &BTreeSet<String>,
    declared: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    required.iter().filter(|name| !declared(name)).cloned().collect()
}
