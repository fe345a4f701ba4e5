//! Files are read in blocks, for the chunks of a log are short and many.

use std::io;

use super::segment::Segment;

/// How much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;

/// What was read last of the files, for chunks are short and many.
#[derive(Default)]
pub(super) struct Block {
    segment: usize,
    from: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// The next bytes of a file from `at` on, at most to `to`.
    pub(super) fn read(&mut self, number: usize, segment: &Segment, at: u64, to: u64) -> io::Result<&[u8]> {
        let held = self.from..self.from + self.bytes.len() as u64;
        if self.segment != number || !held.contains(&at) {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(BLOCK, 0);
            let read = segment.read(at, &mut bytes)?;
            bytes.truncate(read);
            *self = Self { segment: number, from: at, bytes };
        }
        let first = usize::try_from(at - self.from).expect("it is within a block");
        let wanted = usize::try_from(to - at).unwrap_or(usize::MAX);
        let end = self.bytes.len().min(first.saturating_add(wanted));
        Ok(&self.bytes[first..end])
    }
}
