use std::collections::HashMap;

use kalshi_sim::Exchange;

use super::played::Played;

/// The tickers of the markets, and where they are.
pub(super) struct Markets {
    pub(super) tickers: Vec<String>,
    places: HashMap<String, usize>,
}

impl Markets {
    pub(super) async fn of<P: Played>(exchange: &Exchange) -> Self {
        let tickers = P::tickers(exchange).await;
        assert_eq!(tickers.len(), P::MARKETS);
        let places = tickers.iter().cloned().zip(0..).collect();
        Self { tickers, places }
    }

    pub(super) fn place(&self, ticker: &str) -> usize {
        self.places[ticker]
    }
}
