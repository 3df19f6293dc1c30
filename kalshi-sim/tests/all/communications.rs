//! Requests for quotes over HTTP, as far as one member sees them.

use kalshi_sdk::{
    Client,
    request::Complete,
    types::{
        CreateQuoteRequest, CreateRfqBatchRequest, CreateRfqRequest, GetMarketsStatus,
        ProposeBlockTradeRequest, UserFilter,
    },
};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::status;

async fn open_markets(client: &Client) -> Vec<String> {
    let open = client.get_markets().series_ticker("KXSIMRATE").status(GetMarketsStatus::Open);
    let markets = open.send().await.expect("markets are public").into_inner().markets;
    markets.into_iter().map(|market| market.ticker).collect()
}

fn request(ticker: &str) -> Complete<CreateRfqRequest> {
    CreateRfqRequest::builder().market_ticker(ticker).contracts_fp("10.00").rest_remainder(false)
}

/// Returns a batch of three contracts on each of two combos, which share a leg.
pub(crate) async fn batch(client: &Client, client_batch_id: &str) -> CreateRfqBatchRequest {
    let open = client.get_multivariate_event_collections().status("open");
    let open = open.series_ticker("KXMVESIMCROSS").limit(1).send().await;
    let page = open.expect("collections are public").into_inner();
    let collection = &page.multivariate_contracts[0];
    let mut legs: Vec<Value> = Vec::new();
    for event in &collection.associated_event_tickers {
        let markets = client.get_markets().event_ticker(event.clone());
        let open = markets.status(GetMarketsStatus::Open).limit(1).send().await;
        let open = open.expect("markets are public");
        let leg =
            |ticker: &str| json!({"market_ticker": ticker, "event_ticker": event, "side": "yes"});
        legs.extend(open.markets.iter().map(|market| leg(&market.ticker)));
    }
    let child = |place: usize| json!({"selected_markets": [legs[0], legs[place]]});
    let body = json!({
        "children": [child(1), child(2)],
        "mve_collection_ticker": collection.collection_ticker,
        "contracts_fp": "3.00",
        "client_batch_id": client_batch_id,
    });
    serde_json::from_value(body).expect("it is a batch")
}

#[tokio::test]
async fn a_request_for_quotes_is_listed_until_it_is_closed() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = open_markets(&client).await.remove(0);
    let id = client.create_rfq().body(request(&ticker)).send().await.unwrap().into_inner().id;
    let error = client.create_rfq().body(request(&ticker)).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (409, Some("rfq_already_exists")));
    let me = client.get_communications_id().send().await.unwrap().into_inner().communications_id;
    let open = client.get_rfqs().user_filter(UserFilter::Own).status("open");
    let listed = open.send().await.unwrap().into_inner().rfqs;
    assert_eq!((listed.len(), &listed[0].id, &listed[0].creator_id), (1, &id, &me));
    let replaced = request(&ticker).replace_existing(true);
    let new = client.create_rfq().body(replaced).send().await.unwrap().into_inner().id;
    let old = client.get_rfq().rfq_id(&*id).send().await.unwrap().into_inner().rfq;
    assert_eq!(old.cancellation_reason.as_deref(), Some("replaced"));
    client.delete_rfq().rfq_id(&*new).send().await.unwrap();
    let error = client.delete_rfq().rfq_id(&*new).send().await.unwrap_err();
    assert!(error.is_not_found());
}

#[tokio::test]
async fn nobody_quotes_on_an_own_request_or_lists_quotes_without_a_filter() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = open_markets(&client).await.remove(0);
    let id = client.create_rfq().body(request(&ticker)).send().await.unwrap().into_inner().id;
    let bids = CreateQuoteRequest::builder()
        .rfq_id(id)
        .yes_bid("0.4000")
        .no_bid("0.5000")
        .rest_remainder(false);
    let error = client.create_quote().body(bids).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (400, Some("invalid_parameters")));
    let error = client.get_quotes().send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (400, Some("invalid_parameters")));
    let own = client.get_quotes().user_filter(UserFilter::Own).send().await.unwrap();
    assert_eq!(own.quotes.len(), 0);
}

#[tokio::test]
async fn a_batch_opens_and_closes_its_requests_together() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let new = batch(&client, "mine").await;
    let send = || client.create_rfq_batch().body(new.clone()).send();
    let made = send().await.unwrap().into_inner().rfq_batch;
    assert_eq!(made.rfqs.len(), 2);
    let error = send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (409, Some("rfq_batch_already_exists")));
    let id = made.id;
    let best = client.get_rfq_batch_best_quotes().rfq_batch_id(&*id).send().await.unwrap();
    assert!(!best.best_quotes.yes_complete && !best.best_quotes.no_complete);
    client.delete_rfq_batch().rfq_batch_id(&*id).send().await.unwrap();
    let read = client.get_rfq_batch().rfq_batch_id(&*id).send().await.unwrap().into_inner();
    assert_eq!(read.rfq_batch.close_reason.as_deref(), Some("deleted"));
    let closed = client.get_rfqs().status("closed").send().await.unwrap().into_inner().rfqs;
    assert_eq!(closed.len(), 2);
}

#[tokio::test]
async fn a_block_trade_with_nobody_is_refused() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let ticker = open_markets(&client).await.remove(0);
    let new = ProposeBlockTradeRequest::builder()
        .buyer_user_id("somebody")
        .seller_user_id("somebody else")
        .market_ticker(ticker)
        .price_centi_cents(5_000)
        .centicount(100)
        .maker_side("yes")
        .expiration_ts(chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap());
    let error = client.propose_block_trade().body(new).send().await.unwrap_err();
    assert_eq!((status(&error), error.code()), (400, Some("invalid_parameters")));
    let listed = client.get_block_trade_proposals().send().await.unwrap().into_inner();
    assert_eq!(listed.block_trade_proposals.len(), 0);
}
