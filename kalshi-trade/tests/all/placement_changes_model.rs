//! The machine of changes against an order at a small exchange that loses, repeats and delays, in
//! virtual time: no change has an effect after its outcome was told, and none is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use kalshi_trade::{
    journal::{
        ChangeIntent, ChangeSettlement, Journal, KnownOrder, MemoryJournal, OrderChange, Record,
    },
    placement::{
        ChangeAnswer, ChangeInput, ChangeMachine, ChangeRuling, ChangeState, ChangeStep,
        ChangeTimes, OrderView, PlacementConfig, Refusal,
    },
};
use kalshi_types::{BookSide, Count, Dollars, UnixMillis, UnixSeconds};

use crate::model::{Agenda, Dice, FAULTS_END, WINDOW, accidents};

/// The runs of the model, unless `KALSHI_TRADE_RUNS` says otherwise.
const RUNS: u64 = 20_000;

/// The time that reads trail by at most, and that one of an order takes, in milliseconds.
const READ_LAG: i64 = 5_000;
const READ_TIME: i64 = 2_000;

/// A mistake in the code around the machine, which the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// An unknown outcome is taken for none.
    UnknownIsNothing,
    /// A read that is not as wanted is taken for proof.
    ReadIsProof,
    /// A cancel that finds no order is taken for done.
    NotFoundIsDone,
    /// The journal is written when the answer is there.
    JournalAfterSend,
    /// A state that is older than the last change tells the next one.
    OldStateTells,
    /// The next change does not wait for the one before.
    NoWaiting,
}

#[derive(Clone, Debug)]
enum Event {
    /// The request is signed and leaves the client.
    Leave {
        process: u32,
        machine: usize,
    },
    /// The exchange carries a request out.
    Execute(ChangeIntent),
    Input {
        process: u32,
        machine: usize,
        input: ChangeInput,
    },
    /// The record of a cancel that did not wait for it is written.
    Written {
        process: u32,
        machine: usize,
        record: Record,
    },
    /// A message of the stream.
    Message {
        process: u32,
        order: OrderView,
    },
    Poll {
        process: u32,
        machine: usize,
    },
    /// The strategy changes the order, if nothing is pending.
    Act,
    Withdraw,
    /// Another member trades with the order.
    Trade,
    Full(bool),
    Die,
    Start,
}

struct Run {
    dice: Dice,
    mistake: Mistake,
    /// The client's clock less the exchange's.
    skew: i64,
    agenda: Agenda<Event>,
    // The exchange: every state of the order, and when it came to be.
    states: Vec<(i64, OrderView)>,
    readable_until: i64,
    /// Changes that were carried out.
    done: BTreeSet<u64>,
    // The process.
    process: u32,
    is_alive: bool,
    machines: Vec<ChangeMachine>,
    times: ChangeTimes,
    late_records: Vec<Record>,
    journal: MemoryJournal,
    next_change: u64,
    config: PlacementConfig,
    /// The changes that the strategy has wanted.
    wanted: Vec<OrderChange>,
    /// The changes whose outcome was told.
    ended: BTreeMap<u64, ChangeState>,
    is_cancel_recorded: bool,
    restored: BTreeSet<u64>,
    seen: BTreeSet<&'static str>,
    wrong: Option<String>,
}

/// Reports whether the order is as a change wants it.
fn is_as_wanted(order: &OrderView, intent: &ChangeIntent) -> bool {
    match &intent.change {
        OrderChange::Cancel => order.is_over,
        OrderChange::Amend { yes_price, total, expires, .. } => {
            let expires = expires.map(|at| UnixMillis::from_millis(at.as_seconds() * 1_000));
            order.yes_price == *yes_price
                && order.filled.checked_add(order.remaining) == Some(*total)
                && (expires.is_none() || order.expires == expires)
        }
        OrderChange::Decrease { remaining } => order.remaining <= *remaining,
        change => panic!("{change:?} is new"),
    }
}

fn contracts(count: i64) -> Count {
    Count::from_contracts(count).unwrap()
}

fn cents(cents: i64) -> Dollars {
    Dollars::from_cents(cents).unwrap()
}

impl Run {
    fn new(seed: u64, mistake: Mistake) -> Self {
        let mut dice = Dice(seed);
        let order = OrderView {
            order_id: "o-1".to_owned(),
            yes_price: cents(40),
            filled: Count::ZERO,
            remaining: contracts(10),
            is_over: false,
            updated: Some(UnixMillis::from_millis(0)),
            expires: None,
        };
        let mut run = Self {
            mistake,
            skew: dice.below(4_001) - 2_000,
            agenda: Agenda::new(),
            states: vec![(0, order)],
            readable_until: 0,
            done: BTreeSet::new(),
            process: 1,
            is_alive: true,
            machines: Vec::new(),
            times: ChangeTimes::new(UnixMillis::EPOCH),
            late_records: Vec::new(),
            journal: MemoryJournal::new(dice.next(), UnixMillis::EPOCH),
            next_change: 1,
            config: PlacementConfig::default(),
            wanted: Vec::new(),
            ended: BTreeMap::new(),
            is_cancel_recorded: false,
            restored: BTreeSet::new(),
            seen: BTreeSet::new(),
            wrong: None,
            dice,
        };
        let end = [2_000, 8_000, 100_000][usize::try_from(run.dice.below(3)).unwrap()];
        for _ in 0..=run.dice.below(8) {
            let at = run.dice.below(end);
            run.schedule(at, Event::Act);
        }
        for _ in 0..run.dice.below(4) {
            let at = run.dice.below(end);
            run.schedule(at, Event::Trade);
        }
        for (at, event) in accidents(&mut run.dice, Event::Withdraw, &Event::Die, Event::Full) {
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

    fn order(&self) -> &OrderView {
        &self.states.last().unwrap().1
    }

    fn run(mut self) -> Result<BTreeSet<&'static str>, String> {
        while let Some(event) = self.agenda.next() {
            let at = self.agenda.now;
            self.step(event);
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
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
        let is_pending = |event: &Event| matches!(event, Event::Execute(_) | Event::Written { .. });
        let is_pending = self.agenda.events().any(is_pending);
        !is_pending && self.journal.history().unsettled_changes().len() == 0
    }

    fn step(&mut self, event: Event) {
        let is_of = |process| self.is_alive && process == self.process;
        match event {
            Event::Leave { process, machine } if is_of(process) => self.send(machine),
            Event::Execute(intent) => self.execute(&intent),
            Event::Input { process, machine, input } if is_of(process) => {
                self.apply(machine, input);
                self.poll(machine);
            }
            Event::Written { process, machine, record } if is_of(process) => {
                self.seen.insert("written late");
                self.write_now(machine, record);
                self.poll(machine);
            }
            Event::Message { process, order } if is_of(process) => {
                for machine in 0..self.machines.len() {
                    self.apply(machine, ChangeInput::Seen(order.clone()));
                    self.poll(machine);
                }
            }
            Event::Poll { process, machine } if is_of(process) => self.poll(machine),
            Event::Act if self.is_alive => self.act(),
            Event::Withdraw => {
                for machine in 0..self.machines.len() {
                    self.apply(machine, ChangeInput::Withdraw);
                    self.poll(machine);
                }
            }
            Event::Trade => self.trade(),
            Event::Full(is_full) => self.journal.set_full(is_full),
            Event::Die => {
                self.is_alive = false;
                self.machines.clear();
                self.late_records.clear();
                let pause = if self.dice.one_in(3) { 90_000 } else { 3_000 };
                let at = self.agenda.now + self.dice.below(pause);
                self.schedule(at, Event::Start);
            }
            Event::Start if !self.is_alive => self.start(),
            _ => {}
        }
    }

    /// Returns the order as a read or a late message shows it.
    fn stale(&mut self) -> OrderView {
        let until = self.readable();
        let states = self.states.iter().rev();
        states.clone().find(|(at, _)| *at <= until).unwrap_or(&self.states[0]).1.clone()
    }

    fn act(&mut self) {
        let is_pending = self.machines.iter().any(|machine| !machine.is_over());
        if is_pending && self.mistake != Mistake::NoWaiting && !self.dice.one_in(4) {
            return;
        }
        let is_free = !is_pending || self.mistake == Mistake::NoWaiting;
        let view = if self.dice.one_in(2) { self.stale() } else { self.order().clone() };
        let change = match self.dice.below(12) {
            _ if !is_free => OrderChange::Cancel,
            0 => OrderChange::Cancel,
            // As it was before the last one.
            3..=6 if self.wanted.len() > 1 => self.wanted[self.wanted.len() - 2].clone(),
            1 | 2 => OrderChange::Decrease { remaining: contracts(1 + self.dice.below(6)) },
            _ => OrderChange::Amend {
                side: BookSide::Bid,
                yes_price: cents(40 + self.dice.below(3)),
                total: contracts(6 + self.dice.below(4)),
                expires: self
                    .dice
                    .one_in(4)
                    .then(|| UnixSeconds::from_seconds(2_000 + self.dice.below(3))),
            },
        };
        self.wanted.push(change.clone());
        let known = KnownOrder {
            updated: view.updated.unwrap(),
            yes_price: view.yes_price,
            total: view.filled.checked_add(view.remaining).unwrap(),
            expires: view.expires.filter(|_| !self.dice.one_in(4)),
        };
        let known = Some(known).filter(|_| !self.dice.one_in(8));
        let known = match self.mistake {
            Mistake::OldStateTells => known,
            _ => self.times.known("o-1", known),
        };
        let mut intent = ChangeIntent::new(self.next_change, "o-1", "T", change);
        intent.known = known;
        self.next_change += 1;
        let within = if self.dice.one_in(2) { 1_000 } else { 600_000 };
        let send_by = UnixMillis::from_millis(self.agenda.now + self.skew + within);
        self.machines.push(ChangeMachine::new(intent, self.config, send_by));
        self.poll(self.machines.len() - 1);
    }

    fn start(&mut self) {
        self.process += 1;
        self.is_alive = true;
        let (nonce, now) = (self.dice.next(), self.clock());
        self.journal.reopen(nonce, now).unwrap();
        let session = self.journal.session();
        let history = self.journal.history();
        // Numbers may be used again; the model tells changes apart by them.
        self.next_change = self.next_change.max(history.next_change());
        self.times = ChangeTimes::new(now.saturating_add(self.config.window()));
        let restored = history.unsettled_changes();
        self.machines = restored
            .map(|unsettled| ChangeMachine::restore(unsettled, session, self.config, now))
            .collect();
        for machine in 0..self.machines.len() {
            self.seen.insert("restored");
            self.restored.insert(self.machines[machine].intent().number);
            self.poll(machine);
        }
    }

    fn apply(&mut self, machine: usize, input: ChangeInput) {
        let now = self.clock();
        let is_answer = matches!(input, ChangeInput::Answered(_));
        let is_cancel = self.machines[machine].intent().change == OrderChange::Cancel;
        let input = match (self.mistake, input) {
            (Mistake::UnknownIsNothing, ChangeInput::Answered(ChangeAnswer::Unknown)) => {
                ChangeInput::Answered(ChangeAnswer::NotSent { is_temporary: true })
            }
            (Mistake::ReadIsProof, ChangeInput::Read { order: Some(order), .. })
                if !is_cancel && !order.is_over =>
            {
                self.machines[machine].apply(ChangeInput::Seen(order), now);
                ChangeInput::Ruled(ChangeRuling::NotReached)
            }
            (Mistake::NotFoundIsDone, ChangeInput::Answered(ChangeAnswer::NotFound))
                if is_cancel =>
            {
                ChangeInput::Answered(ChangeAnswer::Done { at: Some(UnixMillis::EPOCH) })
            }
            (_, input) => input,
        };
        let before = self.machines[machine].state().clone();
        self.machines[machine].apply(input, now);
        let after = self.machines[machine].state().clone();
        self.seen.extend(match (&before, &after) {
            (ChangeState::Sent { .. }, ChangeState::Reached) => Some("reached"),
            (ChangeState::Sent { .. }, ChangeState::Refused(_)) => Some("refused"),
            (ChangeState::Sent { .. }, ChangeState::Queued) => Some("queued again"),
            (ChangeState::Settling, ChangeState::Queued) => Some("canceled again"),
            (ChangeState::Settling, ChangeState::Reached) => Some("found"),
            (ChangeState::Settling, ChangeState::NotReached) => Some("not reached"),
            (_, ChangeState::Over) if before != after => Some("over"),
            (_, ChangeState::Withdrawn(_)) => Some("withdrawn"),
            _ => None,
        });
        if before != after && after.is_final() {
            self.end(machine, &after);
        }
        if is_answer {
            for record in std::mem::take(&mut self.late_records) {
                let _ = self.journal.append(&record);
            }
        }
    }

    /// Reports whether the order is as a change wants it, or was before it ended, as a read that trails
    /// may still show it: a cancel of an earlier process may act at any time.
    fn is_shown_as_wanted(&self, intent: &ChangeIntent) -> bool {
        let mut states = self.states.iter().rev();
        let Some((ended, order)) = states.next() else { return false };
        let is_new = order.is_over && *ended > self.agenda.now - READ_LAG - READ_TIME;
        let before = states.next().filter(|_| is_new && intent.change != OrderChange::Cancel);
        is_as_wanted(order, intent) || before.is_some_and(|(_, order)| is_as_wanted(order, intent))
    }

    /// Takes in the outcome of a change.
    fn end(&mut self, machine: usize, state: &ChangeState) {
        let intent = self.machines[machine].intent().clone();
        if let Some(at) = self.machines[machine].done_at() {
            self.times.record("o-1", at);
        }
        let is_done = self.done.contains(&intent.number);
        let claims_nothing = matches!(
            state,
            ChangeState::Refused(_) | ChangeState::NotReached | ChangeState::Withdrawn(_)
        );
        let is_wrong = match state {
            ChangeState::Over => !self.order().is_over,
            // It was carried out, or makes no difference.
            ChangeState::Reached => {
                !self.is_shown_as_wanted(&intent)
                    && (intent.change == OrderChange::Cancel || !is_done)
            }
            // An earlier process may have seen it done, and the order may have changed since.
            _ => claims_nothing && is_done && !self.restored.contains(&intent.number),
        };
        if is_wrong {
            self.wrong = Some(format!("{intent:?} is called {state:?} at {}", self.agenda.now));
        }
        self.ended.insert(intent.number, state.clone());
    }

    /// Does what the machine says, until it waits.
    fn poll(&mut self, machine: usize) {
        let process = self.process;
        loop {
            let now = self.clock();
            let was_over = self.machines[machine].is_over();
            let step = self.machines[machine].poll(now);
            if !was_over && self.machines[machine].is_over() {
                self.seen.insert("withdrawn");
                let state = self.machines[machine].state().clone();
                self.end(machine, &state);
            }
            match step {
                ChangeStep::Write(record) => self.write(machine, record),
                ChangeStep::Send { .. } => {
                    let wait = if self.is_faulty(4) { self.dice.below(8_000) } else { 0 };
                    self.schedule(self.agenda.now + wait, Event::Leave { process, machine });
                }
                ChangeStep::ReadWatermark => {
                    let complete_until = UnixMillis::from_millis(self.readable());
                    let input = if self.is_faulty(10) {
                        ChangeInput::ReadFailed
                    } else {
                        ChangeInput::Watermark(complete_until)
                    };
                    self.answer_later(machine, input, 100);
                }
                ChangeStep::ReadOrder { number } => {
                    let order = self.stale();
                    let input = if self.is_faulty(8) {
                        ChangeInput::ReadFailed
                    } else if self.is_faulty(16) {
                        ChangeInput::Read { number, order: None }
                    } else {
                        ChangeInput::Read { number, order: Some(order) }
                    };
                    self.answer_later(machine, input, READ_TIME);
                }
                ChangeStep::WaitUntil(at) => {
                    let at = (at.as_millis() - self.skew).max(self.agenda.now + 1);
                    self.schedule(at, Event::Poll { process, machine });
                    return;
                }
                ChangeStep::Wait | ChangeStep::Done => return,
                step => panic!("{step:?} is new"),
            }
        }
    }

    /// Writes a record, unless the disk stalls and the machine does not wait for it.
    fn write(&mut self, machine: usize, record: Record) {
        let is_cancel = self.machines[machine].intent().change == OrderChange::Cancel;
        if is_cancel && matches!(record, Record::Change { .. }) && self.is_faulty(4) {
            let at = self.agenda.now + 1 + self.dice.below(40_000);
            self.schedule(at, Event::Written { process: self.process, machine, record });
            self.apply(machine, ChangeInput::WriteDelayed);
        } else {
            self.write_now(machine, record);
        }
    }

    fn write_now(&mut self, machine: usize, record: Record) {
        let is_change = matches!(record, Record::Change { .. });
        let is_cancel = self.machines[machine].intent().change == OrderChange::Cancel;
        let input = if self.mistake == Mistake::JournalAfterSend && is_change {
            self.late_records.push(record);
            ChangeInput::Written
        } else {
            match self.journal.append(&record) {
                Ok(appended) => {
                    self.journal.commit(appended).unwrap();
                    self.is_cancel_recorded |= is_cancel && is_change;
                    if let Record::ChangeSettled { settlement, .. } = record
                        && is_cancel
                    {
                        // It was refused or not sent: its caller is told.
                        self.is_cancel_recorded &= settlement == ChangeSettlement::Reached;
                    }
                    ChangeInput::Written
                }
                Err(_) => ChangeInput::WriteFailed,
            }
        };
        self.apply(machine, input);
    }

    fn is_faulty(&mut self, one_in: i64) -> bool {
        self.agenda.now < FAULTS_END && self.dice.one_in(one_in)
    }

    fn answer_later(&mut self, machine: usize, input: ChangeInput, within: i64) {
        let at = self.agenda.now + 1 + self.dice.below(within);
        self.schedule(at, Event::Input { process: self.process, machine, input });
    }

    /// Signs the change and sends it, into whatever happens to it.
    fn send(&mut self, machine: usize) {
        let intent = self.machines[machine].intent().clone();
        let soon = self.agenda.now + 1 + self.dice.below(40);
        let fault = if self.agenda.now < FAULTS_END { self.dice.below(20) } else { 19 };
        let later = |run: &mut Self| {
            let latest = if run.dice.one_in(2) { WINDOW } else { 5_000 };
            // A signature by a clock that is behind is refused sooner.
            (soon + run.dice.below(latest)).min((run.agenda.now + run.skew + WINDOW).max(soon))
        };
        let (execution, answer) = match fault {
            0..=2 => (None, Some(ChangeAnswer::Unknown)),
            3 | 4 => (Some(soon), Some(ChangeAnswer::Unknown)),
            5..=7 => (Some(later(self)), Some(ChangeAnswer::Unknown)),
            8 => (None, Some(ChangeAnswer::RateLimited { retry_after: None })),
            9 => (None, Some(ChangeAnswer::NotSent { is_temporary: true })),
            10 => (None, Some(ChangeAnswer::Refused(Refusal::new(400, None)))),
            // The wrong shard.
            11 => (None, Some(ChangeAnswer::NotFound)),
            _ => (Some(soon), None),
        };
        let process = self.process;
        let Some(answer) = answer else {
            // It arrives at once, and is answered when it may be.
            let verdict = self.verdict(&intent);
            self.execute(&intent);
            let slow = if self.is_faulty(8) { self.dice.below(30_000) } else { 1 };
            let input = ChangeInput::Answered(verdict);
            self.schedule(soon + slow, Event::Input { process, machine, input });
            return;
        };
        if let Some(at) = execution {
            self.schedule(at, Event::Execute(intent));
        }
        let is_slow = self.is_faulty(8);
        let answered = if is_slow { soon + self.dice.below(30_000) } else { soon + 1 };
        let input = ChangeInput::Answered(answer);
        self.schedule(answered, Event::Input { process, machine, input });
    }

    /// Returns what the exchange says of a change now.
    fn verdict(&self, intent: &ChangeIntent) -> ChangeAnswer {
        let refused = ChangeAnswer::Refused(Refusal::new(400, None));
        match self.after(intent) {
            _ if self.order().is_over => ChangeAnswer::NotFound,
            Some(_) => ChangeAnswer::Done { at: Some(UnixMillis::from_millis(self.agenda.now)) },
            None => refused,
        }
    }

    /// Returns the order as a change leaves it; `None` if the exchange refuses the change.
    fn after(&self, intent: &ChangeIntent) -> Option<OrderView> {
        let mut order = self.order().clone();
        if order.is_over {
            return None;
        }
        match &intent.change {
            OrderChange::Cancel => order.remaining = Count::ZERO,
            OrderChange::Amend { yes_price, total, expires, .. } => {
                order.yes_price = *yes_price;
                order.remaining = total.checked_sub(order.filled)?;
                if order.remaining < Count::ZERO {
                    return None;
                }
                if let Some(expires) = expires {
                    let millis = expires.as_seconds() * 1_000;
                    order.expires = Some(UnixMillis::from_millis(millis));
                }
            }
            OrderChange::Decrease { remaining } => {
                if *remaining >= order.remaining {
                    return None;
                }
                order.remaining = *remaining;
            }
            change => panic!("{change:?} is new"),
        }
        order.is_over = order.remaining == Count::ZERO;
        Some(order)
    }

    fn execute(&mut self, intent: &ChangeIntent) {
        let Some(order) = self.after(intent) else { return };
        let is_effect = self.order() != &order;
        let is_open = self.journal.history().unsettled_changes().any(|open| open.intent == *intent);
        let is_known = is_open
            || self.ended.contains_key(&intent.number)
            || self.machines.iter().any(|machine| machine.intent() == intent);
        let is_cancel = intent.change == OrderChange::Cancel;
        if is_effect && !is_cancel {
            if let Some(state) = self.ended.get(&intent.number) {
                self.wrong =
                    Some(format!("{intent:?} acts at {}, but is {state:?}", self.agenda.now));
            } else if !is_known {
                self.wrong = Some(format!("{intent:?} is forgotten at {}", self.agenda.now));
            }
        }
        self.done.insert(intent.number);
        self.set(order);
    }

    fn trade(&mut self) {
        let mut order = self.order().clone();
        if order.is_over {
            return;
        }
        let count = contracts(1 + self.dice.below(4)).min(order.remaining);
        order.filled = order.filled.checked_add(count).unwrap();
        order.remaining = order.remaining.checked_sub(count).unwrap();
        order.is_over = order.remaining == Count::ZERO;
        self.set(order);
    }

    /// Makes the order be so from now on.
    fn set(&mut self, mut order: OrderView) {
        order.updated = Some(UnixMillis::from_millis(self.agenda.now));
        self.states.push((self.agenda.now, order.clone()));
        if self.is_alive && !self.is_faulty(2) {
            let at = self.agenda.now + 1 + self.dice.below(3_000);
            self.schedule(at, Event::Message { process: self.process, order });
        }
    }

    /// Returns the time up to which reads are complete: 0 to 5 s ago, and never earlier than before.
    fn readable(&mut self) -> i64 {
        let lag = self.dice.below(READ_LAG + 1);
        self.readable_until = self.readable_until.max(self.agenda.now - lag);
        self.readable_until
    }

    /// Checks what must hold in the end.
    fn check(&self) -> Result<(), String> {
        let history = self.journal.history();
        if let Some(open) = history.unsettled_changes().next() {
            return Err(format!("{open:?} is not settled"));
        }
        if self.is_cancel_recorded && !self.order().is_over {
            return Err("the order was meant to be out and rests".to_owned());
        }
        Ok(())
    }
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
fn no_change_acts_after_its_outcome_was_told_whatever_happens() {
    let mut seen = BTreeSet::new();
    for seed in 0..runs() {
        let run = Run::new(seed, Mistake::None).run();
        seen.extend(run.unwrap_or_else(|error| panic!("run {seed}: {error}")));
    }
    // All of it has been tried.
    let all = [
        "canceled again",
        "found",
        "not reached",
        "over",
        "queued again",
        "reached",
        "refused",
        "restored",
        "withdrawn",
        "written late",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn every_mistake_around_changes_is_found() {
    for mistake in [
        Mistake::UnknownIsNothing,
        Mistake::ReadIsProof,
        Mistake::NotFoundIsDone,
        Mistake::JournalAfterSend,
        Mistake::OldStateTells,
        Mistake::NoWaiting,
    ] {
        assert!(violation(20_000, mistake).is_some(), "{mistake:?}");
    }
}
