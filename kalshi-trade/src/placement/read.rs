//! What the exchange says, in the words of the machine.

use std::{collections::HashMap, time::Duration};

use kalshi_sdk::{Client, Effect, Error, ErrorKind, Rows, types};
use kalshi_types::UnixMillis;
use kalshi_ws::{Event, OrderRecord, Payload, types::UserOrderStatus};

use super::{Answer, ChangeAnswer, ChangeInput, Input, OrderView, Refusal, Sighting};
use crate::journal::{ChangeIntent, ClientOrderId};

/// Rows of a page: the most that a list of orders gives.
const LIMIT: u16 = 1_000;

/// The most rows that are read of one list: more than an account may have open.
const MAX_ROWS: usize = 1_000_000;

/// The status of the answer to a batch, whatever became of its items.
const BATCH_STATUS: u16 = 201;

/// Returns what an answer to a create comes to.
pub(super) fn answer(result: Result<types::CreateOrderV2Response, Error>) -> Answer {
    match result {
        Ok(created) => {
            Answer::Created { order_id: created.order_id, client_order_id: created.client_order_id }
        }
        Err(error) => failed(&error),
    }
}

/// Returns what the failure of a create comes to.
pub(super) fn failed(error: &Error) -> Answer {
    match (error.effect(), error.status()) {
        (Effect::NotSent, _) => Answer::NotSent { is_temporary: is_temporary(error) },
        // After a lost attempt of the same call, too: some order has the id.
        _ if error.is_conflict() => Answer::Conflict,
        (Effect::Rejected, _) if error.is_rate_limited() => {
            Answer::RateLimited { retry_after: error.retry_after() }
        }
        (Effect::Rejected, Some(status)) => {
            Answer::Refused(Refusal::new(status.as_u16(), error.code().map(str::to_owned)))
        }
        _ => Answer::Unknown,
    }
}

/// Returns what an answer to a batch of creates comes to for each of its orders. The SDK has seen to
/// it that there is one row for each, in order, as far as the rows name their ids.
pub(super) fn batch_answers(
    ids: &[&str],
    result: Result<types::BatchCreateOrdersV2Response, Error>,
) -> Vec<Answer> {
    let error = match result {
        Ok(answer) if answer.orders.len() == ids.len() => {
            return ids.iter().zip(answer.orders).map(|(id, row)| row_answer(id, row)).collect();
        }
        // It cannot be told which row is whose.
        Ok(_) => return vec![Answer::Unknown; ids.len()],
        // Some order has an id, of whatever item: each is looked for.
        Err(error) if error.is_conflict() => return vec![Answer::Unknown; ids.len()],
        Err(error) => error,
    };
    vec![failed(&error); ids.len()]
}

/// Returns what the row of one order comes to. One that does not name the order, and one without a
/// verdict, is none.
fn row_answer(id: &str, row: types::BatchCreateResult) -> Answer {
    let is_named = row.client_order_id.as_deref() == Some(id);
    let order_id = row.order_id.filter(|order_id| !order_id.is_empty());
    match (order_id, row.error) {
        // Also with an error: an order that was taken and canceled at once is an order.
        (Some(order_id), _) => Answer::Created { order_id, client_order_id: row.client_order_id },
        (None, Some(error)) if is_named || row.client_order_id.is_none() => refused_row(error),
        _ => Answer::Unknown,
    }
}

/// Returns what the error of a row comes to: a row has no status, so that only its code tells a
/// refusal from a failure of the exchange.
fn refused_row(error: types::ErrorResponse) -> Answer {
    let Some(code) = error.code.filter(|code| !code.is_empty()) else { return Answer::Unknown };
    let lower = code.to_ascii_lowercase();
    if lower.contains("already_exists") || lower.contains("conflict") {
        return Answer::Conflict;
    }
    let is_failure = ["internal", "timeout", "unavailable", "server"];
    if is_failure.iter().any(|word| lower.contains(word)) {
        return Answer::Unknown;
    }
    Answer::Refused(Refusal::new(BATCH_STATUS, Some(code)))
}

/// Returns what an answer to a change of an order comes to, which may name another order.
pub(super) fn change_answer(
    order_id: &str,
    result: Result<(&str, Option<UnixMillis>), &Error>,
) -> ChangeAnswer {
    let error = match result {
        Ok((named, at)) if named == order_id => return ChangeAnswer::Done { at },
        Ok(_) => return ChangeAnswer::Unknown,
        Err(error) => error,
    };
    match (error.effect(), error.status()) {
        (Effect::NotSent, _) => ChangeAnswer::NotSent { is_temporary: is_temporary(error) },
        (Effect::Rejected, _) if error.is_not_found() => ChangeAnswer::NotFound,
        (Effect::Rejected, _) if error.is_rate_limited() => {
            ChangeAnswer::RateLimited { retry_after: error.retry_after() }
        }
        (Effect::Rejected, Some(status)) => {
            ChangeAnswer::Refused(Refusal::new(status.as_u16(), error.code().map(str::to_owned)))
        }
        _ => ChangeAnswer::Unknown,
    }
}

/// Returns what an answer to a batch of cancels comes to for each of its orders. The error of a row
/// is no refusal: whether the order is out, the order itself says.
pub(super) fn batch_cancel_answers(
    order_ids: &[&str],
    result: Result<&types::BatchCancelOrdersV2Response, &Error>,
) -> Vec<ChangeAnswer> {
    let rows = match result {
        Ok(answer) if answer.orders.len() == order_ids.len() => &answer.orders,
        Ok(_) => return vec![ChangeAnswer::Unknown; order_ids.len()],
        Err(error) => return vec![change_answer("", Err(error)); order_ids.len()],
    };
    let answers = order_ids.iter().zip(rows).map(|(order_id, row)| match (&row.error, row.ts_ms) {
        (None, Some(at)) => change_answer(order_id, Ok((&row.order_id, Some(at)))),
        (Some(_), _) => ChangeAnswer::NotFound,
        (None, None) => ChangeAnswer::Unknown,
    });
    answers.collect()
}

/// Asks up to which time reads are complete.
pub(super) async fn watermark(client: &Client) -> Option<UnixMillis> {
    let answer = client.get_user_data_timestamp().send().await;
    answer.map(|answer| UnixMillis::from(answer.as_of_time)).inspect_err(warn).ok()
}

/// The question of one order to a list.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The id that is looked for.
    pub(super) id: ClientOrderId,
    /// The number of the list in its machine.
    pub(super) number: u32,
    /// The time before the order was sent for the first time.
    pub(super) first_sent: UnixMillis,
    /// True if absence is to be proven.
    pub(super) is_decisive: bool,
}

/// Lists the orders of a market, in every state, and returns what each of those who asked gets: the
/// orders that have its id.
///
/// Where absence is to be proven, archived orders are listed, too, unless the archive ends before
/// the order was sent for the first time. Its end is asked for afterwards: it moves forwards only.
pub(super) async fn list(client: &Client, ticker: &str, questions: &[Question]) -> Vec<Input> {
    let mut list = List::new(questions);
    let live = client.get_orders().ticker(ticker).limit(LIMIT);
    list.read(live.stream(), order_sighting).await;
    let first_sent = list.undecided().map(|question| question.first_sent).min();
    if let Some(first_sent) = first_sent.filter(|_| list.is_complete) {
        match client.get_historical_cutoff().send().await {
            // The clock of this machine may be ahead of the exchange's.
            Ok(cutoff)
                if UnixMillis::from(cutoff.orders_updated_ts)
                    < first_sent.saturating_sub(Duration::from_secs(86_400)) => {}
            Ok(_) => {
                let archived = client.get_historical_orders().ticker(ticker).limit(LIMIT);
                list.read(archived.stream(), order_sighting).await;
            }
            Err(error) => list.fail(&error),
        }
    }
    list.answers()
}

/// A list as far as it was read, and the orders in it that have one of the ids.
pub(super) struct List<'a> {
    questions: &'a [Question],
    found: HashMap<&'a str, Vec<Sighting>>,
    rows: usize,
    pub(super) is_complete: bool,
    has_failed: bool,
}

impl<'a> List<'a> {
    pub(super) fn new(questions: &'a [Question]) -> Self {
        let found = questions.iter().map(|question| (question.id.as_str(), Vec::new())).collect();
        Self { questions, found, rows: 0, is_complete: true, has_failed: false }
    }

    /// Returns those whose order is not found, and whose absence is to be proven.
    fn undecided(&self) -> impl Iterator<Item = &Question> {
        let is_found = |question: &&Question| {
            self.found.get(question.id.as_str()).is_some_and(|orders| !orders.is_empty())
        };
        self.questions.iter().filter(|one| one.is_decisive).filter(move |one| !is_found(one))
    }

    /// Takes in rows. One that does not decode may be any of the orders.
    pub(super) async fn read<T>(&mut self, mut rows: Rows<'_, T>, sighting: fn(T) -> Sighting) {
        while let Some(row) = rows.next().await {
            self.rows = self.rows.saturating_add(1);
            if self.rows > MAX_ROWS {
                self.is_complete = false;
                return;
            }
            match row {
                Ok(order) => self.take(sighting(order)),
                Err(error) if error.is_row() => self.is_complete = false,
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn take(&mut self, order: Sighting) {
        if let Some(found) = self.found.get_mut(order.client_order_id.as_str()) {
            found.push(order);
        }
    }

    /// Takes in that the list ends early. What was found before it counts.
    fn fail(&mut self, error: &Error) {
        warn(error);
        self.is_complete = false;
        self.has_failed = true;
    }

    pub(super) fn answers(self) -> Vec<Input> {
        let answers = self.questions.iter().map(|question| {
            let orders = self.found.get(question.id.as_str()).cloned().unwrap_or_default();
            if self.has_failed && orders.is_empty() {
                return Input::ReadFailed;
            }
            Input::Listed { number: question.number, is_complete: self.is_complete, orders }
        });
        answers.collect()
    }
}

fn order_sighting(order: types::Order) -> Sighting {
    Sighting {
        client_order_id: order.client_order_id,
        order_id: order.order_id,
        ticker: order.ticker,
        side: side(order.book_side.as_str()),
    }
}

/// Reads an order by its id, in the archive, too.
pub(super) async fn order(client: &Client, change: &ChangeIntent, number: u32) -> ChangeInput {
    let order_id = change.order_id.as_str();
    let read = match client.get_order().order_id(order_id).send().await {
        Ok(answer) => Ok(Some(OrderView::from(&answer.order))),
        Err(error) if error.is_not_found() => {
            let archived = client.get_historical_orders().ticker(&*change.ticker).limit(LIMIT);
            find(archived.stream(), order_id, |order| OrderView::from(order)).await
        }
        Err(error) => Err(error),
    };
    order_read(number, read)
}

/// Returns the order of a list that has this id.
///
/// # Errors
///
/// The list could not be read up to it.
pub(super) async fn find<T>(
    mut rows: Rows<'_, T>,
    order_id: &str,
    view: fn(&T) -> OrderView,
) -> Result<Option<OrderView>, Error> {
    // A list that is longer than any is as good as one that has no end: the next read begins anew.
    for _ in 0..MAX_ROWS {
        let Some(row) = rows.next().await else { break };
        let order = view(&row?);
        if order.order_id == order_id {
            return Ok(Some(order));
        }
    }
    Ok(None)
}

/// Returns what a read of an order comes to.
pub(super) fn order_read(number: u32, read: Result<Option<OrderView>, Error>) -> ChangeInput {
    match read {
        Ok(order) => ChangeInput::Read { number, order },
        Err(error) => {
            warn(&error);
            ChangeInput::ReadFailed
        }
    }
}

impl From<&types::Order> for OrderView {
    fn from(order: &types::Order) -> Self {
        let record = OrderRecord::from(order);
        let expires = order.expiration_time.map(UnixMillis::from);
        Self { expires, ..Self::from(&record) }
    }
}

impl From<&OrderRecord> for OrderView {
    /// Returns the view of a state without its time of expiry, which it does not have.
    fn from(order: &OrderRecord) -> Self {
        Self {
            order_id: order.order_id.clone(),
            yes_price: order.yes_price,
            filled: order.filled,
            remaining: order.remaining,
            is_over: matches!(order.status, UserOrderStatus::Executed | UserOrderStatus::Canceled),
            updated: order.updated,
            expires: None,
        }
    }
}

/// Returns the order that a message of a stream shows.
pub(super) fn view(event: &Event) -> Option<OrderView> {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return None };
    let Payload::UserOrder(order) = &message.payload else { return None };
    let view = OrderView::from(&OrderRecord::from(&**order));
    Some(OrderView { expires: order.expiration_ts_ms, ..view })
}

/// Returns the order that a message of a stream shows to exist, if it names a client order id.
pub(super) fn sighting(event: &Event) -> Option<Sighting> {
    let (Event::Message(message) | Event::Unmatched(message)) = event else { return None };
    let sighting = match &message.payload {
        Payload::UserOrder(order) => Sighting {
            client_order_id: order.client_order_id.clone(),
            order_id: order.order_id.clone(),
            ticker: order.ticker.clone(),
            side: side(order.book_side.as_str()),
        },
        Payload::Fill(fill) => Sighting {
            client_order_id: fill.client_order_id.clone()?,
            order_id: fill.order_id.clone(),
            ticker: fill.market_ticker.clone(),
            side: side(fill.book_side.as_str()),
        },
        _ => return None,
    };
    (!sighting.client_order_id.is_empty()).then_some(sighting)
}

/// Returns the side of the book, if it is one that an order can be sent with.
pub(super) fn side(text: &str) -> Option<String> {
    matches!(text, "bid" | "ask").then(|| text.to_owned())
}

fn warn(error: &Error) {
    tracing::warn!(%error, "could not read what became of an order");
}

/// Reports whether what was not sent may be sent the next time.
fn is_temporary(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Middleware)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(rows: &serde_json::Value) -> Vec<Answer> {
        let body = serde_json::from_value(json!({ "orders": rows })).unwrap();
        batch_answers(&["a-1", "a-2"], Ok(body))
    }

    #[test]
    fn each_row_of_a_batch_is_the_verdict_of_its_order() {
        let expected = vec![
            Answer::Created { order_id: "o-1".to_owned(), client_order_id: Some("a-1".to_owned()) },
            Answer::Refused(Refusal::new(BATCH_STATUS, Some("invalid_price".to_owned()))),
        ];
        let error = json!({"code": "invalid_price", "message": "no"});
        let created = json!({"order_id": "o-1", "client_order_id": "a-1"});
        for row in [json!({"error": error}), json!({"client_order_id": "a-2", "error": error})] {
            assert_eq!(answers(&json!([created, row])), expected);
        }
    }

    #[test]
    fn a_row_without_a_verdict_is_unknown() {
        let refusal = json!({"client_order_id": "a-2", "error": {"code": "invalid_price"}});
        for row in [
            json!({}),
            json!({"client_order_id": "a-1"}),
            json!({"order_id": "", "client_order_id": "a-1"}),
            // A failure of the exchange is no refusal.
            json!({"error": {}}),
            json!({"error": {"message": "no"}}),
            json!({"error": {"code": "INTERNAL_SERVER_ERROR"}}),
            json!({"error": {"code": "service_unavailable"}}),
            json!({"error": {"code": "timeout"}}),
            // The verdict of another order.
            json!({"client_order_id": "a-3", "error": {"code": "invalid_price"}}),
        ] {
            assert_eq!(answers(&json!([row, refusal]))[0], Answer::Unknown, "{row}");
        }
        // An order that was taken is one, whatever else is said of it.
        let row = json!({"order_id": "o-1", "client_order_id": "a-1", "error": {"code": "x"}});
        assert!(matches!(answers(&json!([row, refusal]))[0], Answer::Created { .. }));
        let row = json!({"error": {"code": "order_already_exists"}});
        assert_eq!(answers(&json!([row, refusal]))[0], Answer::Conflict);
    }

    #[test]
    fn a_reply_with_another_number_of_rows_says_nothing() {
        let row = json!({"order_id": "o-1", "client_order_id": "a-1"});
        for rows in [json!([]), json!([row]), json!([row, row, row])] {
            assert_eq!(answers(&rows), vec![Answer::Unknown; 2]);
        }
    }

    #[test]
    fn a_row_of_canceled_orders_is_done_or_left_to_the_order() {
        let rows = json!([
            {"order_id": "o-1", "reduced_by": "1.00", "ts_ms": 7},
            {"order_id": "o-2", "reduced_by": "0", "error": {"code": "not_found"}},
            {"order_id": "o-3", "reduced_by": "1.00"},
            {"order_id": "o-5", "reduced_by": "1.00", "ts_ms": 7},
        ]);
        let body: types::BatchCancelOrdersV2Response =
            serde_json::from_value(json!({ "orders": rows })).unwrap();
        let expected = vec![
            ChangeAnswer::Done { at: Some(UnixMillis::from_millis(7)) },
            ChangeAnswer::NotFound,
            ChangeAnswer::Unknown,
            ChangeAnswer::Unknown,
        ];
        assert_eq!(batch_cancel_answers(&["o-1", "o-2", "o-3", "o-4"], Ok(&body)), expected);
        assert_eq!(batch_cancel_answers(&["o-1"], Ok(&body)), vec![ChangeAnswer::Unknown]);
    }
}
