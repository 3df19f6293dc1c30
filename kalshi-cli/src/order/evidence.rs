//! The proof that a change of an order was carried out, from the order itself. Pure, and the same for
//! each product.

use kalshi_sdk::{Count, Dollars, UnixSeconds};

/// The end of the text of a failure about an order that shows [`Evidence::Over`].
pub(super) const OVER: &str = "; the order is over, and whether the change came first is not known";

/// The part of an order in which a change of it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) price: Dollars,
    pub(super) filled: Count,
    pub(super) remaining: Count,
    /// The contracts of the whole order, if it tells them also when it is over.
    pub(super) initial: Option<Count>,
    /// 0 for none.
    pub(super) expires: UnixSeconds,
    pub(super) ending: Option<Ending>,
}

/// The end of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it is filled.
    Executed,
    /// The last change of it was a decrease.
    Decreased,
    Other,
}

impl Terms {
    /// Returns the contracts of the whole order, as far as the order tells.
    fn total(&self) -> Option<Count> {
        self.initial.or_else(|| match self.ending {
            None => self.filled.checked_add(self.remaining),
            Some(Ending::Executed) => Some(self.filled),
            Some(_) => None,
        })
    }
}

/// A change of an order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// `expires` is `None` if it stays as it is.
    Amend { price: Dollars, total: Count, expires: Option<UnixSeconds> },
    /// The count that is to rest.
    Decrease { to: Count },
}

/// The answer of an order to the question whether a change was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    Done,
    /// The order does not show it, and may still come to.
    NotShown,
    /// The order is over, and does not show whether the change came first.
    Over,
}

impl Change {
    /// Returns what an order shows of the change, `before` which it was as it was.
    pub(super) fn evidence(self, before: &Terms, now: &Terms) -> Evidence {
        let is_done = match self {
            Self::Amend { price, total, expires } => {
                let shows = (now.price == price, now.total() == Some(total));
                let expiry = expires.is_none_or(|at| now.expires == at);
                if now.ending.is_none() {
                    shows.0 && shows.1 && expiry
                } else {
                    // It is made as a whole: one part that was not so before proves it.
                    let is_larger = before.total().is_some_and(|before| {
                        total > before && now.filled > before && now.filled <= total
                    });
                    (shows.0 && before.price != price)
                        || (shows.1 && before.total() != Some(total))
                        || is_larger
                        || (expiry && expires.is_some_and(|at| before.expires != at))
                }
            }
            Self::Decrease { to } => match now.ending {
                // Fills alone make what rests less, and leave the sum as it was.
                None => {
                    let sum = |terms: &Terms| terms.filled.checked_add(terms.remaining);
                    now.remaining <= to && sum(now) < sum(before)
                }
                // No more was filled than was to be left.
                Some(ending) => {
                    ending == Ending::Decreased
                        || before.filled.checked_add(to).is_some_and(|most| now.filled <= most)
                }
            },
        };
        match now.ending {
            _ if is_done => Evidence::Done,
            None => Evidence::NotShown,
            Some(_) => Evidence::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(price: &str, filled: &str, remaining: &str, ending: Option<Ending>) -> Terms {
        Terms {
            price: price.parse().unwrap(),
            filled: filled.parse().unwrap(),
            remaining: remaining.parse().unwrap(),
            initial: None,
            expires: UnixSeconds::from_seconds(0),
            ending,
        }
    }

    const EXECUTED: Option<Ending> = Some(Ending::Executed);
    const DECREASED: Option<Ending> = Some(Ending::Decreased);
    const OTHER: Option<Ending> = Some(Ending::Other);

    #[test]
    fn a_decrease_is_done_if_no_more_fills_than_it_leaves() {
        let before = terms("0.5", "1", "5", None);
        for (filled, remaining, ending, expected) in [
            ("1", "5", None, Evidence::NotShown),
            ("1", "2", None, Evidence::Done),
            ("2", "1", None, Evidence::Done),
            // Three filled, and nothing was taken off.
            ("4", "2", None, Evidence::NotShown),
            // All five filled.
            ("6", "0", EXECUTED, Evidence::Over),
            ("3", "0", EXECUTED, Evidence::Done),
            ("1", "0", OTHER, Evidence::Done),
            ("4", "0", OTHER, Evidence::Over),
            ("4", "0", DECREASED, Evidence::Done),
        ] {
            let now = terms("0.5", filled, remaining, ending);
            let change = Change::Decrease { to: "2".parse().unwrap() };
            assert_eq!(change.evidence(&before, &now), expected, "{now:?}");
        }
    }

    #[test]
    fn an_amend_is_done_if_the_order_shows_a_part_of_it() {
        let before = terms("0.5", "1", "5", None);
        let amend = |price: &str, total: &str, expires| Change::Amend {
            price: price.parse().unwrap(),
            total: total.parse().unwrap(),
            expires,
        };
        for (price, total, now, expected) in [
            ("0.6", "6", terms("0.5", "1", "5", None), Evidence::NotShown),
            ("0.6", "6", terms("0.6", "2", "4", None), Evidence::Done),
            ("0.6", "7", terms("0.6", "2", "4", None), Evidence::NotShown),
            ("0.6", "6", terms("0.5", "6", "0", EXECUTED), Evidence::Over),
            ("0.6", "6", terms("0.6", "6", "0", EXECUTED), Evidence::Done),
            ("0.6", "6", terms("0.6", "1", "0", OTHER), Evidence::Done),
            // Only the count is another one.
            ("0.5", "3", terms("0.5", "6", "0", EXECUTED), Evidence::Over),
            ("0.5", "3", terms("0.5", "3", "0", EXECUTED), Evidence::Done),
            ("0.5", "3", terms("0.5", "3", "0", OTHER), Evidence::Over),
            ("0.5", "9", terms("0.5", "7", "0", OTHER), Evidence::Done),
            ("0.5", "9", terms("0.5", "6", "0", EXECUTED), Evidence::Over),
            // It changes nothing, and so proves nothing.
            ("0.5", "6", terms("0.5", "6", "0", EXECUTED), Evidence::Over),
        ] {
            let change = amend(price, total, None);
            assert_eq!(change.evidence(&before, &now), expected, "{price} {total} {now:?}");
        }
        // An order that tells its count when it is over.
        let of =
            |initial: &str, now: Terms| Terms { initial: Some(initial.parse().unwrap()), ..now };
        let over = terms("0.5", "1", "0", OTHER);
        let change = amend("0.5", "3", None);
        assert_eq!(change.evidence(&of("6", before), &of("3", over)), Evidence::Done);
        assert_eq!(change.evidence(&of("6", before), &of("6", over)), Evidence::Over);
        // Only the expiry is another one.
        let at = UnixSeconds::from_seconds(9);
        let change = amend("0.5", "6", Some(at));
        assert_eq!(change.evidence(&before, &before), Evidence::NotShown);
        assert_eq!(change.evidence(&before, &over), Evidence::Over);
        assert_eq!(change.evidence(&before, &Terms { expires: at, ..over }), Evidence::Done);
    }
}
