//! Order books. Pure: fed with events, without sockets and clocks.

mod books;
mod order_book;

pub use self::{
    books::{BookChange, BookState, Books},
    order_book::{BookError, FillEstimate, OrderBook, Outcome, RestingOrder},
};
