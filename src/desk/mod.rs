//! The rules of a customer-service desk.

pub mod register;
