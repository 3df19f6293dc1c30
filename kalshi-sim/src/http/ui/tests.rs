//! The page's model against the engine, under random events and acknowledgements; the same cases in
//! the page's own code.

use std::{collections::BTreeMap, env, fs, process::Command, sync::Arc, time::Duration};

use kalshi_auth::{ManualClock, UnixMillis};
use serde_json::{Value, json};

use super::{
    FILES, Token,
    chromium::chromium,
    conflation::{Head, Model, PATIENCE, Page},
    model::{self, Panel, Watch},
};
use crate::{
    clock,
    engine::types::{NewOrder, Side},
    faults::{Fault, FaultKind, Faults},
    random::Random,
    shared::Shared,
    state::{Start, State},
    stream::{
        faults::StreamFaults,
        hub::{DEFAULT_CAPACITY, Hub},
    },
};

const PANELS: [Panel; 16] = [
    Panel::Exchange,
    Panel::Markets,
    Panel::Market,
    Panel::Book,
    Panel::Own,
    Panel::Trades,
    Panel::Events,
    Panel::Chart,
    Panel::Orders,
    Panel::Timeline,
    Panel::Positions,
    Panel::Members,
    Panel::Requests,
    Panel::Faults,
    Panel::Streams,
    Panel::Subscriptions,
];

fn shared(seed: u64, traders: usize) -> (Shared, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_790_000_000_000)));
    let start = Start { traders, ..Start::new(seed, clock::at(clock.as_ref())) };
    let hub = Hub::new(StreamFaults::default(), DEFAULT_CAPACITY);
    hub.start_journal();
    let time = Duration::from_secs(60);
    (Shared::new(State::new(start), Faults::new(seed), clock.clone(), hub, time), clock)
}

/// The rows of a page: panel, key, row.
type Rows = BTreeMap<String, BTreeMap<String, Value>>;

/// Applies a frame to the rows of a page, as `book.js` does.
fn reduce(rows: &mut Rows, frame: &Value) {
    if frame["full"] == true {
        rows.clear();
    }
    for (name, change) in frame["panels"].as_object().unwrap() {
        let panel = rows.entry(name.clone()).or_default();
        for key in change["drop"].as_array().unwrap() {
            panel.remove(key.as_str().unwrap());
        }
        for (key, row) in change["set"].as_object().unwrap() {
            panel.insert(key.clone(), row.clone());
        }
        if panel.is_empty() {
            rows.remove(name);
        }
    }
}

/// Returns the hash of a page's own book, as `book.js` works it out.
fn hash(rows: &Rows) -> String {
    let mut hash = 0x811c_9dc5_u32;
    for (key, row) in rows.get("book").into_iter().flatten() {
        for byte in format!("{key}={row};").bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    format!("{hash:08x}")
}

/// Returns a model as the rows of a page that has it.
fn rows(model: &Model) -> Rows {
    let panel = |(name, rows): (&&str, &BTreeMap<String, String>)| {
        let rows = rows.iter().map(|(key, row)| (key.clone(), serde_json::from_str(row).unwrap()));
        ((*name).to_owned(), rows.collect())
    };
    model.iter().map(panel).collect()
}

/// An exchange, a page of it, and the wire between them.
struct Pair {
    shared: Shared,
    clock: Arc<ManualClock>,
    random: Random,
    watch: Watch,
    page: Page,
    /// The time of the socket, in milliseconds.
    now: i64,
    /// The frame on its way, and the model that it was made from.
    wire: Option<(Value, Model)>,
    rows: Rows,
    last: u64,
    /// Frames, and what the page has after each, for `book.js`.
    cases: Vec<(Value, Rows)>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (shared, clock) = shared(seed, 6);
        Self {
            shared,
            clock,
            random: Random::new(seed),
            watch: Watch::default(),
            page: Page::default(),
            now: 0,
            wire: None,
            rows: Rows::new(),
            last: 0,
            cases: Vec::new(),
        }
    }

    fn ticker(&mut self) -> String {
        let state = self.shared.state();
        let markets = state.engine.markets();
        let place = self.random.below(markets.len() as u64);
        markets[usize::try_from(place).unwrap()].ticker.clone()
    }

    /// Lets something happen to the exchange.
    fn happen(&mut self) {
        match self.random.below(8) {
            0 => drop(self.shared.run_traders(self.random.below(200))),
            1 => self.clock.advance(Duration::from_millis(self.random.below(90_000))),
            2 => {
                let ticker = self.watch.ticker.clone();
                let _ = self.shared.pause(&ticker, self.random.below(2) == 0);
            }
            3 => {
                let fault = Fault::builder(FaultKind::TooManyRequests).build();
                self.shared.add_fault(fault).unwrap();
            }
            4 => {
                let mut state = self.shared.state();
                let (account, now) = (state.first_account, state.engine.now());
                let _ = state.engine.cancel_all(account, None, now);
                self.shared.streams.publish(&mut state);
            }
            _ => {
                let price = format!("0.{:02}00", self.random.below(99) + 1).parse().unwrap();
                let side = if self.random.below(2) == 0 { Side::Bid } else { Side::Ask };
                let mut state = self.shared.state();
                let account = if self.random.below(2) == 0 {
                    state.first_account
                } else {
                    state.second_account
                };
                let count = "3.00".parse().unwrap();
                let ticker = self.watch.ticker.clone();
                let order = NewOrder::resting(account, ticker, side, price, count);
                let now = state.engine.now();
                let _ = state.engine.place_order(&order, now);
                self.shared.streams.publish(&mut state);
            }
        }
    }

    /// Lets the page choose something else to watch.
    fn choose(&mut self) {
        let mut watch = Watch { ticker: self.ticker(), ..Watch::default() };
        watch.panels = PANELS.into_iter().filter(|_| self.random.below(3) > 0).collect();
        watch.order = self.random.below(5_000);
        if self.random.below(3) == 0 {
            watch.filter = "coin".to_owned();
        }
        self.watch = watch;
    }

    /// Lets the socket's timer ring.
    fn ring(&mut self) {
        self.now += 100;
        if !self.page.is_ready(self.now) {
            return;
        }
        assert!(self.wire.is_none() || self.last_acknowledged(), "two frames on their way");
        let (head, model) = model::read(&self.shared, &self.watch);
        if let Some(text) = self.page.frame(head, model.clone(), self.now) {
            self.wire = Some((serde_json::from_str(&text).unwrap(), model));
        }
    }

    fn last_acknowledged(&self) -> bool {
        self.wire.as_ref().is_some_and(|(frame, _)| frame["n"] == self.last)
    }

    /// Lets the page take what is on its way, and acknowledge it or not.
    fn take(&mut self, acknowledges: bool) {
        if let Some((frame, model)) = &self.wire
            && frame["n"] != self.last
        {
            reduce(&mut self.rows, frame);
            self.last = frame["n"].as_u64().unwrap();
            assert_eq!(self.rows, rows(model), "after frame {}", self.last);
            assert_eq!(frame["hash"].as_str().unwrap(), hash(&self.rows));
            self.cases.push((frame.clone(), self.rows.clone()));
        }
        if acknowledges {
            self.page.acknowledge(self.last);
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..4 => self.happen(),
            4 => self.choose(),
            5 => self.now += i64::try_from(self.random.below(3_000)).unwrap(),
            // What was never sent says nothing.
            6 if !self.page_is_paused() => self.page.acknowledge(self.random.below(3) + 1_000_000),
            7 => self.take(false),
            8..10 => self.take(true),
            _ => self.ring(),
        }
    }

    fn page_is_paused(&mut self) -> bool {
        // Waits for an acknowledgement, and has given up waiting.
        self.wire.is_some() && !self.page.is_ready(self.now) && self.page.is_paused()
    }
}

fn runs() -> u64 {
    env::var("UI_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(6)
}

#[test]
fn a_page_has_what_the_exchange_has_after_any_events_and_acknowledgements() {
    let mut frames = 0;
    for seed in 0..runs() {
        let mut pair = Pair::new(seed);
        pair.choose();
        for _ in 0..250 {
            pair.step();
        }
        // In the end the page catches up, whatever was lost.
        pair.watch.panels = PANELS.into_iter().collect();
        for _ in 0..3 {
            pair.take(true);
            pair.ring();
        }
        pair.take(true);
        let (_, model) = model::read(&pair.shared, &pair.watch);
        assert_eq!(pair.rows, rows(&model));
        assert!(pair.rows["markets"].len() > 10 && pair.rows.contains_key("members"));
        frames += pair.cases.len();
        pair.shared.audit().unwrap();
    }
    assert!(frames > 10 * usize::try_from(runs()).unwrap(), "{frames}");
}

#[test]
fn a_page_that_says_nothing_for_two_seconds_gets_nothing_until_it_does_and_then_everything() {
    let model = |text: &str| {
        let row = BTreeMap::from([("key".to_owned(), json!([text]).to_string())]);
        Model::from([("orders", row)])
    };
    let full = |frame: Option<String>| {
        frame.map(|text| serde_json::from_str::<Value>(&text).unwrap()["full"].clone())
    };
    let mut page = Page::default();
    let head = Head::default;
    assert_eq!(full(page.frame(head(), model("a"), 0)), Some(json!(true)));
    // One is on its way: no other follows.
    assert_eq!(page.frame(head(), model("b"), 100), None);
    page.acknowledge(1);
    assert_eq!(full(page.frame(head(), model("b"), 200)), Some(json!(false)));
    assert_eq!(page.frame(head(), model("c"), 200 + PATIENCE - 1), None);
    assert!(!page.is_ready(200 + PATIENCE));
    for now in [3_000, 10_000, 1_000_000] {
        assert_eq!(page.frame(head(), model("c"), now), None, "{now}");
    }
    page.acknowledge(2);
    assert_eq!(full(page.frame(head(), model("c"), 1_000_100)), Some(json!(true)));
    page.acknowledge(3);
    // Nothing has changed: nothing is sent until the clock has to go on.
    assert_eq!(page.frame(head(), model("c"), 1_000_200), None);
    assert_eq!(full(page.frame(head(), model("c"), 1_001_100)), Some(json!(false)));
}

#[test]
fn the_same_commands_give_the_same_state_with_a_page_and_without() {
    let state = |watched: bool| {
        let (shared, clock) = shared(11, 12);
        let mut page = Page::default();
        let watch = Watch { panels: PANELS.into_iter().collect(), order: 3, ..Watch::default() };
        for step in 0..40 {
            clock.advance(Duration::from_millis(700));
            shared.run_traders(50);
            if watched {
                let (head, model) = model::read(&shared, &watch);
                let number = page.frame(head, model, step * 100).map(|text| {
                    serde_json::from_str::<Value>(&text).unwrap()["n"].as_u64().unwrap()
                });
                page.acknowledge(number.unwrap());
            }
        }
        shared.audit().unwrap();
        let mut bytes = Vec::new();
        ciborium::into_writer(&shared.state().engine, &mut bytes).unwrap();
        bytes
    };
    assert!(state(true) == state(false), "a page has changed the state");
}

#[test]
fn the_files_are_small_name_no_other_place_and_write_text_as_text() {
    let total: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
    assert!(total <= 60_000, "{total} bytes");
    for (name, _, text) in FILES {
        assert!(!text.is_empty(), "{name} is empty");
        for banned in [
            "http://",
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "style=",
        ] {
            assert!(!text.contains(banned), "{name} has {banned}");
        }
        // Money is no binary fraction.
        assert!(!text.contains("parseFloat") && !text.contains("toFixed"), "{name}");
    }
    let token = Token::new().unwrap();
    assert!(token.is(token.as_str().as_bytes()) && !token.is(b"") && !token.is(&[b'0'; 32]));
    assert_eq!(format!("{token:?}"), "Token(** redacted **)");
    assert_eq!(token.as_str().len(), 32);
}

#[test]
fn the_page_reduces_the_same_cases_to_the_same_rows() {
    let Some(browser) = chromium() else { return };
    let mut pair = Pair::new(77);
    pair.choose();
    for _ in 0..250 {
        pair.step();
    }
    let cases: Vec<Value> =
        pair.cases.iter().map(|(frame, rows)| json!({"frame": frame, "rows": rows})).collect();
    assert!(cases.len() > 15, "{}", cases.len());
    let script = include_str!("page/book.js").replace("export ", "");
    let check = "let model = new Map(); let done = 0; let wrong = '';
        const plain = (rows) => JSON.stringify([...rows.entries()].map(([panel, rows]) =>
            [panel, [...rows.entries()].sort((a, b) => a[0] < b[0] ? -1 : 1)])
            .sort((a, b) => a[0] < b[0] ? -1 : 1));
        for (const one of cases) {
            reduce(model, one.frame);
            const want = new Map(Object.entries(one.rows).map(([panel, rows]) =>
                [panel, new Map(Object.entries(rows))]));
            if (plain(model) !== plain(want)) { wrong ||= `frame ${one.frame.n}: rows`; }
            if (hash(model.get('book')) !== one.frame.hash) { wrong ||= `frame ${one.frame.n}: hash`; }
            done += 1;
        }
        document.body.textContent = wrong || `reduced ${done}`;";
    // What ends a script must not stand in one.
    let cases_text = json!(cases).to_string().replace("</", "<\\/");
    let folder = env::temp_dir().join(format!("kalshi-sim-page-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("cases.html");
    let html = format!("<body><script>{script}\nconst cases = {cases_text};\n{check}</script>");
    fs::write(&file, html).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(page.contains(&format!("reduced {}", cases.len())), "{page}");
}

#[test]
fn an_order_of_a_member_is_in_the_book_its_queue_and_its_timeline() {
    let (shared, _) = shared(5, 0);
    let ticker = {
        let state = shared.state();
        let open = state.engine.markets().iter().find(|market| market.prices().ask.is_some());
        open.unwrap().ticker.clone()
    };
    let order = {
        let mut state = shared.state();
        let (account, now) = (state.second_account, state.engine.now());
        let (price, count) = ("0.0100".parse().unwrap(), "7.00".parse().unwrap());
        let new = NewOrder::resting(account, ticker.clone(), Side::Bid, price, count);
        shared.streams.note_cause(&state, Some(42));
        let order = state.engine.place_order(&new, now).unwrap().order;
        shared.streams.publish(&mut state);
        order
    };
    let watch = Watch {
        panels: PANELS.into_iter().collect(),
        ticker: ticker.clone(),
        order: order.0,
        ..Watch::default()
    };
    let (head, model) = model::read(&shared, &watch);
    assert_eq!(head.ticker, ticker);
    let rows = rows(&model);
    let level = &rows["book"]["b0.0100"];
    assert_eq!(level[2], "7.00", "{level}");
    let own = &rows["own"][&order.0.to_string()];
    assert_eq!((&own[0], &own[2], &own[3]), (&json!("maker"), &json!("0.0100"), &json!("7.00")));
    let ahead = {
        let state = shared.state();
        state.engine.queue_position(state.engine.order(order).unwrap()).unwrap()
    };
    assert_eq!(own[4], ahead.to_string(), "its place in the queue");
    let timeline = &rows["timeline"];
    assert_eq!(timeline["order"][7], "resting");
    assert!(timeline.values().any(|row| row[1] == 42 && row[2] == "resting"), "{timeline:?}");
    assert_eq!(rows["orders"][&order.0.to_string()][12], order.to_string());
}
