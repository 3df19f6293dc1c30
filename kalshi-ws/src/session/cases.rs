//! Decisions of the session that a run of mutants found untested, case by case.

use std::time::Duration;

use kalshi_types::UnixMillis;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Lane, Limits, MAX_UNMATCHED, MAX_UNMATCHED_BYTES, Output, Request, SessionState, after,
    findings::{BOOKS, Bench, delta, limits, owned, snapshot, subscribed},
};
use crate::{
    Backoff, Channel, CommandError, Decoder, DisconnectReason, Event, Frame, Refusal, Subscription,
    TerminationReason, protocol::command::Action,
};

const UNSUBSCRIBE: Request = Request::Unsubscribe(BOOKS);

/// Returns an error of subscription 1 that does not say which command it answers.
fn error(code: i64) -> String {
    format!(r#"{{"type":"error","sid":1,"msg":{{"code":{code},"msg":""}}}}"#)
}

fn trade(number: &str) -> String {
    format!(
        r#"{{"type":"trade","sid":1,{number}"msg":{{"trade_id":"t","market_ticker":"A","yes_price_dollars":"0.36","no_price_dollars":"0.64","count_fp":"1.00","taker_side":"no","taker_outcome_side":"no","taker_book_side":"ask","is_block_trade":false,"ts":1,"ts_ms":1}}}}"#
    )
}

fn all_trades() -> Request {
    Request::Subscribe(Box::new(Subscription::channel(Channel::Trade)))
}

fn trades(tickers: &[&str]) -> Bench {
    let mut bench = Bench::new();
    let subscription = Subscription::trades(tickers.iter().copied());
    bench.request(Request::Subscribe(Box::new(subscription)));
    bench.confirm(1);
    bench
}

/// Returns a session with two valid books that has just lost a message, and requested snapshots.
fn after_a_loss() -> (Bench, i64) {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    bench.delta(4, "A");
    let id = bench.command("snapshot A B");
    (bench, id)
}

fn gaps(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::Gap { .. }))
}

fn terminations(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::Terminated { .. }))
}

fn ends(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::Unsubscribed { .. }))
}

fn server_errors(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::ServerError(_)))
}

fn unmatched(bench: &Bench) -> usize {
    bench.count(|event| matches!(event, Event::Unmatched(_)))
}

fn contradicts(bench: &Bench) -> bool {
    bench.dropped == Some(DisconnectReason::ContradictoryReply)
}

#[test]
fn nothing_is_sent_while_there_is_no_connection_and_what_waits_for_a_reply_fails() {
    let mut bench = Bench::new();
    let (reply, mut first) = oneshot::channel();
    bench.request(Request::ListSubscriptions(reply));
    bench.command("list");
    bench.session.disconnected(DisconnectReason::Silent, bench.now);
    bench.carry_out();
    assert_eq!(first.try_recv().unwrap(), Err(CommandError::Disconnected));
    let (reply, mut second) = oneshot::channel();
    bench.request(Request::ListSubscriptions(reply));
    assert_eq!(second.try_recv().unwrap(), Err(CommandError::Disconnected));
    bench.subscribe(&["A"]);
    bench.pass(Duration::from_secs(20));
    bench.no_command();
    bench.session.connected(bench.now, Some(1));
    bench.carry_out();
    bench.confirm(1);
    assert!(bench.session.is_confirmed());
}

#[test]
fn a_list_of_subscriptions_answers_its_request_with_and_without_an_id() {
    let mut bench = Bench::new();
    for has_id in [true, false] {
        let (reply, mut answer) = oneshot::channel();
        bench.request(Request::ListSubscriptions(reply));
        let id = bench.command("list");
        let id = if has_id { Some(id) } else { None };
        let frame = Frame::Subscriptions { id, list: Vec::new(), sent: None };
        assert!(bench.session.frame(frame, 10, bench.now).is_none());
        assert_eq!(answer.try_recv().unwrap(), Ok(Vec::new()));
    }
}

#[test]
fn a_query_is_answered_by_its_list_only_and_holds_up_nothing() {
    let list = |id: &str| {
        format!(
            r#"{{{id}"type":"cfbenchmarks_value_indexlist","sid":1,"seq":1,"msg":{{"index_ids":[]}}}}"#
        )
    };
    for (frame, is_answer) in [
        (Some(snapshot(1, 1, "A")), false),
        (Some(list("")), true),
        (Some(list(r#""id":ID,"#)), true),
        (None, false),
    ] {
        let subscription = if is_answer {
            Subscription::cfbenchmarks(["A"])
        } else {
            Subscription::orderbook(["A"])
        };
        let channel = subscription.for_channel().clone();
        let mut bench = Bench::new();
        bench.request(Request::Subscribe(Box::new(subscription)));
        bench.confirm(1);
        bench.request(Request::ListItems(channel.clone()));
        let id = bench.command("items ");
        assert!(bench.session.is_confirmed());
        if let Some(frame) = &frame {
            bench.frame(&frame.replace("ID", &id.to_string()));
        }
        let unanswered = |bench: &Bench| {
            bench.count(|e| matches!(e, Event::Unanswered { channel: Some(of) } if *of == channel))
        };
        bench.pass(Duration::from_secs(4));
        assert_eq!(unanswered(&bench), 0, "{frame:?}");
        bench.pass(Duration::from_secs(7));
        assert_eq!(unanswered(&bench), usize::from(!is_answer), "{frame:?}");
    }
}

#[test]
fn what_waits_for_its_confirmation_is_bounded_in_messages_in_bytes_and_in_time() {
    let hold = |bench: &mut Bench, seq: i64, bytes: usize| {
        let frame = bench.decoder.decode(&snapshot(7, seq, "A"), UnixMillis::EPOCH);
        assert!(bench.session.frame(frame, bytes, bench.now).is_none());
        bench.carry_out();
    };
    let pending = || {
        let patient = Limits { command_timeout: Duration::from_secs(60), ..limits() };
        let mut bench = Bench::with_limits(patient);
        bench.subscribe(&["A"]);
        bench
    };
    let mut bench = pending();
    for seq in 0..i64::try_from(MAX_UNMATCHED).unwrap() {
        hold(&mut bench, seq, 1);
    }
    assert_eq!(unmatched(&bench), 0);
    hold(&mut bench, 0, 1);
    assert_eq!(unmatched(&bench), 1);
    // The oldest goes, and its bytes with it.
    let mut bench = pending();
    let half = MAX_UNMATCHED_BYTES / 2;
    for (bytes, given_up) in
        [(half, 0), (half, 0), (1, 1), (half - 2, 1), (1, 1), (1, 2), (half / 2, 2)]
    {
        hold(&mut bench, 1, bytes);
        assert_eq!(unmatched(&bench), given_up, "{bytes}");
    }
    let mut bench = pending();
    hold(&mut bench, 1, 1);
    bench.pass(Duration::from_secs(9));
    assert_eq!(unmatched(&bench), 0);
    bench.pass(Duration::from_secs(2));
    assert_eq!(unmatched(&bench), 1);
    bench.pass(Duration::from_secs(10));
    assert_eq!(unmatched(&bench), 1);
}

#[test]
fn an_end_before_its_confirmation_counts_and_one_that_nothing_waits_for_does_not() {
    let end = |sid: i64| format!(r#"{{"type":"unsubscribed","sid":{sid}}}"#);
    let mut bench = Bench::new();
    bench.frame(&end(1));
    bench.subscribe(&["A"]);
    bench.confirm(1);
    assert_eq!(terminations(&bench), 0);
    // Of two.
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    bench.request(all_trades());
    bench.frame(&end(1));
    bench.frame(&end(2));
    bench.confirm(1);
    bench.confirm(2);
    assert_eq!(terminations(&bench), 2);
}

#[test]
fn a_reply_with_an_id_answers_its_command_whatever_subscription_it_names() {
    let mut bench = Bench::with_books(&["A"]);
    bench.request(UNSUBSCRIBE);
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 99);
    assert_eq!((ends(&bench), terminations(&bench)), (1, 0));
    bench.subscribe(&["B"]);
    bench.command("subscribe B");
}

#[test]
fn a_subscription_that_is_said_to_be_another_ones_costs_the_connection() {
    let mut bench = Bench::new();
    bench.request(all_trades());
    bench.confirm(1);
    bench.subscribe(&["A"]);
    let id = bench.command("subscribe A");
    bench.ok(id);
    assert_eq!(bench.dropped, Some(DisconnectReason::UnknownSubscription));
}

#[test]
fn replies_that_contradict_each_other_cost_the_connection() {
    // The refusal without an id was taken for that of the first addition, which was carried out.
    let mut bench = Bench::with_books(&["A"]);
    bench.add(&["B"]);
    let first = bench.command("add B");
    bench.add(&["C"]);
    let second = bench.command("add C");
    bench.frame(&error(27));
    bench.frame(&error(27));
    assert_eq!(bench.dropped, None);
    bench.ok(first);
    assert!(contradicts(&bench));
    bench.dropped = None;
    bench.refuse(second, 27);
    assert!(contradicts(&bench));
    // Or for that of a request for snapshots.
    let (mut bench, id) = after_a_loss();
    bench.frame(&error(27));
    assert_eq!(bench.dropped, None);
    bench.refuse(id, 27);
    assert!(contradicts(&bench));
    // Or for that of a subscription.
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    let id = bench.command("subscribe A");
    bench.frame(r#"{"type":"error","msg":{"code":25,"msg":""}}"#);
    assert_eq!((terminations(&bench), bench.dropped.is_none()), (1, true));
    bench.frame(&subscribed(id, &BOOKS, 1));
    assert!(contradicts(&bench));
}

#[test]
fn a_refusal_without_an_id_leaves_open_whether_the_command_was_carried_out() {
    // It may have been the refusal of another command: the market is taken out.
    let mut bench = Bench::with_books(&["A"]);
    bench.add(&["B"]);
    bench.command("add B");
    bench.frame(&error(16));
    bench.command("delete B");
    // With an id there is nothing to be taken out.
    let mut bench = Bench::with_books(&["A"]);
    bench.add(&["B"]);
    let id = bench.command("add B");
    bench.refuse(id, 16);
    bench.pass(Duration::from_secs(5));
    assert!(bench.sent.iter().all(|command| !matches!(&command.action,
        Action::Update { items, .. } if items.contains(&"B".to_owned()))));
    // The same of a deletion: it is tried again.
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.delete(&["A"]);
    bench.command("delete A");
    bench.frame(&error(16));
    bench.pass(Duration::from_secs(1));
    bench.command("delete A");
}

#[test]
fn the_end_without_an_id_answers_no_command() {
    let mut bench = Bench::with_books(&["A"]);
    bench.request(UNSUBSCRIBE);
    let id = bench.command("unsubscribe");
    bench.frame(&error(25));
    assert_eq!((terminations(&bench), ends(&bench)), (1, 1));
    // The reply comes too late.
    bench.refuse(id, 7);
    assert_eq!((server_errors(&bench), bench.dropped.is_none()), (0, true));
}

#[test]
fn what_was_under_way_when_a_subscription_ended_is_over_with_it() {
    let (mut bench, snapshots) = after_a_loss();
    bench.request(all_trades());
    bench.confirm(2);
    bench.delete(&["A"]);
    let deletion = bench.command("delete A");
    bench.request(Request::Delete(Channel::Trade, Vec::new()));
    bench.request(Request::Unsubscribe(Channel::Trade));
    let other = bench.command("unsubscribe");
    bench.frame(&error(25));
    assert_eq!(terminations(&bench), 1);
    // Late refusals mean nothing any more, an end no other end.
    for id in [snapshots, deletion] {
        bench.refuse(id, 27);
        bench.refuse(id, 25);
    }
    assert_eq!((server_errors(&bench), terminations(&bench)), (0, 1));
    // What is under way elsewhere is not over.
    bench.refuse(other, 5);
    assert_eq!(server_errors(&bench), 1);
    bench.pass(Duration::from_secs(1));
    let again = bench.sent.iter().filter(|c| matches!(c.action, Action::Unsubscribe { sid: 2 }));
    let ids: Vec<i64> = again.map(|command| command.id).collect();
    assert_eq!(ids.len(), 1);
    bench.unsubscribed(ids[0], 2);
    bench.sent.retain(|command| matches!(command.action, Action::Subscribe { .. }));
    bench.confirm(3);
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.dropped, None);
}

#[test]
fn the_end_of_a_subscription_is_not_that_of_what_waits_on_another_one() {
    let trades_end = r#"{"type":"error","sid":2,"msg":{"code":25,"msg":""}}"#;
    // A request for snapshots: its refusal is still known, and it is sent again soon.
    let (mut bench, id) = after_a_loss();
    bench.request(all_trades());
    bench.confirm(2);
    bench.frame(trades_end);
    bench.sent.clear();
    bench.refuse(id, 27);
    bench.pass(Duration::from_secs(2));
    bench.sent.retain(|command| matches!(command.action, Action::Update { .. }));
    bench.command("snapshot A B");
    // A reply that was guessed: what contradicts it still does.
    for (end, is_known) in [(trades_end.to_owned(), true), (error(25), false)] {
        let mut bench = Bench::with_books(&["A"]);
        bench.request(all_trades());
        bench.confirm(2);
        bench.add(&["B"]);
        let id = bench.command("add B");
        bench.frame(&error(27));
        bench.frame(&end);
        bench.ok(id);
        assert_eq!(contradicts(&bench), is_known);
    }
}

#[test]
fn snapshots_that_came_are_not_what_an_error_without_an_id_refuses() {
    // One of two requests is answered: the error refuses the other one.
    let mut bench = Bench::with_limits(Limits { items_per_command: 1, ..limits() });
    bench.subscribe(&["A", "B"]);
    bench.confirm(1);
    let id = bench.command("add B");
    bench.ok(id);
    bench.snapshot(1, "A");
    bench.snapshot(2, "B");
    bench.delta(4, "A");
    bench.command("snapshot A");
    bench.command("snapshot B");
    bench.snapshot(5, "A");
    bench.frame(&error(27));
    bench.pass(Duration::from_secs(2));
    bench.command("snapshot B");
    bench.no_command();
    // The second request for a book is answered with the first: the error refuses the deletion.
    let (mut bench, _) = after_a_loss();
    bench.snapshot(5, "B");
    bench.pass(Duration::from_secs(6));
    bench.command("snapshot A");
    bench.snapshot(6, "A");
    bench.delete(&["A"]);
    bench.command("delete A");
    bench.frame(&error(27));
    bench.pass(Duration::from_secs(2));
    bench.command("delete A");
}

#[test]
fn a_subscription_that_may_exist_unseen_is_given_up_with_its_connection() {
    let unknown = Some(DisconnectReason::UnknownSubscription);
    // Refused for lack of time, and not refused for it.
    for (code, dropped) in [(18, unknown.clone()), (27, None)] {
        let mut bench = Bench::new();
        bench.subscribe(&["A"]);
        let id = bench.command("subscribe A");
        bench.refuse(id, code);
        assert_eq!(bench.dropped, None);
        bench.request(UNSUBSCRIBE);
        assert_eq!(bench.dropped, dropped);
        assert_eq!(ends(&bench), usize::from(dropped.is_none()));
    }
    // The next attempt is refused for good.
    let mut bench = Bench::new();
    bench.subscribe(&["A"]);
    let id = bench.command("subscribe A");
    bench.refuse(id, 18);
    bench.pass(Duration::from_secs(1));
    let id = bench.command("subscribe A");
    bench.refuse(id, 16);
    assert_eq!(bench.dropped, unknown);
    // The exchange did not say which subscription it ended.
    let mut bench = Bench::with_books(&["A"]);
    bench.frame(r#"{"type":"error","msg":{"code":25,"msg":""}}"#);
    assert_eq!((terminations(&bench), bench.dropped.is_none()), (1, true));
    bench.request(UNSUBSCRIBE);
    assert_eq!(bench.dropped, unknown);
}

#[test]
fn a_refused_end_is_tried_again_and_an_error_that_stays_is_an_event() {
    for (code, errors) in [(27, 0), (5, 1)] {
        let mut bench = Bench::with_books(&["A"]);
        bench.request(UNSUBSCRIBE);
        let id = bench.command("unsubscribe");
        bench.refuse(id, code);
        assert_eq!(server_errors(&bench), errors, "{code}");
        bench.pass(Duration::from_millis(50));
        bench.no_command();
        bench.pass(Duration::from_secs(1));
        bench.command("unsubscribe");
    }
}

#[test]
fn a_refused_change_waits_before_it_is_tried_again_and_so_do_those_after_it() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    bench.refuse(id, 27);
    assert_eq!(server_errors(&bench), 0);
    bench.add(&["C"]);
    bench.pass(Duration::from_millis(50));
    bench.no_command();
    bench.pass(Duration::from_secs(1));
    bench.command("add C");
    bench.command("delete A");
    // What the exchange does not have need not be taken out.
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.delete(&["A"]);
    let id = bench.command("delete A");
    bench.refuse(id, 16);
    assert_eq!(server_errors(&bench), 1);
    bench.pass(Duration::from_secs(5));
    bench.sent.retain(|command| !matches!(command.action, Action::Update { .. }));
    bench.no_command();
    assert_eq!(bench.forgotten, ["A"]);
}

#[test]
fn a_market_that_is_deleted_while_its_addition_is_under_way_is_added_for_nobody() {
    let added = |bench: &Bench| bench.count(|event| matches!(event, Event::Added { .. }));
    // Carried out; refused; perhaps carried out.
    for code in [None, Some(16), Some(18)] {
        let mut bench = Bench::with_books(&["A"]);
        bench.add(&["B"]);
        let id = bench.command("add B");
        bench.delete(&["B"]);
        match code {
            None => bench.ok(id),
            Some(code) => bench.refuse(id, code),
        }
        assert_eq!(added(&bench), 0, "{code:?}");
        bench.pass(Duration::from_secs(1));
        if code != Some(16) {
            bench.command("delete B");
        }
        bench.no_command();
    }
    // The subscription ends and is desired again: what was added to it is of no use.
    let mut bench = Bench::with_books(&["A"]);
    bench.add(&["B"]);
    let id = bench.command("add B");
    bench.request(UNSUBSCRIBE);
    bench.subscribe(&["B"]);
    bench.ok(id);
    assert_eq!(added(&bench), 0);
}

#[test]
fn nothing_added_to_a_subscription_to_all_is_confirmed_when_it_is_there() {
    let add = || Request::Add(Channel::Trade, Vec::new());
    let added = |bench: &Bench| bench.count(|event| matches!(event, Event::Added { .. }));
    let mut bench = Bench::new();
    bench.request(all_trades());
    bench.request(add());
    assert_eq!(added(&bench), 0);
    bench.confirm(1);
    bench.request(add());
    assert_eq!(added(&bench), 1);
    bench.request(Request::Unsubscribe(Channel::Trade));
    bench.request(all_trades());
    bench.request(add());
    assert_eq!(added(&bench), 1);
}

#[test]
fn a_market_that_the_exchange_names_is_given_up_alone() {
    let mut bench = Bench::with_books(&["A"]);
    bench.add(&["B", "C", "D"]);
    let id = bench.command("add B C D");
    bench.frame(&format!(
        r#"{{"id":{id},"type":"error","msg":{{"code":16,"msg":"","market_ticker":"C"}}}}"#
    ));
    let refused = |event: &Event| matches!(event, Event::Refused { items, reason: Refusal::Server(_), .. } if items == &["C"]);
    assert_eq!(bench.count(refused), 1);
    bench.command("add B D");
}

#[test]
fn c5_lists_are_halved_as_often_as_there_are_lists_with_a_dead_market() {
    // A dead market among ten, forty times: each list is halved three times.
    let mut bench = trades(&["X"]);
    for round in 0..40 {
        let names: Vec<String> = (0..10).map(|number| format!("M{round}-{number}")).collect();
        bench.request(Request::Add(Channel::Trade, names));
        while let Some(command) = bench.sent.pop_front() {
            let Action::Update { items, .. } = command.action else { panic!() };
            if items.iter().any(|item| item.ends_with("-7")) {
                bench.refuse(command.id, 16);
            } else {
                bench.ok(command.id);
            }
        }
    }
    let mut refused = Vec::new();
    for event in &bench.events {
        if let Event::Refused { items, .. } = event {
            refused.extend(items.iter().cloned());
        }
    }
    let dead: Vec<String> = (0..40).map(|round| format!("M{round}-7")).collect();
    assert_eq!(refused, dead);
    // After them a subscription is searched as well.
    bench.frame(&error(25));
    bench.pass(Duration::from_secs(1));
    let command = bench.sent.pop_front().unwrap();
    assert!(matches!(&command.action, Action::Subscribe { items, .. } if items.len() == 361));
    bench.refuse(command.id, 16);
    let command = bench.sent.pop_front().unwrap();
    assert!(matches!(&command.action, Action::Subscribe { items, .. } if items.len() == 181));
}

#[test]
fn c5_lists_of_dead_markets_are_halved_a_limited_number_of_times() {
    let dead: Vec<String> = (0..500).map(|number| format!("M{number}")).collect();
    let mut bench = trades(&["X"]);
    let before = bench.commands;
    bench.request(Request::Add(Channel::Trade, dead.clone()));
    while let Some(command) = bench.sent.pop_front() {
        bench.refuse(command.id, 16);
    }
    let refused = bench.events.iter().map(|event| match event {
        Event::Refused { items, .. } => items.len(),
        _ => 0,
    });
    assert_eq!(refused.sum::<usize>(), dead.len());
    assert_eq!(bench.commands - before, 1 + 2 * 64);
    // The same of requests for snapshots.
    let names: Vec<&str> = dead.iter().map(String::as_str).collect();
    let mut bench = Bench::with_books(&names);
    for (seq, name) in (1..).zip(&names) {
        bench.snapshot(seq, name);
    }
    let before = bench.commands;
    bench.delta(1_000, "M0");
    while let Some(command) = bench.sent.pop_front() {
        bench.refuse(command.id, 16);
    }
    assert_eq!(bench.commands - before, 1 + 2 * 64);
}

#[test]
fn a_consumer_that_is_too_slow_ends_its_subscription_once() {
    let mut bench = Bench::new();
    bench.request(all_trades());
    bench.confirm(1);
    bench.session.overflowed(0, bench.now);
    bench.session.overflowed(0, bench.now);
    bench.carry_out();
    let overflows = |bench: &Bench| {
        let reason = TerminationReason::Overflow;
        bench.count(|e| matches!(e, Event::Terminated { reason: of, .. } if *of == reason))
    };
    assert_eq!(overflows(&bench), 1);
    let id = bench.command("unsubscribe");
    bench.frame(&trade(r#""seq":1,"#));
    assert_eq!(bench.count(|event| event.message().is_some()), 0);
    // It is desired again before it has ended: that is another subscription.
    bench.request(all_trades());
    bench.session.overflowed(0, bench.now);
    bench.carry_out();
    bench.unsubscribed(id, 1);
    bench.confirm(2);
    assert_eq!(overflows(&bench), 1);
    bench.frame(&trade("").replace(r#""sid":1"#, r#""sid":2"#));
    assert_eq!(bench.count(|event| event.message().is_some()), 1);
    // One that is over has nothing to end.
    bench.request(Request::Unsubscribe(Channel::Trade));
    let id = bench.command("unsubscribe");
    bench.unsubscribed(id, 2);
    bench.session.overflowed(0, bench.now);
    bench.carry_out();
    assert_eq!((overflows(&bench), ends(&bench)), (1, 2));
}

#[test]
fn books_of_a_consumer_that_has_lost_messages_are_read_again() {
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "A");
    bench.session.lagged(0, bench.now);
    bench.carry_out();
    bench.command("snapshot A");
    let mut bench = trades(&["A"]);
    bench.session.lagged(0, bench.now);
    bench.carry_out();
    bench.no_command();
}

#[test]
fn only_books_are_read_again() {
    // A market whose deletion is refused is on the wire as it was; it has no book.
    let mut bench = trades(&["A", "B"]);
    let delete = || Request::Delete(Channel::Trade, owned(&["A"]));
    bench.request(delete());
    let id = bench.command("delete A");
    bench.request(Request::Add(Channel::Trade, owned(&["A"])));
    bench.refuse(id, 27);
    assert_eq!(bench.count(|event| matches!(event, Event::Added { .. })), 1);
    bench.pass(Duration::from_secs(10));
    bench.no_command();
    // Nor has it a name that books may not have, too.
    bench.request(delete());
    let id = bench.command("delete A");
    bench.ok(id);
    assert!(bench.forgotten.is_empty());
    // No books at all are none.
    let mut bench = Bench::with_books(&["A"]);
    bench.request(Request::Snapshot(Vec::new()));
    bench.snapshot(1, "A");
    assert_eq!(bench.count(|event| matches!(event, Event::Resynced { .. })), 0);
    bench.no_command();
}

#[test]
fn a_first_snapshot_that_does_not_come_in_time_is_an_event_and_is_requested() {
    let mut bench = Bench::with_books(&["A", "B"]);
    bench.snapshot(1, "A");
    let overdue = |bench: &Bench| {
        bench.count(|event| matches!(event, Event::Overdue { items, .. } if items == &["B"]))
    };
    bench.pass(Duration::from_millis(4_990));
    assert_eq!(overdue(&bench), 0);
    bench.no_command();
    bench.pass(Duration::from_millis(10));
    assert_eq!(overdue(&bench), 1);
    bench.command("snapshot B");
    bench.snapshot(2, "B");
    bench.pass(Duration::from_secs(5));
    // One that was lost is known to be, and is no such event.
    bench.delta(4, "A");
    bench.command("snapshot A B");
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.count(|event| matches!(event, Event::Overdue { .. })), 1);
}

#[test]
fn b5_only_a_success_that_lasts_makes_the_next_request_go_out_at_once() {
    let mut bench = Bench::with_books(&["A"]);
    let mut seq = 1;
    bench.snapshot(seq, "A");
    bench.pass(Duration::from_secs(5));
    // For 40 s, a message is lost as soon as the book is right again.
    let before = bench.commands;
    for _ in 0..2_000 {
        seq += 2;
        bench.delta(seq, "A");
        if bench.sent.pop_front().is_some() {
            seq += 1;
            bench.snapshot(seq, "A");
        }
        bench.pass(Duration::from_millis(20));
    }
    let commands = bench.commands - before;
    assert!((5..15).contains(&commands), "{commands} commands in 40 s");
    bench.pass(Duration::from_secs(60));
    if bench.sent.pop_front().is_some() {
        seq += 1;
        bench.snapshot(seq, "A");
    }
    assert!(bench.is_valid("A"));
    bench.pass(Duration::from_secs(600));
    bench.no_command();
    // The past is forgotten: a request without an answer is repeated after five seconds.
    bench.delta(seq + 2, "A");
    bench.command("snapshot A");
    bench.pass(Duration::from_secs(6));
    bench.command("snapshot A");
}

#[test]
fn a_message_without_a_number_is_a_gap_where_numbers_are_due() {
    // Older documents have none on this channel.
    let mut bench = trades(&["A"]);
    bench.frame(&trade(""));
    assert_eq!(gaps(&bench), 0);
    bench.frame(&trade(r#""seq":1,"#));
    assert_eq!(gaps(&bench), 0);
    bench.frame(&trade(""));
    assert_eq!(gaps(&bench), 1);
    assert_eq!(bench.count(|event| event.message().is_some()), 3);
    // Books have always had them.
    let mut bench = Bench::with_books(&["A"]);
    bench.frame(&delta(1, 1, "A").replace(r#""seq":1,"#, ""));
    assert_eq!(gaps(&bench), 1);
}

#[test]
fn a_lost_frame_of_a_subscription_is_a_gap_where_it_has_numbers() {
    let lost = r#"{"type":"orderbook_delta","sid":1,"msg":7}"#;
    let mut bench = Bench::with_books(&["A"]);
    bench.frame(lost);
    assert_eq!(gaps(&bench), 1);
    let mut bench = Bench::with_books(&["A"]);
    bench.snapshot(1, "A");
    bench.frame(r#"{"type":"news","sid":1,"msg":{}}"#);
    assert_eq!(gaps(&bench), 0);
    bench.frame(lost);
    assert_eq!(gaps(&bench), 1);
    // A frame of no known subscription, before the first number of this one.
    let mut bench = Bench::with_books(&["A"]);
    bench.frame("{");
    assert_eq!(gaps(&bench), 1);
    // Fills have none.
    let mut bench = Bench::new();
    bench.request(Request::Subscribe(Box::new(Subscription::fills())));
    bench.confirm(1);
    bench.frame(r#"{"type":"fill","sid":1,"msg":7}"#);
    bench.frame("{");
    assert_eq!(gaps(&bench), 0);
}

#[test]
fn a_queue_has_room_for_two_messages_of_each_book_and_grows_with_them() {
    let mut bench = Bench::new();
    let subscription = Subscription::orderbook(["A", "B"]).with_capacity(3);
    bench.request(Request::Subscribe(Box::new(subscription)));
    assert_eq!(bench.queues, [(4, true)]);
    bench.confirm(1);
    bench.add(&["C"]);
    assert_eq!(bench.queues, [(4, true), (6, false)]);
    bench.delete(&["C"]);
    bench.add(&["D"]);
    assert_eq!(bench.queues.len(), 2);
    // A new subscription has a new queue, and one of no books as many places as it asks for.
    bench.request(UNSUBSCRIBE);
    let subscription = Subscription::trades(["A", "B"]).with_capacity(3);
    bench.request(Request::Subscribe(Box::new(subscription)));
    assert_eq!(bench.queues[2..], [(3, true)]);
}

#[test]
fn no_time_is_too_long_and_the_longest_is_decades() {
    let now = Instant::now();
    assert_eq!(after(now, Duration::from_secs(5)) - now, Duration::from_secs(5));
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let longest = after(now, Duration::MAX) - now;
    assert!(longest > 20 * year && longest < 50 * year, "{longest:?}");
}

/// Passes frames to a session that plays a recording back.
fn play_back(session: &mut SessionState, frames: &[String], now: Instant) -> Vec<(Lane, Event)> {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for text in frames {
        let frame = decoder.decode(text, UnixMillis::EPOCH);
        events.extend(session.frame(frame, text.len(), now));
        while let Some(output) = session.output() {
            match output {
                Output::Event(lane, event, _) => events.push((lane, event)),
                Output::Send(command) => panic!("{command:?} is sent"),
                _ => {}
            }
        }
    }
    events
}

#[test]
fn a_recording_is_played_back_without_a_command() {
    let limits = Limits {
        snapshot_timeout: Duration::ZERO,
        backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
        ..limits()
    };
    let mut now = Instant::now();
    let mut session = SessionState::passive(limits, now);
    session.connected(now, None);
    let lanes = |events: &[(Lane, Event)]| {
        let messages = events.iter().filter(|(_, event)| event.message().is_some());
        messages.map(|(lane, _)| *lane).collect::<Vec<_>>()
    };
    // What comes before its confirmation is kept here as well.
    let held = play_back(&mut session, &[snapshot(1, 1, "A")], now);
    assert!(held.is_empty(), "{held:?}");
    let frames = [
        subscribed(1, &BOOKS, 1),
        subscribed(2, &Channel::Trade, 2),
        subscribed(3, &Channel::Ticker, 3),
        snapshot(1, 2, "B"),
        trade(r#""seq":1,"#).replace(r#""sid":1"#, r#""sid":2"#),
        // Of a market that the recording has not shown before.
        delta(1, 3, "A"),
    ];
    let events = play_back(&mut session, &frames, now);
    let (books, trades) = (Lane::Channel(0), Lane::Channel(1));
    assert_eq!(lanes(&events), [books, books, trades, books]);
    // A loss, and books that are read again by somebody else.
    let frames = [delta(1, 5, "A"), snapshot(1, 6, "A"), snapshot(1, 7, "B")];
    let events = play_back(&mut session, &frames, now);
    let is = |is_it: fn(&Event) -> bool| events.iter().filter(|(_, event)| is_it(event)).count();
    assert_eq!(is(|event| matches!(event, Event::Gap { .. })), 1);
    assert_eq!(is(|event| matches!(event, Event::Resynced { .. })), 1);
    // Subscriptions end and are made anew, under other numbers and on the same lanes.
    let end = error(25);
    let events = play_back(&mut session, &[end], now);
    assert_eq!(events.len(), 1, "{events:?}");
    now += Duration::from_secs(1);
    session.tick(now);
    let frames = [subscribed(4, &BOOKS, 4), snapshot(4, 1, "A"), delta(4, 2, "A")];
    let events = play_back(&mut session, &frames, now);
    assert_eq!(lanes(&events), [books, books]);
    now += Duration::from_secs(1);
    session.tick(now);
    assert!(play_back(&mut session, &[], now).is_empty());
    assert!(session.output().is_none());
}
