//! The page of the exchange: its protocol over sockets, its safety, and itself in a browser.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod browser;
#[path = "../../../src/http/ui/chromium.rs"]
mod chromium;
mod held;
mod pages;
mod protocol;
mod safety;

use futures_util::{SinkExt as _, StreamExt as _};
use kalshi_sdk::types::{
    BookSide, CreateOrderV2Request, CreateOrderV2Response, GetMarketsStatus,
    SelfTradePreventionType, TimeInForce,
};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

/// Starts an exchange with a page.
async fn exchange() -> Exchange {
    Exchange::builder().with_admin_port(0).with_seed(7).start().await.unwrap()
}

/// Returns the token of the page.
fn token(exchange: &Exchange) -> String {
    exchange.ui_url().unwrap().split('#').nth(1).unwrap().to_owned()
}

/// Returns the ticker of an open market whose prices are whole cents.
async fn open_market(exchange: &Exchange) -> String {
    let client = exchange.client(Role::Trader).unwrap();
    let page = client.get_markets().status(GetMarketsStatus::Open).limit(100).send().await.unwrap();
    let market = page.markets.iter().find(|one| one.ticker.starts_with("KXSIMTEMP"));
    market.unwrap().ticker.clone()
}

/// Places an order that rests.
async fn place(
    exchange: &Exchange,
    role: Role,
    ticker: &str,
    side: BookSide,
    price: &str,
    count: &str,
) -> CreateOrderV2Response {
    let order = CreateOrderV2Request::builder()
        .ticker(ticker)
        .side(side)
        .price(price)
        .count(count)
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    let client = exchange.client(role).unwrap();
    client.create_order_v2().body(order).send().await.unwrap().into_inner()
}

/// A page without a browser.
struct Page(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Page {
    /// Opens the socket with these headers and subprotocols.
    async fn open(
        exchange: &Exchange,
        protocols: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let url = exchange.admin_url().unwrap().replace("http://", "ws://") + "/ui/stream";
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Ok(Self(connect_async(request).await?.0))
    }

    /// Opens the socket as the page does.
    async fn new(exchange: &Exchange) -> Self {
        let protocols = format!("kalshi-sim.1, {}", token(exchange));
        Self::open(exchange, &protocols, &[]).await.unwrap()
    }

    async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return serde_json::from_str(text.as_str()).unwrap();
            }
        }
    }

    /// Watches panels of a market from now on.
    async fn watch(&mut self, panels: &[&str], ticker: &str) {
        self.send(&json!({"watch": {"panels": panels, "ticker": ticker}})).await;
    }

    /// Acknowledges frames until one has what is looked for; returns that one.
    async fn until(&mut self, found: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().await;
            if frame.get("n").is_none() {
                continue;
            }
            self.send(&json!({"ack": frame["n"]})).await;
            if found(&frame) {
                return frame;
            }
        }
    }
}
