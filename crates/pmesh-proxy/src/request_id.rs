//! Ids for requests that come without one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;

/// Makes ids of 32 hexadecimal digits: a counter through two hashes with random keys, so that an id
/// neither repeats nor tells how many there were. They are no secrets.
#[derive(Debug, Default)]
pub(crate) struct RequestIds {
    keys: [RandomState; 2],
    count: AtomicU64,
}

impl RequestIds {
    pub(crate) fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [&self.keys[0], &self.keys[1]].map(|key| key.hash_one(count));
        HeaderValue::try_from(format!("{high:016x}{low:016x}")).expect("hexadecimal digits are visible")
    }
}
