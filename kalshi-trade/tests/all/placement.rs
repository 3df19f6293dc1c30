//! The rules of a placement, one by one.

use std::time::Duration;

use kalshi_trade::{
    journal::{Intent, Journal, MemoryJournal, Record, Settlement},
    placement::{
        Answer, Input, PlacementConfig, PlacementMachine, PlacementState, Refusal, Ruling,
        Sighting, Step, UndecidedCause, WithdrawnCause,
    },
};
use kalshi_types::UnixMillis;

const BODY: &str = r#"{"client_order_id":"a-1","ticker":"T","side":"bid"}"#;

/// A second after the window of a request that was signed at 0.
const AFTER_WINDOW: i64 = 61_000;

fn at(millis: i64) -> UnixMillis {
    UnixMillis::from_millis(millis)
}

fn new(config: PlacementConfig) -> PlacementMachine {
    PlacementMachine::new(Intent::new(BODY).unwrap(), config, at(3_600_000))
}

/// Returns a machine that has sent its order at 0.
fn sent(config: PlacementConfig) -> PlacementMachine {
    let mut machine = new(config);
    assert!(matches!(machine.poll(at(0)), Step::Write(Record::Intent { .. })));
    machine.apply(Input::Written, at(0));
    assert_eq!(machine.poll(at(0)), Step::Send { attempt: 1 });
    machine
}

/// Returns a machine whose order was sent at 0, with an unknown outcome at once.
fn unsettled(config: PlacementConfig) -> PlacementMachine {
    answered(config, Answer::Unknown)
}

fn answered(config: PlacementConfig, answer: Answer) -> PlacementMachine {
    let mut machine = sent(config);
    machine.apply(Input::Answered(answer), at(0));
    machine
}

fn sighting() -> Sighting {
    Sighting {
        client_order_id: "a-1".to_owned(),
        order_id: "o-1".to_owned(),
        ticker: "T".to_owned(),
        side: Some("bid".to_owned()),
    }
}

fn accepted() -> PlacementState {
    PlacementState::Accepted { order_id: "o-1".to_owned() }
}

/// Answers the reads that the machine asks for at that time, and returns how often it asked.
fn read(
    machine: &mut PlacementMachine,
    millis: i64,
    complete_until: i64,
    is_complete: bool,
) -> (u32, u32) {
    let (mut watermarks, mut lists) = (0, 0);
    loop {
        match machine.poll(at(millis)) {
            Step::ReadWatermark => {
                watermarks += 1;
                machine.apply(Input::Watermark(at(complete_until)), at(millis));
            }
            Step::List { number } => {
                lists += 1;
                let orders = Vec::new();
                machine.apply(Input::Listed { number, is_complete, orders }, at(millis));
            }
            _ => return (watermarks, lists),
        }
    }
}

fn config() -> PlacementConfig {
    PlacementConfig::default()
}

#[test]
fn nothing_is_sent_before_it_is_in_the_journal() {
    let mut machine = new(config());
    let Step::Write(Record::Intent { intent, at: time }) = machine.poll(at(5)) else {
        panic!("it must be written first")
    };
    assert_eq!((intent.body(), time), (BODY, at(5)));
    // Until it is known to be written there is nothing to do.
    assert_eq!(machine.poll(at(10)), Step::Wait);
    assert!(!machine.may_exist());
    machine.apply(Input::Written, at(11));
    assert_eq!(machine.poll(at(12)), Step::Send { attempt: 1 });
    assert!(machine.may_exist());
    assert_eq!(machine.poll(at(13)), Step::Wait);
}

#[test]
fn a_journal_that_cannot_be_written_sends_nothing() {
    let mut machine = new(config());
    assert!(matches!(machine.poll(at(0)), Step::Write(_)));
    machine.apply(Input::WriteFailed, at(0));
    assert_eq!(machine.poll(at(0)), Step::Done);
    assert_eq!(machine.state(), &PlacementState::Withdrawn(WithdrawnCause::Journal));
    assert!(machine.is_over() && !machine.may_exist());
}

#[test]
fn a_success_counts_if_it_names_the_id_of_the_order() {
    let created = |id: Option<&str>| Answer::Created {
        order_id: "o-1".to_owned(),
        client_order_id: id.map(str::to_owned),
    };
    let mut machine = answered(config(), created(Some("a-1")));
    assert_eq!(machine.state(), &accepted());
    let settlement = Settlement::Accepted { order_id: "o-1".to_owned() };
    let Step::Write(Record::Settled { settlement: written, .. }) = machine.poll(at(1)) else {
        panic!("the outcome is written")
    };
    assert_eq!(written, settlement);
    machine.apply(Input::Written, at(1));
    assert_eq!(machine.poll(at(1)), Step::Done);
    for other in [Some("a-2"), Some(""), None] {
        assert_eq!(answered(config(), created(other)).state(), &PlacementState::Settling);
    }
}

#[test]
fn a_message_or_a_list_with_id_market_and_side_is_evidence() {
    for side in [Some("bid".to_owned()), None] {
        let mut machine = unsettled(config());
        machine.apply(Input::Seen(Sighting { side, ..sighting() }), at(1));
        assert_eq!(machine.state(), &accepted());
    }
    let mut machine = unsettled(config());
    assert_eq!(machine.poll(at(0)), Step::WaitUntil(at(250)));
    assert_eq!(machine.poll(at(250)), Step::List { number: 1 });
    let orders = vec![sighting()];
    // Also of a list that was not read to its end.
    machine.apply(Input::Listed { number: 1, is_complete: false, orders }, at(300));
    assert_eq!(machine.state(), &accepted());
}

#[test]
fn an_order_of_another_id_is_no_evidence() {
    let mut machine = unsettled(config());
    let other = Sighting { client_order_id: "a-2".to_owned(), ..sighting() };
    machine.apply(Input::Seen(other), at(1));
    assert_eq!(machine.state(), &PlacementState::Settling);
}

#[test]
fn a_message_before_the_answer_settles_and_the_answer_changes_nothing() {
    let mut machine = sent(config());
    machine.apply(Input::Seen(sighting()), at(1));
    machine.apply(Input::Answered(Answer::Unknown), at(2));
    assert_eq!(machine.state(), &accepted());
    assert!(machine.others().is_empty());
}

#[test]
fn absence_needs_the_window_the_watermark_and_a_complete_list() {
    // All three.
    let mut machine = unsettled(config());
    assert_eq!(read(&mut machine, AFTER_WINDOW, 60_001, true), (1, 1));
    assert_eq!(machine.state(), &PlacementState::GivenUp);
    // The time has not passed: nothing but a list is read, and it proves nothing.
    let mut machine = unsettled(config());
    assert_eq!(read(&mut machine, 60_000, i64::MAX, true), (0, 1));
    assert_eq!(machine.state(), &PlacementState::Settling);
    // Reads are not that far: no list is read for nothing.
    let mut machine = unsettled(config());
    assert_eq!(read(&mut machine, AFTER_WINDOW, 60_000, true), (1, 0));
    assert_eq!(machine.state(), &PlacementState::Settling);
    // The list is not complete.
    let mut machine = unsettled(config());
    assert_eq!(read(&mut machine, AFTER_WINDOW, 60_001, false), (1, 1));
    assert_eq!(machine.state(), &PlacementState::Settling);
}

#[test]
fn a_list_that_was_begun_before_the_watermark_is_no_proof() {
    let mut machine = unsettled(config());
    assert_eq!(machine.poll(at(60_000)), Step::List { number: 1 });
    // Its end comes much later.
    let listed = |number| Input::Listed { number, is_complete: true, orders: Vec::new() };
    machine.apply(listed(1), at(100_000));
    assert_eq!(machine.state(), &PlacementState::Settling);
    assert_eq!(machine.poll(at(110_000)), Step::ReadWatermark);
    machine.apply(Input::Watermark(at(105_000)), at(110_000));
    assert_eq!(machine.poll(at(110_000)), Step::List { number: 2 });
    // Once more the end of the first.
    machine.apply(listed(1), at(110_001));
    assert_eq!(machine.state(), &PlacementState::Settling);
    machine.apply(listed(2), at(110_002));
    assert_eq!(machine.state(), &PlacementState::Absent);
}

#[test]
fn the_window_begins_when_the_answer_came_as_signing_may_have_waited() {
    let mut machine = sent(config());
    machine.apply(Input::Answered(Answer::Unknown), at(30_000));
    assert_eq!(read(&mut machine, 90_000, i64::MAX, true), (0, 1));
    assert_eq!(machine.state(), &PlacementState::Settling);
    assert_eq!(read(&mut machine, 95_000, 90_001, true), (1, 1));
    assert_eq!(machine.state(), &PlacementState::GivenUp);
}

#[test]
fn an_undecided_order_is_never_ended_by_time() {
    let mut machine = unsettled(config());
    for minute in 1..1_000 {
        let millis = minute * 60_000;
        read(&mut machine, millis, 0, true);
        assert!(!machine.is_over() && machine.may_exist());
    }
    assert_eq!(machine.state(), &PlacementState::Undecided(UndecidedCause::ReadsBehind));
    // Evidence ends it.
    let mut seen = machine.clone();
    seen.apply(Input::Seen(sighting()), at(0));
    assert_eq!(seen.state(), &accepted());
    read(&mut machine, 60_100_000, 60_100_000, true);
    assert_eq!(machine.state(), &PlacementState::GivenUp);
}

#[test]
fn failing_reads_and_lists_without_end_are_causes_of_their_own() {
    let later = 400_000;
    let mut machine = unsettled(config());
    assert_eq!(machine.poll(at(later)), Step::ReadWatermark);
    machine.apply(Input::ReadFailed, at(later));
    machine.poll(at(later + 1));
    assert_eq!(machine.state(), &PlacementState::Undecided(UndecidedCause::ReadsFail));
    read(&mut machine, later + 60_000, i64::MAX, false);
    assert_eq!(machine.state(), &PlacementState::Undecided(UndecidedCause::IncompleteLists));
}

#[test]
fn a_person_rules_on_what_is_undecided_and_on_nothing_else() {
    let mut machine = unsettled(config());
    machine.apply(Input::Ruled(Ruling::Absent), at(1));
    assert_eq!(machine.state(), &PlacementState::GivenUp);
    let mut machine = unsettled(config());
    machine.apply(Input::Ruled(Ruling::Exists { order_id: "o-1".to_owned() }), at(1));
    assert_eq!(machine.state(), &accepted());
    machine.apply(Input::Ruled(Ruling::Absent), at(2));
    assert_eq!(machine.state(), &accepted());
    let mut machine = sent(config());
    machine.apply(Input::Ruled(Ruling::Absent), at(1));
    assert_eq!(machine.state(), &PlacementState::Sent { attempt: 1 });
}

#[test]
fn a_409_finds_the_order_and_adopts_it() {
    let mut machine = answered(config(), Answer::Conflict);
    assert_eq!(machine.state(), &PlacementState::Settling);
    machine.apply(Input::Seen(sighting()), at(1));
    assert_eq!(machine.state(), &accepted());
}

#[test]
fn a_409_without_an_order_stays_undecided() {
    let mut machine = answered(config(), Answer::Conflict);
    read(&mut machine, AFTER_WINDOW, 60_001, true);
    let undecided = PlacementState::Undecided(UndecidedCause::IdInUse);
    assert_eq!(machine.state(), &undecided);
    // It is looked for again, and absence still does not outweigh the answer.
    assert_eq!(read(&mut machine, AFTER_WINDOW + 60_000, i64::MAX, true).1, 1);
    assert_eq!(machine.state(), &undecided);
}

#[test]
fn the_id_on_another_market_or_side_is_not_taken_for_the_order() {
    for other in [
        Sighting { ticker: "U".to_owned(), ..sighting() },
        Sighting { side: Some("ask".to_owned()), ..sighting() },
    ] {
        let mut machine = unsettled(config());
        machine.apply(Input::Seen(other), at(1));
        assert_eq!(machine.state(), &PlacementState::Settling);
        read(&mut machine, AFTER_WINDOW, 60_001, true);
        assert_eq!(machine.state(), &PlacementState::Undecided(UndecidedCause::IdInUse));
    }
}

#[test]
fn an_order_with_the_id_before_anything_was_sent_is_foreign() {
    let mut machine = new(config());
    machine.apply(Input::Seen(sighting()), at(0));
    assert_eq!(machine.state(), &PlacementState::Withdrawn(WithdrawnCause::IdInUse));
    assert_eq!(machine.poll(at(0)), Step::Done);
}

#[test]
fn a_refusal_is_final_and_a_rate_limit_is_not() {
    let refusal = Refusal::new(400, Some("invalid_order_size".to_owned()));
    let machine = answered(config(), Answer::Refused(refusal.clone()));
    assert_eq!(machine.state(), &PlacementState::Refused(refusal));
    let retry_after = Some(Duration::from_secs(1));
    for (answer, again) in [
        (Answer::RateLimited { retry_after }, 1_000),
        (Answer::RateLimited { retry_after: None }, 50),
        (Answer::NotSent { is_temporary: true }, 50),
    ] {
        let mut machine = answered(config(), answer);
        assert_eq!(machine.state(), &PlacementState::Queued);
        assert_eq!(machine.poll(at(0)), Step::WaitUntil(at(again)));
        // Each sending is written before it is made.
        let Step::Write(Record::Sending { attempt: 2, .. }) = machine.poll(at(again)) else {
            panic!("the second sending must be written")
        };
        machine.apply(Input::Written, at(again));
        assert_eq!(machine.poll(at(again)), Step::Send { attempt: 2 });
    }
    let machine = answered(config(), Answer::NotSent { is_temporary: false });
    assert_eq!(machine.state(), &PlacementState::Withdrawn(WithdrawnCause::Invalid));
}

#[test]
fn what_was_not_sent_by_its_deadline_is_not_sent() {
    let intent = Intent::new(BODY).unwrap();
    let mut machine = PlacementMachine::new(intent, config(), at(1_000));
    assert!(matches!(machine.poll(at(0)), Step::Write(_)));
    machine.apply(Input::Written, at(0));
    // The disk took its time.
    let Step::Write(Record::Settled { settlement, .. }) = machine.poll(at(1_000)) else {
        panic!("it is over")
    };
    assert_eq!(settlement, Settlement::Withdrawn);
    assert_eq!(machine.state(), &PlacementState::Withdrawn(WithdrawnCause::Deadline));
}

#[test]
fn what_is_withdrawn_is_not_sent_and_what_was_sent_is_settled() {
    let mut machine = new(config());
    machine.apply(Input::Withdraw, at(0));
    assert_eq!(machine.poll(at(0)), Step::Done);
    assert_eq!(machine.state(), &PlacementState::Withdrawn(WithdrawnCause::Caller));

    let mut machine = sent(config().with_resends(1));
    machine.apply(Input::Withdraw, at(1));
    assert_eq!(machine.state(), &PlacementState::Sent { attempt: 1 });
    machine.apply(Input::Answered(Answer::Unknown), at(2));
    read(&mut machine, AFTER_WINDOW, i64::MAX, true);
    // It would have been sent again.
    assert_eq!(machine.state(), &PlacementState::GivenUp);

    let mut machine = answered(config(), Answer::RateLimited { retry_after: None });
    machine.apply(Input::Withdraw, at(1));
    assert!(matches!(machine.poll(at(1)), Step::Write(Record::Settled { .. })));
}

#[test]
fn an_absent_order_is_sent_again_with_the_same_id_if_that_is_wanted() {
    let mut machine = unsettled(config().with_resends(1));
    let absent = |machine: &mut PlacementMachine, millis| loop {
        match machine.poll(at(millis)) {
            Step::ReadWatermark => machine.apply(Input::Watermark(at(millis)), at(millis)),
            Step::List { number } => {
                let listed = Input::Listed { number, is_complete: true, orders: Vec::new() };
                machine.apply(listed, at(millis));
            }
            step => return step,
        }
    };
    let Step::Write(Record::Sending { id, attempt: 2, .. }) = absent(&mut machine, AFTER_WINDOW)
    else {
        panic!("it must be written first")
    };
    assert_eq!(id.as_str(), "a-1");
    machine.apply(Input::Written, at(AFTER_WINDOW));
    assert_eq!(machine.poll(at(AFTER_WINDOW)), Step::Send { attempt: 2 });
    machine.apply(Input::Answered(Answer::Unknown), at(AFTER_WINDOW));
    // The window begins anew, and once is enough.
    assert!(matches!(absent(&mut machine, 120_000), Step::WaitUntil(_)));
    assert_eq!(machine.state(), &PlacementState::Settling);
    absent(&mut machine, 130_000);
    assert_eq!(machine.state(), &PlacementState::GivenUp);
}

#[test]
fn evidence_outweighs_every_verdict() {
    let mut machine = unsettled(config());
    read(&mut machine, AFTER_WINDOW, i64::MAX, true);
    machine.apply(Input::Written, at(AFTER_WINDOW));
    assert_eq!(machine.poll(at(AFTER_WINDOW)), Step::Done);
    machine.apply(Input::Seen(sighting()), at(AFTER_WINDOW + 1));
    assert_eq!(machine.state(), &accepted());
    assert!(matches!(machine.poll(at(AFTER_WINDOW + 1)), Step::Write(Record::Settled { .. })));
    // A second one is reported, once.
    let second = Sighting { order_id: "o-2".to_owned(), ..sighting() };
    for _ in 0..2 {
        machine.apply(Input::Seen(second.clone()), at(AFTER_WINDOW + 2));
    }
    assert_eq!((machine.state(), machine.others()), (&accepted(), &["o-2".to_owned()][..]));
}

#[test]
fn a_restart_settles_what_the_journal_has_and_sends_nothing() {
    let journal = MemoryJournal::new(1, at(0));
    let intent = Intent::new(BODY).unwrap();
    let record = Record::Intent { intent, at: at(1_000) };
    journal.commit(journal.append(&record).unwrap()).unwrap();
    journal.reopen(2, at(20_000)).unwrap();
    let history = journal.history();
    let unsettled = history.unsettled().next().unwrap();
    let config = config().with_resends(5);
    let mut machine = PlacementMachine::restore(unsettled, journal.session(), config, at(21_000));
    assert_eq!(machine.state(), &PlacementState::Settling);
    // The dead process may have signed until the journal was opened again.
    assert_eq!(read(&mut machine, 80_000, i64::MAX, true), (0, 1));
    assert_eq!(read(&mut machine, 85_000, 80_001, true), (1, 1));
    assert_eq!(machine.state(), &PlacementState::GivenUp);
}

#[test]
fn an_outcome_that_cannot_be_written_is_known_all_the_same() {
    let mut machine = unsettled(config());
    machine.apply(Input::Seen(sighting()), at(1));
    assert!(matches!(machine.poll(at(1)), Step::Write(_)));
    machine.apply(Input::WriteFailed, at(1));
    assert_eq!(machine.poll(at(1)), Step::Done);
    assert!(machine.is_over() && machine.is_settlement_lost());
    assert_eq!(machine.state(), &accepted());
}
