//! Lodge.
