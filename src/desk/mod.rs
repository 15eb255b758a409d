//! The rules of a customer-service desk: pure, synchronous, without I/O and without a clock.
//!
//! `admit` turns a Draft into Entries or refuses it; `State::apply` turns Entries into state. Whatever
//! `admit` chose (which agent, which number) stands in the Entry, so the same Entries make the same
//! state on the live path, after a restart and in a newer build.

pub mod entry;
pub mod register;
pub mod state;

mod admit;

pub use admit::{Asked, By, Draft, Group, admit, admit_register, assign_waiting};
pub use entry::Person;
pub use state::{Conversation, State};

#[cfg(test)]
mod tests;
