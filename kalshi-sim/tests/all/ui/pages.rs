//! The page in a browser.

use std::{env, fs, time::Duration};

use kalshi_sdk::types::BookSide;
use kalshi_sim::{Exchange, Fault, FaultKind, Lag, Role, Tier};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{browser::Browser, exchange, open_market, place};
use crate::streams;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_was_done_and_does_what_it_is_told() {
    let exchange = exchange().await;
    exchange.clock().freeze();
    let ticker = open_market(&exchange).await;
    exchange.markets().set_yes_sub_title(&ticker, "<img src=x onerror=alert(1)>").unwrap();
    for cents in 1..=10 {
        for (role, side, price) in [
            (Role::Trader, BookSide::Bid, format!("0.{cents:02}00")),
            (Role::Maker, BookSide::Ask, format!("0.{:02}00", 100 - cents)),
        ] {
            place(&exchange, role, &ticker, side, &price, "5.00").await;
        }
    }
    let url = exchange.ui_url().unwrap();
    let Some(mut browser) = Browser::open(&url, 1_600, 1_000).await else { return };
    browser.wait("document.querySelectorAll('#markets tbody tr:not([hidden])').length > 50").await;
    assert_eq!(browser.text("#seed").await, "7");
    assert_eq!(browser.text("#frozen").await, "frozen");

    // A market is chosen from the list; what comes from tests stays text.
    browser.press("/").await;
    for letter in ticker.to_lowercase().chars() {
        browser.press(&letter.to_string()).await;
    }
    let rows = "document.querySelectorAll('#markets tbody tr:not([hidden])')";
    browser.wait(&format!("{rows}.length === 1")).await;
    browser.value(&format!("{rows}[0].click()")).await;
    browser.wait(&format!("document.querySelector('#ticker').textContent === '{ticker}'")).await;
    assert!(browser.text("#about").await.contains("<img src=x"));
    assert_eq!(browser.value("document.querySelectorAll('img').length").await, 0);

    // Every order of a member is in the list, and those in view are in the ladder.
    browser.press("Escape").await;
    let orders = "[...document.querySelectorAll('#orders tbody tr:not([hidden])')]\
        .filter((row) => row.textContent.includes('resting'))";
    browser.wait(&format!("{orders}.length === 20")).await;
    let own = "[...document.querySelectorAll('#ladder td.own')].map((cell) => cell.textContent)";
    browser.press("b").await;
    for _ in 0..6 {
        browser.press("PageDown").await;
    }
    browser.wait(&format!("{own}.filter((text) => text.includes('5.00●')).length === 10")).await;
    browser.press("c").await;

    // The timeline of an order: its request, its life, and when it is readable.
    browser.value(&format!("{orders}[0].click()")).await;
    browser.wait("document.querySelector('#timeline').textContent.includes('at once')").await;
    assert!(browser.text("#timeline").await.contains("request "));
    assert!(browser.text("#timeline-of").await.contains("5.00"));

    // Keys move the exchange's clock, which stands still otherwise.
    let before = exchange.clock().now();
    browser.value("document.activeElement.blur()").await;
    browser.press("2").await;
    browser.wait("document.querySelector('#state').textContent.includes('/clock/advance')").await;
    assert_eq!(exchange.clock().now() - before, chrono::Duration::minutes(1));
    browser.press("?").await;
    assert_eq!(browser.value("document.querySelector('#help').open").await, true);
    browser.press("Escape").await;
    browser.value("document.querySelector('#help').close()").await;

    // An order by hand, a fault, and the buttons of the market.
    browser
        .value("const form = document.querySelector('#place'); form.price.value = '0.0100'; form.requestSubmit()")
        .await;
    browser.wait(&format!("{orders}.length === 21")).await;
    browser
        .wait("document.querySelector('#requests').textContent.includes('by hand (trader)')")
        .await;
    let fault = Fault::builder(FaultKind::TooManyRequests).with_times(1);
    exchange.faults().add(fault.build()).unwrap();
    browser
        .wait("document.querySelector('#faults').textContent.includes('too_many_requests')")
        .await;
    browser.value("document.querySelector('[data-market=pause]').click()").await;
    browser.wait("document.querySelector('#status').textContent === 'inactive'").await;
    browser.wait("document.querySelector('#trades').textContent.includes('deactivated')").await;

    // The past of this page, and the present again.
    browser.value("document.activeElement.blur()").await;
    browser.press("[").await;
    browser.wait("document.querySelector('#frozen').textContent === 'past'").await;
    browser.value("const tape = document.querySelector('#tape'); tape.value = 0; tape.dispatchEvent(new Event('input'))").await;
    browser.wait(&format!("{orders}.length === 20")).await;
    browser.press("l").await;
    browser.wait("document.querySelector('#frozen').textContent === 'frozen'").await;

    // Its books are those of the exchange, and nothing went wrong on the way.
    browser.wait("document.querySelector('#hash-state').textContent.includes('same')").await;
    assert_eq!(browser.value("simulator.seen.bad").await, 0);
    assert_eq!(browser.errors, Vec::<String>::new());

    // The past from before the page was opened: the book without the orders of this test.
    browser.value("document.activeElement.blur()").await;
    browser.press("h").await;
    browser.wait("document.querySelector('#state').textContent.startsWith('history: ')").await;
    let best = "document.querySelector('#ladder').textContent";
    browser.press("b").await;
    for _ in 0..6 {
        browser.press("PageDown").await;
    }
    browser.wait(&format!("{best}.includes('15.00')")).await;
    browser.value("const first = document.querySelector('#tape'); first.value = 0; first.dispatchEvent(new Event('input'))").await;
    browser.wait(&format!("!{best}.includes('15.00')")).await;
    browser.value("document.querySelector('#live').click()").await;

    recording(&mut browser).await;
    exchange.audit().unwrap();
}

/// Opens a recording of a stream in the page.
async fn recording(browser: &mut Browser) {
    let line = |at: i64, kind: &str, msg: serde_json::Value| {
        let frame = json!({"type": kind, "sid": 1, "seq": at, "msg": msg}).to_string();
        json!({"at": at, "in": frame}).to_string()
    };
    let delta = |at: i64, side: &str, price: &str, delta: &str| {
        let msg = json!({"market_ticker": "KXREC-1", "side": side, "price_dollars": price, "delta_fp": delta});
        line(at, "orderbook_delta", msg)
    };
    let snapshot = json!({"market_ticker": "KXREC-1", "yes_dollars_fp": [["0.6500", "10.00"]],
        "no_dollars_fp": [["0.3000", "7.00"]]});
    let trade = json!({"market_ticker": "KXREC-1", "yes_price_dollars": "0.7000", "count_fp": "2.00",
        "taker_side": "yes"});
    let lines = [
        json!({"at": 0, "header": {"version": 1, "prices": "side", "started": 0}}).to_string(),
        line(1_000, "orderbook_snapshot", snapshot),
        delta(2_000, "no", "0.3000", "-2.50"),
        line(3_000, "trade", trade),
        delta(4_000, "yes", "0.6600", "0.01"),
        "what is no line is left out".to_owned(),
        delta(5_000, "yes", "0.6500", "-10.00"),
    ];
    let name = format!("kalshi-sim-recording-{}.jsonl", std::process::id());
    let file = env::temp_dir().join(name);
    fs::write(&file, lines.join("\n")).unwrap();
    browser.choose("#file", &file).await;
    browser.wait("document.querySelector('#state').textContent.includes('5 events')").await;
    fs::remove_file(&file).unwrap();
    let levels = "[...document.querySelectorAll('#ladder td.level')].map((cell) => cell.textContent).join(' ')";
    browser.wait(&format!("{levels} === '4.50 0.01' || {levels} === '0.01 4.50'")).await;
    assert!(browser.text("#trades").await.contains("2.00"));
    let to = |place: u32| {
        format!(
            "const tape{place} = document.querySelector('#tape'); tape{place}.value = {place}; tape{place}.dispatchEvent(new Event('input'))"
        )
    };
    browser.value(&to(0)).await;
    browser.wait(&format!("{levels} === '7.00 10.00'")).await;
    browser.value(&to(2)).await;
    browser.wait(&format!("{levels} === '4.50 10.00'")).await;
    assert_eq!(browser.text("#ticker").await, "KXREC-1");
    assert_eq!(browser.errors, Vec::<String>::new());
}

/// A busy exchange. By hand, with the numbers that a user feels:
/// `UI_LOAD_SECONDS=10 cargo test --release --workspace --test all -- ui::pages::a_page_keeps_up`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_keeps_up_with_a_busy_exchange() {
    let measured = env::var("UI_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    let exchange = Exchange::builder().with_admin_port(0).with_traders(40).with_seed(3);
    let exchange = exchange.start().await.unwrap();
    let url = exchange.ui_url().unwrap();
    let Some(mut browser) = Browser::open(&url, 1_600, 1_000).await else { return };
    browser.wait("simulator.seen.frames > 3").await;
    browser.value("simulator.seen.oldest = 0, simulator.seen.long = 0").await;
    let before = browser.memory().await;
    let began = Instant::now();
    let span = Duration::from_secs(measured.unwrap_or(1));
    let mut commands = 0;
    while began.elapsed() < span {
        // 10,000 a second, in bursts of 200.
        tokio::task::block_in_place(|| exchange.markets().run_traders(200));
        commands += 200;
        let due = began + Duration::from_millis(commands / 10);
        tokio::time::sleep_until(due).await;
    }
    let seen = browser.value("({...simulator.seen, ...simulator.counters})").await;
    // However busy it was, the page ends with the book of the exchange.
    browser.wait("document.querySelector('#hash-state').textContent.includes('same')").await;
    assert_eq!(browser.value("simulator.seen.bad").await, 0);
    assert!(seen["frames"].as_u64().unwrap() > 3, "{seen}");
    let after = browser.memory().await;
    // The frames of ten minutes are kept at most: some 200 kB of each second at this load.
    assert!(after < before + 60_000_000, "{before} to {after} bytes");
    assert_eq!(browser.errors, Vec::<String>::new());
    exchange.audit().unwrap();
    if measured.is_some() {
        let text = format!("{commands} commands in {span:?}: {seen}, {before} to {after} bytes\n");
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
        assert!(seen["oldest"].as_u64().unwrap() <= 300, "a frame was old: {seen}");
        assert!(seen["long"].as_u64().unwrap() <= 100, "a task was long: {seen}");
    }
}

/// Takes the pictures of the README and of the guide, and those that a change of the page is
/// looked at with: `tools/ui-pictures.sh`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pictures");
    let Some(all) = env::var_os("UI_PICTURES") else {
        for name in ["ui-wide-light", "ui-wide-dark", "ui-narrow-light"] {
            let size = fs::metadata(folder.join(format!("{name}.png"))).unwrap().len();
            assert!((10_000..=150_000).contains(&size), "{name}: {size} bytes");
        }
        return;
    };
    let exchange = Exchange::builder()
        .with_admin_port(0)
        .with_traders(20)
        .with_seed(7)
        .with_tier(Tier::Basic)
        .with_lag(Lag::realistic())
        .start()
        .await
        .unwrap();
    let ticker = open_market(&exchange).await;
    for _ in 0..25 {
        exchange.markets().run_traders(400);
        exchange.clock().advance(Duration::from_secs(60)).unwrap();
    }
    let mut listener = streams::connect_as(&exchange, Role::Trader, streams::now()).await.unwrap();
    let channels = ["user_orders", "fill", "orderbook_delta", "trade"];
    let params = json!({"channels": channels, "market_ticker": ticker});
    streams::send(&mut listener, &json!({"id": 1, "cmd": "subscribe", "params": params})).await;
    let late = Fault::builder(FaultKind::late(Duration::from_millis(400)))
        .with_operation(kalshi_sdk::OperationId::CancelOrderV2);
    exchange.faults().add(late.build()).unwrap();
    for kind in [FaultKind::TooManyRequests, FaultKind::latency(Duration::from_millis(30))] {
        let fault = Fault::builder(kind).with_operation(kalshi_sdk::OperationId::GetPositions);
        exchange.faults().add(fault.with_times(2).build()).unwrap();
    }
    let client = exchange.client(Role::Trader).unwrap();
    let market = client.get_market().ticker(&*ticker).send().await.unwrap().market.clone();
    let cents = market.yes_bid_dollars.as_micros() / 10_000;
    let price = |cents: i64| format!("0.{:02}00", cents.clamp(1, 99));
    for step in 1..4 {
        place(&exchange, Role::Trader, &ticker, BookSide::Bid, &price(cents - step), "12.00").await;
        place(&exchange, Role::Maker, &ticker, BookSide::Ask, &price(cents + 3 + step), "8.00")
            .await;
    }
    let taken =
        place(&exchange, Role::Trader, &ticker, BookSide::Bid, &price(cents + 4), "25.00").await;
    let _ = client.cancel_order_v2().order_id(&*taken.order_id).send().await;
    let _ = client.get_positions().send().await;
    sleep(Duration::from_secs(1)).await;
    exchange.clock().freeze();
    let url = exchange.ui_url().unwrap();
    let mut browser = Browser::open(&url, 1_600, 1_500).await.unwrap();
    browser.wait("document.querySelectorAll('#markets tbody tr:not([hidden])').length > 50").await;
    let row = format!("document.querySelector('#markets tbody tr[data-key=\"{ticker}\"]').click()");
    browser.value(&row).await;
    browser.wait(&format!("document.querySelector('#ticker').textContent === '{ticker}'")).await;
    browser.value("document.querySelector('#orders tbody tr').click()").await;
    browser.wait("document.querySelector('#timeline').textContent.includes('ms')").await;
    sleep(Duration::from_millis(1_500)).await;
    let looked_at = std::path::PathBuf::from(all);
    fs::create_dir_all(&looked_at).unwrap();
    for (width, height, shape) in [(1_600, 1_000, "wide"), (400, 900, "narrow")] {
        for scheme in ["light", "dark"] {
            browser.resize(width, height).await;
            browser.scheme(scheme).await;
            sleep(Duration::from_millis(700)).await;
            let name = format!("ui-{shape}-{scheme}");
            let picture = browser.picture().await;
            fs::write(looked_at.join(format!("{name}.png")), picture).unwrap();
            browser.resize(width, if shape == "wide" { 2_000 } else { 5_600 }).await;
            sleep(Duration::from_millis(500)).await;
            let whole = browser.picture().await;
            fs::write(looked_at.join(format!("{name}-whole.png")), whole).unwrap();
        }
    }
    assert_eq!(browser.errors, Vec::<String>::new());
}
