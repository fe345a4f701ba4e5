//! The whole server as a user runs it.
