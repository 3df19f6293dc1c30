//! Goes over the operation table: every operation gets a sound request, and every answer is held
//! against the published document.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Method;
use kalshi_auth::{KeyType, Signer, SystemClock, server::KeyPair};
use kalshi_sdk::{
    OPERATIONS, Operation,
    operation::{Access, Parameter, Place},
};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::contract::Contract;

/// An exchange, a way to ask it anything, and what has been learned from its answers.
pub(crate) struct Walker {
    pub(crate) exchange: Exchange,
    /// The URL below which it asks: that of the Trade API, or that of the clearing house.
    pub(crate) base: String,
    http: reqwest::Client,
    signers: BTreeMap<Role, Signer>,
    pub(crate) facts: BTreeMap<String, String>,
}

/// One request of the walk. `{name}` in a query or body stands for a fact.
pub(crate) struct Step {
    operation: &'static Operation,
    /// Facts for path parameters that are not named like them.
    path: Vec<(&'static str, &'static str)>,
    query: String,
    body: Option<Value>,
    /// The facts to keep: the name of each, and its place in the answer.
    keep: Vec<(&'static str, &'static str)>,
    statuses: Vec<u16>,
    by: Role,
}

fn step(id: &str) -> Step {
    step_of(Operation::by_id(id).unwrap_or_else(|| panic!("there is no {id}")))
}

/// Returns a step of an operation of any document.
pub(crate) fn step_of(operation: &'static Operation) -> Step {
    let statuses = vec![operation.success];
    let by = if operation.tag == "fcm" { Role::FcmMember } else { Role::Trader };
    Step { operation, path: vec![], query: String::new(), body: None, keep: vec![], statuses, by }
}

impl Step {
    fn path(mut self, parameter: &'static str, fact: &'static str) -> Self {
        self.path.push((parameter, fact));
        self
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    pub(crate) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn keep(mut self, fact: &'static str, pointer: &'static str) -> Self {
        self.keep.push((fact, pointer));
        self
    }

    fn or(mut self, status: u16) -> Self {
        self.statuses.push(status);
        self
    }

    pub(crate) fn by(mut self, role: Role) -> Self {
        self.by = role;
        self
    }
}

impl Walker {
    pub(crate) async fn start() -> Self {
        let exchange = Exchange::start().await.expect("it starts");
        let signers = [Role::Trader, Role::Maker, Role::FcmMember]
            .into_iter()
            .map(|role| {
                let credentials = exchange.credentials(role).expect("it has a key").clone();
                (role, Signer::new(credentials, Arc::new(SystemClock)))
            })
            .collect();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("it is sound");
        let base = exchange.base_url().to_owned();
        let mut walker = Self { exchange, base, http, signers, facts: BTreeMap::new() };
        walker.learn().await;
        walker
    }

    /// Finds out what there is to ask for.
    async fn learn(&mut self) {
        for (place, query, found) in [
            (
                "/markets",
                "status=open&limit=6",
                &[
                    ("ticker", "/markets/0/ticker"),
                    ("event_ticker", "/markets/0/event_ticker"),
                    ("other_ticker", "/markets/1/ticker"),
                    ("third_ticker", "/markets/2/ticker"),
                    ("fourth_ticker", "/markets/3/ticker"),
                    ("fifth_ticker", "/markets/4/ticker"),
                    ("sixth_ticker", "/markets/5/ticker"),
                ][..],
            ),
            ("/historical/markets", "limit=1", &[("archived", "/markets/0/ticker")][..]),
            (
                "/milestones",
                "limit=1&type=basketball_game",
                &[("milestone_id", "/milestones/0/id"), ("type", "/milestones/0/type")][..],
            ),
            (
                "/structured_targets",
                "page_size=1",
                &[("structured_target_id", "/structured_targets/0/id")][..],
            ),
            (
                "/events",
                "series_ticker=KXSIMCOIN&status=open&limit=1",
                &[("coin_event", "/events/0/event_ticker")][..],
            ),
            (
                "/multivariate_event_collections",
                "status=open&series_ticker=KXMVESIMCROSS&limit=1",
                &[
                    ("collection_ticker", "/multivariate_contracts/0/collection_ticker"),
                    ("leg_event", "/multivariate_contracts/0/associated_events/0/ticker"),
                    ("other_leg_event", "/multivariate_contracts/0/associated_events/1/ticker"),
                ][..],
            ),
        ] {
            let (status, body) = self.ask(&Method::GET, place, query, None, None).await;
            assert_eq!(status, 200, "{place} {body:?}");
            self.learn_from(found, body.as_ref());
        }
        let event = format!("/events/{}", self.facts["event_ticker"]);
        let (_, body) = self.ask(&Method::GET, &event, "", None, None).await;
        self.learn_from(&[("series_ticker", "/event/series_ticker")], body.as_ref());
        for (event, leg) in [("leg_event", "leg"), ("other_leg_event", "other_leg")] {
            let query = format!("event_ticker={}&limit=1", self.facts[event]);
            let (_, body) = self.ask(&Method::GET, "/markets", &query, None, None).await;
            self.learn_from(&[(leg, "/markets/0/ticker")], body.as_ref());
        }
        let now = kalshi_auth::Clock::now(&SystemClock).as_millis() / 1_000;
        for (fact, value) in [("start", now - 7_200), ("end", now), ("later", now + 86_400)] {
            self.facts.insert(fact.to_owned(), value.to_string());
        }
        self.facts.insert("city".to_owned(), "miami".to_owned());
        let pem = KeyPair::generate(KeyType::Ed25519).expect("there are random numbers");
        let pem = pem.public_key().to_pem();
        self.facts.insert("public_key".to_owned(), pem);
    }

    pub(crate) fn learn_from(&mut self, found: &[(&str, &str)], body: Option<&Value>) {
        for (fact, pointer) in found {
            let value = body.and_then(|body| body.pointer(pointer)).and_then(Value::as_str);
            if let Some(value) = value {
                self.facts.insert((*fact).to_owned(), value.to_owned());
            }
        }
    }

    /// Replaces `{name}` by the fact of that name, in text.
    fn filled(&self, text: &str) -> String {
        self.facts.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// Fills the placeholders in every text of a body.
    fn filled_body(&self, body: &Value) -> Value {
        match body {
            Value::String(text) => self.filled(text).into(),
            Value::Array(list) => list.iter().map(|value| self.filled_body(value)).collect(),
            Value::Object(map) => {
                map.iter().map(|(name, value)| (name.clone(), self.filled_body(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Returns the path of a step, with its parameters; those that nothing is known of are kept.
    fn path(&self, step: &Step) -> String {
        let part = |part: &str| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
            None => part.to_owned(),
            Some(name) => {
                let other = step.path.iter().find(|(parameter, _)| *parameter == name);
                let fact = other.map_or(name, |(_, fact)| fact);
                self.facts.get(fact).cloned().unwrap_or_else(|| "unknown".to_owned())
            }
        };
        step.operation.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    pub(crate) async fn take(&mut self, step: &Step) -> (u16, Option<Value>) {
        let path = self.path(step);
        let query = self.filled(&step.query);
        let body = step.body.as_ref().map(|body| self.filled_body(body));
        let signed = (step.operation.access != Access::Public).then_some(step.by);
        let method = &step.operation.method;
        let (status, body) = self.ask(method, &path, &query, body.as_ref(), signed).await;
        self.learn_from(&step.keep, body.as_ref());
        (status, body)
    }

    /// Sends a request, signed by the key of a role, or with its token at the clearing house.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: Option<&Value>,
        signed: Option<Role>,
    ) -> (u16, Option<Value>) {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base)).expect("a URL");
        if !query.is_empty() {
            url.set_query(Some(query));
        }
        let path = url.path().to_owned();
        let mut request = self.http.request(method.clone(), url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let mut request = request.build().expect("it is sound");
        if let Some(role) = signed.filter(|_| self.base == self.exchange.klear().base_url()) {
            let token = self.exchange.klear().token(role).expect("it has a token");
            let value = format!("Bearer {}:{}", token.admin_user_id(), token.access_token());
            request.headers_mut().insert("authorization", value.parse().expect("a value"));
        } else if let Some(role) = signed {
            let headers = self.signers[&role].sign(method.as_str(), &path).expect("it signs");
            headers.insert_into(request.headers_mut());
        }
        let response = self.http.execute(request).await.expect("it answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("it is whole");
        if text.is_empty() {
            return (status, None);
        }
        (status, Some(serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))))
    }
}

/// Returns a sound request for each operation, in an order in which each finds what it needs.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps = public_steps();
    steps.extend(account_steps());
    steps.extend(order_steps());
    steps.extend(communication_steps());
    steps
}

fn public_steps() -> Vec<Step> {
    let range = "start_ts={start}&end_ts={end}&period_interval=60";
    vec![
        step("get_exchange_status"),
        step("get_exchange_schedule"),
        step("get_user_data_timestamp"),
        step("get_account_endpoint_costs"),
        step("get_series_list"),
        step("get_series"),
        step("get_series_fee_changes").query("show_historical=true"),
        step("get_events").query("with_nested_markets=true&with_milestones=true&limit=5"),
        step("get_event").query("with_nested_markets=true"),
        step("get_event_metadata"),
        step("get_event_fee_changes"),
        step("get_markets"),
        step("get_market"),
        step("get_market_orderbook"),
        step("get_market_orderbooks").query("tickers={ticker}&tickers={other_ticker}"),
        step("get_trades"),
        step("get_market_candlesticks").query(range),
        step("get_market_candlesticks_by_event").path("ticker", "event_ticker").query(range),
        step("batch_get_market_candlesticks")
            .query(&format!("market_tickers={{ticker}},{{other_ticker}}&{range}")),
        step("get_event_forecast_percentiles_history")
            .path("ticker", "event_ticker")
            .query(&format!("percentiles=1000&percentiles=5000&percentiles=9000&{range}")),
        step("get_live_datas")
            .query("milestone_ids={milestone_id}&milestone_ids=none&include_player_stats=true"),
        step("get_live_data_by_milestone").query("include_player_stats=true"),
        step("get_live_data"),
        step("get_game_stats"),
        step("get_event_live_data").path("event_ticker", "coin_event").query("range=1d"),
        step("get_weather_index").query("detailed=true&last_sec=7200"),
        step("get_weather_index_calibrations"),
        step("get_milestones").query("limit=500"),
        step("get_milestone"),
        step("get_structured_targets").query("page_size=2000"),
        step("get_structured_target"),
        step("get_filters_for_sports"),
        step("get_tags_for_series_categories"),
        step("get_incentive_programs").query("limit=10000"),
        step("get_historical_cutoff"),
        step("get_historical_markets").query("limit=1000"),
        step("get_historical_market").path("ticker", "archived"),
        step("get_market_candlesticks_historical")
            .path("ticker", "archived")
            .query("start_ts=0&end_ts={end}&period_interval=60"),
        step("get_trades_historical").query("limit=1000"),
    ]
}

fn account_steps() -> Vec<Step> {
    let legs = json!([
        {"market_ticker": "{leg}", "event_ticker": "{leg_event}", "side": "yes"},
        {"market_ticker": "{other_leg}", "event_ticker": "{other_leg_event}", "side": "no"},
    ]);
    vec![
        step("get_account_api_limits"),
        step("get_account_api_usage_level_volume_progress"),
        // It takes an order through the API.
        step("upgrade_account_api_usage_level").body(json!({})).or(403),
        step("create_api_key")
            .body(json!({"name": "walk", "public_key": "{public_key}"}))
            .keep("api_key", "/api_key_id"),
        step("generate_api_key").body(json!({"name": "walk", "key_type": "ed25519"})),
        step("get_api_keys"),
        step("delete_api_key"),
        step("get_multivariate_event_collections"),
        step("get_multivariate_event_collection"),
        step("create_market_in_multivariate_event_collection")
            .body(json!({"selected_markets": legs, "with_market_payload": true}))
            .keep("combo", "/market_ticker"),
        step("get_multivariate_events").query("with_nested_markets=true"),
        step("get_fills_historical").query("limit=1000"),
        step("get_historical_orders").query("limit=1000"),
        step("get_historical_positions").query("limit=1000"),
        step("list_fcm_subtraders")
            .keep("subtrader", "/subtraders/0/subtrader_id")
            .keep("other_subtrader", "/subtraders/1/subtrader_id"),
        step("create_fcm_subtrader").body(json!({"subtrader_suffix": "walk1"})),
        step("update_fcm_subtrader_blocked_categories")
            .body(json!({"subtrader_id": "{subtrader}", "category": "Sports", "blocked": true})),
        step("get_fcm_subtrader_blocked_categories").query("subtrader_id={subtrader}"),
        step("update_fcm_event_contract_daily_cap")
            .body(json!({"subtrader_id": "{subtrader}", "limit": "100.0000"})),
        step("get_fcm_event_contract_daily_cap").query("subtrader_id={subtrader}"),
        step("delete_fcm_event_contract_daily_cap").query("subtrader_id={subtrader}"),
        step("get_fcm_orders").query("subtrader_id={subtrader}"),
        step("get_fcm_fills"),
        step("get_fcm_positions")
            .query("subtrader_id={subtrader}")
            .keep("fcm_ticker", "/market_positions/0/ticker"),
        // Whether the subtrader holds YES or NO depends on the seed.
        step("create_fcm_position_transfer")
            .body(json!({
                "source_subtrader_id": "{subtrader}",
                "target_subtrader_id": "{other_subtrader}",
                "market_ticker": "{fcm_ticker}",
                "position_centicount": 100,
                "price_centicents": 5_000,
            }))
            .or(400),
    ]
}

fn order_steps() -> Vec<Step> {
    let order = |client: &str| {
        json!({
            "ticker": "{ticker}",
            "client_order_id": client,
            "side": "bid",
            "count": "5.00",
            "price": "0.0100",
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "taker_at_cross",
        })
    };
    // One that trades, so that fills and positions have a row; and a double, which fails.
    let mut crossing = order("walk-3");
    crossing["price"] = json!("0.9900");
    crossing["time_in_force"] = json!("immediate_or_cancel");
    vec![
        step("get_balance"),
        step("create_order_group")
            .body(json!({"contracts_limit": 100}))
            .keep("order_group_id", "/order_group_id"),
        step("get_order_groups"),
        step("get_order_group"),
        step("update_order_group_limit").body(json!({"contracts_limit": 200})),
        step("trigger_order_group").body(json!({})),
        step("reset_order_group").body(json!({})),
        step("delete_order_group"),
        step("create_order_v2").body(order("walk-1")).keep("order_id", "/order_id"),
        step("batch_create_orders_v2")
            .body(json!({"orders": [order("walk-2"), order("walk-1"), crossing]}))
            .keep("batched_id", "/orders/0/order_id"),
        step("get_orders"),
        step("get_order"),
        step("get_order_queue_position"),
        step("get_order_queue_positions").query("market_tickers={ticker}"),
        step("get_portfolio_resting_order_total_value").by(Role::FcmMember),
        step("amend_order_v2")
            .body(json!({"ticker": "{ticker}", "side": "bid", "price": "0.0200", "count": "4.00"})),
        step("decrease_order_v2").body(json!({"reduce_by": "1.00"})),
        step("cancel_order_v2"),
        step("batch_cancel_orders_v2").body(json!({"orders": [{"order_id": "{batched_id}"}]})),
        step("cancel_all_orders"),
        step("get_fills"),
        step("get_positions"),
        step("get_settlements"),
        step("get_deposits"),
        step("get_withdrawals"),
        step("create_subaccount").body(json!({})),
        step("get_subaccount_balances"),
        step("apply_subaccount_transfer").body(json!({
            "client_transfer_id": "22222222-0000-4000-8000-000000000000",
            "from_subaccount": 0,
            "to_subaccount": 1,
            "amount_cents": 100,
        })),
        step("get_subaccount_transfers"),
        step("get_subaccount_netting"),
        step("update_subaccount_netting").body(json!({"subaccount_number": 1, "enabled": true})),
        step("intra_exchange_instance_transfer")
            .body(json!({
                "source": "event_contract",
                "destination": "event_contract",
                "amount": 10_000,
                "source_exchange_shard": 0,
                "destination_exchange_shard": 1,
            }))
            .keep("transfer_id", "/transfer_id"),
        step("get_intra_exchange_instance_transfers"),
        step("get_intra_exchange_instance_transfer"),
        step("get_target_balance_allocation"),
        step("set_target_balance_allocation").body(json!({"allocations": [
            {"exchange_index": 0, "percent": 60},
            {"exchange_index": 1, "percent": 40},
        ]})),
    ]
}

/// Returns a batch of two combos, which are made of the legs that there are.
fn rfq_batch() -> Step {
    let leg = json!({"market_ticker": "{leg}", "event_ticker": "{leg_event}", "side": "yes"});
    let other = |side: &str| {
        json!({
            "market_ticker": "{other_leg}",
            "event_ticker": "{other_leg_event}",
            "side": side,
        })
    };
    step("create_rfq_batch")
        .body(json!({
            "mve_collection_ticker": "{collection_ticker}",
            "children": [
                {"selected_markets": [leg, other("yes")], "contracts_fp": "10.00"},
                {"selected_markets": [leg, other("no")], "contracts_fp": "10.00"},
            ],
        }))
        .keep("rfq_batch_id", "/rfq_batch/id")
        .keep("child", "/rfq_batch/rfqs/0/id")
        .keep("other_child", "/rfq_batch/rfqs/1/id")
}

/// Bids on both children of the batch.
fn rfq_batch_quote() -> Step {
    step("create_rfq_batch_quote")
        .body(json!({
            "quotes": [
                {"rfq_id": "{child}", "yes_bid": "0.4000", "no_bid": "0.5000"},
                {"rfq_id": "{other_child}", "yes_bid": "0.4000", "no_bid": "0.5000"},
            ],
            "rest_remainder": false,
        }))
        .keep("batch_quote_id", "/id")
        .by(Role::Maker)
}

fn communication_steps() -> Vec<Step> {
    let rfq = |ticker: &str| {
        let body =
            json!({"market_ticker": ticker, "contracts_fp": "10.00", "rest_remainder": false});
        step("create_rfq").body(body).keep("rfq_id", "/id")
    };
    let quote = || {
        let body = json!({
            "rfq_id": "{rfq_id}",
            "yes_bid": "0.4000",
            "no_bid": "0.5000",
            "rest_remainder": false,
        });
        step("create_quote").body(body).keep("quote_id", "/id").by(Role::Maker)
    };
    let accept = json!({"accepted_side": "yes"});
    vec![
        step("get_communications_id").keep("communications_id", "/communications_id"),
        rfq("{ticker}"),
        step("get_rfqs"),
        step("get_rfq"),
        quote(),
        step("get_quotes").query("user_filter=self").by(Role::Maker),
        step("get_quote"),
        step("get_rfq_quote"),
        step("accept_rfq_quote").body(accept.clone()),
        step("confirm_rfq_quote").body(json!({})).by(Role::Maker),
        rfq("{other_ticker}"),
        quote(),
        step("accept_quote").body(accept),
        step("confirm_quote").body(json!({})).by(Role::Maker),
        rfq("{third_ticker}"),
        quote(),
        step("delete_rfq_quote").by(Role::Maker),
        quote(),
        step("delete_quote").by(Role::Maker),
        step("delete_rfq"),
        rfq_batch(),
        step("get_rfq_batches"),
        step("get_rfq_batch"),
        rfq_batch_quote(),
        step("delete_rfq_batch_quote").by(Role::Maker),
        rfq_batch_quote(),
        step("get_rfq_batch_quotes"),
        step("get_rfq_batch_best_quotes"),
        step("accept_rfq_batch").body(json!({
            "accepted_side": "yes",
            "min_bids": [
                {"rfq_id": "{child}", "bid_dollars": "0.4000"},
                {"rfq_id": "{other_child}", "bid_dollars": "0.4000"},
            ],
        })),
        step("confirm_rfq_batch_quote").body(json!({})).by(Role::Maker),
        rfq_batch(),
        step("delete_rfq_batch"),
        step("create_order_v2").by(Role::Maker).body(json!({
            "ticker": "{ticker}",
            "side": "bid",
            "count": "1.00",
            "price": "0.0100",
            "time_in_force": "good_till_canceled",
            "self_trade_prevention_type": "maker",
        })),
        step("get_orders").keep("buyer", "/orders/0/user_id"),
        step("get_orders").by(Role::Maker).keep("seller", "/orders/0/user_id"),
        step("propose_block_trade")
            .body(json!({
                "buyer_user_id": "{buyer}",
                "seller_user_id": "{seller}",
                "market_ticker": "{ticker}",
                "price_centi_cents": 5_000,
                "centicount": 1_000,
                "maker_side": "yes",
                "expiration_ts": "2099-01-01T00:00:00Z",
            }))
            .keep("block_trade_proposal_id", "/block_trade_proposal_id"),
        step("get_block_trade_proposals"),
        step("accept_block_trade_proposal").body(json!({})),
    ]
}

/// A document, and the requests that are sent to each of its operations.
pub(crate) struct Document {
    pub(crate) contract: Contract,
    pub(crate) operations: &'static [Operation],
    pub(crate) steps: Vec<Step>,
    /// What makes rows of the lists.
    pub(crate) preparation: Vec<Step>,
    /// Lists with pages.
    pub(crate) lists: usize,
}

fn events() -> Document {
    Document {
        contract: Contract::load(),
        operations: OPERATIONS,
        steps: steps(),
        preparation: account_steps().into_iter().chain(order_steps()).collect(),
        lists: 13,
    }
}

#[tokio::test]
async fn every_operation_answers_a_sound_request_as_published() {
    walk(&mut Walker::start().await, events()).await;
}

/// Sends the requests of a document and validates the answers.
pub(crate) async fn walk(walker: &mut Walker, document: Document) {
    let Document { mut contract, operations, steps, .. } = document;
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for step in &steps {
        let id = step.operation.id;
        seen.insert(id);
        let (status, body) = walker.take(step).await;
        if !step.statuses.contains(&status) {
            wrong.push(format!("{id}: {status} {body:?}"));
        } else if let Err(difference) = contract.check(step.operation, status, body.as_ref()) {
            wrong.push(format!("{id}: {difference}"));
        }
    }
    let all: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(seen, all, "each operation is taken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn lists_page_through_all_rows_once_and_refuse_bad_limits_and_cursors() {
    page_through(&mut Walker::start().await, events()).await;
}

/// Reads every list of a document in pages.
pub(crate) async fn page_through(walker: &mut Walker, document: Document) {
    let Document { mut contract, steps, preparation, lists: most, .. } = document;
    for step in &preparation {
        walker.take(step).await;
    }
    let mut lists = 0;
    let mut taken = BTreeSet::new();
    // Each operation once, by the member who asks first.
    for step in steps.iter().filter(|step| taken.insert(step.operation.id)) {
        let operation = step.operation;
        let Some(pagination) = operation.pagination else { continue };
        let parameter = |name: &str| operation.parameters.iter().any(|p| p.name == name);
        let key = if parameter("page_size") { "page_size" } else { "limit" };
        if !parameter(key) || ["communications", "fcm"].contains(&operation.tag) {
            continue;
        }
        lists += 1;
        let path = walker.path(step);
        let signed = (operation.access != Access::Public).then_some(step.by);
        // What the list needs to be asked at all.
        let is_needed = |p: &Parameter| p.required && p.place == Place::Query && p.name != key;
        let needs = operation.parameters.iter().any(is_needed);
        let needed = if needs { walker.filled(&step.query) + "&" } else { String::new() };
        let ask = async |query: &str| {
            let query = format!("{needed}{query}");
            walker.ask(&operation.method, &path, &query, None, signed).await
        };
        let rows = |body: &Value| body[pagination.items].as_array().cloned().unwrap_or_default();
        // The largest page there is: half of what is refused first.
        let mut most = 16_384;
        let whole = loop {
            let (status, body) = ask(&format!("{key}={most}")).await;
            if status == 200 {
                break body.expect("a page");
            }
            assert_eq!(status, 400, "{}", operation.id);
            most /= 2;
        };
        let first = rows(&whole);
        assert!(!first.is_empty(), "{} lists nothing", operation.id);
        let size = (first.len() / 3).max(1);
        let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (status, body) = ask(&format!("{key}={size}&cursor={cursor}")).await;
            let body = body.expect("a page");
            assert_eq!(status, 200, "{} {body}", operation.id);
            contract
                .check(operation, status, Some(&body))
                .unwrap_or_else(|difference| panic!("{}: {difference}", operation.id));
            let page = rows(&body);
            assert!(page.len() <= size, "{}", operation.id);
            all.extend(page);
            pages += 1;
            match body[pagination.cursor].as_str() {
                None | Some("") => break,
                Some(next) => next.clone_into(&mut cursor),
            }
        }
        assert!(pages >= 3 || first.len() < 3, "{}: {pages} pages", operation.id);
        assert_eq!(all[..first.len()], first, "{}", operation.id);
        let different: BTreeSet<String> = all.iter().map(Value::to_string).collect();
        assert_eq!(different.len(), all.len(), "{} gives a row twice", operation.id);
        for query in ["-1", "1000000", "x"].map(|limit| format!("{key}={limit}")) {
            let (status, body) = ask(&query).await;
            assert_eq!(status, 400, "{} {query}", operation.id);
            contract.check(operation, status, body.as_ref()).expect("as published");
        }
        let (status, _) = ask(&format!("{key}=1&cursor=%25%25")).await;
        assert_eq!(status, 400, "{} and a bad cursor", operation.id);
    }
    assert!(lists >= most, "{lists}");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_what_is_not_signed_is_not_answered() {
    look_for_nothing(&mut Walker::start().await, events()).await;
}

/// Asks for what does not exist, and without a signature.
pub(crate) async fn look_for_nothing(walker: &mut Walker, document: Document) {
    let Document { mut contract, steps, .. } = document;
    let known = walker.facts.clone();
    for step in &steps {
        let operation = step.operation;
        if ["communications", "fcm"].contains(&operation.tag) {
            continue;
        }
        let query = walker.filled(&step.query);
        let body = step.body.as_ref().map(|body| walker.filled_body(body));
        if operation.access != Access::Public {
            let path = walker.path(step);
            let method = &operation.method;
            let (status, reply) = walker.ask(method, &path, &query, body.as_ref(), None).await;
            assert_eq!(status, 401, "{}", operation.id);
            contract.check(operation, status, reply.as_ref()).expect("as published");
        }
        if operation.path.contains('{') {
            walker.facts.clear();
            let path = walker.path(step);
            walker.facts.clone_from(&known);
            let signed = (operation.access != Access::Public).then_some(step.by);
            let method = &operation.method;
            let (status, reply) = walker.ask(method, &path, &query, body.as_ref(), signed).await;
            // The weather answers 400 for a city that it does not know.
            let expected = if path.contains("/weather/") { 400 } else { 404 };
            assert_eq!(status, expected, "{} {reply:?}", operation.id);
            contract.check(operation, status, reply.as_ref()).expect("as published");
        }
    }
}
