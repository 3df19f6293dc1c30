//! Requests for quotes under random commands: single ones and batches, quotes, acceptances,
//! confirmations, markets that close and pause, members that run out of money.
//!
//! After every command the best bids are those of a model that knows nothing of the engine, and
//! what a batch may be in holds; when a batch ends, all of it was executed or nothing. Money and
//! contracts add up. 12,000 commands a run; `KALSHI_SIM_RFQ_COMMANDS` asks for more,
//! `KALSHI_SIM_SEED` repeats a run.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use kalshi_types::{Count, Dollars, PriceRange};

use super::*;
use crate::{
    engine::{
        fees::{FeeType, Fees},
        random_run::setting,
        types::{BatchChange, MarketResult, NewMarket},
    },
    random::Random,
};

const START: i64 = 1_790_000_000_000;
const MEMBERS: usize = 5;
const QUOTED_MILLIS: i64 = 30_000;

/// Everything that can be asked.
#[derive(Clone, Debug)]
enum Command {
    Request(NewRfq),
    DeleteRequest(AccountId, RfqId),
    Quote(Quoter, Bids),
    Accept(AccountId, QuoteId, Side),
    Confirm(AccountId, QuoteId),
    DeleteQuote(AccountId, QuoteId),
    Batch(NewBatch),
    DeleteBatch(AccountId, BatchId),
    QuoteBatch(Quoter, BatchId, Vec<Bids>),
    AcceptBatch(AccountId, BatchId, Side, BTreeMap<RfqId, Dollars>, Option<String>),
    ConfirmBatch(AccountId, BatchId, BatchQuoteId),
    DeleteBatchQuote(AccountId, BatchId, BatchQuoteId),
    Place(NewOrder),
    /// Pays money in, or out.
    Pay(AccountId, u8, Dollars),
    Pause(u8, bool),
    Determine(MarketId),
    Wait,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq)]
enum Done {
    Nothing,
    Batch(BatchId),
    BatchQuote(BatchQuoteId),
    Accepted(Side, Vec<QuoteId>),
    Refused(&'static str),
    QuotesChanged(RfqId),
}

/// A batch quote as the model knows it.
#[derive(Clone, Debug)]
struct Sent {
    at: i64,
    /// Of each child: the bids for YES and NO, and since when each has been the same.
    rows: BTreeMap<RfqId, [(Dollars, u64); 2]>,
}

struct Run {
    engine: Engine,
    random: Random,
    now: i64,
    members: Vec<AccountId>,
    listed: u64,
    /// The batch quotes that were sent last.
    sent: BTreeMap<(BatchId, AccountId), Sent>,
    sendings: u64,
    /// The batches whose end was told and has not been looked at.
    ended: Vec<BatchId>,
    /// The last acceptance that went through, to be sent again.
    accepted: Option<(Command, Done)>,
    /// The events of each batch.
    told: BTreeMap<BatchId, Vec<BatchChange>>,
    counts: BTreeMap<String, u64>,
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Ask)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut engine = Engine::default();
        let now = Time::from_millis(START);
        let members: Vec<AccountId> =
            (0..MEMBERS).map(|number| engine.ledger.open(number % 2 == 0)).collect();
        for member in &members {
            for shard in [0, 1] {
                let amount = Dollars::from_dollars(400).unwrap();
                engine.ledger.deposit(*member, 0, shard, amount, now).unwrap();
            }
        }
        let mut run = Self {
            engine,
            random: Random::new(seed),
            now: START,
            members,
            listed: 0,
            sent: BTreeMap::new(),
            sendings: 0,
            ended: Vec::new(),
            accepted: None,
            told: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        for _ in 0..12 {
            run.list();
        }
        run
    }

    /// Lists a combo, or every fourth time another market.
    fn list(&mut self) {
        self.listed += 1;
        let is_combo = !self.listed.is_multiple_of(4);
        let lasts = 20_000 + self.number(400_000);
        let band = PriceRange { start: Dollars::ZERO, end: Dollars::ONE, step: Dollars::CENT };
        let new = NewMarket {
            ticker: format!("{}{}", if is_combo { "KXMVE" } else { "M" }, self.listed),
            event_ticker: "E".to_owned(),
            series_ticker: "S".to_owned(),
            shard: u8::from(is_combo),
            structure: "random".to_owned(),
            ranges: vec![band],
            fees: Fees { kind: FeeType::QuadraticWithMakerFees, ..Fees::default() },
            opens: self.time(),
            closes: Time::from_millis(self.now + lasts),
            settlement_timer_seconds: 5,
        };
        self.engine.add_market(&new, self.time()).unwrap();
    }

    fn time(&self) -> Time {
        Time::from_millis(self.now)
    }

    fn number(&mut self, below: i64) -> i64 {
        i64::try_from(self.random.below(below.unsigned_abs())).unwrap()
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let place = self.random.below(u64::try_from(from.len()).unwrap());
        from.get(usize::try_from(place).unwrap()).cloned()
    }

    fn member(&mut self) -> AccountId {
        let members = self.members.clone();
        self.pick(&members).unwrap()
    }

    fn side(&mut self) -> Side {
        if self.chance(2) { Side::Bid } else { Side::Ask }
    }

    /// Returns the tickers of a shard that trade, with one that does not now and then.
    fn tickers(&mut self, shard: u8) -> Vec<String> {
        let any = self.chance(40);
        let recent = || self.engine.markets().iter().rev().take(24);
        let trading = recent().filter(|m| m.status == MarketStatus::Active).count();
        let on = recent().filter(|m| m.shard == shard || any);
        let found: Vec<String> = on
            .filter(|m| any || m.status == MarketStatus::Active)
            .map(|m| m.ticker.clone())
            .collect();
        if trading < 10 {
            self.list();
        }
        found
    }

    /// Returns a few prices, so that bids are often equal.
    fn bids(&mut self, rfq: RfqId) -> Bids {
        let yes = Dollars::from_micros(if self.chance(8) {
            0
        } else {
            300_000 + self.number(4) * 10_000
        });
        let no = Dollars::from_micros(if self.chance(8) {
            0
        } else {
            600_000 + self.number(5) * 10_000
        });
        if self.chance(200) {
            return Bids { rfq, yes: Dollars::from_micros(305_000), no };
        }
        Bids { rfq, yes, no }
    }

    fn size(&mut self, in_contracts: bool) -> Size {
        if in_contracts {
            Size::Contracts(Count::from_hundredths(1 + self.number(1_500)))
        } else {
            let target = Dollars::from_micros((1 + self.number(800)) * 10_000);
            Size::Cost { target, excludes_fees: self.chance(2) }
        }
    }

    fn quoter(&mut self) -> Quoter {
        Quoter {
            account: self.member(),
            subaccount: 0,
            rest_remainder: self.chance(3),
            post_only: self.chance(4),
        }
    }

    fn new_batch(&mut self) -> NewBatch {
        let shard = u8::from(!self.chance(6));
        let tickers = self.tickers(shard);
        let wanted = if self.chance(20) { 1 } else { 2 + self.number(4) };
        let in_contracts = self.chance(2);
        let mut children = Vec::new();
        for _ in 0..wanted {
            let Some(ticker) = self.pick(&tickers) else { break };
            let is_new = children.iter().all(|(other, _)| *other != ticker);
            if is_new || self.chance(50) {
                let odd = self.chance(60);
                let size = self.size(in_contracts != odd);
                children.push((ticker, size));
            }
        }
        NewBatch {
            account: self.member(),
            subaccount: 0,
            obscured: self.chance(2),
            replace_existing: self.chance(2),
            client_batch_id: self.chance(3).then(|| format!("b{}", self.random.below(60))),
            children,
        }
    }

    /// Returns a batch that is open or accepted, or now and then any of the last ones.
    fn some_batch(&mut self, status: BatchStatus) -> Option<Batch> {
        let any = self.chance(30);
        let all: Vec<Batch> = self
            .engine
            .batches()
            .take(40)
            .filter(|batch| any || batch.status == status)
            .cloned()
            .collect();
        self.pick(&all)
    }

    fn batch_quote(&mut self) -> Option<Command> {
        let batch = self.some_batch(BatchStatus::Open)?;
        let mut quoter = self.quoter();
        if quoter.account == batch.account && !self.chance(20) {
            quoter.account = self.member();
        }
        let before = self.sent.get(&(batch.id, quoter.account)).cloned();
        let mut rows: Vec<Bids> = batch.rfqs.iter().map(|rfq| self.bids(*rfq)).collect();
        // Mostly the same again, with a change here and there.
        if let Some(before) = before.filter(|_| !self.chance(4)) {
            for row in &mut rows {
                if let Some([yes, no]) = before.rows.get(&row.rfq)
                    && !self.chance(4)
                {
                    (row.yes, row.no) = (yes.0, no.0);
                }
            }
        }
        match self.random.below(80) {
            0 | 1 => drop(rows.pop()),
            2 | 3 => rows.extend(rows.first().copied()),
            _ => {}
        }
        Some(Command::QuoteBatch(quoter, batch.id, rows))
    }

    fn batch_accept(&mut self) -> Option<Command> {
        if self.chance(8)
            && let Some((again, _)) = &self.accepted
        {
            return Some(again.clone());
        }
        let batch = self.some_batch(BatchStatus::Open)?;
        let side = self.side();
        let mut least = BTreeMap::new();
        for rfq in &batch.rfqs {
            let cents = if self.chance(6) { 30 + self.number(35) } else { 0 };
            least.insert(*rfq, Dollars::from_micros(cents * 10_000));
        }
        if self.chance(40) {
            least.pop_first();
        }
        let account = if self.chance(20) { self.member() } else { batch.account };
        let name = self.chance(2).then(|| format!("o{}", self.random.below(2_000)));
        Some(Command::AcceptBatch(account, batch.id, side, least, name))
    }

    /// Returns a batch quote that won, and its batch; now and then any.
    fn some_winner(&mut self) -> Option<(AccountId, BatchId, BatchQuoteId)> {
        let batch = self.some_batch(BatchStatus::Accepted)?;
        let any = self.chance(20);
        let waits = |id: &&BatchQuoteId| {
            let parts = self.engine.batch_quote(**id).map_or(&[][..], |quote| &quote.quotes);
            !self.engine.quotes_in(parts, QuoteStatus::Accepted).is_empty()
        };
        let of: Vec<BatchQuoteId> =
            batch.quotes.iter().filter(|id| any || waits(id)).copied().collect();
        let quote = self.pick(&of)?;
        let account =
            if self.chance(30) { self.member() } else { self.engine.batch_quote(quote)?.account };
        Some((account, batch.id, quote))
    }

    fn some_quote(&mut self, status: QuoteStatus) -> Option<Quote> {
        let any = self.chance(20);
        let all: Vec<Quote> = self
            .engine
            .quotes()
            .take(150)
            .filter(|quote| any || quote.status == status && quote.batch.is_none())
            .cloned()
            .collect();
        self.pick(&all)
    }

    fn some_request(&mut self) -> Option<Rfq> {
        let all: Vec<Rfq> = self.engine.rfqs().take(30).cloned().collect();
        let single = all.iter().filter(|rfq| rfq.batch.is_none() && rfq.is_open());
        let single: Vec<Rfq> = single.cloned().collect();
        if single.is_empty() || self.chance(30) { self.pick(&all) } else { self.pick(&single) }
    }

    fn command(&mut self) -> Option<Command> {
        Some(match self.random.below(100) {
            0..5 => {
                let shard = u8::from(self.chance(2));
                let tickers = self.tickers(shard);
                let in_contracts = self.chance(2);
                Command::Request(NewRfq {
                    account: self.member(),
                    subaccount: 0,
                    ticker: self.pick(&tickers)?,
                    size: self.size(in_contracts),
                    rest_remainder: self.chance(3),
                    replace_existing: self.chance(2),
                    obscured: self.chance(2),
                })
            }
            5 => {
                let rfq = self.some_request()?;
                let owner = if self.chance(4) { self.member() } else { rfq.account };
                Command::DeleteRequest(owner, rfq.id)
            }
            6..14 => {
                let (quoter, rfq) = (self.quoter(), self.some_request()?.id);
                Command::Quote(quoter, self.bids(rfq))
            }
            14..18 => {
                let quote = self.some_quote(QuoteStatus::Open)?;
                let owner = self.engine.rfq_of(&quote)?.account;
                Command::Accept(owner, quote.id, self.side())
            }
            18..22 => {
                let quote = self.some_quote(QuoteStatus::Accepted)?;
                Command::Confirm(quote.account, quote.id)
            }
            22 => {
                let quote = self.some_quote(QuoteStatus::Open)?;
                Command::DeleteQuote(quote.account, quote.id)
            }
            23..33 => Command::Batch(self.new_batch()),
            33 => {
                let status = if self.chance(3) { BatchStatus::Accepted } else { BatchStatus::Open };
                let batch = self.some_batch(status)?;
                let owner = if self.chance(4) { self.member() } else { batch.account };
                Command::DeleteBatch(owner, batch.id)
            }
            34..58 => self.batch_quote()?,
            58..65 => self.batch_accept()?,
            65..82 => {
                let (account, batch, quote) = self.some_winner()?;
                Command::ConfirmBatch(account, batch, quote)
            }
            82 => {
                let (account, batch, quote) = self.some_winner()?;
                if self.chance(3) {
                    Command::DeleteBatchQuote(account, batch, quote)
                } else {
                    let batch = self.some_batch(BatchStatus::Open)?;
                    let quote = self.pick(&batch.quotes)?;
                    let account = self.engine.batch_quote(quote)?.account;
                    Command::DeleteBatchQuote(account, batch.id, quote)
                }
            }
            83..91 => {
                let shard = u8::from(self.chance(2));
                let tickers = self.tickers(shard);
                let price = Dollars::from_micros(250_000 + self.number(20) * 10_000);
                let contracts = Count::from_hundredths(1 + self.number(500));
                let (account, ticker, side) = (self.member(), self.pick(&tickers)?, self.side());
                Command::Place(NewOrder::resting(account, ticker, side, price, contracts))
            }
            91..94 => {
                let cents = self.number(40_000) - 20_000;
                let shard = u8::from(self.chance(2));
                Command::Pay(self.member(), shard, Dollars::from_micros(cents * 10_000))
            }
            94 => Command::Pause(u8::from(self.chance(2)), !self.chance(5)),
            95 if self.chance(6) => {
                let markets: Vec<MarketId> =
                    self.engine.markets().iter().rev().take(12).map(|market| market.id).collect();
                Command::Determine(self.pick(&markets)?)
            }
            _ => Command::Wait,
        })
    }

    /// Reports whether a batch quote still counts, by the model.
    fn counts(&self, sent: &Sent) -> bool {
        self.now < sent.at + QUOTED_MILLIS
    }

    /// Returns the maker of the best bid on a child, as the model sees it, and the bid.
    fn best(&self, batch: BatchId, rfq: RfqId, side: Side) -> Option<(AccountId, Dollars)> {
        self.sent
            .iter()
            .filter(|((of, _), sent)| *of == batch && self.counts(sent))
            .filter_map(|((_, maker), sent)| Some((*maker, sent.rows.get(&rfq)?[place(side)])))
            .filter(|(_, (bid, _))| bid.is_positive())
            .max_by_key(|(_, (bid, since))| (*bid, Reverse(*since)))
            .map(|(maker, (bid, _))| (maker, bid))
    }

    fn step(&mut self, command: &Command) {
        self.now += match self.random.below(20) {
            0 => 3_000 + self.number(30_000),
            1..5 => self.number(2_500),
            _ => self.number(250),
        };
        // The events of time alone come first, so that a refusal can be seen to change nothing.
        self.engine.advance(self.time());
        self.read_events();
        self.check();
        let before = self.chance(50).then(|| (self.engine.rfq_book.clone(), self.money()));
        let done = self.apply(command);
        let name = match &done {
            Done::Refused(code) => (*code).to_owned(),
            Done::QuotesChanged(_) => "rfq_batch_quotes_changed".to_owned(),
            _ => format!("{command:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        };
        *self.counts.entry(name).or_default() += 1;
        let is_refused = matches!(done, Done::Refused(_) | Done::QuotesChanged(_));
        if let Some((book, money)) = before.filter(|_| is_refused) {
            assert_eq!(book, self.engine.rfq_book, "{command:?} {done:?}");
            assert_eq!(money, self.money(), "{command:?} {done:?}");
        }
        self.learn(command, &done);
        self.read_events();
        self.check();
    }

    fn money(&self) -> Vec<String> {
        let accounts = self.engine.ledger.accounts();
        accounts.map(|(_, account)| format!("{:?} {:?}", account.cash, account.resting)).collect()
    }

    fn apply(&mut self, command: &Command) -> Done {
        let now = self.time();
        let engine = &mut self.engine;
        let who = |account: &AccountId| Principal::member(*account);
        let nothing = |()| Done::Nothing;
        let result: Result<Done, AcceptRefusal> = match command {
            Command::Request(new) => {
                engine.create_rfq(new, now).map(|_| Done::Nothing).map_err(Into::into)
            }
            Command::DeleteRequest(account, rfq) => {
                engine.delete_rfq(who(account), *rfq, now).map(nothing).map_err(Into::into)
            }
            Command::Quote(quoter, bids) => {
                engine.create_quote(*quoter, *bids, now).map(|_| Done::Nothing).map_err(Into::into)
            }
            Command::Accept(account, quote, side) => engine
                .accept_quote(who(account), None, *quote, *side, now)
                .map(nothing)
                .map_err(Into::into),
            Command::Confirm(account, quote) => engine
                .confirm_quote(who(account), None, *quote, now)
                .map(nothing)
                .map_err(Into::into),
            Command::DeleteQuote(account, quote) => engine
                .delete_quote(who(account), None, *quote, now)
                .map(nothing)
                .map_err(Into::into),
            Command::Batch(new) => {
                engine.create_batch(new, now).map(Done::Batch).map_err(Into::into)
            }
            Command::DeleteBatch(account, batch) => {
                engine.delete_batch(who(account), *batch, now).map(nothing).map_err(Into::into)
            }
            Command::QuoteBatch(quoter, batch, bids) => engine
                .create_batch_quote(*quoter, *batch, bids, now)
                .map(Done::BatchQuote)
                .map_err(Into::into),
            Command::AcceptBatch(account, batch, side, least, name) => engine
                .accept_batch(who(account), *batch, *side, least, name.as_deref(), now)
                .map(|(side, quotes)| Done::Accepted(side, quotes)),
            Command::ConfirmBatch(account, batch, quote) => engine
                .confirm_batch_quote(who(account), *batch, *quote, now)
                .map(nothing)
                .map_err(Into::into),
            Command::DeleteBatchQuote(account, batch, quote) => engine
                .delete_batch_quote(who(account), *batch, *quote, now)
                .map(nothing)
                .map_err(Into::into),
            Command::Place(new) => {
                engine.place_order(new, now).map(|_| Done::Nothing).map_err(Into::into)
            }
            Command::Pay(account, shard, amount) => engine
                .ledger
                .deposit(*account, 0, *shard, *amount, now)
                .map(nothing)
                .map_err(Into::into),
            Command::Pause(shard, trades) => {
                engine.set_shard(*shard, true, *trades, now);
                Ok(Done::Nothing)
            }
            Command::Determine(market) => {
                engine.determine(*market, MarketResult::Yes, now).map(nothing).map_err(Into::into)
            }
            Command::Wait => Ok(Done::Nothing),
        };
        match result {
            Ok(done) => done,
            Err(AcceptRefusal::QuotesChanged(rfq)) => Done::QuotesChanged(rfq),
            Err(AcceptRefusal::Refused(refusal)) => {
                assert!(!refusal.message.is_empty());
                Done::Refused(refusal.code)
            }
        }
    }

    /// Tells the model what has happened, and holds the engine's answers against it.
    fn learn(&mut self, command: &Command, done: &Done) {
        match (command, done) {
            (Command::QuoteBatch(quoter, batch, rows), Done::BatchQuote(_)) => {
                self.sendings += 1;
                let key = (*batch, quoter.account);
                let before = self.sent.get(&key).filter(|sent| self.counts(sent)).cloned();
                let rows = rows.iter().map(|row| {
                    let old = before.as_ref().and_then(|before| before.rows.get(&row.rfq));
                    let since = |place: usize, bid: Dollars| {
                        let same = old.map(|old| old[place]).filter(|(old, _)| *old == bid);
                        same.unwrap_or((bid, self.sendings))
                    };
                    (row.rfq, [since(0, row.yes), since(1, row.no)])
                });
                let sent = Sent { at: self.now, rows: rows.collect() };
                self.sent.insert(key, sent);
            }
            (Command::DeleteBatchQuote(account, batch, quote), Done::Nothing) => {
                // What was accepted has gone with its batch; an older one is not the last one.
                let last = self.engine.batch(*batch).map_or(&[][..], |batch| &batch.quotes);
                let own = |id: &&BatchQuoteId| {
                    self.engine.batch_quote(**id).is_some_and(|quote| quote.account == *account)
                };
                assert_eq!(last.iter().rev().find(own), Some(quote));
                self.sent.remove(&(*batch, *account));
            }
            (Command::AcceptBatch(_, batch, asked, least, _), Done::Accepted(side, quotes)) => {
                let found = self.engine.batch(*batch).unwrap();
                let first = found.accepted.as_ref().unwrap();
                assert_eq!((first.side, &first.quotes), (*side, quotes));
                if first.at == self.time()
                    && self.accepted.as_ref().is_none_or(|(c, _)| !same(c, command))
                {
                    assert_eq!(side, asked);
                    for (rfq, quote) in found.rfqs.iter().zip(quotes) {
                        let quote = self.engine.quote(*quote).unwrap();
                        let best = self.best(*batch, *rfq, *side);
                        assert_eq!(best, Some((quote.account, quote.bid(*side))), "{rfq:?}");
                        assert!(quote.rfq == *rfq && quote.bid(*side) >= least[rfq]);
                    }
                }
                if let Some((_, before)) = self.accepted.as_ref().filter(|(c, _)| same(c, command))
                {
                    assert_eq!(before, done, "a retry has another result");
                    *self.counts.entry("retried".to_owned()).or_default() += 1;
                }
                if matches!(command, Command::AcceptBatch(_, _, _, _, Some(_))) {
                    self.accepted = Some((command.clone(), done.clone()));
                }
            }
            (Command::AcceptBatch(_, batch, side, least, _), Done::QuotesChanged(rfq)) => {
                let found = self.engine.batch(*batch).unwrap();
                let falls_short = |rfq: &&RfqId| {
                    self.best(*batch, **rfq, *side).is_none_or(|(_, bid)| bid < least[*rfq])
                };
                assert_eq!(found.rfqs.iter().find(falls_short), Some(rfq));
            }
            _ => {}
        }
    }

    fn read_events(&mut self) {
        let mut executed: BTreeSet<QuoteId> = BTreeSet::new();
        for event in self.engine.take_events() {
            match event {
                Event::Batch { batch, change } => {
                    if change == BatchChange::Executed {
                        // The executions of its children have been told before.
                        let found = self.engine.batch(batch).unwrap();
                        let quotes = &found.accepted.as_ref().unwrap().quotes;
                        let all = quotes.iter().all(|quote| executed.contains(quote));
                        assert_eq!(all, found.closed.unwrap().1 == Ending::Executed);
                    }
                    if matches!(change, BatchChange::Executed | BatchChange::Deleted) {
                        self.ended.push(batch);
                    }
                    self.told.entry(batch).or_default().push(change);
                }
                Event::Quote { quote, change: QuoteChange::Executed } => {
                    executed.insert(quote);
                }
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        for batch in self.live() {
            self.check_live(batch);
        }
        for id in std::mem::take(&mut self.ended) {
            let batch = self.engine.batch(id).unwrap().clone();
            self.check_ended(&batch);
            self.sent.retain(|(of, _), _| *of != id);
        }
    }

    /// Checks everything.
    fn check_all(&self) {
        self.engine.audit().unwrap();
        let book = &self.engine.rfq_book;
        let mut single: BTreeMap<AccountId, BTreeSet<MarketId>> = BTreeMap::new();
        for rfq in book.rfqs.values().filter(|rfq| rfq.is_open()) {
            match rfq.batch {
                None => {
                    let is_new = single.entry(rfq.account).or_default().insert(rfq.market);
                    assert!(is_new, "two open requests on a market: {rfq:?}");
                }
                Some(batch) => assert!(book.batches[&batch].closed.is_none(), "{rfq:?}"),
            }
        }
        for (account, markets) in &single {
            assert!(markets.len() <= MAX_OPEN_RFQS);
            assert!(book.open[account].keys().eq(markets), "{account:?}");
        }
        let listed: usize = book.open.values().map(BTreeMap::len).sum();
        assert_eq!(single.values().map(BTreeSet::len).sum::<usize>(), listed);
        let waits = |quote: &&Quote| quote.status == QuoteStatus::Open || quote.status.is_pending();
        for quote in book.quotes.values().filter(waits) {
            assert!(book.rfqs[&quote.rfq].is_open(), "{quote:?}");
        }
        for batch in book.batches.values() {
            assert_eq!(batch.closed.is_none(), book.live_batches.contains(&batch.id));
            let told = &self.told[&batch.id];
            let ends = [BatchChange::Executed, BatchChange::Deleted];
            let is_told = told.last().is_some_and(|last| ends.contains(last));
            assert_eq!(batch.closed.is_some(), is_told, "{batch:?} {told:?}");
        }
    }

    fn live(&self) -> impl Iterator<Item = &Batch> {
        self.engine.rfq_book.live_batches.iter().map(|id| self.engine.batch(*id).unwrap())
    }

    fn check_live(&self, batch: &Batch) {
        let engine = &self.engine;
        assert!(batch.closed.is_none());
        let rfqs: Vec<&Rfq> = batch.rfqs.iter().map(|id| engine.rfq(*id).unwrap()).collect();
        assert!(rfqs.iter().all(|rfq| rfq.is_open() && rfq.batch == Some(batch.id)));
        let markets: BTreeSet<MarketId> = rfqs.iter().map(|rfq| rfq.market).collect();
        assert_eq!(markets.len(), rfqs.len());
        assert!((2..=MAX_CHILDREN).contains(&rfqs.len()));
        let shards: BTreeSet<u8> =
            markets.iter().map(|market| engine.market(*market).unwrap().shard).collect();
        assert_eq!(shards.len(), 1);
        let contracts = rfqs.iter().filter(|rfq| matches!(rfq.size, Size::Contracts(_))).count();
        assert!(contracts == 0 || contracts == rfqs.len());
        let own =
            |other: &&Batch| other.account == batch.account && other.status == BatchStatus::Open;
        assert!(self.live().filter(own).count() <= 2, "{batch:?}");
        let quotes: Vec<&Quote> = batch
            .quotes
            .iter()
            .filter_map(|id| engine.batch_quote(*id))
            .flat_map(|quote| quote.quotes.iter().filter_map(|id| engine.quote(*id)))
            .collect();
        let open: Vec<&&Quote> = quotes.iter().filter(|q| q.status == QuoteStatus::Open).collect();
        let Some(accepted) = &batch.accepted else {
            assert_eq!(batch.status, BatchStatus::Open);
            let makers: BTreeSet<AccountId> = open.iter().map(|quote| quote.account).collect();
            assert_eq!(open.len(), makers.len() * rfqs.len(), "each prices each child once");
            for rfq in &batch.rfqs {
                for side in [Side::Bid, Side::Ask] {
                    let best = engine.best_quote(*rfq, side);
                    let best = best.map(|quote| (quote.account, quote.bid(side)));
                    assert_eq!(best, self.best(batch.id, *rfq, side), "{rfq:?} {side:?}");
                }
            }
            return;
        };
        assert_eq!(batch.status, BatchStatus::Accepted);
        assert!(open.is_empty(), "what was not taken is over");
        let taken: Vec<&Quote> =
            accepted.quotes.iter().map(|quote| engine.quote(*quote).unwrap()).collect();
        assert!(taken.iter().zip(&batch.rfqs).all(|(quote, rfq)| quote.rfq == *rfq));
        assert!(taken.iter().all(|quote| quote.status.is_pending()));
        let waits = taken.iter().any(|quote| quote.status == QuoteStatus::Accepted);
        let fast = markets.iter().any(|m| engine.market(*m).unwrap().ticker.starts_with("KXMVE"));
        let (confirm, execute) = if fast { (3_000, 1_000) } else { (30_000, 15_000) };
        let since = if waits {
            accepted.at.as_millis() + confirm
        } else {
            taken.iter().map(|q| q.confirmed.unwrap().as_millis()).max().unwrap() + execute
        };
        assert!(self.now < since, "{batch:?}");
    }

    /// Checks that everything was executed, or nothing.
    fn check_ended(&self, batch: &Batch) {
        let engine = &self.engine;
        let (at, ending) = batch.closed.unwrap();
        let told = self.told.get(&batch.id).cloned().unwrap_or_default();
        assert_eq!(told.first(), Some(&BatchChange::Created));
        let last = |change: &BatchChange| *change != BatchChange::BestQuotes;
        let ends: Vec<BatchChange> = told.into_iter().skip(1).filter(last).collect();
        let is_tried = matches!(ending, Ending::Executed | Ending::ExecutionFailed);
        let expected = if is_tried { BatchChange::Executed } else { BatchChange::Deleted };
        assert_eq!(ends, [expected], "{batch:?}");
        let Some(accepted) = &batch.accepted else {
            let never = [Ending::Deleted, Ending::Replaced, Ending::MarketClosed];
            assert!(never.contains(&ending), "{batch:?}");
            return;
        };
        let ways =
            [Ending::Executed, Ending::ExecutionFailed, Ending::NotConfirmed, Ending::MarketClosed];
        assert!(ways.contains(&ending), "{batch:?}");
        for (rfq, quote) in batch.rfqs.iter().zip(&accepted.quotes) {
            let quote = engine.quote(*quote).unwrap();
            assert_eq!(engine.rfq(*rfq).unwrap().closed, Some((at, ending)));
            let name = maker_order_id(quote);
            let maker = engine.ledger.account(quote.account).unwrap();
            let maker = maker.client_order_ids.get(name.as_str()).copied();
            if ending == Ending::Executed {
                assert_eq!((quote.status, quote.executed), (QuoteStatus::Executed, Some(at)));
                let taker = engine.order(quote.rfq_order.unwrap()).unwrap();
                assert_eq!(taker.status, OrderStatus::Executed);
                assert_eq!(taker.filled, quote.count(accepted.side));
                // The requester pays no more than what the maker's bid leaves.
                let limit = accepted.side.opposite().leg_price(quote.price(accepted.side));
                assert!(taker.extras().taker_cost <= cost(limit, taker.filled), "{taker:?}");
                assert_eq!(maker, quote.order);
                let made = engine.order(quote.order.unwrap()).unwrap();
                assert!(quote.rest_remainder || made.status != OrderStatus::Resting);
            } else {
                assert_eq!(quote.cancelled, Some((at, ending)));
                assert_eq!((quote.order, quote.rfq_order, quote.executed), (None, None, None));
                if let Some(order) = maker.and_then(|order| engine.order(order)) {
                    assert_eq!(order.status, OrderStatus::Canceled);
                    assert!(order.filled.is_zero());
                }
            }
        }
    }
}

/// Reports whether one acceptance is the other one sent again.
fn same(one: &Command, other: &Command) -> bool {
    match (one, other) {
        (
            Command::AcceptBatch(a, batch, .., Some(name)),
            Command::AcceptBatch(b, of, .., Some(other)),
        ) => a == b && batch == of && name == other,
        _ => false,
    }
}

#[test]
fn random_requests_and_batches_keep_every_promise() {
    let commands = setting("KALSHI_SIM_RFQ_COMMANDS", 12_000);
    let mut run = Run::new(setting("KALSHI_SIM_SEED", 7));
    let mut number = 0;
    while number < commands {
        let Some(command) = run.command() else { continue };
        run.step(&command);
        number += 1;
        if number % 200 == 0 {
            run.check_all();
        }
    }
    run.check_all();
    // A run that only meets refusals proves nothing.
    let ended = |ending: Ending| {
        let all = run.engine.batches();
        all.filter(|batch| {
            batch.accepted.is_some() && batch.closed.is_some_and(|(_, e)| e == ending)
        })
        .count()
    };
    for ending in [Ending::Executed, Ending::ExecutionFailed, Ending::NotConfirmed] {
        let count = ended(ending);
        assert!(commands < 10_000 || count > 10, "{count} batches are {ending:?}");
    }
    let single = run.engine.quotes().filter(|q| q.batch.is_none() && q.executed.is_some()).count();
    assert!(commands < 10_000 || single > 10, "{single} single quotes were executed");
    for code in [
        "retried",
        "too_many_rfq_batches",
        "rfq_batch_already_exists",
        "rfq_batch_quotes_changed",
        "rfq_batch_not_open",
        "INSUFFICIENT_BALANCE",
        "TRADING_PAUSED",
        "not_accepted",
        "expired",
        "invalid_parameters",
        "not_found",
        "RFQ_CLOSED",
    ] {
        assert!(commands < 10_000 || run.counts.contains_key(code), "no {code}: {:?}", run.counts);
    }
}

#[test]
fn a_seed_repeats_a_run_of_requests_exactly() {
    let run = |seed| {
        let mut run = Run::new(seed);
        for _ in 0..1_500 {
            if let Some(command) = run.command() {
                run.step(&command);
            }
        }
        format!("{:?}", run.engine)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}
