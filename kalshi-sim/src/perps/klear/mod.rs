//! The clearing house of perpetual futures: the house itself, which is pure, who may ask it, and the
//! answers to its operations.

pub(crate) mod access;
pub(crate) mod api;
pub(crate) mod house;
