//! The parts of a layer of your own, for
//! [`ClientBuilder::with_middleware`](crate::ClientBuilder::with_middleware).
//!
//! A layer sees every request before it is signed, and every response before it is read. It finds
//! the operation in the extensions, and may send a request more than once: each attempt is signed
//! anew. The trait is that of the crate `reqwest-middleware`, whose ready-made layers fit, too; to
//! implement it, `async_trait` is here as well.
//!
//! ```
//! use std::time::Instant;
//!
//! use kalshi_sdk::{
//!     Operation,
//!     middleware::{Extensions, Middleware, Next, Request, Response, Result, async_trait},
//! };
//!
//! /// Prints how long each call takes.
//! struct Timing;
//!
//! #[async_trait]
//! impl Middleware for Timing {
//!     async fn handle(
//!         &self,
//!         request: Request,
//!         extensions: &mut Extensions,
//!         next: Next<'_>,
//!     ) -> Result<Response> {
//!         let operation = extensions.get::<&'static Operation>().map_or("?", |o| o.id);
//!         let start = Instant::now();
//!         let response = next.run(request, extensions).await;
//!         println!("{operation} took {:?}", start.elapsed());
//!         response
//!     }
//! }
//!
//! # async fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let exchange = kalshi_sim::Exchange::start().await?;
//! let client = kalshi_sdk::Client::builder()
//!     .with_environment(exchange.environment())
//!     .with_middleware(Timing)
//!     .build()?;
//! client.get_exchange_status().send().await?;
//! # Ok(())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run()).unwrap();
//! ```
//!
//! A layer that retries must ask [`Operation::retry`](crate::Operation::retry) first: a write that
//! was carried out once may be carried out twice. The example `retry_layer` is one.

pub use async_trait::async_trait;
pub use http::Extensions;
pub use reqwest::{Request, Response};
pub use reqwest_middleware::{Error, Middleware, Next, Result};
