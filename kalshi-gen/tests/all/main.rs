//! The generator, from outside: the library on documents that are wrong, odd or shaken, and the
//! command.

mod bad_documents;
mod command;
mod mutations;
mod odd_documents;
mod sameness;
mod support;
