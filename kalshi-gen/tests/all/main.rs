//! The generator, from outside: the library on documents that are wrong, odd or shaken, and the
//! command.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod bad_documents;
mod command;
mod diff;
mod diff_findings;
mod diff_mutations;
mod diff_published;
mod families;
mod mutations;
mod odd_documents;
mod published;
mod refinements;
mod sameness;
mod shipped;
mod streams;
mod support;
mod update;
