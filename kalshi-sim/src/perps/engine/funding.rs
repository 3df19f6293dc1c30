//! Funding: who is long pays who is short while the contract costs more than its underlying.
//!
//! It is due at 00:00, 08:00 and 16:00 in New York, so that the hours in UTC move with daylight
//! saving. The rate is the mean of the premium over the seconds since the last funding, between a
//! deadband and a cap: a model of the published terms, and not the exchange's formula. An amount is
//! position × settlement mark × rate, rounded down to 10⁻⁴ dollars for each member; what rounding
//! leaves over goes to the insurance fund.

use chrono::{DateTime, Duration, NaiveTime, Utc};
use kalshi_types::{Count, Dollars};
use serde::{Deserialize, Serialize};

use crate::{
    clock::new_york_behind,
    engine::{
        amount::SaturatingArithmetic,
        ids::MarketId,
        types::{Event, Subaccount, Time},
    },
    perps::engine::{
        Perps, Timer,
        amount::{Rate, credited, divide_down, negated},
        ledger::{Account, FundingPayment, Wallet},
        markets::{LimitUnit, Market, Status},
    },
};

/// The hours of funding in New York.
const HOURS: [u32; 3] = [0, 8, 16];

/// The funding rate of a market for one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FundingRate {
    pub(crate) market: MarketId,
    pub(crate) at: Time,
    pub(crate) rate: Rate,
    pub(crate) mark: Dollars,
}

/// Returns the first time of funding after a time; `None` at the end of time.
pub(crate) fn next_funding(after: Time) -> Option<Time> {
    let after = after.to_datetime()?;
    times_around(after).into_iter().filter(|time| *time > after).min().map(Time::from)
}

/// Returns the last time of funding that is not after a time.
pub(crate) fn last_funding(until: Time) -> Option<Time> {
    let until = until.to_datetime()?;
    times_around(until).into_iter().filter(|time| *time <= until).max().map(Time::from)
}

/// Returns the times of funding of three days in New York.
fn times_around(time: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let today = (time - new_york_behind(time)).date_naive();
    let days = [today.pred_opt(), Some(today), today.succ_opt()];
    let hour = |day: chrono::NaiveDate, hour| {
        let local = day.and_time(NaiveTime::from_hms_opt(hour, 0, 0)?).and_utc();
        // The clocks change at two, so the hour's own offset is that of the guess or of the other.
        [4, 5]
            .map(Duration::hours)
            .into_iter()
            .map(|behind| local + behind)
            .find(|utc| *utc - new_york_behind(*utc) == local)
    };
    days.into_iter().flatten().flat_map(|day| HOURS.map(|at| hour(day, at))).flatten().collect()
}

impl Market {
    /// Returns the rate of the funding of a period that ends, or would end, at a time.
    pub(crate) fn funding_rate(&self, from: Time, until: Time) -> Rate {
        let (from, until) =
            (from.as_millis().div_euclid(1_000), until.as_millis().div_euclid(1_000));
        let mut changes: Vec<(i64, Option<Rate>)> = self
            .premiums
            .range(..=from)
            .next_back()
            .map(|(_, premium)| (from, *premium))
            .into_iter()
            .collect();
        let later = self.premiums.range(from.saturating_add(1)..until.max(from.saturating_add(1)));
        changes.extend(later.map(|(second, premium)| (*second, *premium)));
        let (mut sum, mut seconds) = (0_i128, 0_i128);
        for (place, (second, premium)) in changes.iter().enumerate() {
            let end = changes.get(place + 1).map_or(until, |(next, _)| *next);
            let lasts = i128::from(end.saturating_sub(*second).max(0));
            if premium.is_none() && self.funding.excludes_invalid {
                continue;
            }
            sum += premium.map_or(0, Rate::parts) * lasts;
            seconds += lasts;
        }
        let mean = divide_down(sum, seconds);
        let (deadband, cap) = (self.limit(self.funding.deadband), self.limit(self.funding.cap));
        if mean.abs() < deadband {
            return Rate::ZERO;
        }
        Rate::new(mean.clamp(-cap, cap))
    }

    /// Returns a limit as a part of the mark.
    fn limit(&self, limit: Rate) -> i128 {
        match self.funding.unit {
            LimitUnit::Percentage => limit.parts(),
            LimitUnit::Dollar => divide_down(
                limit.parts() * 1_000_000,
                i128::from(self.settlement_mark.price.as_micros()),
            ),
        }
    }
}

impl Perps {
    /// Returns the funding rates of the past, the oldest first.
    pub(crate) fn funding_rates(&self) -> &[FundingRate] {
        &self.funding_rates
    }

    /// Pays the funding that is due, tells the markets' readers, and schedules the next.
    pub(super) fn fund(&mut self) {
        let now = self.now;
        let before = Time::from_millis(now.as_millis().saturating_sub(1));
        let from = last_funding(before).unwrap_or(now);
        let due: Vec<FundingRate> = self
            .markets
            .iter()
            .filter(|market| market.status() != Status::Closed)
            .map(|market| FundingRate {
                market: market.id,
                at: now,
                rate: market.funding_rate(from, now),
                mark: market.settlement_mark.price,
            })
            .collect();
        for rate in &due {
            self.pay_funding(*rate);
            // The next time of funding is another one.
            self.note_event(Event::Ticker { market: rate.market });
        }
        self.funding_rates.extend(due);
        if let Some(next) = next_funding(now) {
            self.schedule(next, Timer::Fund);
        }
    }

    fn pay_funding(&mut self, rate: FundingRate) {
        let mut left_over = Dollars::ZERO;
        for (id, account) in &mut self.accounts {
            self.history.note_account(*id, account);
            let Account { wallets, funding, .. } = account;
            for (subaccount, wallet) in wallets {
                if let Some(payment) = funding_of(wallet, *subaccount, rate) {
                    wallet.cash = wallet.cash.saturating_add(payment.amount);
                    left_over = left_over.saturating_add(negated(payment.amount));
                    funding.push(payment);
                    self.suspects.insert((*id, *subaccount));
                }
            }
        }
        self.insurance = self.insurance.saturating_add(left_over);
    }
}

/// Returns the funding of a wallet's position in a market, if it has one.
fn funding_of(
    wallet: &Wallet,
    subaccount: Subaccount,
    rate: FundingRate,
) -> Option<FundingPayment> {
    let count = wallet.positions.get(&rate.market)?.count;
    Some(FundingPayment {
        market: rate.market,
        subaccount,
        at: rate.at,
        rate: rate.rate,
        mark: rate.mark,
        count,
        amount: funding_amount(count, rate.mark, rate.rate),
    })
}

/// Returns the funding that a position receives; below zero it pays.
pub(crate) fn funding_amount(count: Count, mark: Dollars, rate: Rate) -> Dollars {
    // Hundredths of a contract, micro-dollars, and 10¹² parts of the rate. Longs pay.
    let parts = i128::from(count.as_hundredths())
        .saturating_mul(i128::from(mark.as_micros()))
        .saturating_mul(-rate.parts());
    credited(parts, 100 * Rate::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perps::engine::{
        markets::FundingTerms,
        tests::{START, dollars, engine},
    };

    fn time(text: &str) -> Time {
        Time::from(text.parse::<DateTime<Utc>>().unwrap())
    }

    #[test]
    fn funding_is_due_at_the_same_hours_in_new_york_the_whole_year() {
        for (after, next) in [
            // Winter: 05, 13, 21 UTC.
            ("2026-01-15T04:59:59Z", "2026-01-15T05:00:00Z"),
            ("2026-01-15T05:00:00Z", "2026-01-15T13:00:00Z"),
            ("2026-01-15T13:00:00Z", "2026-01-15T21:00:00Z"),
            ("2026-01-15T21:00:00Z", "2026-01-16T05:00:00Z"),
            // Summer: 04, 12, 20 UTC.
            ("2026-07-15T03:59:59Z", "2026-07-15T04:00:00Z"),
            ("2026-07-15T04:00:00Z", "2026-07-15T12:00:00Z"),
            ("2026-07-15T12:00:00Z", "2026-07-15T20:00:00Z"),
            ("2026-07-15T20:00:00Z", "2026-07-16T04:00:00Z"),
            // The night of 8 March has seven hours from midnight to eight, that of 1 November nine.
            ("2026-03-08T04:59:59Z", "2026-03-08T05:00:00Z"),
            ("2026-03-08T05:00:00Z", "2026-03-08T12:00:00Z"),
            ("2026-11-01T03:59:59Z", "2026-11-01T04:00:00Z"),
            ("2026-11-01T04:00:00Z", "2026-11-01T13:00:00Z"),
            ("2026-11-01T13:00:00Z", "2026-11-01T21:00:00Z"),
            ("2026-12-31T23:00:00Z", "2027-01-01T05:00:00Z"),
        ] {
            assert_eq!(next_funding(time(after)), Some(time(next)), "{after}");
            let last = Time::from_millis(time(next).as_millis() - 1);
            assert!(last_funding(last).unwrap() <= time(after), "{after}");
            assert_eq!(last_funding(time(next)), Some(time(next)));
        }
    }

    #[test]
    fn a_rate_is_the_mean_over_the_seconds_between_deadband_and_cap() {
        let mut perps = engine();
        let ticker = perps.markets[0].ticker.clone();
        let at = |seconds: i64| Time::from_millis(START.as_millis() + seconds * 1_000);
        let premium = |parts: i128| Rate::new(parts).to_string();
        perps.markets[0].funding = FundingTerms {
            deadband: Rate::new(100_000_000),
            cap: Rate::new(20_000_000_000),
            unit: LimitUnit::Percentage,
            excludes_invalid: false,
        };
        // 0 for a minute, 1 % for a minute, unknown for a minute.
        perps.set_marks(&ticker, Some(dollars("50.5")), None, None, at(60)).unwrap();
        perps.set_marks(&ticker, None, None, Some(None), at(120)).unwrap();
        let rate = |perps: &Perps, from, until| {
            perps.markets[0].funding_rate(at(from), at(until)).to_string()
        };
        assert_eq!(rate(&perps, 0, 60), "0");
        assert_eq!(rate(&perps, 0, 120), premium(5_000_000_000));
        assert_eq!(rate(&perps, 60, 120), premium(10_000_000_000));
        assert_eq!(rate(&perps, 0, 180), premium(3_333_333_333), "the unknown minute counts as 0");
        perps.markets[0].funding.excludes_invalid = true;
        assert_eq!(rate(&perps, 0, 180), premium(5_000_000_000), "it is left out");
        assert_eq!(rate(&perps, 120, 180), "0", "nothing could be measured");
        // One second of 1 % in 101 is below a deadband of 10⁻⁴.
        perps.markets[0].funding.excludes_invalid = false;
        assert_eq!(rate(&perps, 119, 220), "0");
        perps.markets[0].funding.cap = Rate::new(4_000_000_000);
        assert_eq!(rate(&perps, 0, 120), premium(4_000_000_000));
        // A cap of ten cents at a mark of 50.5 dollars.
        perps.markets[0].funding.unit = LimitUnit::Dollar;
        perps.markets[0].funding.cap = Rate::new(100_000_000_000);
        assert_eq!(rate(&perps, 0, 120), premium(1_980_198_019));
    }
}
