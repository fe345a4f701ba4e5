//! What the API answers, for a person: aligned columns, the worst first.
//!
//! Pure: an answer's body, a [`Style`](crate::terminal::Style) and the time go in, text comes out.

pub(crate) mod figures;
pub(crate) mod logs;
pub(crate) mod operations;
pub(crate) mod repository;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod status;
mod table;
