//! What the socket of the page sends.

use kalshi_sdk::types::BookSide;
use kalshi_sim::{Fault, FaultKind, Lag, Role};
use serde_json::{Value, json};

use super::{Page, exchange, open_market, place, token};
use crate::streams;

#[tokio::test]
async fn a_page_gets_everything_that_it_watches_and_then_what_changes() {
    let exchange = exchange().await;
    let ticker = open_market(&exchange).await;
    let mut page = Page::new(&exchange).await;
    let hello = page.next().await;
    assert_eq!(hello["hello"]["protocol"], 1);
    assert_eq!(hello["hello"]["seed"], "7");
    page.watch(&["markets", "book", "own", "members"], &ticker).await;
    let first = page.until(|_| true).await;
    assert_eq!((&first["full"], &first["ticker"]), (&json!(true), &json!(ticker)));
    let markets = first["panels"]["markets"]["set"].as_object().unwrap();
    assert!(markets.len() >= 60 && markets.contains_key(&ticker), "{}", markets.len());
    let order = place(&exchange, Role::Maker, &ticker, BookSide::Bid, "0.0100", "7.00").await;
    let changed = page.until(|frame| frame["panels"].get("own").is_some()).await;
    assert_eq!(changed["full"], false);
    let own = changed["panels"]["own"]["set"].as_object().unwrap();
    assert_eq!(own.values().next().unwrap()[0], "maker");
    assert_eq!(changed["panels"]["book"]["set"]["b0.0100"][2], "7.00");
    assert!(changed["panels"].get("markets").is_none_or(|rows| rows["set"].get(&ticker).is_none()));
    // What is gone is dropped.
    let client = exchange.client(Role::Maker).unwrap();
    client.cancel_order_v2().order_id(&*order.order_id).send().await.unwrap();
    let dropped = page
        .until(|frame| !frame["panels"]["own"]["drop"].as_array().is_none_or(Vec::is_empty))
        .await;
    assert_eq!(dropped["panels"]["own"]["drop"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_page_that_comes_back_gets_everything_again() {
    let exchange = exchange().await;
    let ticker = open_market(&exchange).await;
    place(&exchange, Role::Trader, &ticker, BookSide::Bid, "0.0200", "3.00").await;
    let panels = ["book", "own", "orders", "members", "requests", "exchange"];
    let mut full = Vec::new();
    for _ in 0..2 {
        let mut page = Page::new(&exchange).await;
        page.watch(&panels, &ticker).await;
        let frame = page.until(|_| true).await;
        full.push((frame["hash"].clone(), frame["panels"]["book"].clone()));
        assert_eq!(frame["panels"].as_object().unwrap().len(), panels.len(), "{frame}");
    }
    assert_eq!(full[0], full[1]);
}

#[tokio::test]
async fn an_order_s_timeline_has_its_request_those_who_were_told_and_when_it_is_readable() {
    let exchange = exchange().await;
    exchange.set_lag(Lag::none().with_reads(std::time::Duration::from_millis(250)));
    let ticker = open_market(&exchange).await;
    // A connection of the same member that listens to its orders.
    let mut listener = streams::connect_as(&exchange, Role::Trader, streams::now()).await.unwrap();
    let subscribe = json!({"id": 1, "cmd": "subscribe", "params": {"channels": ["user_orders"]}});
    streams::send(&mut listener, &subscribe).await;
    assert_eq!(streams::frame(&mut listener).await["type"], "subscribed");
    let placed = place(&exchange, Role::Trader, &ticker, BookSide::Bid, "0.0200", "3.00").await;
    let mut page = Page::new(&exchange).await;
    page.watch(&["orders", "requests"], &ticker).await;
    let frame = page.until(|frame| frame["panels"].get("orders").is_some()).await;
    let orders = frame["panels"]["orders"]["set"].as_object().unwrap();
    let (number, _) = orders.iter().find(|(_, row)| row[12] == placed.order_id.as_str()).unwrap();
    let order: u64 = number.parse().unwrap();
    page.send(
        &json!({"watch": {"panels": ["timeline", "streams"], "ticker": ticker, "order": order}}),
    )
    .await;
    let frame = page.until(|frame| frame["panels"].get("timeline").is_some()).await;
    let timeline = frame["panels"]["timeline"]["set"].as_object().unwrap();
    let resting = timeline.values().find(|row| row[2] == "resting").unwrap();
    let request =
        exchange.requests().into_iter().rev().find(|one| one.operation == "create_order_v2");
    assert_eq!(resting[1], request.unwrap().number);
    assert_eq!(resting[6].as_i64().unwrap() - resting[0].as_i64().unwrap(), 250);
    let told = resting[4].as_array().unwrap();
    assert_eq!(
        (told.len(), &told[0][1], &told[0][2]),
        (1, &json!("trader"), &json!("user_orders"))
    );
    let streams = frame["panels"]["streams"]["set"].as_object().unwrap();
    assert_eq!(streams.values().next().unwrap()[1], "up");
}

#[tokio::test]
async fn requests_show_their_status_key_and_faults_and_faults_their_hits() {
    let exchange = exchange().await;
    let client = exchange.client(Role::Maker).unwrap();
    let fault = Fault::builder(FaultKind::status(503))
        .with_operation(kalshi_sdk::OperationId::GetBalance)
        .with_times(1);
    exchange.faults().add(fault.build()).unwrap();
    client.get_balance().send().await.unwrap_err();
    client.get_balance().send().await.unwrap();
    let mut page = Page::new(&exchange).await;
    page.watch(&["requests", "faults"], "").await;
    let frame = page.until(|_| true).await;
    let requests = frame["panels"]["requests"]["set"].as_object().unwrap();
    let rows: Vec<&Value> = requests.values().filter(|row| row[2] == "get_balance").collect();
    assert_eq!((&rows[0][4], &rows[1][4]), (&json!(503), &json!(200)));
    assert_eq!(rows[0][6], Role::Maker.key_id());
    assert_eq!(rows[0][7][0]["kind"], "status");
    assert!(rows[1][5].as_u64().is_some());
    let faults = frame["panels"]["faults"]["set"].as_object().unwrap();
    assert_eq!((&faults["0"][1], &faults["0"][5]), (&json!("get_balance"), &json!(1)));
    let records = exchange.requests();
    let hit = records.iter().find(|one| !one.faults.is_empty()).unwrap();
    assert_eq!((hit.status, hit.key_id.as_deref()), (Some(503), Some(&*Role::Maker.key_id())));
    assert!(hit.took.is_some());
}

#[tokio::test]
async fn an_order_by_hand_goes_the_way_of_any_client() {
    let exchange = exchange().await;
    let ticker = open_market(&exchange).await;
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}/ui/orders{path}", exchange.admin_url().unwrap());
    let order = |price: &str| {
        json!({"member": "maker", "ticker": ticker, "side": "bid", "price": price,
            "count": "2.00", "time_in_force": "good_till_canceled"})
        .to_string()
    };
    let post = async |body: String| {
        let request = http.post(url("")).header("content-type", "application/json");
        let answer = request.header("x-token", token(&exchange)).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    let (status, text) = post(order("0.0300")).await;
    assert_eq!(status, 200, "{text}");
    let placed: Value = serde_json::from_str(&text).unwrap();
    let order_id = placed["order_id"].as_str().unwrap();
    let requests = exchange.requests();
    let last = requests.last().unwrap();
    assert_eq!((last.operation, last.signed), ("create_order_v2", true));
    assert_eq!(last.key_id.as_deref(), Some("by-hand-maker"));
    // The exchange's own checks apply, and so do faults and limits.
    let (status, text) = post(order("0.03001")).await;
    assert_eq!(status, 400, "{text}");
    assert_eq!(post(json!({"member": "nobody"}).to_string()).await.0, 400);
    exchange
        .faults()
        .add(Fault::builder(FaultKind::TooManyRequests).with_times(1).build())
        .unwrap();
    assert_eq!(post(order("0.0400")).await.0, 429);
    let cancel =
        http.delete(url(&format!("/maker/{order_id}"))).header("x-token", token(&exchange));
    assert_eq!(cancel.send().await.unwrap().status(), 200);
    let odd = http.delete(url("/maker/..%2Fx")).header("x-token", token(&exchange));
    assert_eq!(odd.send().await.unwrap().status(), 400);
    exchange.audit().unwrap();
}

#[tokio::test]
async fn a_request_that_is_carried_out_late_is_named_as_the_cause_all_the_same() {
    let exchange = exchange().await;
    exchange.clock().freeze();
    let ticker = open_market(&exchange).await;
    let late = Fault::builder(FaultKind::late(std::time::Duration::from_secs(5)))
        .with_operation(kalshi_sdk::OperationId::CreateOrderV2);
    exchange.faults().add(late.with_times(1).build()).unwrap();
    let order = kalshi_sdk::types::CreateOrderV2Request::builder()
        .ticker(&*ticker)
        .side(BookSide::Bid)
        .price("0.0100")
        .count("1.00")
        .time_in_force(kalshi_sdk::types::TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(kalshi_sdk::types::SelfTradePreventionType::TakerAtCross);
    let client = exchange.client(Role::Trader).unwrap();
    let error = client.create_order_v2().body(order).send().await.unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 504);
    let number = exchange.requests().last().unwrap().number;
    let mut page = Page::new(&exchange).await;
    page.watch(&["own"], &ticker).await;
    page.until(|_| true).await;
    exchange.clock().advance(std::time::Duration::from_secs(5)).unwrap();
    let frame = page.until(|frame| frame["panels"].get("own").is_some()).await;
    let own = frame["panels"]["own"]["set"].as_object().unwrap();
    let order: u64 = own.keys().next().unwrap().parse().unwrap();
    page.send(&json!({"watch": {"panels": ["timeline"], "order": order}})).await;
    let frame = page.until(|frame| frame["panels"].get("timeline").is_some()).await;
    let timeline = frame["panels"]["timeline"]["set"].as_object().unwrap();
    let resting = timeline.values().find(|row| row[2] == "resting").unwrap();
    assert_eq!(resting[1], number);
}

#[tokio::test]
async fn the_panels_say_what_the_api_says() {
    let exchange = exchange().await;
    exchange.clock().freeze();
    let ticker = open_market(&exchange).await;
    // What rests is taken, and some of it sold again.
    place(&exchange, Role::Trader, &ticker, BookSide::Bid, "0.9900", "4.00").await;
    place(&exchange, Role::Trader, &ticker, BookSide::Ask, "0.0100", "1.00").await;
    place(&exchange, Role::Trader, &ticker, BookSide::Bid, "0.0100", "6.00").await;
    let client = exchange.client(Role::Trader).unwrap();
    let get = async |path: &str| {
        let of_market = [("ticker", &*ticker)];
        let request = client.raw(http::Method::GET, path).query(&of_market);
        request.send::<Value>().await.unwrap().into_inner()
    };
    let mut page = Page::new(&exchange).await;
    let panels = ["book", "trades", "orders", "positions", "members", "market", "markets", "chart"];
    page.watch(&panels, &ticker).await;
    let frame = page.until(|frame| frame["panels"].get("positions").is_some()).await;
    let rows = |panel: &str| frame["panels"][panel]["set"].as_object().unwrap().clone();

    let book = get(&format!("/markets/{ticker}/orderbook")).await;
    let mut levels = Vec::new();
    for (side, letter) in [("yes_dollars", 'b'), ("no_dollars", 'a')] {
        for level in book["orderbook_fp"][side].as_array().unwrap() {
            let price: kalshi_sdk::Dollars = level[0].as_str().unwrap().parse().unwrap();
            let price = if letter == 'a' { price.complement().unwrap() } else { price };
            levels.push((format!("{letter}{price}"), level[1].clone()));
        }
    }
    levels.sort_by(|a, b| a.0.cmp(&b.0));
    let shown: Vec<_> = rows("book").into_iter().map(|(key, row)| (key, row[0].clone())).collect();
    assert_eq!(shown, levels);

    let trades = get("/markets/trades").await;
    let newest = rows("trades").into_iter().max_by_key(|(key, _)| key.parse::<u64>().unwrap());
    let newest = newest.unwrap().1;
    assert_eq!(newest[1], trades["trades"][0]["yes_price_dollars"]);
    assert_eq!(newest[2], trades["trades"][0]["count_fp"]);

    let orders = get("/portfolio/orders").await;
    let shown = rows("orders");
    for order in orders["orders"].as_array().unwrap() {
        let row = shown.values().find(|row| row[12] == order["order_id"]).unwrap();
        assert_eq!(row[0], "trader");
        for (place, field) in [
            (2, "book_side"),
            (3, "yes_price_dollars"),
            (4, "initial_count_fp"),
            (5, "fill_count_fp"),
            (6, "remaining_count_fp"),
            (7, "status"),
        ] {
            assert_eq!(row[place], order[field], "{field}");
        }
    }
    assert_eq!(orders["orders"].as_array().unwrap().len(), 3);

    let positions = get("/portfolio/positions").await;
    let held = &positions["market_positions"][0];
    let position = &rows("positions")[&format!("trader/{ticker}/0")];
    assert_eq!(position[0], held["position_fp"]);
    assert_eq!(position[1], held["market_exposure_dollars"]);
    assert_eq!(position[3], held["realized_pnl_dollars"]);
    assert_eq!(position[4], held["fees_paid_dollars"]);

    let market = get(&format!("/markets/{ticker}")).await;
    assert_eq!(rows("market")["market"][9], market["market"]["volume_fp"]);
    assert_eq!(rows("markets")[&ticker][3], market["market"]["yes_ask_dollars"]);
    assert!(!rows("chart").is_empty());
    exchange.audit().unwrap();
}

#[tokio::test]
async fn the_history_of_a_saved_state_has_its_trades_and_its_books() {
    let name = format!("kalshi-sim-history-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    let before = exchange().await;
    let ticker = open_market(&before).await;
    place(&before, Role::Trader, &ticker, BookSide::Bid, "0.9900", "4.00").await;
    place(&before, Role::Trader, &ticker, BookSide::Bid, "0.0100", "6.00").await;
    before.save(&file).unwrap();
    drop(before);
    let exchange = kalshi_sim::Exchange::builder().with_admin_port(0).with_state_file(&file);
    let exchange = exchange.start().await.unwrap();
    std::fs::remove_file(&file).unwrap();
    place(&exchange, Role::Maker, &ticker, BookSide::Bid, "0.0200", "3.00").await;
    let url = format!("{}/ui/history", exchange.admin_url().unwrap());
    let request = reqwest::Client::new().get(url).header("x-token", token(&exchange));
    let text = request.send().await.unwrap().text().await.unwrap();
    let frames: Vec<Value> = text
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["in"].as_str().map(str::to_owned)
        })
        .map(|frame| serde_json::from_str(&frame).unwrap())
        .filter(|frame: &Value| frame["msg"]["market_ticker"] == *ticker)
        .collect();
    let places = |kind: &str| {
        let found = frames.iter().enumerate().filter(move |(_, frame)| frame["type"] == kind);
        found.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let (trades, books) = (places("trade"), places("orderbook_snapshot"));
    let deltas = places("orderbook_delta");
    // What was traded before is there, then the book as it was loaded, then what came.
    assert!(frames[*trades.last().unwrap()]["msg"]["count_fp"] == "4.00");
    assert_eq!((books.len(), deltas.len()), (1, 1));
    assert!(trades.last() < books.first() && books < deltas);
    let bids = frames[books[0]]["msg"]["yes_dollars_fp"].as_array().unwrap();
    assert!(bids.contains(&json!(["0.0100", "6.00"])), "{bids:?}");
    assert!(!bids.iter().any(|level| level[0] == "0.0200"), "{bids:?}");
    assert_eq!(frames[deltas[0]]["msg"]["delta_fp"], "3.00");
}
