//! The machine of placements against a small exchange that loses, repeats and delays, in virtual
//! time: one order for an intent, never two, and no intent is forgotten. Orders of both products are
//! under one journal; the exchange has a list and client order ids of its own for each.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_trade::{
    journal::{
        ClientOrderIds, History, Intent, Journal, MemoryJournal, Product, Record, Settlement,
    },
    placement::{
        Answer, Input, PlacementConfig, PlacementMachine, PlacementState, Refusal, Ruling,
        Sighting, Step, UndecidedCause, WithdrawnCause,
    },
};
use kalshi_types::UnixMillis;

use crate::model::{Agenda, Dice, FAULTS_END, WINDOW, accidents};

/// The runs of the model, unless `KALSHI_TRADE_RUNS` says otherwise.
const RUNS: u64 = 100_000;

/// A mistake in the code around the machine, which the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// An unknown outcome is taken for none.
    UnknownIsNothing,
    /// A list without the order is taken for its absence.
    ListIsProof,
    /// The journal is written when the answer is there.
    JournalAfterSend,
    /// An order of a batch that the answer does not speak of is taken for refused.
    SilenceIsRefusal,
    /// Orders are looked for in the list of the other product.
    OtherList,
}

/// An order at the exchange.
#[derive(Clone, Debug)]
struct Order {
    product: Product,
    client_order_id: String,
    /// The sending that it came from; `None` for somebody else's.
    sending: Option<u64>,
    ticker: &'static str,
    created: i64,
    over: i64,
}

#[derive(Clone, Debug)]
enum Event {
    /// The request is signed, with all of its orders, and leaves the client.
    Leave {
        process: u32,
        machines: Vec<usize>,
    },
    /// The exchange carries a request out.
    Execute {
        product: Product,
        client_order_id: String,
        sending: u64,
    },
    /// Something reaches the process of that number, for one of its machines.
    Input {
        process: u32,
        machine: usize,
        input: Input,
    },
    Poll {
        process: u32,
        machine: usize,
    },
    Place,
    /// Several orders are placed with one request.
    PlaceAll,
    Withdraw,
    Fill(bool),
    Die,
    Start,
}

struct Run {
    dice: Dice,
    mistake: Mistake,
    /// The client's clock less the exchange's.
    skew: i64,
    agenda: Agenda<Event>,
    // The exchange.
    orders: Vec<Order>,
    readable_until: i64,
    are_ids_free_again: bool,
    // The process.
    process: u32,
    is_alive: bool,
    machines: Vec<PlacementMachine>,
    /// Those that are sent with one request, while it is made ready.
    batch: Option<Vec<usize>>,
    /// Records that the mistake puts off.
    late_records: Vec<Record>,
    journal: MemoryJournal,
    ids: ClientOrderIds,
    config: PlacementConfig,
    send_within: i64,
    /// What has been seen.
    seen: BTreeSet<&'static str>,
    /// What was concluded without proof.
    wrong: Option<String>,
}

impl Run {
    fn new(seed: u64, mistake: Mistake) -> Self {
        let mut dice = Dice(seed);
        let journal = MemoryJournal::new(dice.next(), UnixMillis::EPOCH);
        let ids = ClientOrderIds::new("t", journal.session()).unwrap();
        let resends = u32::try_from(dice.below(3)).unwrap();
        let mut run = Self {
            mistake,
            skew: dice.below(4_001) - 2_000,
            agenda: Agenda::new(),
            orders: Vec::new(),
            readable_until: 0,
            are_ids_free_again: dice.one_in(2),
            process: 1,
            is_alive: true,
            machines: Vec::new(),
            batch: None,
            late_records: Vec::new(),
            journal,
            ids,
            config: PlacementConfig::default().with_resends(resends),
            send_within: if dice.one_in(2) { 1_000 } else { 600_000 },
            seen: BTreeSet::new(),
            wrong: None,
            dice,
        };
        for _ in 0..=run.dice.below(2) {
            let at = run.dice.below(5_000);
            let place = if run.dice.one_in(8) { Event::PlaceAll } else { Event::Place };
            run.schedule(at, place);
        }
        for (at, event) in accidents(&mut run.dice, Event::Withdraw, &Event::Die, Event::Fill) {
            run.schedule(at, event);
        }
        run
    }

    fn schedule(&mut self, at: i64, event: Event) {
        self.agenda.schedule(at, event);
    }

    fn clock(&self) -> UnixMillis {
        UnixMillis::from_millis(self.agenda.now + self.skew)
    }

    /// Runs until nothing happens any more, and returns what was seen, or what is wrong.
    fn run(mut self) -> Result<BTreeSet<&'static str>, String> {
        while let Some(event) = self.agenda.next() {
            let at = self.agenda.now;
            self.step(event);
            if at > FAULTS_END + 3_600_000 {
                break;
            }
            if at > FAULTS_END && self.is_alive && self.is_at_rest() {
                break;
            }
        }
        self.check()?;
        Ok(self.seen)
    }

    fn is_at_rest(&self) -> bool {
        let is_executing = self.agenda.events().any(|event| matches!(event, Event::Execute { .. }));
        !is_executing
            && self.machines.iter().all(|machine| {
                let id = machine.intent().id().as_str();
                match machine.state() {
                    PlacementState::Undecided(cause) => *cause == UndecidedCause::IdInUse,
                    _ => machine.is_over() && self.journal.history().settlement(id).is_some(),
                }
            })
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Leave { process, machines } => {
                if self.is_alive && process == self.process {
                    match machines[..] {
                        [machine] => self.send(machine),
                        _ => self.send_all(&machines),
                    }
                }
            }
            Event::Execute { product, client_order_id, sending } => {
                self.execute(product, &client_order_id, sending);
            }
            Event::Input { process, machine, input } => {
                if self.is_alive && process == self.process {
                    self.apply(machine, input);
                    self.poll(machine);
                }
            }
            Event::Poll { process, machine } => {
                if self.is_alive && process == self.process {
                    self.poll(machine);
                }
            }
            Event::Place => {
                if self.is_alive {
                    self.place();
                }
            }
            Event::PlaceAll => {
                if self.is_alive {
                    self.batch = Some(Vec::new());
                    for _ in 0..=self.dice.below(3) {
                        self.place();
                    }
                    // Those that could be written.
                    let machines = self.batch.take().unwrap_or_default();
                    if !machines.is_empty() {
                        let wait = if self.is_faulty(4) { self.dice.below(8_000) } else { 0 };
                        let leave = Event::Leave { process: self.process, machines };
                        self.schedule(self.agenda.now + wait, leave);
                    }
                }
            }
            Event::Withdraw => {
                for machine in 0..self.machines.len() {
                    self.apply(machine, Input::Withdraw);
                    self.poll(machine);
                }
            }
            Event::Fill(is_full) => self.journal.set_full(is_full),
            Event::Die => {
                self.is_alive = false;
                self.machines.clear();
                self.late_records.clear();
                let pause = if self.dice.one_in(3) { 90_000 } else { 3_000 };
                let at = self.agenda.now + self.dice.below(pause);
                self.schedule(at, Event::Start);
            }
            Event::Start => {
                if !self.is_alive {
                    self.start();
                }
            }
        }
    }

    fn place(&mut self) {
        let id = self.ids.next_id();
        let body = format!(r#"{{"client_order_id":"{id}","ticker":"T","side":"bid"}}"#);
        let product = product(self.dice.one_in(2));
        if self.dice.one_in(50) {
            // Of either product: only that of the same one is in the way.
            let is_same = self.dice.one_in(2);
            self.orders.push(Order {
                product: if is_same { product } else { other(product) },
                client_order_id: id.as_str().to_owned(),
                sending: None,
                ticker: "OTHER",
                created: self.agenda.now,
                over: i64::MAX,
            });
        }
        let send_by = UnixMillis::from_millis(self.agenda.now + self.skew + self.send_within);
        let intent = match product {
            Product::Perps => Intent::of_perps(body).unwrap(),
            _ => Intent::new(body).unwrap(),
        };
        self.machines.push(PlacementMachine::new(intent, self.config, send_by));
        self.poll(self.machines.len() - 1);
    }

    fn start(&mut self) {
        self.process += 1;
        self.is_alive = true;
        let (nonce, now) = (self.dice.next(), self.clock());
        self.journal.reopen(nonce, now).unwrap();
        let session = self.journal.session();
        self.ids = ClientOrderIds::new("t", session).unwrap();
        self.machines = self
            .journal
            .history()
            .unsettled()
            .map(|unsettled| PlacementMachine::restore(unsettled, session, self.config, now))
            .collect();
        for machine in 0..self.machines.len() {
            self.seen.insert("restored");
            self.poll(machine);
        }
    }

    fn apply(&mut self, machine: usize, input: Input) {
        let now = self.clock();
        let is_answer = matches!(input, Input::Answered(_));
        let input = match (self.mistake, input) {
            (Mistake::UnknownIsNothing, Input::Answered(Answer::Unknown)) => {
                Input::Answered(Answer::NotSent { is_temporary: true })
            }
            (Mistake::ListIsProof, Input::Listed { orders, .. }) if orders.is_empty() => {
                Input::Ruled(Ruling::Absent)
            }
            (_, input) => input,
        };
        let before = self.machines[machine].state().clone();
        self.machines[machine].apply(input, now);
        let after = self.machines[machine].state();
        self.seen.extend(match (&before, after) {
            (PlacementState::Sent { .. }, PlacementState::Accepted { .. }) => Some("answered"),
            (PlacementState::Sent { .. }, PlacementState::Refused(_)) => Some("refused"),
            (PlacementState::Sent { .. }, PlacementState::Queued) => Some("queued again"),
            (PlacementState::Settling, PlacementState::Accepted { .. }) => Some("found"),
            (PlacementState::Settling, PlacementState::Absent) => Some("absent"),
            (_, PlacementState::Undecided(UndecidedCause::IdInUse)) => Some("id in use"),
            (_, PlacementState::Withdrawn(WithdrawnCause::Journal)) => Some("not written"),
            _ => None,
        });
        if *after == PlacementState::Absent {
            let id = self.machines[machine].intent().id().as_str();
            let product = self.machines[machine].intent().product();
            let exists = self.orders.iter().any(|order| {
                order.client_order_id == id && order.ticker == "T" && order.product == product
            });
            let comes = self.agenda.events().any(
                |event| matches!(event, Event::Execute { client_order_id, .. } if client_order_id == id),
            );
            if exists || comes {
                self.wrong = Some(format!("{id} is called absent at {}", self.agenda.now));
            }
        }
        if is_answer {
            for record in std::mem::take(&mut self.late_records) {
                let _ = self.journal.append(&record);
            }
        }
    }

    /// Does what the machine says, until it waits.
    fn poll(&mut self, machine: usize) {
        let process = self.process;
        loop {
            let now = self.clock();
            match self.machines[machine].poll(now) {
                Step::Write(record) => self.write(machine, record),
                Step::Send { attempt } => {
                    self.seen.insert(if attempt > 1 { "sent again" } else { "sent" });
                    if let Some(batch) = &mut self.batch {
                        batch.push(machine);
                        continue;
                    }
                    // It may wait for its turn before it is signed.
                    let wait = if self.is_faulty(4) { self.dice.below(8_000) } else { 0 };
                    let leave = Event::Leave { process, machines: vec![machine] };
                    self.schedule(self.agenda.now + wait, leave);
                }
                Step::ReadWatermark => {
                    let complete_until = UnixMillis::from_millis(self.readable());
                    let input = if self.is_faulty(10) {
                        Input::ReadFailed
                    } else {
                        Input::Watermark(complete_until)
                    };
                    self.answer_later(machine, input, 100);
                }
                Step::List { number } => self.list(machine, number),
                Step::WaitUntil(at) => {
                    let at = (at.as_millis() - self.skew).max(self.agenda.now + 1);
                    self.schedule(at, Event::Poll { process, machine });
                    return;
                }
                Step::Wait | Step::Done => return,
                step => panic!("{step:?} is new"),
            }
        }
    }

    fn write(&mut self, machine: usize, record: Record) {
        let is_settlement = matches!(record, Record::Settled { .. });
        let input = if self.mistake == Mistake::JournalAfterSend && !is_settlement {
            self.late_records.push(record);
            Input::Written
        } else {
            match self.journal.append(&record) {
                Ok(appended) => {
                    self.journal.commit(appended).unwrap();
                    Input::Written
                }
                Err(_) => Input::WriteFailed,
            }
        };
        self.apply(machine, input);
    }

    fn is_faulty(&mut self, one_in: i64) -> bool {
        self.agenda.now < FAULTS_END && self.dice.one_in(one_in)
    }

    fn answer_later(&mut self, machine: usize, input: Input, within: i64) {
        let at = self.agenda.now + 1 + self.dice.below(within);
        self.schedule(at, Event::Input { process: self.process, machine, input });
    }

    /// Signs the order and sends it, into whatever happens to it.
    fn send(&mut self, machine: usize) {
        let client_order_id = self.machines[machine].intent().id().as_str().to_owned();
        let product = self.machines[machine].intent().product();
        let sending = self.agenda.next_serial();
        let execute = Event::Execute { product, client_order_id: client_order_id.clone(), sending };
        let soon = self.agenda.now + 1 + self.dice.below(40);
        let created = Answer::Created {
            order_id: format!("o-{sending}"),
            client_order_id: Some(client_order_id.clone()),
        };
        let is_taken = self.is_taken(product, &client_order_id);
        let verdict = if is_taken { Answer::Conflict } else { created };
        let fault = if self.agenda.now < FAULTS_END { self.dice.below(16) } else { 15 };
        let (executions, answer): (Vec<i64>, Answer) = match fault {
            // Lost on the way there, or on the way back; a 5xx or 408 before or after.
            0 | 1 => (vec![], Answer::Unknown),
            2 | 3 => (vec![soon], Answer::Unknown),
            // Carried out when its answer has long been given.
            4..=6 => {
                let latest = if self.dice.one_in(2) { WINDOW } else { 5_000 };
                // A signature by a clock that is behind is refused sooner.
                let at = soon + self.dice.below(latest);
                let at = at.min((self.agenda.now + self.skew + WINDOW).max(soon));
                (vec![at], Answer::Unknown)
            }
            7 => (vec![], Answer::RateLimited { retry_after: None }),
            8 => (vec![], Answer::NotSent { is_temporary: true }),
            9 => (vec![], Answer::Refused(Refusal::new(400, None))),
            // Delivered twice: either answer comes back.
            10 => (vec![soon, soon], verdict),
            11 => (vec![soon, soon], Answer::Conflict),
            // The answer describes another order.
            12 => (
                vec![soon],
                Answer::Created {
                    order_id: "o-0".to_owned(),
                    client_order_id: self.dice.one_in(2).then(|| "x".to_owned()),
                },
            ),
            _ => (vec![soon], verdict),
        };
        for at in executions {
            self.schedule(at, execute.clone());
        }
        let process = self.process;
        let is_slow = self.is_faulty(8);
        let answered = if is_slow { soon + self.dice.below(30_000) } else { soon + 1 };
        self.schedule(answered, Event::Input { process, machine, input: Input::Answered(answer) });
    }

    /// Sends orders with one request: what happens to it happens to all of them, but the exchange
    /// has a verdict for each.
    fn send_all(&mut self, machines: &[usize]) {
        self.seen.insert("batch");
        let soon = self.agenda.now + 1 + self.dice.below(40);
        let fault = if self.agenda.now < FAULTS_END { self.dice.below(12) } else { 11 };
        let late = if self.dice.one_in(2) { WINDOW } else { 5_000 };
        let late =
            (soon + self.dice.below(late)).min((self.agenda.now + self.skew + WINDOW).max(soon));
        let process = self.process;
        let answered = soon + if self.is_faulty(8) { self.dice.below(30_000) } else { 1 };
        for machine in machines.iter().copied() {
            let client_order_id = self.machines[machine].intent().id().as_str().to_owned();
            let product = self.machines[machine].intent().product();
            let sending = self.agenda.next_serial();
            let created = Answer::Created {
                order_id: format!("o-{sending}"),
                client_order_id: Some(client_order_id.clone()),
            };
            let is_taken = self.is_taken(product, &client_order_id);
            let verdict = if is_taken { Answer::Conflict } else { created };
            let (at, answer) = match fault {
                0 => (None, Answer::Unknown),
                1 | 2 => (Some(soon), Answer::Unknown),
                3 => (Some(late), Answer::Unknown),
                4 => (None, Answer::RateLimited { retry_after: None }),
                5 => (None, Answer::NotSent { is_temporary: true }),
                // Some are refused, some are not, and of some nothing is said.
                _ => match self.dice.below(6) {
                    0 => (None, Answer::Refused(Refusal::new(201, None))),
                    1 if fault < 9 => (Some(soon), self.silence()),
                    2 if fault < 9 => (None, self.silence()),
                    _ => (Some(soon), verdict),
                },
            };
            if let Some(at) = at {
                self.schedule(at, Event::Execute { product, client_order_id, sending });
            }
            let input = Input::Answered(answer);
            self.schedule(answered, Event::Input { process, machine, input });
        }
    }

    /// Returns what an answer comes to that does not speak of an order.
    fn silence(&self) -> Answer {
        if self.mistake == Mistake::SilenceIsRefusal {
            return Answer::Refused(Refusal::new(201, None));
        }
        Answer::Unknown
    }

    fn is_taken(&self, product: Product, client_order_id: &str) -> bool {
        self.orders.iter().any(|order| {
            order.product == product
                && order.client_order_id == client_order_id
                && (!self.are_ids_free_again || order.over > self.agenda.now)
        })
    }

    fn execute(&mut self, product: Product, client_order_id: &str, sending: u64) {
        if self.is_taken(product, client_order_id) {
            return;
        }
        let over = if self.dice.one_in(2) {
            self.agenda.now
        } else {
            self.agenda.now + self.dice.below(100_000)
        };
        let is_repeated = self.orders.iter().any(|order| order.sending == Some(sending));
        if is_repeated {
            // No client can help it.
            return;
        }
        self.orders.push(Order {
            product,
            client_order_id: client_order_id.to_owned(),
            sending: Some(sending),
            ticker: "T",
            created: self.agenda.now,
            over,
        });
        let sighting = Sighting {
            client_order_id: client_order_id.to_owned(),
            order_id: format!("o-{sending}"),
            ticker: "T".to_owned(),
            side: self.dice.one_in(2).then(|| "bid".to_owned()),
        };
        if self.is_alive && !self.is_faulty(2) {
            for machine in 0..self.machines.len() {
                self.answer_later(machine, Input::Seen(sighting.clone()), 500);
            }
        }
    }

    /// Returns the time up to which reads are complete: 0 to 5 s ago, and never earlier than before.
    fn readable(&mut self) -> i64 {
        let lag = self.dice.below(5_001);
        self.readable_until = self.readable_until.max(self.agenda.now - lag);
        self.readable_until
    }

    /// Lists the orders of the market as they are readable now. The answer arrives later.
    fn list(&mut self, machine: usize, number: u32) {
        let until = self.readable();
        let product = match (self.machines[machine].intent().product(), self.mistake) {
            (product, Mistake::OtherList) => other(product),
            (product, _) => product,
        };
        self.seen.insert(if product == Product::Perps { "perps list" } else { "list" });
        let mut orders: Vec<Sighting> = self
            .orders
            .iter()
            .filter(|order| order.created <= until && order.ticker == "T")
            .filter(|order| order.product == product)
            .map(|order| Sighting {
                client_order_id: order.client_order_id.clone(),
                order_id: format!("o-{}", order.sending.unwrap_or(0)),
                ticker: order.ticker.to_owned(),
                side: Some("bid".to_owned()),
            })
            .collect();
        let mut is_complete = true;
        if self.is_faulty(8) {
            is_complete = false;
            orders.truncate(usize::try_from(self.dice.below(2)).unwrap());
        }
        if self.is_faulty(8) {
            return self.answer_later(machine, Input::ReadFailed, 10_000);
        }
        if self.is_faulty(8) {
            // The end of a list that was begun early comes first.
            let early = Input::Listed { number: number - 1, is_complete: true, orders: vec![] };
            self.answer_later(machine, early, 10);
        }
        let input = Input::Listed { number, is_complete, orders };
        self.answer_later(machine, input, 2_000);
    }

    /// Checks what must hold in the end.
    fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let history: History = self.journal.history();
        let mut by_id: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for order in &self.orders {
            if let Some(sending) = order.sending {
                by_id.entry(&order.client_order_id).or_default().insert(sending);
            }
        }
        for (id, sendings) in &by_id {
            if sendings.len() > 1 {
                return Err(format!("{id} was placed {} times", sendings.len()));
            }
            let is_open = history.unsettled().any(|open| open.intent.id().as_str() == *id);
            match history.settlement(id) {
                Some(Settlement::Accepted { order_id }) => {
                    let is_right =
                        sendings.iter().any(|sending| *order_id == format!("o-{sending}"));
                    if !is_right {
                        return Err(format!("{id} is taken for {order_id}"));
                    }
                }
                Some(other) => return Err(format!("{id} exists and is taken for {other:?}")),
                None if is_open => return Err(format!("{id} exists and is not settled")),
                None => return Err(format!("{id} exists and is forgotten")),
            }
        }
        for open in history.unsettled() {
            let id = open.intent.id().as_str();
            let is_foreign = self.orders.iter().any(|order| {
                order.client_order_id == id
                    && order.ticker != "T"
                    && order.product == open.intent.product()
            });
            if !is_foreign {
                return Err(format!("{id} is not settled"));
            }
        }
        Ok(())
    }
}

fn product(is_perps: bool) -> Product {
    if is_perps { Product::Perps } else { Product::EventContracts }
}

fn other(of: Product) -> Product {
    product(of != Product::Perps)
}

/// Returns the seed of the first violation in `runs` runs, and what it is.
fn violation(runs: u64, mistake: Mistake) -> Option<(u64, String)> {
    (0..runs).find_map(|seed| Run::new(seed, mistake).run().err().map(|error| (seed, error)))
}

fn runs() -> u64 {
    let runs = std::env::var("KALSHI_TRADE_RUNS").ok();
    runs.map_or(RUNS, |runs| runs.parse().expect("KALSHI_TRADE_RUNS is a number"))
}

#[test]
fn there_is_one_order_for_an_intent_whatever_happens() {
    let mut seen = BTreeSet::new();
    for seed in 0..runs() {
        let run = Run::new(seed, Mistake::None).run();
        seen.extend(run.unwrap_or_else(|error| panic!("run {seed}: {error}")));
    }
    // All of it has been tried.
    let all = [
        "absent",
        "answered",
        "batch",
        "found",
        "id in use",
        "list",
        "not written",
        "perps list",
        "queued again",
        "refused",
        "restored",
        "sent",
        "sent again",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn an_unknown_outcome_that_is_taken_for_none_is_found() {
    assert!(violation(10_000, Mistake::UnknownIsNothing).is_some());
}

#[test]
fn a_list_that_is_taken_for_proof_is_found() {
    assert!(violation(10_000, Mistake::ListIsProof).is_some());
}

#[test]
fn an_order_that_is_looked_for_in_the_list_of_the_other_product_is_found() {
    assert!(violation(10_000, Mistake::OtherList).is_some());
}

#[test]
fn an_order_of_a_batch_that_is_taken_for_refused_without_a_verdict_is_found() {
    assert!(violation(10_000, Mistake::SilenceIsRefusal).is_some());
}

#[test]
fn a_journal_that_is_written_after_sending_is_found() {
    assert!(violation(10_000, Mistake::JournalAfterSend).is_some());
}
