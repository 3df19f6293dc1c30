//! Futures commission merchants: subtraders, their caps, blocks, orders, fills and positions, and
//! transfers between them. Everybody else gets 403.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use chrono::{DateTime, Duration, Utc};
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    families::{
        Account, MarketMaker,
        dice::Dice,
        historical::bounds,
        ledger::{Holding, ONE, event_wire, taker_fee},
    },
    query::{Paging, Query},
    reply::{Outcome, Reply},
    state::Call,
};

/// How long a new subtrader takes to reach all shards.
const PROPAGATION: Duration = Duration::seconds(5);
/// Transfers within a second. The exchange's own limit is not documented.
const TRANSFERS: usize = 10;
/// More than a firm would have; a limit, so that memory has one.
const MAX_SUBTRADERS: usize = 10_000;
/// 10⁻⁴ dollars in micro-dollars.
const CENTI_CENT: i64 = 100;

/// All firms, by user id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fcm {
    firms: BTreeMap<String, Firm>,
    dice: Dice,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Firm {
    subtraders: BTreeMap<String, Subtrader>,
    /// The newest first.
    orders: Vec<Order>,
    fills: Vec<Fill>,
    /// The transfers of the last second.
    transfers: VecDeque<DateTime<Utc>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Subtrader {
    created: DateTime<Utc>,
    blocked: BTreeSet<String>,
    cap: Option<Dollars>,
    /// By market.
    holdings: BTreeMap<String, Holding>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    client_id: String,
    subtrader: String,
    ticker: String,
    event: String,
    exchange_index: i64,
    bid: bool,
    /// YES, 10⁻⁴ dollars.
    price: i64,
    initial: i64,
    filled: i64,
    taker: bool,
    fee: i64,
    status: Cow<'static, str>,
    at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fill {
    id: String,
    ticker: String,
    exchange_index: i64,
    taker_yes: bool,
    count: i64,
    price: i64,
    at: DateTime<Utc>,
    /// The ids of the order and of the subtrader, and the fee; nothing if it is not the firm's.
    maker: Option<(String, String, i64)>,
    taker: Option<(String, String, i64)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSubtrader {
    subtrader_suffix: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    subtrader_id: String,
    category: String,
    blocked: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cap {
    subtrader_id: String,
    limit: Dollars,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    source_subtrader_id: String,
    target_subtrader_id: String,
    market_ticker: String,
    position_centicount: i64,
    price_centicents: i64,
}

impl Fcm {
    /// Gives one firm three subtraders that have traded in the open markets.
    pub(crate) fn new(seed: u64, start: DateTime<Utc>, firm: &str, markets: &[Value]) -> Self {
        let mut dice = Dice::new(seed, "fcm");
        let mut made = Firm::default();
        for suffix in ["alpha", "beta", "gamma"] {
            made.subtraders.insert(
                format!("{firm}_{suffix}"),
                Subtrader {
                    cap: Dollars::from_dollars(10_000),
                    ..Subtrader::new(start - Duration::days(60))
                },
            );
        }
        let ids: Vec<String> = made.subtraders.keys().cloned().collect();
        for market in markets.iter().filter(|market| market["status"] == "active") {
            made.seed_market(&ids, market, &mut dice, start);
        }
        made.orders.sort_by_key(|order| std::cmp::Reverse(order.at));
        made.fills.sort_by_key(|fill| std::cmp::Reverse(fill.at));
        Self { firms: BTreeMap::from([(firm.to_owned(), made)]), dice }
    }

    /// Answers an operation of the family; nothing for any other.
    pub(crate) fn handle(
        &mut self,
        account: &Account<'_>,
        call: &Call<'_>,
        markets: &dyn MarketMaker,
        series: &[Value],
        now: DateTime<Utc>,
    ) -> Option<Outcome> {
        if !account.fcm_member {
            return Some(Err(Reply::forbidden("this endpoint is for FCM members")));
        }
        let firm = self.firms.entry(account.id.to_owned()).or_default();
        let (query, body) = (call.query, call.body);
        Some(match call.operation.id {
            "list_fcm_subtraders" => Ok(firm.list(now)),
            "create_fcm_subtrader" => firm.create(account.id, body, now),
            "get_fcm_subtrader_blocked_categories" => firm.blocked(query),
            "update_fcm_subtrader_blocked_categories" => firm.block(body, series),
            "get_fcm_event_contract_daily_cap" => firm.cap(query, now),
            "update_fcm_event_contract_daily_cap" => firm.set_cap(body),
            "delete_fcm_event_contract_daily_cap" => firm.delete_cap(query),
            "get_fcm_orders" => firm.orders(query),
            "get_fcm_fills" => firm.fills(query),
            "get_fcm_positions" => firm.positions(query, markets),
            "create_fcm_position_transfer" => {
                let id = self.dice.id();
                firm.transfer(body, markets, &id, now)
            }
            _ => return None,
        })
    }
}

impl Firm {
    fn list(&self, now: DateTime<Utc>) -> Reply {
        let rows: Vec<Value> = self
            .subtraders
            .iter()
            .map(|(id, row)| {
                let pending = row.pending(now);
                json!({
                    "subtrader_id": id,
                    "exchange_indices": if pending { vec![0] } else { vec![0, 1, 2, 3] },
                    "trading_blocked": false,
                    "fcm_trading_blocked": false,
                    "propagation_pending": pending,
                })
            })
            .collect();
        Reply::ok(json!({"subtraders": rows}))
    }

    fn create(&mut self, firm: &str, body: &Value, now: DateTime<Utc>) -> Outcome {
        let NewSubtrader { subtrader_suffix: suffix } = read(body)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !(1..=16).contains(&suffix.len()) || !suffix.bytes().all(plain) {
            return Err(Reply::bad_request(
                "subtrader_suffix must be 1 to 16 lower-case letters and digits",
            ));
        }
        let id = format!("{firm}_{suffix}");
        if self.subtraders.contains_key(&id) {
            return Err(Reply::conflict("subtrader_exists", "there is such a subtrader already"));
        }
        if self.subtraders.len() >= MAX_SUBTRADERS {
            return Err(Reply::bad_request("the firm has too many subtraders"));
        }
        self.subtraders.insert(id.clone(), Subtrader::new(now));
        Ok(Reply::created(json!({"subtrader_id": id})))
    }

    fn blocked(&self, query: &Query) -> Outcome {
        let subtrader = self.named(query)?.1;
        Ok(Reply::ok(json!({"categories": subtrader.blocked})))
    }

    fn block(&mut self, body: &Value, series: &[Value]) -> Outcome {
        let Block { subtrader_id, category, blocked } = read(body)?;
        if !series.iter().any(|row| row["category"] == *category) {
            return Err(Reply::bad_request("there is no such category"));
        }
        let subtrader = self.subtraders.get_mut(&subtrader_id).ok_or_else(Reply::not_found)?;
        if blocked {
            subtrader.blocked.insert(category);
        } else {
            subtrader.blocked.remove(&category);
        }
        Ok(Reply::ok(json!({"categories": subtrader.blocked})))
    }

    fn cap(&self, query: &Query, now: DateTime<Utc>) -> Outcome {
        let (id, subtrader) = self.named(query)?;
        let limit = subtrader.cap.ok_or_else(Reply::not_found)?;
        let today = now.date_naive();
        let orders = || self.orders.iter().filter(|order| order.subtrader == id);
        let executed: i64 = orders()
            .filter(|order| order.at.date_naive() == today)
            .map(|order| order.filled * order.side_price())
            .sum();
        let resting: i64 = orders()
            .filter(|order| order.status == "resting")
            .map(|order| (order.initial - order.filled) * order.side_price())
            .sum();
        Ok(Reply::ok(json!({
            "subtrader_id": id,
            "limit": limit,
            "executed_utilization": Dollars::from_micros(executed),
            "resting_order_utilization": Dollars::from_micros(resting),
            "pending_order_utilization": Dollars::ZERO,
            "cap_date": today.to_string(),
        })))
    }

    fn set_cap(&mut self, body: &Value) -> Outcome {
        let Cap { subtrader_id, limit } = read(body)?;
        if limit.is_negative() {
            return Err(Reply::bad_request("limit must not be negative"));
        }
        let subtrader = self.subtraders.get_mut(&subtrader_id).ok_or_else(Reply::not_found)?;
        subtrader.cap = Some(limit);
        Ok(Reply::ok(json!({})))
    }

    fn delete_cap(&mut self, query: &Query) -> Outcome {
        let id = self.named(query)?.0.to_owned();
        let subtrader = self.subtraders.get_mut(&id).ok_or_else(Reply::not_found)?;
        subtrader.cap.take().ok_or_else(Reply::not_found)?;
        Ok(Reply::ok(json!({})))
    }

    fn orders(&self, query: &Query) -> Outcome {
        let subtrader = self.filter(query)?;
        let status = query.word("status", &["resting", "canceled", "executed"])?;
        let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
        let client_ids = query.list("client_order_ids");
        let within = bounds(query)?;
        let rows: Vec<&Order> = self
            .orders
            .iter()
            .filter(|row| subtrader.is_none_or(|id| row.subtrader == id))
            .filter(|row| status.is_none_or(|status| row.status == status))
            .filter(|row| ticker.is_none_or(|ticker| row.ticker == ticker))
            .filter(|row| event.is_none_or(|event| row.event == event))
            .filter(|row| {
                client_ids.as_ref().is_none_or(|ids| ids.contains(&row.client_id.as_str()))
            })
            .filter(|row| within(row.at))
            .collect();
        let (rows, cursor) = query.page(rows, 100, 1_000)?;
        let rows: Vec<Value> = rows.into_iter().map(Order::wire).collect();
        Ok(Reply::ok(json!({"orders": rows, "cursor": cursor})))
    }

    fn fills(&self, query: &Query) -> Outcome {
        let within = bounds(query)?;
        let rows: Vec<&Fill> = self.fills.iter().filter(|row| within(row.at)).collect();
        // The page size cannot be set.
        let (rows, cursor) = query.page_by(rows, Paging { key: "", ..Paging::new(25, 25) })?;
        let rows: Vec<Value> = rows.into_iter().map(Fill::wire).collect();
        Ok(Reply::ok(json!({"fills": rows, "cursor": cursor})))
    }

    fn positions(&self, query: &Query, markets: &dyn MarketMaker) -> Outcome {
        let subtrader = self.filter(query)?;
        let (ticker, event) = (query.get("ticker"), query.get("event_ticker"));
        let words = ["all", "unsettled", "settled"];
        let status = query.word("settlement_status", &words)?.unwrap_or("unsettled");
        let counts = query.list("count_filter").unwrap_or_default();
        if counts.iter().any(|name| !matches!(*name, "position" | "total_traded")) {
            return Err(Reply::bad_request("count_filter knows position and total_traded"));
        }
        let mut rows: Vec<(&str, Value, &Holding)> = Vec::new();
        for (id, row) in &self.subtraders {
            if subtrader.is_some_and(|wanted| wanted != id) {
                continue;
            }
            for (market, holding) in &row.holdings {
                if ticker.is_some_and(|ticker| ticker != market) {
                    continue;
                }
                let Some(wire) = markets.market(market) else { continue };
                let settled = wire["status"] == "finalized";
                let of_event = event.is_none_or(|event| wire["event_ticker"] == event);
                let of_status = status == "all" || settled == (status == "settled");
                let counted = counts.is_empty()
                    || counts.iter().any(|name| match *name {
                        "position" => holding.position != 0,
                        _ => holding.traded != 0,
                    });
                if of_event && of_status && counted {
                    rows.push((market, wire, holding));
                }
            }
        }
        let mut events: BTreeMap<String, Vec<&Holding>> = BTreeMap::new();
        let mut firsts = Vec::new();
        for (_, wire, holding) in &rows {
            let event = wire["event_ticker"].as_str().unwrap_or_default().to_owned();
            let of_event = events.entry(event.clone()).or_default();
            firsts.push(of_event.is_empty().then_some(event));
            of_event.push(holding);
        }
        let (rows, cursor) = query.page(rows.into_iter().zip(firsts).collect(), 100, 1_000)?;
        let market_positions: Vec<Value> = rows
            .iter()
            .map(|((market, wire, holding), _)| {
                let index = wire["exchange_index"].as_i64().unwrap_or(0);
                holding.wire(market, index, DateTime::UNIX_EPOCH)
            })
            .collect();
        let event_positions: Vec<Value> = rows
            .iter()
            .filter_map(|(_, first)| first.as_ref())
            .map(|event| {
                let of_event = events.get(event).map_or(&[][..], Vec::as_slice);
                event_wire(event, of_event.iter().copied())
            })
            .collect();
        Ok(Reply::ok(json!({
            "market_positions": market_positions,
            "event_positions": event_positions,
            "cursor": cursor,
        })))
    }

    /// Moves contracts at a price, as if the source had sold them to the target.
    fn transfer(
        &mut self,
        body: &Value,
        markets: &dyn MarketMaker,
        id: &str,
        now: DateTime<Utc>,
    ) -> Outcome {
        let transfer: Transfer = read(body)?;
        let count = transfer.position_centicount;
        if count == 0 {
            return Err(Reply::bad_request("position_centicount must not be 0"));
        }
        if !(0..=ONE).contains(&transfer.price_centicents) {
            return Err(Reply::bad_request("price_centicents must be 0 to 10000"));
        }
        if transfer.source_subtrader_id == transfer.target_subtrader_id {
            return Err(Reply::bad_request("source and target must differ"));
        }
        let market = markets.market(&transfer.market_ticker).ok_or_else(Reply::not_found)?;
        for id in [&transfer.source_subtrader_id, &transfer.target_subtrader_id] {
            let subtrader = self.subtraders.get(id).ok_or_else(Reply::not_found)?;
            if subtrader.pending(now) {
                return Err(Reply::conflict("propagation_pending", "a subtrader is too new"));
            }
        }
        if market["status"] != "active" {
            return Err(Reply::conflict("MARKET_INACTIVE", "the market is not active"));
        }
        let source = self.subtraders.get(&transfer.source_subtrader_id);
        let held = source
            .and_then(|source| source.holdings.get(&transfer.market_ticker))
            .map_or(0, |holding| holding.position);
        if held.signum() != count.signum() || held.unsigned_abs() < count.unsigned_abs() {
            return Err(Reply::conflict("insufficient_position", "the source holds too little"));
        }
        while self.transfers.front().is_some_and(|at| *at + Duration::seconds(1) <= now) {
            self.transfers.pop_front();
        }
        if self.transfers.len() >= TRANSFERS {
            return Err(Reply::too_many_requests());
        }
        self.transfers.push_back(now);
        let sides =
            [(&transfer.source_subtrader_id, -count), (&transfer.target_subtrader_id, count)];
        for (id, count) in sides {
            if let Some(subtrader) = self.subtraders.get_mut(id) {
                let holding = subtrader.holdings.entry(transfer.market_ticker.clone()).or_default();
                holding.fill(count, transfer.price_centicents, 0, now);
            }
        }
        Ok(Reply::created(json!({"position_transfer_id": id})))
    }

    /// The subtrader that a query has to name.
    fn named<'a>(&'a self, query: &'a Query) -> Result<(&'a str, &'a Subtrader), Reply> {
        let id = query
            .get("subtrader_id")
            .ok_or_else(|| Reply::bad_request("subtrader_id is required"))?;
        Ok((id, self.subtraders.get(id).ok_or_else(Reply::not_found)?))
    }

    /// The subtrader that a query may name.
    fn filter<'a>(&self, query: &'a Query) -> Result<Option<&'a str>, Reply> {
        match query.get("subtrader_id") {
            Some(id) if !self.subtraders.contains_key(id) => Err(Reply::not_found()),
            id => Ok(id),
        }
    }

    /// A match between two subtraders, one with somebody else, an order that rests and one that
    /// was canceled.
    fn seed_market(
        &mut self,
        ids: &[String],
        market: &Value,
        dice: &mut Dice,
        start: DateTime<Utc>,
    ) {
        let exchange_index = market["exchange_index"].as_i64().unwrap_or(0);
        let text = |key: &str| market[key].as_str().unwrap_or_default().to_owned();
        for (number, status) in ["", "", "resting", "canceled"].into_iter().enumerate() {
            let at = start - Duration::minutes(dice.number(10..=2_880));
            let (price, count) = (CENTI_CENT * dice.number(5..=95), 100 * dice.number(1..=50));
            let shift = usize::try_from(dice.number(0..=2)).unwrap_or(0);
            let id = |place: usize| ids[(shift + place) % ids.len()].clone();
            let mut order = |subtrader: String, bid: bool, taker: bool, status: &'static str| {
                let traded = status == "executed";
                Order {
                    id: dice.id(),
                    client_id: dice.id(),
                    subtrader,
                    ticker: text("ticker"),
                    event: text("event_ticker"),
                    exchange_index,
                    bid,
                    price,
                    initial: count,
                    filled: if traded { count } else { 0 },
                    taker,
                    fee: if traded && taker { taker_fee(count, price) } else { 0 },
                    status: Cow::Borrowed(status),
                    at,
                }
            };
            let (maker, taker) = match number {
                0 => (
                    Some(order(id(0), false, false, "executed")),
                    Some(order(id(1), true, true, "executed")),
                ),
                1 => (None, Some(order(id(2), true, true, "executed"))),
                _ => {
                    let kept = order(id(0), true, false, status);
                    self.orders.push(kept);
                    continue;
                }
            };
            let of = |order: &Order| (order.id.clone(), order.subtrader.clone(), order.fee);
            self.fills.push(Fill {
                id: dice.id(),
                ticker: text("ticker"),
                exchange_index,
                taker_yes: true,
                count,
                price,
                at,
                maker: maker.as_ref().map(of),
                taker: taker.as_ref().map(of),
            });
            for order in [maker, taker].into_iter().flatten() {
                if let Some(subtrader) = self.subtraders.get_mut(&order.subtrader) {
                    let holding = subtrader.holdings.entry(text("ticker")).or_default();
                    let signed = if order.bid { order.filled } else { -order.filled };
                    holding.fill(signed, order.price, order.fee, order.at);
                }
                self.orders.push(order);
            }
        }
    }
}

impl Subtrader {
    fn new(created: DateTime<Utc>) -> Self {
        Self { created, blocked: BTreeSet::new(), cap: None, holdings: BTreeMap::new() }
    }

    fn pending(&self, now: DateTime<Utc>) -> bool {
        now < self.created + PROPAGATION
    }
}

impl Order {
    /// The price of the side that it buys.
    fn side_price(&self) -> i64 {
        if self.bid { self.price } else { ONE - self.price }
    }

    fn wire(&self) -> Value {
        let cost = self.filled * self.side_price();
        let money = |own: bool, micros: i64| Dollars::from_micros(if own { micros } else { 0 });
        let remaining = if self.status == "resting" { self.initial - self.filled } else { 0 };
        json!({
            "order_id": self.id,
            "user_id": self.subtrader,
            "client_order_id": self.client_id,
            "ticker": self.ticker,
            "side": "yes",
            "action": if self.bid { "buy" } else { "sell" },
            "outcome_side": if self.bid { "yes" } else { "no" },
            "book_side": if self.bid { "bid" } else { "ask" },
            "type": "limit",
            "status": self.status,
            "yes_price_dollars": Dollars::from_micros(self.price * CENTI_CENT),
            "no_price_dollars": Dollars::from_micros((ONE - self.price) * CENTI_CENT),
            "fill_count_fp": Count::from_hundredths(self.filled),
            "remaining_count_fp": Count::from_hundredths(remaining),
            "initial_count_fp": Count::from_hundredths(self.initial),
            "taker_fill_cost_dollars": money(self.taker, cost),
            "maker_fill_cost_dollars": money(!self.taker, cost),
            "taker_fees_dollars": money(self.taker, self.fee),
            "maker_fees_dollars": money(!self.taker, self.fee),
            "expiration_time": null,
            "created_time": self.at,
            "last_update_time": self.at,
            "self_trade_prevention_type": "taker_at_cross",
            "order_group_id": null,
            "cancel_order_on_pause": false,
            "exchange_index": self.exchange_index,
        })
    }
}

impl Fill {
    fn wire(&self) -> Value {
        let mut row = json!({
            "fill_id": self.id,
            "exchange_index": self.exchange_index,
            "ticker": self.ticker,
            "taker_outcome_side": if self.taker_yes { "yes" } else { "no" },
            "count_fp": Count::from_hundredths(self.count),
            "yes_price_dollars": Dollars::from_micros(self.price * CENTI_CENT),
            "created_time": self.at,
        });
        for (name, side) in [("maker", &self.maker), ("taker", &self.taker)] {
            if let Some((order, subtrader, fee)) = side {
                row[format!("{name}_order_id")] = order.as_str().into();
                row[format!("{name}_subtrader_id")] = subtrader.as_str().into();
                row[format!("{name}_fee_cost")] = json!(Dollars::from_micros(*fee));
            }
        }
        row
    }
}

fn read<'de, T: Deserialize<'de>>(body: &'de Value) -> Result<T, Reply> {
    T::deserialize(body).map_err(|error| Reply::bad_request(&error.to_string()))
}
