//! Ids for requests that come without one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use http::HeaderValue;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

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
        let hashes = self.keys.each_ref().map(|key| key.hash_one(count).to_be_bytes());
        let mut text = [0; 32];
        for (byte, pair) in hashes.as_flattened().iter().zip(text.chunks_exact_mut(2)) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible")
    }
}
