//! Files that are cut off or damaged, at every byte.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kalshi_types::{BookSide, Count, Dollars, UnixMillis, UnixSeconds};
use proptest::prelude::*;

use super::{
    ChangeIntent, ChangeSettlement, ClientOrderId, ClientOrderIds, Durability, FileJournal,
    History, Intent, Journal, JournalErrorKind, KnownOrder, MemoryJournal, OrderChange, Product,
    Record, Settlement,
    record::unframe,
    trigger::{TriggerIntent, TriggerSettlement},
};

/// A path of its own, removed in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kalshi-trade-journal-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.0.display()))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for ending in ["", ".lock", ".new"] {
            let _ = fs::remove_file(self.beside(ending));
        }
    }
}

/// What is done with one order: sent again or not, settled or not.
type Plan = (u8, Option<u8>);

fn id(number: usize) -> ClientOrderId {
    format!("a-{number}").parse().unwrap()
}

/// Returns the records of orders, interleaved: all intents, all sendings, all settlements.
fn records(plans: &[Plan]) -> Vec<Record> {
    let at = UnixMillis::from_millis(1_000);
    let body = |number| {
        format!(r#"{{"client_order_id":"{}","ticker":"T\u00e9","side":"ask"}}"#, id(number))
    };
    let mut records: Vec<Record> = (0..plans.len())
        .map(|number| {
            let product = if number % 2 == 0 { Product::EventContracts } else { Product::Perps };
            Record::Intent { intent: Intent::of(product, body(number)).unwrap(), at }
        })
        .collect();
    for (number, (sendings, _)) in plans.iter().enumerate() {
        let attempts = (2..).take(usize::from(*sendings));
        records.extend(attempts.map(|attempt| Record::Sending { id: id(number), attempt, at }));
    }
    for (number, (_, settled)) in plans.iter().enumerate() {
        let settlement = match settled {
            None => continue,
            Some(0) => Settlement::Accepted { order_id: "o-1".to_owned() },
            Some(1) => Settlement::Refused { status: 400 },
            Some(2) => Settlement::GivenUp,
            Some(_) => Settlement::Withdrawn,
        };
        records.push(Record::Settled { id: id(number), settlement, at });
    }
    // Of one, as the time that these tests take is the square of the length: a change of an order, or
    // an exit trigger.
    for (number, (sendings, settled)) in (1_u64..).zip(plans).take(1) {
        if plans.len().is_multiple_of(2) {
            records.extend(trigger(number, *sendings, *settled));
            continue;
        }
        records.push(Record::Change { intent: change(number, *sendings), at });
        if settled.is_some() {
            let settlement = ChangeSettlement::Refused { status: 404 };
            records.push(Record::ChangeSettled { number, settlement, at });
        }
    }
    records
}

/// Returns the records of an exit trigger.
fn trigger(number: u64, kind: u8, settled: Option<u8>) -> Vec<Record> {
    let at = UnixMillis::from_millis(1_000);
    let id = format!("t-{number}\u{e9}");
    let body = format!(r#"{{"client_trigger_id":"{id}"}}"#);
    let intent = TriggerIntent::new(&id, "T\u{e9}", (kind > 0).then_some(3), body);
    let settlement = settled.map(|settled| match settled {
        0 => TriggerSettlement::Answered { trigger_id: "x-1".to_owned() },
        1 => TriggerSettlement::Refused { status: 400 },
        _ => TriggerSettlement::Withdrawn,
    });
    let settled = settlement.map(|settlement| Record::TriggerSettled { id, settlement, at });
    [Record::Trigger { intent, at }].into_iter().chain(settled).collect()
}

fn change(number: u64, kind: u8) -> ChangeIntent {
    let known = KnownOrder {
        updated: UnixMillis::from_millis(7),
        yes_price: Dollars::from_cents(40).unwrap(),
        total: Count::from_hundredths(1_050),
        expires: (kind > 1).then_some(UnixMillis::from_millis(8)),
    };
    let change = match kind {
        0 => OrderChange::Cancel,
        1 => OrderChange::Decrease { remaining: Count::from_hundredths(50) },
        _ => OrderChange::Amend {
            side: BookSide::Ask,
            yes_price: Dollars::from_cents(41).unwrap(),
            total: Count::from_hundredths(1_100),
            expires: Some(UnixSeconds::from_seconds(9)),
        },
    };
    ChangeIntent {
        subaccount: (kind > 0).then_some(3),
        exchange_index: (kind > 0).then_some(2),
        known: (kind > 0).then_some(known),
        product: if kind == 1 { Product::Perps } else { Product::EventContracts },
        ..ChangeIntent::new(number, format!("o-{number}"), "T\u{e9}", change)
    }
}

/// Writes the records to a new file, and returns its bytes and every state of its history.
fn write(path: &Temporary, records: &[Record]) -> (Vec<u8>, Vec<History>) {
    let journal = FileJournal::builder(&path.0).open().unwrap();
    let mut states = vec![History::default(), journal.history()];
    for record in records {
        journal.commit(journal.append(record).unwrap()).unwrap();
        states.push(journal.history());
    }
    drop(journal);
    (fs::read(&path.0).unwrap(), states)
}

/// Returns the state that a file opens to, less the opening itself.
fn reopen(path: &Temporary, before: &[History]) -> Result<Option<usize>, JournalErrorKind> {
    let journal = FileJournal::builder(&path.0).open().map_err(|error| error.kind())?;
    let session = journal.session();
    let history = journal.history();
    Ok(before.iter().rposition(|state| {
        let mut state = state.clone();
        state.apply(&Record::Opened(session)).is_ok() && state == history
    }))
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    prop::collection::vec((0_u8..3, prop::option::of(0_u8..4)), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_of_a_file_opens_to_a_prefix_of_the_history(plans in plans()) {
        let path = Temporary::new();
        let (bytes, states) = write(&path, &records(&plans));
        let mut last = 0;
        for length in 0..=bytes.len() {
            fs::write(&path.0, &bytes[..length]).unwrap();
            let opened = reopen(&path, &states).map_err(|kind| format!("{length}: {kind:?}"));
            let at = opened.unwrap();
            // A longer prefix never has less.
            prop_assert!(at.is_some_and(|at| at >= last), "{length}: {at:?}");
            last = at.unwrap();
            // What was cut off does not come back.
            prop_assert_eq!(reopen(&path, &states), reopen(&path, &states));
        }
        prop_assert_eq!(last, states.len() - 1);
    }

    #[test]
    fn every_damaged_byte_is_found_or_in_the_last_line(plans in plans(), bit in 0_u8..8) {
        let path = Temporary::new();
        let (bytes, states) = write(&path, &records(&plans));
        let last_line = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs::write(&path.0, &damaged).unwrap();
            match reopen(&path, &states) {
                Err(kind) => {
                    prop_assert_eq!(kind, JournalErrorKind::Corrupt);
                    // Nothing was changed.
                    prop_assert_eq!(fs::read(&path.0).unwrap(), damaged);
                }
                // Without its line feed, the last line is one that was never written to its end.
                Ok(state) => {
                    prop_assert_eq!(at, bytes.len() - 1);
                    prop_assert!(at > last_line);
                    prop_assert_eq!(state, Some(states.len() - 2));
                }
            }
        }
    }

    #[test]
    fn what_is_compacted_has_what_is_open_and_forgets_the_rest(plans in plans()) {
        let path = Temporary::new();
        write(&path, &records(&plans));
        let journal = FileJournal::builder(&path.0).open().unwrap();
        let before = journal.history();
        journal.compact().unwrap();
        let session = journal.session();
        prop_assert!(!path.beside(".new").exists());
        let locked = FileJournal::builder(&path.0).open().unwrap_err();
        prop_assert_eq!(locked.kind(), JournalErrorKind::Locked);
        // It goes on after it.
        let body = r#"{"client_order_id":"later","ticker":"T","side":"bid"}"#;
        let at = UnixMillis::EPOCH;
        let later = Record::Intent { intent: Intent::new(body).unwrap(), at };
        journal.commit(journal.append(&later).unwrap()).unwrap();
        drop(journal);
        let journal = FileJournal::builder(&path.0).open().unwrap();
        let mut expected: Vec<_> = before.unsettled().cloned().collect();
        prop_assert_eq!(journal.session().number, session.number + 1);
        prop_assert_eq!(journal.history().settled_count(), 0);
        let mut found: Vec<_> = journal.history().unsettled().cloned().collect();
        found.retain(|unsettled| unsettled.intent.id().as_str() != "later");
        expected.sort_by(|a, b| a.intent.id().cmp(b.intent.id()));
        prop_assert_eq!(found, expected);
        prop_assert!(journal.history().unsettled().any(|one| one.intent.id().as_str() == "later"));
        let history = journal.history();
        let changes: Vec<_> = history.unsettled_changes().cloned().collect();
        let expected: Vec<_> = before.unsettled_changes().cloned().collect();
        prop_assert_eq!(changes, expected);
        let triggers: Vec<_> = history.unsettled_triggers().cloned().collect();
        let expected: Vec<_> = before.unsettled_triggers().cloned().collect();
        prop_assert_eq!(triggers, expected);
    }
}

#[test]
fn an_order_is_known_to_be_own_by_its_id_however_often_the_journal_is_compacted() {
    let path = Temporary::new();
    let at = UnixMillis::EPOCH;
    let mut own = Vec::new();
    let mut foreign = Vec::new();
    for session in 0..4 {
        let journal = FileJournal::builder(&path.0).open().unwrap();
        let mut ids = ClientOrderIds::new("maker", journal.session()).unwrap();
        let id = ids.next_id();
        if session == 1 {
            // It has placed nothing.
            foreign.push(id);
        } else {
            let body = format!(r#"{{"client_order_id":"{id}","ticker":"T","side":"bid"}}"#);
            let intent = Intent::new(body).unwrap();
            journal.commit(journal.append(&Record::Intent { intent, at }).unwrap()).unwrap();
            let settlement = Settlement::Accepted { order_id: "o-1".to_owned() };
            let settled = Record::Settled { id: id.clone(), settlement, at };
            journal.commit(journal.append(&settled).unwrap()).unwrap();
            own.push(id);
        }
        journal.compact().unwrap();
    }
    let history = FileJournal::builder(&path.0).open().unwrap().history();
    assert_eq!(history.settled_count(), 0);
    let ids = history.own_ids();
    assert!(own.iter().all(|id| ids.contains(id.as_str())));
    assert!(!foreign.iter().any(|id| ids.contains(id.as_str())));
    // Neither the name nor a part of the mark is enough.
    let mark = own[0].as_str().split('-').collect::<Vec<_>>();
    let (nonce, number) = (mark[1], mark[2]);
    for other in [
        format!("maker-{nonce}-9-1"),
        format!("maker-0000000000000000-{number}-1"),
        format!("maker-{nonce}-{number}"),
        format!("maker-{nonce}-{number}-x"),
        String::new(),
    ] {
        assert!(!ids.contains(&other), "{other}");
    }
}

#[test]
fn the_sessions_that_are_remembered_are_bounded_and_the_oldest_go_first() {
    let mut history = History::default();
    for number in 1..=10_001 {
        history.apply(&Record::Past { number, nonce: u64::from(number) }).unwrap();
    }
    let ids = history.own_ids();
    let id = |number: u64| format!("kt-{number:016x}-{number}-1");
    assert!(!ids.contains(&id(1)));
    assert!(ids.contains(&id(2)) && ids.contains(&id(10_001)));
    let other = Record::Past { number: 2, nonce: 7 };
    assert!(history.apply(&other).is_err());
}

#[test]
fn a_change_is_settled_once_and_its_number_is_not_used_twice() {
    let mut history = History::default();
    let at = UnixMillis::EPOCH;
    let settled =
        |number| Record::ChangeSettled { number, settlement: ChangeSettlement::Reached, at };
    assert!(history.apply(&settled(1)).is_err());
    history.apply(&Record::Change { intent: change(1, 0), at }).unwrap();
    assert!(history.apply(&Record::Change { intent: change(1, 1), at }).is_err());
    assert_eq!(history.next_change(), 2);
    history.apply(&settled(1)).unwrap();
    assert!(history.apply(&settled(1)).is_err());
    assert_eq!((history.unsettled_changes().len(), history.next_change()), (0, 2));
}

#[test]
fn a_file_that_is_no_journal_is_left_alone() {
    for text in ["notes", "notes\n", "", "00000000 {}\n", "1fb6f1b5 {}\n"] {
        let path = Temporary::new();
        fs::write(&path.0, text).unwrap();
        let opened = FileJournal::builder(&path.0).open();
        if text.is_empty() {
            assert!(opened.is_ok());
            continue;
        }
        let error = opened.unwrap_err();
        let expected = [JournalErrorKind::Corrupt, JournalErrorKind::Version];
        assert!(expected.contains(&error.kind()), "{text:?}");
        assert!(error.to_string().contains(&path.0.display().to_string()));
        assert_eq!(fs::read_to_string(&path.0).unwrap(), text);
    }
}

#[test]
fn damage_before_the_last_line_names_its_byte() {
    let path = Temporary::new();
    let (mut bytes, _) = write(&path, &records(&[(0, None), (1, Some(0))]));
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let begins = ends[1] + 1;
    bytes[begins + 20] ^= 1;
    fs::write(&path.0, &bytes).unwrap();
    let error = FileJournal::builder(&path.0).open().unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Corrupt);
    assert_eq!(error.offset(), u64::try_from(begins).ok());
    assert!(error.to_string().contains(&format!("byte {begins}")));
}

#[test]
fn a_line_without_end_is_refused_and_not_read_whole() {
    let path = Temporary::new();
    let (mut bytes, _) = write(&path, &[]);
    let begins = bytes.len();
    bytes.extend(std::iter::repeat_n(b'x', 1 << 20));
    fs::write(&path.0, &bytes).unwrap();
    let error = FileJournal::builder(&path.0).open().unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Corrupt);
    assert_eq!(error.offset(), u64::try_from(begins).ok());
}

#[test]
fn a_thousand_settled_intents_are_compacted_when_the_journal_is_opened() {
    let path = Temporary::new();
    let plans: Vec<Plan> = std::iter::repeat_n((0, Some(0)), 1_000).chain([(1, None)]).collect();
    let (bytes, _) = write(&path, &records(&plans));
    let journal = FileJournal::builder(&path.0).open().unwrap();
    assert!(fs::read(&path.0).unwrap().len() < bytes.len() / 100);
    let history = journal.history();
    assert_eq!((history.settled_count(), history.unsettled().len()), (0, 1));
    assert_eq!(history.unsettled().next().unwrap().attempts, 2);
    assert_eq!(journal.session().number, 2);
}

#[test]
fn a_thousand_settled_changes_are_compacted_when_the_journal_is_opened() {
    let path = Temporary::new();
    let at = UnixMillis::EPOCH;
    let settlement = ChangeSettlement::Reached;
    let changes = (1..=1_000).flat_map(|number| {
        let intent = change(number, 2);
        [Record::Change { intent, at }, Record::ChangeSettled { number, settlement, at }]
    });
    let open = Record::Change { intent: change(1_001, 0), at };
    let (bytes, _) = write(&path, &changes.chain([open]).collect::<Vec<_>>());
    let history = FileJournal::builder(&path.0).open().unwrap().history();
    assert!(fs::read(&path.0).unwrap().len() < bytes.len() / 100);
    assert_eq!((history.settled_change_count(), history.unsettled_changes().len()), (0, 1));
    assert_eq!(history.next_change(), 1_002);
}

#[test]
fn triggers_are_compacted_once_they_are_settled_and_their_ids_are_free_then() {
    let path = Temporary::new();
    let at = UnixMillis::EPOCH;
    let intent = |id: &str, body: &str| TriggerIntent::new(id, "T", None, body.to_owned());
    let trigger = |id: &str| Record::Trigger { intent: intent(id, "{}"), at };
    let withdrawn = |id: &str| {
        let (id, settlement) = (id.to_owned(), TriggerSettlement::Withdrawn);
        Record::TriggerSettled { id, settlement, at }
    };
    let settled = (1..=1_000).map(|number| format!("t-{number}"));
    let settled = settled.flat_map(|id| [trigger(&id), withdrawn(&id)]);
    let (bytes, _) = write(&path, &settled.chain([trigger("open")]).collect::<Vec<_>>());
    let journal = FileJournal::builder(&path.0).open().unwrap();
    assert!(fs::read(&path.0).unwrap().len() < bytes.len() / 50);
    let open = |journal: &FileJournal| -> Vec<String> {
        journal.history().unsettled_triggers().map(|one| one.intent.id.clone()).collect()
    };
    assert_eq!(
        (journal.history().settled_trigger_count(), open(&journal)),
        (0, vec!["open".to_owned()])
    );
    // The same one may be sent again, another not; nor one that no journal could keep.
    let kind = |record: &Record| journal.append(record).map_err(|error| error.kind()).map(drop);
    let invalid = Err(JournalErrorKind::Invalid);
    assert_eq!(kind(&trigger("open")), Ok(()));
    assert_eq!(kind(&Record::Trigger { intent: intent("open", "[]"), at }), invalid);
    assert_eq!(kind(&withdrawn("t-1")), invalid);
    assert_eq!(kind(&trigger("")), invalid);
    assert_eq!(kind(&trigger(&"x".repeat(65))), invalid);
    let long = format!("[{}]", "1,".repeat(4_096));
    assert_eq!(kind(&Record::Trigger { intent: intent("long", &long), at }), invalid);
    assert_eq!(kind(&withdrawn("open")), Ok(()));
    assert_eq!(kind(&Record::Trigger { intent: intent("open", "[]"), at }), Ok(()));
    assert_eq!(open(&journal), ["open"]);
}

/// Returns the records of a settled order.
fn settled(number: usize) -> [Record; 2] {
    let at = UnixMillis::from_millis(1_000);
    let body = format!(r#"{{"client_order_id":"{}","ticker":"T","side":"bid"}}"#, id(number));
    let settlement = Settlement::Accepted { order_id: format!("o-{number}") };
    [
        Record::Intent { intent: Intent::new(body).unwrap(), at },
        Record::Settled { id: id(number), settlement, at },
    ]
}

#[test]
fn the_outcomes_that_are_remembered_are_bounded_and_the_oldest_go_first() {
    let journal = MemoryJournal::new(1, UnixMillis::EPOCH);
    for record in (0..2_500).flat_map(settled) {
        let _ = journal.append(&record).unwrap();
    }
    let history = journal.history();
    assert_eq!((history.accepted().count(), history.settled_count()), (2_000, 2_500));
    assert_eq!(history.settlement("a-499"), None);
    assert!((500..2_500).all(|number| history.settlement(id(number).as_str()).is_some()));
    // Those that are remembered are settled anew, and keep their place.
    let at = UnixMillis::EPOCH;
    let anew = |number| Record::Settled { id: id(number), settlement: Settlement::GivenUp, at };
    let _ = journal.append(&anew(500)).unwrap();
    let refused = journal.append(&anew(499)).unwrap_err();
    assert_eq!(refused.kind(), JournalErrorKind::Invalid);
    let history = journal.history();
    assert_eq!(
        (history.settlement("a-500"), history.settled_count()),
        (Some(&Settlement::GivenUp), 2_500)
    );
    let [intent, ..] = settled(2_500);
    let _ = journal.append(&intent).unwrap();
    assert!(journal.history().settlement("a-500").is_some());
    let _ = journal.append(&anew(2_500)).unwrap();
    assert_eq!(journal.history().settlement("a-500"), None);
    // A forgotten id is one of the journal all the same.
    let own = MemoryJournal::new(7, UnixMillis::EPOCH);
    let generated = ClientOrderIds::new("kt", own.session()).unwrap().next_id();
    let _ = own.append(&intent).unwrap();
    assert!(own.own_ids().contains(generated.as_str()));
}

#[test]
fn what_was_settled_anew_much_later_is_read_in_full() {
    let path = Temporary::new();
    let at = UnixMillis::EPOCH;
    let mut records: Vec<Record> = (0..2_100).flat_map(settled).collect();
    // As a session wrote it that forgot nothing.
    records.push(Record::Settled { id: id(0), settlement: Settlement::GivenUp, at });
    let (bytes, _) = write(&path, &[]);
    let mut bytes = bytes;
    for record in &records {
        record.append_line(&mut bytes).unwrap();
    }
    fs::write(&path.0, &bytes).unwrap();
    assert_eq!(FileJournal::builder(&path.0).open().unwrap().session().number, 2);
}

/// Returns the number of lines in the file of a journal that is open, and what they add up to.
/// (Opening it would compact what is settled.)
fn read_lines(path: &Temporary, journal: &FileJournal) -> (usize, History) {
    let text = fs::read_to_string(&path.0).unwrap();
    let mut found = History::default();
    for line in text.lines().skip(1) {
        found.apply(&Record::from_json(unframe(line.as_bytes()).unwrap()).unwrap()).unwrap();
    }
    // A number is above those that are open, and may be lower than that of a change that is not.
    let next = journal.history().next_change();
    assert!(found.next_change() <= next);
    found.last_change = next - 1;
    (text.lines().count(), found)
}

#[test]
fn a_file_is_rewritten_while_records_come_and_loses_none() {
    for durability in [Durability::Process, Durability::Disk] {
        let path = Temporary::new();
        let journal = FileJournal::builder(&path.0).with_durability(durability).open().unwrap();
        let at = UnixMillis::from_millis(1_000);
        let is_done = AtomicBool::new(false);
        let rewritten = std::thread::scope(|scope| {
            let rewriter = scope.spawn(|| {
                let mut rewritten = 0;
                while !is_done.load(Ordering::Acquire) {
                    journal.rewrite().unwrap();
                    rewritten += 1;
                }
                rewritten
            });
            for number in 0..3_000 {
                let [intent, outcome] = settled(number);
                let change = change(u64::try_from(number).unwrap() + 1, 0);
                let (number, settlement) = (change.number, ChangeSettlement::Reached);
                let _ = journal.append(&intent).unwrap();
                let _ = journal.append(&Record::Change { intent: change, at }).unwrap();
                // Every tenth stays open.
                if !number.is_multiple_of(10) {
                    let _ = journal.append(&outcome).unwrap();
                    let settled = Record::ChangeSettled { number, settlement, at };
                    let _ = journal.append(&settled).unwrap();
                }
            }
            is_done.store(true, Ordering::Release);
            rewriter.join().unwrap()
        });
        assert!(rewritten > 0);
        // What came during the last rewriting is in the file that it left.
        assert_eq!(read_lines(&path, &journal).1, journal.history());
        journal.rewrite().unwrap();
        let (lines, found) = read_lines(&path, &journal);
        // Instead of 12,000: the head, the opening and the session, 300 orders and 300 changes that
        // are open, and two for each outcome.
        assert_eq!(lines, 4_603);
        assert_eq!(found, journal.history());
        assert_eq!((found.unsettled().len(), found.unsettled_changes().len()), (300, 300));
        assert_eq!((found.settled_count(), found.settled_change_count()), (2_000, 0));
        assert!(!path.beside(".new").exists());
        let locked = FileJournal::builder(&path.0).open().unwrap_err();
        assert_eq!(locked.kind(), JournalErrorKind::Locked);
        drop(journal);
        let opened = FileJournal::builder(&path.0).open().unwrap();
        assert_eq!(opened.history().unsettled().len(), 300);
    }
}
