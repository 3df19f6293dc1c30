//! Channels and messages of streams.

use serde_json::Value;

use super::{In, Place, Result, Said, Site, Walk, canonical, keys};
use crate::{
    diff::{
        facts::{Area, Direction, Fact, FactKind, Trait, Traits},
        model::{Channel, Message, Model},
        schema::{Spot, flat, text},
    },
    document::join,
};

impl<'a> Walk<'_, 'a> {
    pub(super) fn streams(&mut self) -> Result<()> {
        let (old, new) = (self.old.published, self.new.published);
        for name in keys(&old.channels, &new.channels) {
            let subject = format!("channel {name}");
            match (old.channels.get(name), new.channels.get(name)) {
                (Some(old), Some(new)) => self.channel(&subject, old, new),
                (Some(old), None) => {
                    self.say(FactKind::ChannelRemoved, &subject, &old.pointer, Said::default());
                }
                (None, Some(new)) => {
                    self.say(FactKind::ChannelAdded, &subject, &new.pointer, Said::default());
                }
                (None, None) => {}
            }
        }
        for name in keys(&old.messages, &new.messages) {
            self.message(name)?;
        }
        Ok(())
    }

    fn channel(&mut self, subject: &str, before: &Channel<'a>, after: &Channel<'a>) {
        let place = message_place(Direction::Document, subject, &before.pointer, &after.pointer);
        let place = Place { area: Area::Whole, ..place };
        for key in keys(&before.attributes, &after.attributes) {
            let (was, is) = (before.attributes.get(key), after.attributes.get(key));
            if was.map(|v| canonical(v)) == is.map(|v| canonical(v)) {
                continue;
            }
            let kind = if key == "address" {
                FactKind::ChannelAddressChanged
            } else {
                FactKind::ChannelAttributeChanged
            };
            let said = Said::values(was.map(|v| text(v)), is.map(|v| text(v)));
            let pointer = join(if is.is_some() { &after.pointer } else { &before.pointer }, key);
            let at = if is.is_some() { In::New(&pointer) } else { In::Old(&pointer) };
            self.say_at(&Place { field: key.clone(), ..place.clone() }, kind, at, said);
        }
        for key in keys(&before.messages, &after.messages) {
            let at = |channel: &Channel<'_>| join(&join(&channel.pointer, "messages"), key);
            let (old, new) = (at(before), at(after));
            let (kind, pointer) = match (before.messages.get(key), after.messages.get(key)) {
                (Some(_), None) => (FactKind::ChannelMessageRemoved, In::Old(&old)),
                (None, Some(_)) => (FactKind::ChannelMessageAdded, In::New(&new)),
                (Some(a), Some(b)) if a != b => (FactKind::ChannelMessageChanged, In::New(&new)),
                _ => continue,
            };
            let place = Place { field: key.clone(), ..place.clone() };
            self.say_at(&place, kind, pointer, Said::default());
        }
    }

    fn message(&mut self, name: &str) -> Result<()> {
        let subject = format!("message {name}");
        let of = |model: &Model<'a>| {
            model.messages.get(name).and_then(|message| message.payload.clone())
        };
        let (old, new) =
            (self.old.published.messages.get(name), self.new.published.messages.get(name));
        let sent = |message: &Message<'_>| Traits::default().with(Trait::Sent, message.sent);
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (Some(old), None) => {
                let said = Said::of(sent(old));
                self.say(FactKind::MessageRemoved, &subject, &old.pointer, said);
                return Ok(());
            }
            (None, Some(new)) => {
                let taken_for = self.taken_for(new)?;
                let traits = sent(new).with(Trait::ReadAsAnother, taken_for.is_some());
                self.say(FactKind::MessageAdded, &subject, &new.pointer, Said::of(traits));
                if let (Some(fact), Some(taken_for)) = (self.facts.last_mut(), taken_for) {
                    fact.taken_for = taken_for;
                }
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        if old.sent != new.sent {
            let kind = FactKind::MessageDirectionChanged;
            self.say(kind, &subject, &new.pointer, Said::default());
        }
        let direction = if new.sent { Direction::Request } else { Direction::Response };
        let place = message_place(direction, &subject, &old.pointer, &new.pointer);
        self.attributes(
            &Place { direction: Direction::Document, area: Area::Whole, ..place.clone() },
            FactKind::MessageAttributeChanged,
            (&old.pointer, &old.attributes),
            (&new.pointer, &new.attributes),
        );
        match (&old.payload, &new.payload) {
            (Some(before), Some(after)) => {
                let (old_client, new_client) =
                    (self.old.client.and_then(of), self.new.client.and_then(of));
                let site = Site::new(before, old_client.as_ref(), after, new_client.as_ref());
                let place = place.used_at(&before.pointer, &after.pointer);
                let slot = self.slot(&place, "", &site, (true, true))?;
                self.site(&place, &slot, &site)
            }
            (None, None) => Ok(()),
            _ => {
                let kind = FactKind::MessagePayloadChanged;
                self.say(kind, &subject, &new.pointer, Said::default());
                Ok(())
            }
        }
    }

    /// Compares a new message with each of those that deployed clients know by the same `type`.
    /// `None` where they know none.
    fn taken_for(&self, new: &Message<'a>) -> Result<Option<Vec<Vec<Fact>>>> {
        let Some(payload) = new.payload.as_ref().filter(|_| !new.sent) else { return Ok(None) };
        let Some(kind) = message_type(self.new.published, payload) else { return Ok(None) };
        let mut found = None;
        for (name, old) in &self.old.published.messages {
            let Some(before) = old.payload.as_ref().filter(|_| !old.sent) else { continue };
            if message_type(self.old.published, before).as_ref() != Some(&kind) {
                continue;
            }
            let client = self.old.client.and_then(|client| client.messages.get(name));
            let client = client.and_then(|message| message.payload.as_ref());
            let site = Site::new(before, client, payload, None);
            let subject = format!("message {name}");
            let place = message_place(Direction::Response, &subject, &old.pointer, &new.pointer);
            let mut walk = Walk::new(self.old, self.new);
            let slot = walk.slot(&place, "", &site, (true, true))?;
            // Two payloads of two names: their contents are compared, not their names.
            walk.enqueue(place, slot, site);
            walk.drain()?;
            found.get_or_insert_with(Vec::new).push(walk.facts);
        }
        Ok(found)
    }
}

/// Returns the one text that `type` has in a message.
fn message_type(model: &Model<'_>, payload: &Spot<'_>) -> Option<String> {
    let payload = flat(model.root, payload).ok()?;
    let kind = flat(model.root, payload.fields.get("type")?).ok()?;
    match kind.values?.as_slice() {
        [Value::String(text)] => Some(text.clone()),
        _ => None,
    }
}

fn message_place(direction: Direction, subject: &str, old: &str, new: &str) -> Place {
    Place {
        direction,
        area: Area::Body,
        subject: subject.to_owned(),
        field: String::new(),
        old_schema: subject.to_owned(),
        new_schema: subject.to_owned(),
        named: false,
        in_text: false,
        old_use: old.to_owned(),
        new_use: new.to_owned(),
    }
}
