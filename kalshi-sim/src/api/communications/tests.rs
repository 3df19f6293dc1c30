use chrono::{DateTime, TimeDelta, Utc};
use kalshi_sdk::{server::dispatch, types};
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::http::query::Query;

/// The id that other members see for a hidden requester.
const HIDDEN: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An exchange, a requester, a maker and a stranger.
struct Floor {
    state: State,
    now: DateTime<Utc>,
    asks: Principal,
    makes: Principal,
    strange: Principal,
    /// Two open markets.
    tickers: [String; 2],
}

impl Floor {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let mut state = State::new(crate::state::Start::new(7, now));
        let mut member = || {
            let account = state.engine.ledger.open(false);
            for shard in [0, 1, 2] {
                let amount = Dollars::from_dollars(10_000).unwrap();
                state.engine.ledger.deposit(account, 0, shard, amount, Time::from(now)).unwrap();
            }
            Principal { account, bound: None, fcm_member: false }
        };
        let (asks, makes, strange) = (member(), member(), member());
        let mut open = state
            .engine
            .markets()
            .iter()
            .filter(|market| market.status.as_str() == "active" && market.shard == 0)
            .filter(|market| market.series_ticker == "KXSIMTEMP")
            .map(|market| market.ticker.clone());
        let tickers = [open.next().unwrap(), open.next().unwrap()];
        drop(open);
        Self { state, now, asks, makes, strange, tickers }
    }

    fn call(&mut self, caller: Principal, id: &str, path: &[&str], body: &Value) -> Response {
        self.ask(caller, id, path, &[], body)
    }

    fn ask(
        &mut self,
        caller: Principal,
        id: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let call = Call {
            caller: Some(caller),
            subtrader: None,
            path: &path,
            query: &Query::new(query.collect()),
            body,
            now: self.now,
            pair: None,
        };
        self.state.advance(call.time());
        dispatch(id.parse().unwrap(), &mut self.state, &call).unwrap_or_else(|refused| refused)
    }

    fn read<T: DeserializeOwned + Serialize>(
        &mut self,
        caller: Principal,
        id: &str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> T {
        let reply = self.ask(caller, id, path, query, &Value::Null);
        assert_eq!(reply.status, 200, "{id}: {reply:?}");
        typed(reply)
    }

    fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
        self.state.advance(Time::from(self.now));
        self.state.engine.audit().unwrap();
    }

    fn rfq(&mut self, more: &Value) -> String {
        let mut body = json!({"market_ticker": self.tickers[0], "rest_remainder": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = self.call(self.asks, "create_rfq", &[], &body);
        assert_eq!(reply.status, 201, "{reply:?}");
        typed::<types::CreateRfqResponse>(reply).id
    }

    fn bid(&mut self, rfq: &str) -> String {
        let body =
            json!({"rfq_id": rfq, "yes_bid": "0.40", "no_bid": "0.5000", "rest_remainder": false});
        let reply = self.call(self.makes, "create_quote", &[], &body);
        assert_eq!(reply.status, 201, "{reply:?}");
        typed::<types::CreateQuoteResponse>(reply).id
    }

    /// Returns the collection of today, and legs of it on different events, all of YES.
    fn legs(&mut self, count: usize) -> (String, Vec<Value>) {
        let query = [("status", "open"), ("series_ticker", "KXMVESIMCROSS")];
        let asks = self.asks;
        let id = "get_multivariate_event_collections";
        let page = self.ask(asks, id, &[], &query, &Value::Null).body.unwrap();
        let collection = &page["multivariate_contracts"][0];
        let events = collection["associated_event_tickers"].as_array().unwrap().iter();
        let events = events.map(|event| event.as_str().unwrap());
        let legs = events.filter_map(|event| {
            let of_event = |market: &&crate::engine::Market| market.event_ticker == event;
            let open = |market: &&crate::engine::Market| market.status.as_str() == "active";
            let market = self.state.engine.markets().iter().filter(of_event).find(open)?;
            let ticker = &market.ticker;
            Some(json!({"market_ticker": ticker, "event_ticker": event, "side": "yes"}))
        });
        let legs: Vec<Value> = legs.take(count).collect();
        assert_eq!(legs.len(), count);
        (collection["collection_ticker"].as_str().unwrap().to_owned(), legs)
    }

    /// Makes a combo of two legs, the first one as often as it is asked for with another second one.
    fn combos(&mut self, count: usize) -> Vec<String> {
        let (collection, legs) = self.legs(count + 1);
        let asks = self.asks;
        (1..=count)
            .map(|second| {
                let body = json!({"selected_markets": [legs[0], legs[second]]});
                let id = "create_market_in_multivariate_event_collection";
                let reply = self.call(asks, id, &[&collection], &body);
                assert_eq!(reply.status, 200, "{reply:?}");
                reply.body.unwrap()["market_ticker"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// Returns the body of a batch of ten contracts on each of some combos.
    fn batch_body(tickers: &[String], more: &Value) -> Value {
        let children: Vec<Value> =
            tickers.iter().map(|ticker| json!({"market_ticker": ticker})).collect();
        let mut body = json!({"children": children, "contracts_fp": "10.00"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    fn batch(&mut self, tickers: &[String], more: &Value) -> types::RfqBatch {
        let asks = self.asks;
        let reply = self.call(asks, "create_rfq_batch", &[], &Self::batch_body(tickers, more));
        assert_eq!(reply.status, 201, "{reply:?}");
        typed::<types::CreateRfqBatchResponse>(reply).rfq_batch
    }

    /// Bids for YES on every child of a batch.
    fn price(&mut self, maker: Principal, batch: &types::RfqBatch, yes: &[&str]) -> String {
        let rows: Vec<Value> = batch
            .rfqs
            .iter()
            .zip(yes)
            .map(|(rfq, yes)| json!({"rfq_id": rfq.id, "yes_bid": yes, "no_bid": "0.00"}))
            .collect();
        let body = json!({"quotes": rows, "rest_remainder": false});
        let reply = self.call(maker, "create_rfq_batch_quote", &[&batch.id], &body);
        assert_eq!(reply.status, 201, "{reply:?}");
        typed::<types::CreateRfqBatchQuoteResponse>(reply).id
    }

    fn take(&mut self, batch: &types::RfqBatch, least: &str, more: &Value) -> Response {
        let rows: Vec<Value> =
            batch.rfqs.iter().map(|rfq| json!({"rfq_id": rfq.id, "bid_dollars": least})).collect();
        let mut body = json!({"accepted_side": "yes", "min_bids": rows});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let asks = self.asks;
        self.call(asks, "accept_rfq_batch", &[&batch.id], &body)
    }

    fn confirm(&mut self, maker: Principal, batch: &str, quote: &str) -> Response {
        self.call(maker, "confirm_rfq_batch_quote", &[batch, quote], &json!({}))
    }

    fn batch_quotes(&mut self, caller: Principal, batch: &str) -> Vec<types::RfqBatchQuote> {
        let page: types::GetRfqBatchQuotesResponse =
            self.read(caller, "get_rfq_batch_quotes", &[batch], &[]);
        page.batch_quotes
    }

    fn quote(&mut self, caller: Principal, rfq: &str, quote: &str) -> types::Quote {
        self.read::<types::GetQuoteResponse>(caller, "get_rfq_quote", &[rfq, quote], &[]).quote
    }
}

/// Returns the body as the type of the document; nothing is lost on the way, so it has no unknown
/// fields.
fn typed<T: DeserializeOwned + Serialize>(reply: Response) -> T {
    let body = reply.body.unwrap();
    let value: T = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), body);
    value
}

fn code(reply: &Response) -> &str {
    reply.body.as_ref().unwrap()["error"]["code"].as_str().unwrap()
}

#[test]
fn each_party_sees_its_own_private_fields_and_others_see_no_quote() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let rfq = floor.rfq(&json!({"contracts_fp": "10.00", "obscure_creator_id": true}));
    let quote = floor.bid(&rfq);
    let pseudonym: types::GetCommunicationsIdResponse =
        floor.read(asks, "get_communications_id", &[], &[]);
    assert_ne!(pseudonym.communications_id, asks.account.to_string());

    let own = floor.read::<types::GetRfqResponse>(asks, "get_rfq", &[&rfq], &[]).rfq;
    assert_eq!(own.creator_id, pseudonym.communications_id);
    assert_eq!(own.creator_user_id, Some(asks.account.to_string()));
    let public = floor.read::<types::GetRfqResponse>(strange, "get_rfq", &[&rfq], &[]).rfq;
    assert_eq!((public.creator_id.as_str(), public.creator_user_id), (HIDDEN, None));
    assert_eq!(public.contracts_fp, Count::from_contracts(10).unwrap());

    let path = [rfq.as_str(), quote.as_str()];
    let accept = json!({"accepted_side": "no"});
    for (id, path) in [("accept_quote", &path[1..]), ("accept_rfq_quote", &path[..])] {
        assert_eq!(floor.call(strange, id, path, &accept).status, 404);
        assert_eq!(floor.call(makes, id, path, &accept).status, 400);
    }
    assert_eq!(floor.call(asks, "accept_rfq_quote", &path, &accept).status, 204);
    let confirm = Value::Null;
    assert_eq!(floor.call(strange, "confirm_rfq_quote", &path, &confirm).status, 404);
    assert_eq!(floor.call(asks, "confirm_rfq_quote", &path, &confirm).status, 400);
    assert_eq!(floor.call(makes, "confirm_rfq_quote", &path, &confirm).status, 204);
    let confirmed = floor.quote(makes, &rfq, &quote);
    assert_eq!(confirmed.rfq_creator_id, HIDDEN);
    floor.wait(15);
    // An execution shows the requester truly, but not its user id.
    let made = floor.quote(makes, &rfq, &quote);
    assert_eq!(made.rfq_creator_id, pseudonym.communications_id);
    assert_eq!(made.rfq_creator_user_id, None);
    assert!(made.creator_order_id.is_some() && made.rfq_creator_order_id.is_none());
    assert_eq!((made.post_only, made.creator_subaccount), (Some(false), Some(0)));
    let asked = floor.quote(asks, &rfq, &quote);
    assert!(asked.creator_order_id.is_none() && asked.rfq_creator_order_id.is_some());
    assert_eq!((asked.post_only, asked.creator_user_id), (None, None));
    assert_eq!(asked.rfq_creator_id, pseudonym.communications_id);
    assert_eq!(asked.status.to_string(), "executed");
    assert!(asked.executed_ts.unwrap() - asked.confirmed_ts.unwrap() == TimeDelta::seconds(15));
    assert_eq!(floor.call(strange, "get_rfq_quote", &path, &Value::Null).status, 404);
    let closed = floor.read::<types::GetRfqResponse>(strange, "get_rfq", &[&rfq], &[]).rfq;
    assert_eq!(closed.status.to_string(), "closed");
    assert_eq!(closed.creator_id, pseudonym.communications_id);
}

#[test]
fn a10_hidden_requesters_share_a_placeholder_until_an_execution() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let obscured = json!({"contracts_fp": "10.00", "obscure_creator_id": true});
    let executed = floor.rfq(&obscured);
    let lost = floor.bid(&executed);
    let quote = floor.bid(&executed);
    let path = [executed.as_str(), quote.as_str()];
    let accept = json!({"accepted_side": "no"});
    assert_eq!(floor.call(asks, "accept_rfq_quote", &path, &accept).status, 204);
    assert_eq!(floor.call(makes, "confirm_rfq_quote", &path, &json!({})).status, 204);
    let ticker = floor.tickers[1].clone();
    let mut other = obscured;
    other["market_ticker"] = json!(ticker);
    let deleted = floor.rfq(&other);
    let creator = |floor: &mut Floor, rfq: &str| {
        floor.read::<types::GetRfqResponse>(strange, "get_rfq", &[rfq], &[]).rfq.creator_id
    };
    for rfq in [&executed, &deleted] {
        assert_eq!(creator(&mut floor, rfq), HIDDEN);
    }
    assert_eq!(floor.call(asks, "delete_rfq", &[&deleted], &Value::Null).status, 204);
    floor.wait(15);
    assert_eq!(creator(&mut floor, &executed), pseudonym(asks.account));
    assert_eq!(creator(&mut floor, &deleted), HIDDEN, "nothing of it was executed");
    // The quote that was replaced tells its maker nothing.
    assert_eq!(floor.quote(makes, &executed, &lost).rfq_creator_id, HIDDEN);
    assert_eq!(floor.quote(makes, &executed, &quote).rfq_creator_id, pseudonym(asks.account));
}

#[test]
fn a10_a_hidden_batch_is_shown_truly_once_a_child_is_executed() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let combos = floor.combos(2);
    let obscured = json!({"obscure_creator_id": true, "client_batch_id": "mine"});
    let batch = floor.batch(&combos, &obscured);
    let me = pseudonym(asks.account);
    assert_eq!((&batch.creator_id, &batch.rfqs[1].creator_id), (&me, &me));
    let seen = |floor: &mut Floor| {
        let page: types::GetRfqBatchResponse =
            floor.read(strange, "get_rfq_batch", &[&batch.id], &[]);
        page.rfq_batch
    };
    let public = seen(&mut floor);
    assert_eq!((public.creator_id.as_str(), public.rfqs[0].creator_id.as_str()), (HIDDEN, HIDDEN));
    assert_eq!(
        (public.updated_ts, public.client_batch_id, public.creator_user_id),
        (None, None, None)
    );
    let quote = floor.price(makes, &batch, &["0.40", "0.40"]);
    assert_eq!(floor.take(&batch, "0.40", &json!({})).status, 200);
    assert_eq!(floor.confirm(makes, &batch.id, &quote).status, 204);
    assert_eq!(seen(&mut floor).creator_id, HIDDEN);
    assert_eq!(floor.batch_quotes(makes, &batch.id)[0].rfq_creator_id, HIDDEN);
    floor.wait(1);
    let public = seen(&mut floor);
    assert_eq!((&public.creator_id, &public.rfqs[0].creator_id), (&me, &me));
    assert_eq!((public.status.to_string().as_str(), public.close_reason), ("closed", None));
    let own: types::GetRfqBatchResponse = floor.read(asks, "get_rfq_batch", &[&batch.id], &[]);
    assert_eq!(own.rfq_batch.close_reason.as_deref(), Some("executed"));
    assert_eq!(floor.batch_quotes(makes, &batch.id)[0].rfq_creator_id, me);
}

#[test]
fn c9_a_malformed_id_is_a_bad_request_and_an_unknown_one_not_found() {
    let mut floor = Floor::new();
    let (asks, makes) = (floor.asks, floor.makes);
    let rfq = floor.rfq(&json!({"contracts": 3}));
    let quote = floor.bid(&rfq);
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    let whole = floor.price(makes, &batch, &["0.40", "0.40"]);
    let unknown = "00000000-0000-4000-8000-000000000000";
    let accept = json!({"accepted_side": "yes"});
    let accept_batch = json!({"accepted_side": "yes", "min_bids": []});
    let batch_quote = json!({"quotes": [], "rest_remainder": false});
    let (none, empty) = (Value::Null, json!({}));
    // Each id of each path: the ones before it are right.
    let cases: [(&str, &[&str], &Value); 16] = [
        ("get_rfq", &[], &none),
        ("delete_rfq", &[], &none),
        ("get_quote", &[], &none),
        ("delete_quote", &[], &none),
        ("accept_quote", &[], &accept),
        ("confirm_quote", &[], &empty),
        ("get_rfq_quote", &[&rfq], &none),
        ("delete_rfq_quote", &[&rfq], &none),
        ("accept_rfq_quote", &[&rfq], &accept),
        ("confirm_rfq_quote", &[&rfq], &empty),
        ("get_rfq_batch", &[], &none),
        ("delete_rfq_batch", &[], &none),
        ("accept_rfq_batch", &[], &accept_batch),
        ("get_rfq_batch_best_quotes", &[], &none),
        ("delete_rfq_batch_quote", &[&batch.id], &none),
        ("confirm_rfq_batch_quote", &[&batch.id], &empty),
    ];
    for (id, before, body) in cases {
        for (text, status) in [("x", 400), ("0", 400), (&rfq[1..], 400), (unknown, 404)] {
            let path: Vec<&str> = before.iter().copied().chain([text]).collect();
            assert_eq!(floor.call(makes, id, &path, body).status, status, "{id} {text}");
            if let [first] = before {
                let last = if first == &batch.id { &whole } else { &quote };
                let path = [text, last.as_str()];
                assert_eq!(floor.call(makes, id, &path, body).status, status, "{id} {text} first");
            }
        }
    }
    for (text, status) in [("x", 400), (unknown, 404)] {
        for id in ["get_rfq_batch_quotes", "create_rfq_batch_quote"] {
            let body = if id == "get_rfq_batch_quotes" { &none } else { &batch_quote };
            assert_eq!(floor.call(makes, id, &[text], body).status, status, "{id} {text}");
        }
        let body = json!({
            "rfq_id": text, "yes_bid": "0.40", "no_bid": "0.50", "rest_remainder": false,
        });
        assert_eq!(floor.call(makes, "create_quote", &[], &body).status, status, "{text}");
    }
    // Filters, too: an unknown id finds nothing.
    let mine = ("user_filter", "self");
    for (id, filter, more) in [
        ("get_rfqs", "creator_user_id", None),
        ("get_quotes", "rfq_id", Some(mine)),
        ("get_quotes", "quote_creator_user_id", None),
        ("get_quotes", "rfq_creator_user_id", None),
        ("get_rfqs", "cursor", None),
        ("get_quotes", "cursor", Some(mine)),
        ("get_rfq_batches", "cursor", None),
    ] {
        let ask = |floor: &mut Floor, text| {
            let query: Vec<(&str, &str)> = more.into_iter().chain([(filter, text)]).collect();
            floor.ask(asks, id, &[], &query, &none)
        };
        assert_eq!(ask(&mut floor, "x").status, 400, "{id} {filter}");
        let unknown = ask(&mut floor, unknown);
        assert_eq!(unknown.status, if filter == "cursor" { 400 } else { 200 }, "{id} {filter}");
    }
}

#[test]
fn an_accepted_quote_that_is_not_confirmed_is_expired() {
    let mut floor = Floor::new();
    let (asks, makes) = (floor.asks, floor.makes);
    let rfq = floor.rfq(&json!({"contracts": 3}));
    let quote = floor.bid(&rfq);
    let path = [rfq.as_str(), quote.as_str()];
    let accept = json!({"accepted_side": "yes"});
    assert_eq!(floor.call(asks, "accept_rfq_quote", &path, &accept).status, 204);
    floor.wait(30);
    for (caller, id, body) in
        [(makes, "confirm_rfq_quote", json!({})), (asks, "accept_rfq_quote", accept)]
    {
        let reply = floor.call(caller, id, &path, &body);
        assert_eq!((reply.status, code(&reply)), (400, "expired"), "{id}");
    }
}

#[test]
fn the_old_paths_do_the_same_without_the_rfq() {
    let mut floor = Floor::new();
    let (asks, makes) = (floor.asks, floor.makes);
    let rfq = floor.rfq(&json!({"contracts": 3}));
    let quote = floor.bid(&rfq);
    let shown: types::GetQuoteResponse = floor.read(makes, "get_quote", &[&quote], &[]);
    assert_eq!(shown.quote.rfq_id, rfq);
    let wrong = [quote.as_str(), quote.as_str()];
    assert_eq!(floor.call(makes, "delete_rfq_quote", &wrong, &Value::Null).status, 404);
    assert_eq!(floor.call(makes, "delete_quote", &[&quote], &Value::Null).status, 204);
    assert_eq!(floor.call(makes, "delete_quote", &[&quote], &Value::Null).status, 404);
    let quote = floor.bid(&rfq);
    let accept = json!({"accepted_side": "yes"});
    assert_eq!(floor.call(asks, "accept_quote", &[&quote], &accept).status, 204);
    assert_eq!(floor.call(makes, "confirm_quote", &[&quote], &json!({})).status, 204);
    assert_eq!(floor.call(makes, "delete_quote", &[&quote], &Value::Null).status, 400);
    assert_eq!(floor.call(asks, "delete_rfq", &[&rfq], &Value::Null).status, 400);
}

#[test]
fn lists_are_filtered_and_cut_into_pages() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let first = floor.rfq(&json!({"contracts_fp": "10.00"}));
    let old = floor.bid(&first);
    floor.wait(10);
    let new = floor.bid(&first);
    let ticker = floor.tickers[1].clone();
    let second = floor.rfq(&json!({"market_ticker": ticker, "target_cost_dollars": "5.00"}));

    let mut list = |caller: Principal, query: &[(&str, &str)]| -> Vec<String> {
        let page: types::GetRfqsResponse = floor.read(caller, "get_rfqs", &[], query);
        page.rfqs.into_iter().map(|rfq| rfq.id).collect()
    };
    assert_eq!(list(strange, &[]), [second.as_str(), &first]);
    assert_eq!(list(strange, &[("user_filter", "self")]), [""; 0]);
    assert_eq!(list(asks, &[("user_filter", "self")]).len(), 2);
    assert_eq!(list(asks, &[("market_ticker", &ticker)]), [second.as_str()]);
    assert_eq!(list(asks, &[("event_ticker", "none")]), [""; 0]);
    assert_eq!(list(asks, &[("status", "closed")]), [""; 0]);
    assert_eq!(list(asks, &[("subaccount", "0")]).len(), 2);
    assert_eq!(list(asks, &[("subaccount", "1")]), [""; 0]);
    assert_eq!(list(asks, &[("creator_user_id", &asks.account.to_string())]).len(), 2);
    assert_eq!(list(strange, &[("creator_user_id", &asks.account.to_string())]), [""; 0]);
    let page: types::GetRfqsResponse = floor.read(asks, "get_rfqs", &[], &[("limit", "1")]);
    let cursor = page.cursor.unwrap();
    let query = [("limit", "1"), ("cursor", cursor.as_str())];
    let page: types::GetRfqsResponse = floor.read(asks, "get_rfqs", &[], &query);
    assert_eq!((page.rfqs[0].id.as_str(), page.cursor.as_deref()), (first.as_str(), Some("")));
    assert_eq!(page.rfqs.len(), 1);

    let mut list = |caller: Principal, query: &[(&str, &str)]| -> Vec<String> {
        let page: types::GetQuotesResponse = floor.read(caller, "get_quotes", &[], query);
        page.quotes.into_iter().map(|quote| quote.id).collect()
    };
    let (made, asked) = (("user_filter", "self"), ("rfq_user_filter", "self"));
    assert_eq!(list(makes, &[made]), [new.as_str(), &old]);
    assert_eq!(list(asks, &[made]), [""; 0]);
    assert_eq!(list(asks, &[asked]), [new.as_str(), &old]);
    assert_eq!(list(strange, &[asked]), [""; 0]);
    assert_eq!(list(makes, &[made, ("status", "cancelled")]), [old.as_str()]);
    assert_eq!(list(makes, &[made, ("rfq_id", &second)]), [""; 0]);
    assert_eq!(list(makes, &[made, ("max_ts", "1790000009")]), [""; 0]);
    assert_eq!(list(makes, &[("quote_creator_user_id", &makes.account.to_string())]).len(), 2);
    assert_eq!(list(asks, &[("rfq_creator_user_id", &asks.account.to_string())]).len(), 2);
    assert_eq!(list(makes, &[("rfq_creator_user_id", &asks.account.to_string())]), [""; 0]);
    for query in [
        &[][..],
        &[("rfq_id", first.as_str())],
        &[("user_filter", "others")],
        &[made, ("status", "canceled")],
        &[made, ("limit", "501")],
        &[made, ("min_ts", "x")],
    ] {
        assert_eq!(floor.ask(makes, "get_quotes", &[], query, &Value::Null).status, 400);
    }
}

#[test]
fn a_request_has_one_size_and_no_unknown_fields() {
    let mut floor = Floor::new();
    let asks = floor.asks;
    let ticker = floor.tickers[0].clone();
    for more in [
        json!({}),
        json!({"contracts_fp": "1.00", "target_cost_dollars": "1.00"}),
        json!({"contracts": 1, "contracts_fp": "2.00"}),
        json!({"target_cost_centi_cents": 1, "target_cost_dollars": "1.00"}),
        json!({"contracts_fp": "0.001"}),
        json!({"contracts_fp": "-1"}),
        json!({"contracts": 0}),
        json!({"contracts": i64::MAX}),
        json!({"target_cost_dollars": "99999999999"}),
        json!({"contracts": 1, "rest_remainder": "yes"}),
        json!({"contracts": 1, "replace_existng": true}),
        json!({"contracts": 1, "market_ticker": "NONE"}),
        json!({"contracts": 1, "subaccount": 64}),
        json!({"contracts": 1, "subaccount": 5}),
        json!({"contracts": 1, "subtrader_id": "x"}),
        json!({"contracts": 1, "target_cost_excludes_fees": true}),
    ] {
        let mut body = json!({"market_ticker": ticker, "rest_remainder": false});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = floor.call(asks, "create_rfq", &[], &body);
        assert_eq!((reply.status, code(&reply)), (400, "invalid_parameters"), "{body}");
    }
    let rfq = floor.rfq(&json!({"target_cost_centi_cents": 100_000}));
    let shown: types::GetRfqResponse = floor.read(asks, "get_rfq", &[&rfq], &[]);
    assert_eq!(shown.rfq.target_cost_dollars, Dollars::from_dollars(10));
    let body = json!({"market_ticker": ticker, "rest_remainder": false, "contracts": 1});
    assert_eq!(floor.call(asks, "create_rfq", &[], &body).status, 409);
    // NO costs the requester 0.60 if the maker's YES bid of 0.40 is taken.
    let quote = floor.bid(&rfq);
    let quote = floor.quote(asks, &rfq, &quote);
    assert_eq!(quote.rfq_target_cost_dollars, Dollars::from_dollars(10));
    assert!(quote.yes_contracts_fp.unwrap() < quote.no_contracts_fp.unwrap());
}

#[test]
fn a_bound_key_touches_its_own_subaccount_only() {
    let mut floor = Floor::new();
    let rfq = floor.rfq(&json!({"contracts": 3}));
    let quote = floor.bid(&rfq);
    let bound = |caller: Principal, number| Principal { bound: Some(number), ..caller };
    let (asks, makes) = (bound(floor.asks, 1), bound(floor.makes, 1));
    let path = [rfq.as_str(), quote.as_str()];
    let accept = json!({"accepted_side": "yes"});
    assert_eq!(floor.call(asks, "get_rfq", &[&rfq], &Value::Null).status, 404);
    assert_eq!(floor.call(asks, "accept_rfq_quote", &path, &accept).status, 404);
    assert_eq!(floor.call(asks, "delete_rfq", &[&rfq], &Value::Null).status, 404);
    assert_eq!(floor.call(makes, "get_rfq_quote", &path, &Value::Null).status, 404);
    assert_eq!(floor.call(makes, "delete_rfq_quote", &path, &Value::Null).status, 404);
    let body = json!({
        "rfq_id": rfq, "yes_bid": "0.40", "no_bid": "0.50", "rest_remainder": false,
        "subaccount": 0,
    });
    assert_eq!(floor.call(makes, "create_quote", &[], &body).status, 403);
    let query = [("subaccount", "0")];
    assert_eq!(floor.ask(asks, "get_rfqs", &[], &query, &Value::Null).status, 403);
    let none: types::GetRfqsResponse = floor.read(asks, "get_rfqs", &[], &[]);
    assert_eq!(none.rfqs.len(), 0);
    let right = bound(floor.asks, 0);
    assert_eq!(floor.call(right, "accept_rfq_quote", &path, &accept).status, 204);
    let id = "get_block_trade_proposals";
    assert_eq!(floor.call(asks, id, &[], &Value::Null).status, 403);
}

#[test]
fn a_batch_goes_from_its_children_to_its_execution() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let combos = floor.combos(2);
    let mut body = Floor::batch_body(
        &combos,
        &json!({"client_batch_id": "mine", "target_cost_excludes_fees": true}),
    );
    body.as_object_mut().unwrap().remove("contracts_fp");
    body["target_cost_dollars"] = json!("6.00");
    body["children"][1]["target_cost_dollars"] = json!("12.00");
    let reply = floor.call(asks, "create_rfq_batch", &[], &body);
    assert_eq!(reply.status, 201, "{reply:?}");
    let batch = typed::<types::CreateRfqBatchResponse>(reply).rfq_batch;
    assert_eq!(batch.client_batch_id.as_deref(), Some("mine"));
    let costs = batch.rfqs.iter().map(|rfq| rfq.target_cost_dollars);
    assert!(costs.eq([Dollars::from_dollars(6), Dollars::from_dollars(12)]));
    let id = batch.id.as_str();
    let listed: types::GetRfqBatchesResponse = floor.read(strange, "get_rfq_batches", &[], &[]);
    assert_eq!((listed.rfq_batches.len(), &listed.rfq_batches[0].client_batch_id), (1, &None));

    let wrong = json!({"quotes": [], "rest_remainder": false});
    assert_eq!(floor.call(makes, "create_rfq_batch_quote", &[id], &wrong).status, 400);
    let quote = floor.price(makes, &batch, &["0.40", "0.40"]);
    let best: types::GetRfqBatchBestQuotesResponse =
        floor.read(asks, "get_rfq_batch_best_quotes", &[id], &[]);
    let best = best.best_quotes;
    assert_eq!((best.yes_complete, best.no_complete, best.version), (true, false, 1));
    assert_eq!(best.rfqs[1].yes_contracts_offered_fp, Some(Count::from_contracts(20).unwrap()));
    assert_eq!(best.rfqs[1].no_bid_dollars, None);

    let reply = floor.take(&batch, "0.40", &json!({"client_order_id": "all"}));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(typed::<types::AcceptRfqBatchResponse>(reply).quotes.len(), 2);
    let status = |floor: &mut Floor, caller| {
        let quotes = floor.batch_quotes(caller, id);
        quotes.into_iter().map(|quote| quote.status.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(status(&mut floor, makes), ["accepted"]);
    assert_eq!(status(&mut floor, strange), [""; 0]);
    assert_eq!(floor.confirm(strange, id, &quote).status, 404);
    assert_eq!(floor.confirm(makes, id, &quote).status, 204);
    assert_eq!(status(&mut floor, asks), ["confirmed"]);
    let path = [id, quote.as_str()];
    assert_eq!(floor.call(makes, "delete_rfq_batch_quote", &path, &Value::Null).status, 400);
    floor.wait(1);
    assert_eq!(status(&mut floor, asks), ["executed"]);
    let closed: types::GetRfqBatchResponse = floor.read(asks, "get_rfq_batch", &[id], &[]);
    assert_eq!(closed.rfq_batch.status.to_string(), "closed");
    assert_eq!(floor.call(asks, "delete_rfq_batch", &[id], &Value::Null).status, 404);
    let account = floor.state.engine.ledger.account(asks.account).unwrap();
    for id in ["all", "all:1"] {
        assert!(account.client_order_ids.contains_key(id), "{id}");
    }
}

#[test]
fn b1_the_combos_of_a_batch_have_six_distinct_legs_at_most() {
    let mut floor = Floor::new();
    let asks = floor.asks;
    let (collection, legs) = floor.legs(5);
    let of_market = |leg: &Value| leg["market_ticker"].as_str().unwrap().to_owned();
    let create = |floor: &mut Floor, children: &[Value]| {
        let body = json!({
            "children": children, "contracts_fp": "1.00", "mve_collection_ticker": collection,
        });
        floor.call(asks, "create_rfq_batch", &[], &body)
    };
    let combo = |of: &[usize]| {
        let legs: Vec<Value> = of.iter().map(|place| legs[*place].clone()).collect();
        json!({"selected_markets": legs})
    };
    // The other side of a market is another leg.
    let other_side = |of: &[usize]| {
        let mut combo = combo(of);
        for leg in combo["selected_markets"].as_array_mut().unwrap() {
            leg["side"] = json!("no");
        }
        combo
    };
    let six = [combo(&[0, 1, 2]), combo(&[2, 3, 4]), other_side(&[0, 1])];
    let reply = create(&mut floor, &six);
    assert_eq!((reply.status, code(&reply)), (400, "invalid_parameters"));
    assert_eq!(floor.state.engine.batches().count(), 0);
    let before = floor.state.engine.markets().len();
    let reply = create(&mut floor, &[six[0].clone(), six[1].clone()]);
    assert_eq!(reply.status, 201, "{reply:?}");
    let tickers: Vec<Value> = reply.body.unwrap()["rfq_batch"]["rfqs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rfq| json!({"market_ticker": rfq["market_ticker"]}))
        .collect();
    assert_eq!(floor.state.engine.markets().len(), before + 2, "both combos were made");
    // The legs of combos that are named by their tickers count as well.
    let mut named = tickers.clone();
    named.push(other_side(&[0, 1]));
    assert_eq!(create(&mut floor, &named).status, 400);
    for wrong in [&[][..], &tickers[..1], &vec![tickers[0].clone(); 58]] {
        assert_eq!(create(&mut floor, wrong).status, 400);
    }
    // A market that is no combo has no legs.
    let plain = json!({"market_ticker": of_market(&legs[0])});
    assert_eq!(create(&mut floor, &[tickers[0].clone(), plain]).status, 400);
    let both = json!({"market_ticker": "X", "selected_markets": []});
    for wrong in
        [json!({}), both, json!({"market_ticker": "NONE"}), json!({"selected_markets": []})]
    {
        assert_eq!(create(&mut floor, &[tickers[0].clone(), wrong]).status, 400);
    }
}

#[test]
fn b2_and_b3_a_third_batch_and_a_used_id_are_conflicts() {
    let mut floor = Floor::new();
    let asks = floor.asks;
    let combos = floor.combos(2);
    let first = floor.batch(&combos, &json!({"client_batch_id": "a"}));
    let again =
        Floor::batch_body(&combos, &json!({"client_batch_id": "a", "replace_existing": true}));
    let reply = floor.call(asks, "create_rfq_batch", &[], &again);
    assert_eq!((reply.status, code(&reply)), (409, "rfq_batch_already_exists"));
    floor.batch(&combos, &json!({"client_batch_id": "b"}));
    let third = Floor::batch_body(&combos, &json!({"client_batch_id": ""}));
    let reply = floor.call(asks, "create_rfq_batch", &[], &third);
    assert_eq!((reply.status, code(&reply)), (409, "too_many_rfq_batches"));
    let fcm = Principal { fcm_member: true, ..asks };
    let reply = floor.call(fcm, "create_rfq_batch", &[], &third);
    assert_eq!((reply.status, code(&reply)), (403, "rfq_batch_unavailable"));
    let quote = json!({"quotes": [], "rest_remainder": false});
    let reply = floor.call(fcm, "create_rfq_batch_quote", &[&first.id], &quote);
    assert_eq!((reply.status, code(&reply)), (403, "rfq_batch_unavailable"));
    floor.batch(&combos, &json!({"replace_existing": true, "client_batch_id": "x".repeat(64)}));
    let closed: types::GetRfqBatchResponse = floor.read(asks, "get_rfq_batch", &[&first.id], &[]);
    assert_eq!(closed.rfq_batch.close_reason.as_deref(), Some("replaced"));
}

#[test]
fn b4_legs_look_a_combo_up_or_make_it() {
    let mut floor = Floor::new();
    let asks = floor.asks;
    let (collection, legs) = floor.legs(3);
    let child = |a: usize, b: usize| json!({"selected_markets": [legs[a], legs[b]]});
    let mut body = json!({"children": [child(0, 1), child(1, 2)], "contracts_fp": "1.00"});
    let reply = floor.call(asks, "create_rfq_batch", &[], &body);
    assert_eq!(reply.status, 400, "the collection is missing");
    body["mve_collection_ticker"] = json!("NONE");
    assert_eq!(floor.call(asks, "create_rfq_batch", &[], &body).status, 400);
    body["mve_collection_ticker"] = json!(collection);
    let mut create = |body: &Value| {
        let reply = floor.call(asks, "create_rfq_batch", &[], body);
        assert_eq!(reply.status, 201, "{reply:?}");
        let batch = typed::<types::CreateRfqBatchResponse>(reply).rfq_batch;
        let tickers = batch.rfqs.iter().map(|rfq| rfq.market_ticker.clone());
        (batch.id, tickers.collect::<Vec<_>>(), batch.rfqs)
    };
    let (_, made, rfqs) = create(&body);
    assert!(made.iter().all(|ticker| ticker.starts_with("KXMVE")));
    assert_eq!(rfqs[0].mve_selected_legs.len(), 2);
    assert_eq!(rfqs[0].mve_collection_ticker.as_deref(), Some(collection.as_str()));
    // The same combos are found again, by their legs in another order and by their tickers.
    body["children"] = json!([child(1, 0), {"market_ticker": made[1]}]);
    let (_, found, _) = create(&body);
    assert_eq!(found, made);
    // Two children may not be one combo, however they are named.
    body["children"] = json!([child(1, 0), {"market_ticker": made[0]}]);
    body["replace_existing"] = json!(true);
    assert_eq!(floor.call(asks, "create_rfq_batch", &[], &body).status, 400);
    // What is in the way is told before a combo is made.
    body["children"] = json!([child(0, 2), {"market_ticker": made[0]}]);
    body["replace_existing"] = json!(false);
    let before = floor.state.engine.markets().len();
    assert_eq!(floor.call(asks, "create_rfq_batch", &[], &body).status, 409);
    assert_eq!(floor.state.engine.markets().len(), before);
    // The codes of combos that cannot be are handed on.
    body["children"] = json!([child(0, 0), {"market_ticker": made[1]}]);
    body["replace_existing"] = json!(true);
    let reply = floor.call(asks, "create_rfq_batch", &[], &body);
    assert_eq!((reply.status, code(&reply)), (400, "duplicated_legs"));
}

#[test]
fn b5_a_batch_is_sized_in_one_way_and_leaves_no_rest() {
    let mut floor = Floor::new();
    let asks = floor.asks;
    let combos = floor.combos(2);
    let mut create = |change: &dyn Fn(&mut Value)| {
        let mut body = Floor::batch_body(&combos, &json!({"replace_existing": true}));
        change(&mut body);
        floor.call(asks, "create_rfq_batch", &[], &body).status
    };
    assert_eq!(create(&|body| body["rest_remainder"] = json!(true)), 400);
    assert_eq!(create(&|body| body["rest_remainder"] = json!(false)), 201);
    assert_eq!(create(&|body| body["target_cost_dollars"] = json!("5.00")), 400);
    assert_eq!(create(&|body| body["target_cost_excludes_fees"] = json!(true)), 400);
    assert_eq!(create(&|body| body["target_cost_excludes_fees"] = json!(false)), 201);
    assert_eq!(create(&|body| body["contracts_fp"] = Value::Null), 400);
    assert_eq!(create(&|body| body["client_batch_id"] = json!("é".repeat(64))), 201);
    assert_eq!(create(&|body| body["client_batch_id"] = json!("é".repeat(65))), 400);
    assert_eq!(create(&|body| body["subtrader_id"] = json!("x")), 400);
    assert_eq!(create(&|body| body["subaccount"] = json!(5)), 400);
    assert_eq!(create(&|body| body["rest_remainer"] = json!(false)), 400);
    let on_child = |field: &'static str, value: Value| {
        move |body: &mut Value| body["children"][1][field] = value.clone()
    };
    assert_eq!(create(&on_child("contracts_fp", json!("3.00"))), 201);
    assert_eq!(create(&on_child("contracts_fp", Value::Null)), 201);
    assert_eq!(create(&on_child("target_cost_dollars", json!("3.00"))), 400);
    // Children sized by target cost cannot be combined with contracts of the batch, either.
    let all_by_cost = |body: &mut Value| {
        for child in body["children"].as_array_mut().unwrap() {
            child["target_cost_dollars"] = json!("3.00");
        }
    };
    assert_eq!(create(&all_by_cost), 400);
    let by_cost_alone = |body: &mut Value| {
        all_by_cost(body);
        body["contracts_fp"] = Value::Null;
        body["target_cost_excludes_fees"] = json!(true);
    };
    assert_eq!(create(&by_cost_alone), 201);
}

#[test]
fn b7_a_retry_of_an_accept_is_answered_with_the_first_answer() {
    let mut floor = Floor::new();
    let makes = floor.makes;
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    let quote = floor.price(makes, &batch, &["0.40", "0.50"]);
    let name = json!({"client_order_id": "mine"});
    let first = floor.take(&batch, "0.40", &name);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(floor.take(&batch, "0.40", &name), first);
    assert_eq!(floor.confirm(makes, &batch.id, &quote).status, 204);
    assert_eq!(floor.take(&batch, "0.40", &name), first, "confirmed meanwhile");
    floor.wait(1);
    assert_eq!(floor.take(&batch, "1.00", &name), first, "executed meanwhile");
    for other in [json!({}), json!({"client_order_id": "other"})] {
        let reply = floor.take(&batch, "0.40", &other);
        assert_eq!((reply.status, code(&reply)), (409, "rfq_batch_not_open"));
    }
}

#[test]
fn b8_a_best_bid_below_its_minimum_is_a_conflict_that_names_the_child() {
    let mut floor = Floor::new();
    let (makes, strange) = (floor.makes, floor.strange);
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    let changed = |reply: &Response| {
        assert_eq!((reply.status, code(reply)), (409, "rfq_batch_quotes_changed"));
        reply.body.as_ref().unwrap()["error"]["details"].as_str().unwrap().to_owned()
    };
    let reply = floor.take(&batch, "0.00", &json!({}));
    assert_eq!(changed(&reply), batch.rfqs[0].id, "there is no bid at all");
    floor.price(makes, &batch, &["0.41", "0.40"]);
    let reply = floor.take(&batch, "0.41", &json!({}));
    assert_eq!(changed(&reply), batch.rfqs[1].id);
    for least in ["-0.01", "1.01", "0.4", "x"] {
        assert_eq!(floor.take(&batch, least, &json!({})).status, 400, "{least}");
    }
    let id = batch.rfqs[0].id.clone();
    let rows =
        json!([{"rfq_id": id, "bid_dollars": "0.01"}, {"rfq_id": id, "bid_dollars": "0.01"}]);
    for rows in
        [json!([]), rows.clone(), json!([rows[0]]), json!([{"rfq_id": "x", "bid_dollars": "0.01"}])]
    {
        let reply = floor.take(&batch, "0.01", &json!({"min_bids": rows}));
        assert_eq!(reply.status, 400, "{rows}");
    }
    let body = json!({"accepted_side": "yes", "min_bids": rows});
    let reply = floor.call(strange, "accept_rfq_batch", &[&batch.id], &body);
    assert_eq!(reply.status, 403, "another member's");
    assert_eq!(floor.take(&batch, "0.40", &json!({})).status, 200);
}

#[test]
fn b9_a_late_confirmation_is_a_conflict() {
    let mut floor = Floor::new();
    let (makes, strange) = (floor.makes, floor.strange);
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    let first = floor.price(makes, &batch, &["0.41", "0.40"]);
    let second = floor.price(strange, &batch, &["0.40", "0.41"]);
    let reply = floor.confirm(makes, &batch.id, &first);
    assert_eq!((reply.status, code(&reply)), (409, "not_accepted"));
    assert_eq!(floor.take(&batch, "0.40", &json!({})).status, 200);
    assert_eq!(floor.confirm(makes, &batch.id, &first).status, 204);
    assert_eq!(floor.confirm(makes, &batch.id, &first).status, 409);
    floor.wait(3);
    let reply = floor.confirm(strange, &batch.id, &second);
    assert_eq!((reply.status, code(&reply)), (409, "expired"));
    assert_eq!(
        floor.state.engine.trades().iter().filter(|t| t.at == Time::from(floor.now)).count(),
        0
    );
    let row = floor.batch_quotes(makes, &batch.id).remove(0);
    assert_eq!(row.status.to_string(), "cancelled");
    let rows = json!({"quotes": [
        {"rfq_id": batch.rfqs[0].id, "yes_bid": "0.40", "no_bid": "0.00"},
        {"rfq_id": batch.rfqs[1].id, "yes_bid": "0.40", "no_bid": "0.00"},
    ], "rest_remainder": false});
    let reply = floor.call(makes, "create_rfq_batch_quote", &[&batch.id], &rows);
    assert_eq!((reply.status, code(&reply)), (409, "rfq_batch_not_open"));
}

#[test]
fn b10_bids_are_seen_by_their_makers_and_after_the_acceptance_by_the_requester() {
    let mut floor = Floor::new();
    let (asks, makes, strange) = (floor.asks, floor.makes, floor.strange);
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    let id = batch.id.as_str();
    let first = floor.price(makes, &batch, &["0.41", "0.40"]);
    floor.price(strange, &batch, &["0.40", "0.41"]);
    let shape = |floor: &mut Floor, caller| {
        let rows = floor.batch_quotes(caller, id).into_iter();
        rows.map(|row| row.quotes.len()).collect::<Vec<_>>()
    };
    let single = |floor: &mut Floor, caller, filter| {
        let query = [(filter, "self")];
        let page: types::GetQuotesResponse = floor.read(caller, "get_quotes", &[], &query);
        page.quotes.len()
    };
    assert_eq!(shape(&mut floor, asks), [0; 0]);
    assert_eq!(shape(&mut floor, makes), [2]);
    assert_eq!(single(&mut floor, asks, "rfq_user_filter"), 0);
    assert_eq!(single(&mut floor, makes, "user_filter"), 2);
    let best = |floor: &mut Floor| {
        let page: types::GetRfqBatchBestQuotesResponse =
            floor.read(asks, "get_rfq_batch_best_quotes", &[id], &[]);
        page.best_quotes
    };
    assert_eq!(best(&mut floor).rfqs.len(), 2);
    for other in [makes, strange, Principal { bound: Some(1), ..asks }] {
        let reply = floor.call(other, "get_rfq_batch_best_quotes", &[id], &Value::Null);
        assert_eq!(reply.status, 403);
    }
    assert_eq!(floor.take(&batch, "0.41", &json!({})).status, 200);
    assert_eq!(shape(&mut floor, asks), [1, 1]);
    assert_eq!(shape(&mut floor, makes), [1]);
    assert_eq!(single(&mut floor, asks, "rfq_user_filter"), 2);
    assert_eq!(single(&mut floor, makes, "user_filter"), 1);
    let won = floor.batch_quotes(makes, id).remove(0);
    assert_eq!((won.id.as_str(), &won.quotes[0].rfq_id), (first.as_str(), &batch.rfqs[0].id));
    let accepted = best(&mut floor);
    assert_eq!(
        (accepted.rfqs.len(), accepted.yes_complete, accepted.no_complete),
        (0, false, false)
    );
    assert_eq!(accepted.status.to_string(), "accepted");
}

#[test]
fn b11_an_accepted_batch_is_not_deleted() {
    let mut floor = Floor::new();
    let (asks, makes) = (floor.asks, floor.makes);
    let combos = floor.combos(2);
    let batch = floor.batch(&combos, &json!({}));
    floor.price(makes, &batch, &["0.41", "0.40"]);
    assert_eq!(floor.call(makes, "delete_rfq_batch", &[&batch.id], &Value::Null).status, 404);
    assert_eq!(floor.take(&batch, "0.40", &json!({})).status, 200);
    assert_eq!(floor.call(asks, "delete_rfq_batch", &[&batch.id], &Value::Null).status, 400);
    let rfq = batch.rfqs[0].id.as_str();
    assert_eq!(floor.call(asks, "delete_rfq", &[rfq], &Value::Null).status, 400);
}

#[test]
fn batches_are_listed_by_their_last_change_and_a_page_has_100_children_at_most() {
    let mut floor = Floor::new();
    let now = Time::from(floor.now);
    // Requests of the engine alone: there are not so many combos of six legs here.
    let tickers: Vec<String> = (0..57).map(|number| format!("KXMVETEST{number}")).collect();
    for ticker in &tickers {
        let band = kalshi_types::PriceRange {
            start: Dollars::ZERO,
            end: Dollars::ONE,
            step: Dollars::CENT,
        };
        let market = crate::engine::types::NewMarket {
            ticker: ticker.clone(),
            event_ticker: "E".to_owned(),
            series_ticker: "S".to_owned(),
            shard: 1,
            structure: "linear_cent".to_owned(),
            ranges: vec![band],
            fees: crate::engine::fees::Fees::default(),
            opens: now,
            closes: Time::from_millis(now.as_millis() + 1_000_000),
            settlement_timer_seconds: 1,
        };
        floor.state.engine.add_market(&market, now).unwrap();
    }
    let size = Size::Contracts(Count::ONE);
    let mut ids = Vec::new();
    let members = [floor.asks, floor.makes, floor.strange];
    for (place, children) in [50, 50, 1 + 1, 57, 57, 2].into_iter().enumerate() {
        floor.wait(1);
        let new = NewBatch {
            account: members[place / 2].account,
            subaccount: 0,
            obscured: false,
            replace_existing: false,
            client_batch_id: None,
            children: tickers[..children].iter().map(|ticker| (ticker.clone(), size)).collect(),
        };
        ids.push(floor.state.engine.create_batch(&new, Time::from(floor.now)).unwrap());
    }
    floor.wait(1);
    // The first one changes last.
    let asks = floor.asks;
    floor.state.engine.delete_batch(asks, ids[0], Time::from(floor.now)).unwrap();
    let expected = [0, 5, 4, 3, 2, 1].map(|place: usize| ids[place].to_string());
    for (limit, pages) in [("20", vec![2, 1, 2, 1]), ("1", vec![1; 6]), ("2", vec![2, 1, 2, 1])] {
        let (mut listed, mut sizes, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let query = [("limit", limit), ("cursor", cursor.as_str())];
            let page: types::GetRfqBatchesResponse =
                floor.read(asks, "get_rfq_batches", &[], &query);
            let children: usize = page.rfq_batches.iter().map(|batch| batch.rfqs.len()).sum();
            assert!(children <= 100);
            sizes.push(page.rfq_batches.len());
            listed.extend(page.rfq_batches.into_iter().map(|batch| batch.id));
            cursor = page.cursor.unwrap();
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!((listed.as_slice(), sizes), (&expected[..], pages), "{limit}");
    }
    let too_many = [("limit", "21")];
    assert_eq!(floor.ask(asks, "get_rfq_batches", &[], &too_many, &Value::Null).status, 400);
}

#[test]
fn a_block_trade_hides_each_party_from_the_other() {
    let mut floor = Floor::new();
    let (buys, sells, proposes) = (floor.asks, floor.makes, floor.strange);
    let body = json!({
        "buyer_user_id": buys.account.to_string(),
        "seller_user_id": sells.account.to_string(),
        "market_ticker": floor.tickers[0],
        "price_centi_cents": 4_321, "centicount": 250, "maker_side": "no",
        "expiration_ts": "2099-01-01T00:00:00Z",
    });
    for (field, value) in [
        ("buyer_user_id", json!("nobody")),
        ("seller_user_id", json!(buys.account.to_string())),
        ("market_ticker", json!("NONE")),
        ("price_centi_cents", json!(10_000)),
        ("price_centi_cents", json!(i64::MAX)),
        ("centicount", json!(-1)),
        ("centicount", json!(i64::MAX)),
        ("maker_side", json!("buyer")),
        ("expiration_ts", json!("2020-01-01T00:00:00Z")),
        ("expiration_ts", json!("soon")),
        ("buyer_subaccount", json!(64)),
        ("buyer_subtrader_id", json!("x")),
        ("price", json!("0.50")),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let reply = floor.call(proposes, "propose_block_trade", &[], &body);
        assert_eq!(reply.status, 400, "{field}: {reply:?}");
    }
    let reply = floor.call(proposes, "propose_block_trade", &[], &body);
    let id = typed::<types::ProposeBlockTradeResponse>(reply).block_trade_proposal_id;
    let accept = "accept_block_trade_proposal";
    assert_eq!(floor.call(proposes, accept, &[&id], &json!({})).status, 404);
    assert_eq!(floor.call(buys, accept, &[&id], &Value::Null).status, 204);
    assert_eq!(floor.call(sells, accept, &[&id], &json!({"subaccount": 0})).status, 204);
    let row = |floor: &mut Floor, caller| {
        let query = [("status", "executed")];
        let id = "get_block_trade_proposals";
        let page: types::GetBlockTradeProposalsResponse = floor.read(caller, id, &[], &query);
        page.block_trade_proposals.into_iter().next().unwrap()
    };
    let (bought, sold) = (row(&mut floor, buys), row(&mut floor, sells));
    assert_eq!(bought.buyer_user_id, buys.account.to_string());
    assert_eq!((bought.seller_user_id.as_str(), bought.proposer_user_id.as_str()), ("", ""));
    assert_eq!((sold.buyer_user_id.as_str(), &sold.buyer_order_id), ("", &None));
    assert!(bought.buyer_order_id.is_some() && bought.seller_order_id.is_none());
    assert!(sold.buyer_accepted && sold.seller_accepted && sold.executed_ts.is_some());
    let trade = floor.state.engine.trades().last().unwrap();
    assert_eq!((trade.block, trade.price), (true, Dollars::from_centi_cents(4_321).unwrap()));
    assert_eq!(trade.count, Count::from_hundredths(250));
}

#[test]
fn a_pause_is_told_as_a_bad_request() {
    let mut floor = Floor::new();
    let now = Time::from(floor.now);
    floor.state.engine.set_shard(0, true, false, now);
    let body = json!({"market_ticker": floor.tickers[0], "rest_remainder": false, "contracts": 1});
    let reply = floor.call(floor.asks, "create_rfq", &[], &body);
    assert_eq!((reply.status, code(&reply)), (400, "TRADING_PAUSED"));
}
