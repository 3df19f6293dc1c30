//! Reads that several unknown orders share: one list of a market serves all of them that asked for
//! it before it was begun.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt as _;
use kalshi_types::UnixMillis;
use tokio::sync::oneshot;

use super::{
    Input,
    read::{self, Question},
    shell::{Shared, lock},
};
use crate::journal::Product;

/// The time that a read waits for others that want the same: those whose answers were lost
/// together ask within the same moment.
const GATHER: Duration = Duration::from_millis(5);

/// The reads that are asked for. A key is there as long as a task reads for it.
#[derive(Debug, Default)]
pub(super) struct Reads {
    lists: Mutex<HashMap<(Product, String), Vec<ListWaiter>>>,
    watermark: Mutex<Option<Vec<oneshot::Sender<Option<UnixMillis>>>>>,
}

#[derive(Debug)]
struct ListWaiter {
    question: Question,
    reply: oneshot::Sender<Input>,
}

/// Lists the orders of a market, with all others that ask for it.
pub(super) async fn list(
    shared: Arc<Shared>,
    product: Product,
    ticker: String,
    question: Question,
) -> Input {
    let market = (product, ticker);
    let (reply, answer) = oneshot::channel();
    let waiter = ListWaiter { question, reply };
    let is_first = {
        let mut lists = lock(&shared.reads.lists);
        let is_first = !lists.contains_key(&market);
        lists.entry(market.clone()).or_default().push(waiter);
        is_first
    };
    if is_first {
        let reader = Arc::clone(&shared);
        shared.runtime.spawn(async move { serve_lists(&reader, market).await });
    }
    // The runtime ends.
    answer.await.unwrap_or(Input::ReadFailed)
}

/// Lists the orders of a market as long as a task asks for it.
async fn serve_lists(shared: &Shared, market: (Product, String)) {
    loop {
        tokio::time::sleep(GATHER).await;
        let waiters = {
            let mut lists = lock(&shared.reads.lists);
            let waiters = lists.get_mut(&market).map(std::mem::take).unwrap_or_default();
            if waiters.is_empty() {
                lists.remove(&market);
                return;
            }
            waiters
        };
        let (questions, replies): (Vec<Question>, Vec<_>) =
            waiters.into_iter().map(|waiter| (waiter.question, waiter.reply)).unzip();
        let (product, ticker) = &market;
        let read = read_list(shared, *product, ticker, &questions);
        // A layer of the client that panics must not leave the market with a reader that is gone.
        let answers = AssertUnwindSafe(read).catch_unwind().await;
        let answers = answers.unwrap_or_else(|_| vec![Input::ReadFailed; questions.len()]);
        for (reply, answer) in replies.into_iter().zip(answers) {
            let _ = reply.send(answer);
        }
    }
}

/// Reads the list of the orders of a market, and returns what each of those who asked gets.
async fn read_list(
    shared: &Shared,
    product: Product,
    ticker: &str,
    questions: &[Question],
) -> Vec<Input> {
    match product {
        Product::EventContracts => read::list(&shared.settling, ticker, questions).await,
        #[cfg(feature = "perps")]
        Product::Perps => super::perps::read::list(&shared.settling, ticker, questions).await,
        // A journal that has one is not opened.
        #[cfg(not(feature = "perps"))]
        Product::Perps => vec![Input::ReadFailed; questions.len()],
    }
}

/// Asks up to which time reads are complete, with all others that ask for it; `None` if the read
/// failed. What was true when another asked is true now.
pub(super) async fn watermark(shared: Arc<Shared>) -> Option<UnixMillis> {
    let (reply, answer) = oneshot::channel();
    let is_first = {
        let mut waiters = lock(&shared.reads.watermark);
        let is_first = waiters.is_none();
        waiters.get_or_insert_default().push(reply);
        is_first
    };
    if is_first {
        let reader = Arc::clone(&shared);
        shared.runtime.spawn(async move {
            tokio::time::sleep(GATHER).await;
            let read = AssertUnwindSafe(read::watermark(&reader.settling));
            let complete_until = read.catch_unwind().await.ok().flatten();
            for reply in lock(&reader.reads.watermark).take().unwrap_or_default() {
                let _ = reply.send(complete_until);
            }
        });
    }
    answer.await.ok().flatten()
}
