use chrono::{DateTime, TimeDelta, Utc};
use kalshi_sdk::{server::dispatch, types};
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::http::query::Query;

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
            for shard in [0, 2] {
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
            operation: id.parse().unwrap(),
            caller: Some(caller),
            subtrader: None,
            path: &path,
            query: &Query::new(query.collect()),
            body,
            now: self.now,
            pair: None,
        };
        self.state.advance(call.time());
        dispatch(call.operation, &mut self.state, &call).unwrap_or_else(|refused| refused)
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

    fn quote(&mut self, caller: Principal, rfq: &str, quote: &str) -> types::Quote {
        self.read::<types::GetQuoteResponse>(caller, "get_rfq_quote", &[rfq, quote], &[]).quote
    }
}

/// The body as the type of the document; nothing is lost on the way, so it has no unknown fields.
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
    assert_eq!((public.creator_id.as_str(), public.creator_user_id), ("0", None));
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
    floor.wait(15);
    let made = floor.quote(makes, &rfq, &quote);
    assert_eq!((made.rfq_creator_id.as_str(), &made.rfq_creator_user_id), ("0", &None));
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
    let body = json!({
        "children": [
            {"market_ticker": floor.tickers[0]},
            {"market_ticker": floor.tickers[1], "target_cost_dollars": "6.00"},
        ],
        "contracts_fp": "10.00", "client_batch_id": "mine", "target_cost_excludes_fees": true,
    });
    let reply = floor.call(asks, "create_rfq_batch", &[], &body);
    assert_eq!(reply.status, 201, "{reply:?}");
    let batch = typed::<types::CreateRfqBatchResponse>(reply).rfq_batch;
    assert_eq!(batch.client_batch_id.as_deref(), Some("mine"));
    assert_eq!(batch.rfqs[1].target_cost_dollars, Dollars::from_dollars(6));
    let id = batch.id.as_str();
    let listed: types::GetRfqBatchesResponse = floor.read(strange, "get_rfq_batches", &[], &[]);
    assert_eq!((listed.rfq_batches.len(), &listed.rfq_batches[0].client_batch_id), (1, &None));
    assert_eq!(floor.call(asks, "create_rfq_batch", &[], &body).status, 400);

    let rows: Vec<Value> = batch
        .rfqs
        .iter()
        .map(|rfq| json!({"rfq_id": rfq.id, "yes_bid": "0.40", "no_bid": "0.00"}))
        .collect();
    let body = json!({"quotes": rows, "rest_remainder": false});
    assert_eq!(floor.call(asks, "create_rfq_batch_quote", &[id], &body).status, 400);
    let reply = floor.call(makes, "create_rfq_batch_quote", &[id], &body);
    assert_eq!(reply.status, 201, "{reply:?}");
    let quote = typed::<types::CreateRfqBatchQuoteResponse>(reply).id;
    let best: types::GetRfqBatchBestQuotesResponse =
        floor.read(asks, "get_rfq_batch_best_quotes", &[id], &[]);
    let best = best.best_quotes;
    assert_eq!((best.yes_complete, best.no_complete, best.version), (true, false, 2));
    assert_eq!(best.rfqs[1].yes_contracts_offered_fp, Some(Count::from_contracts(10).unwrap()));
    assert_eq!(best.rfqs[1].no_bid_dollars, None);
    assert_eq!(floor.call(makes, "get_rfq_batch_best_quotes", &[id], &Value::Null).status, 404);

    let limits = |bid: &str| -> Value {
        let rows: Vec<Value> =
            batch.rfqs.iter().map(|rfq| json!({"rfq_id": rfq.id, "bid_dollars": bid})).collect();
        json!({"accepted_side": "yes", "min_bids": rows, "client_order_id": "all"})
    };
    assert_eq!(floor.call(asks, "accept_rfq_batch", &[id], &limits("0.41")).status, 400);
    assert_eq!(floor.call(makes, "accept_rfq_batch", &[id], &limits("0.40")).status, 404);
    let reply = floor.call(asks, "accept_rfq_batch", &[id], &limits("0.40"));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(typed::<types::AcceptRfqBatchResponse>(reply).quotes.len(), 2);
    let status = |floor: &mut Floor, caller| {
        let list: types::GetRfqBatchQuotesResponse =
            floor.read(caller, "get_rfq_batch_quotes", &[id], &[]);
        list.batch_quotes.into_iter().map(|quote| quote.status.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(status(&mut floor, makes), ["accepted"]);
    assert_eq!(status(&mut floor, strange), [""; 0]);
    let path = [id, quote.as_str()];
    assert_eq!(floor.call(strange, "confirm_rfq_batch_quote", &path, &Value::Null).status, 404);
    assert_eq!(floor.call(makes, "confirm_rfq_batch_quote", &path, &Value::Null).status, 204);
    assert_eq!(status(&mut floor, asks), ["confirmed"]);
    assert_eq!(floor.call(makes, "delete_rfq_batch_quote", &path, &Value::Null).status, 400);
    floor.wait(15);
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
