//! From facts to the changes of a report: a verdict for each fact, and one change for what several
//! directions say alike.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Change,
    facts::{Fact, FactKind, Trait},
    ids,
    rules::{Verdict, WireImpact, verdict},
    schema::brief,
};

/// The carriers of each schema, in the old document and in the new one.
type Carriers = BTreeMap<String, BTreeSet<String>>;

/// The key by which two facts are the same change: everything but the direction.
type Key = (FactKind, String, String, String, Option<String>, Option<String>);

fn key(fact: &Fact) -> Key {
    let texts = (fact.detail.clone(), fact.subject.clone(), fact.field.clone());
    (fact.kind, texts.0, texts.1, texts.2, fact.before.clone(), fact.after.clone())
}

/// Judges facts. A schema that is sent and received has one change, with both directions and the
/// worse of their verdicts.
pub(super) fn changes(facts: Vec<Fact>, old: &Carriers, new: &Carriers) -> Vec<Change> {
    let mut groups: BTreeMap<Key, Vec<(Fact, Verdict)>> = BTreeMap::new();
    for fact in facts {
        let judged = judge(&fact);
        let group = groups.entry(key(&fact)).or_default();
        if !group.iter().any(|(other, _)| other.direction == fact.direction) {
            group.push((fact, judged));
        }
    }
    groups.into_values().filter_map(|group| change(group, old, new)).collect()
}

fn judge(fact: &Fact) -> Verdict {
    let mut traits = fact.traits;
    if traits.has(Trait::ReadAsAnother) {
        // Clients that know several messages of this type try each of them.
        let fails = |facts: &Vec<Fact>| facts.iter().any(|f| judge(f).wire == WireImpact::Breaks);
        let unreadable = fact.taken_for.iter().all(fails);
        traits = traits.with(Trait::UnreadableAsAnother, unreadable);
    }
    verdict(fact.kind, fact.direction, traits)
}

fn change(mut group: Vec<(Fact, Verdict)>, old: &Carriers, new: &Carriers) -> Option<Change> {
    group.sort_by_key(|(fact, _)| fact.direction);
    let wire = group.iter().map(|(_, verdict)| verdict.wire).max()?;
    let source = group.iter().map(|(_, verdict)| verdict.source).max()?;
    let reasons: BTreeSet<&str> = group.iter().map(|(_, verdict)| verdict.why).collect();
    let why = if reasons.len() == 1 {
        group.first()?.1.why.to_owned()
    } else {
        let reasons = group.iter().map(|(fact, v)| format!("as {}: {}", fact.direction, v.why));
        reasons.collect::<Vec<_>>().join("; ")
    };
    let directions = group.iter().map(|(fact, _)| fact.direction).collect();
    let (fact, _) = group.into_iter().next()?;
    let mut carriers = BTreeSet::new();
    if let Some((before, after)) = &fact.schemas {
        carriers.extend(old.get(before).into_iter().chain(new.get(after)).flatten().cloned());
    }
    let id = ids::id(&fact);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "\u{1}".to_owned());
    let (before, after) = (text(&fact.before), text(&fact.after));
    let fingerprint = fingerprint(&[&id, &fact.subject, &fact.field, &before, &after]);
    let short = |text: Option<String>| text.map(|text| brief(&text));
    Some(Change {
        id,
        directions,
        subject: fact.subject,
        field: fact.field,
        pointer: fact.pointer,
        definition: fact.definition,
        before: short(fact.before),
        after: short(fact.after),
        carriers: carriers.into_iter().collect(),
        wire,
        source,
        why,
        guess: None,
        fingerprint,
        accepted: None,
    })
}

/// Hashes the parts by FNV-1a, each ended by a zero, and cuts to twelve digits: the result has to
/// be the same in every run and release, not to withstand an attacker.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{:012x}", hash >> 16)
}
