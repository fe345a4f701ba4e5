//! Bytes that are held for requests on their way to a destination.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many bytes are held for all requests of a destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldBytes(Arc<AtomicU64>);

/// Bytes of one request; counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    all: HeldBytes,
}

impl HeldBytes {
    /// Counts `bytes` more.
    pub(crate) fn hold(&self, bytes: u64) -> Held {
        let mut held = Held { bytes: 0, all: self.clone() };
        held.add(bytes);
        held
    }

    /// How many are held.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Held {
    /// Counts `bytes` more of the same request.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.all.0.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_its_end() {
        let all = HeldBytes::default();
        let mut first = all.hold(6);
        let second = all.hold(1);
        first.add(4);
        assert_eq!(all.now(), 11);
        drop(first);
        assert_eq!(all.now(), 1);
        drop(second);
        assert_eq!(all.now(), 0);
    }
}
