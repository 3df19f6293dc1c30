//! A layer of your own: it retries what is safe to retry, with growing pauses.
//!
//! ```text
//! cargo run --example retry_layer
//! ```
//!
//! A layer lies above signing, so that each attempt has a timestamp and a signature of its own.
//! Which operations may be retried is in the operation table; an order is not among them.
//!
//! It talks to an exchange in this process, which answers 503 twice and 429 once.
#![expect(clippy::print_stdout, reason = "an example speaks to its user")]

use std::{error::Error, time::Duration};

use kalshi_sdk::{
    Client, Operation, OperationId,
    middleware::{Extensions, Middleware, Next, Request, Response, Result as Answer, async_trait},
    operation::RetrySafety,
};
use kalshi_sim::{Exchange, Fault, FaultKind, Role};

/// Retries reads after 429 and 5xx.
struct Retry {
    attempts: u32,
    first_pause: Duration,
}

#[async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Answer<Response> {
        let operation = extensions.get::<&'static Operation>().copied();
        let safe = operation.is_some_and(|operation| operation.retry == RetrySafety::Safe);
        let mut pause = self.first_pause;
        for attempt in 1..self.attempts {
            // A body that is a stream cannot be sent twice; the client never makes one.
            let Some(again) = request.try_clone().filter(|_| safe) else { break };
            let response = next.clone().run(again, extensions).await?;
            let status = response.status();
            if status.as_u16() != 429 && !status.is_server_error() {
                return Ok(response);
            }
            println!("attempt {attempt} of {} was answered {status}", request.url().path());
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        next.run(request, extensions).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exchange = Exchange::start().await?;
    let client = Client::builder()
        .with_environment(exchange.environment())
        .with_credentials(exchange.credentials(Role::Trader).ok_or("no key")?.clone())
        .with_middleware(Retry { attempts: 5, first_pause: Duration::from_millis(50) })
        .build()?;
    exchange.faults().add(
        Fault::builder(FaultKind::status(503))
            .with_operation(OperationId::GetBalance)
            .with_times(2)
            .build(),
    )?;
    exchange.faults().add(
        Fault::builder(FaultKind::TooManyRequests)
            .with_operation(OperationId::GetBalance)
            .with_times(1)
            .build(),
    )?;
    let balance = client.get_balance().send().await?;
    println!("{} dollars, at the fourth attempt", balance.balance_dollars);
    Ok(())
}
