//! The form of the index beside a log file: when each chunk of the log came, and from whom.
//!
//! The index of `web.log` is `web.log.index`, that of `web.log.1` is `web.log.1.index`. It consists of records of
//! [`IndexRecord::SIZE`] bytes, oldest first, little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–7 | where in the log file the chunk begins |
//! | 8–15 | when it came, in microseconds since the Unix epoch; never earlier than that of the record before |
//! | 16–19 | the number of the instance; 4,294,967,295: of none |
//! | 20 | the stream: 0 standard output, 1 standard error, 2 build, 3 `shutdown` command, 4 `release` command, 5 pmesh |
//! | 21 | bit 0: the chunk goes on in a line that an earlier chunk of the same source has left open; the others are 0 |
//! | 22–23 | 0 |
//!
//! A chunk ends where the next record begins, or where the file ends. Its record is written before it, so a server that
//! is killed leaves an empty chunk at worst, and records beyond the end of the log mean nothing. What lies before
//! the first record has no time. Where a chunk follows another one of its source within [`SAME`], it has no record of its own.

use super::{LogSource, LogStream};

/// The most records of one index, 1.5 MiB of them: a log whose index is full is rotated.
pub(super) const MOST_RECORDS: u64 = 65_536;

/// How long after a chunk's record another chunk of the same source can share it, in microseconds.
pub(super) const SAME: u64 = 1000;

const NO_INSTANCE: u32 = u32::MAX;
const GOES_ON: u8 = 1;

/// One record: where a chunk of a log begins, when it came, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexRecord {
    /// Where in the log file the chunk begins.
    pub(super) offset: u64,
    /// When it came, in microseconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) source: LogSource,
    /// Whether it goes on in a line that an earlier chunk of the same source has left open.
    pub(super) goes_on: bool,
}

impl IndexRecord {
    /// The size of a record, in bytes.
    pub(super) const SIZE: usize = 24;

    /// The record as it stands in an index.
    pub(super) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source.instance.unwrap_or(NO_INSTANCE).to_le_bytes());
        bytes[20] = self.source.stream.number();
        bytes[21] = if self.goes_on { GOES_ON } else { 0 };
        bytes
    }

    /// The record that these bytes are; none if they are none of this format.
    pub(super) fn decode(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (instance, rest) = rest.split_first_chunk()?;
        let &[stream, flags, 0, 0] = rest else { return None };
        let instance = u32::from_le_bytes(*instance);
        let source = LogSource {
            instance: (instance != NO_INSTANCE).then_some(instance),
            stream: LogStream::numbered(stream)?,
        };
        if flags & !GOES_ON != 0 {
            return None;
        }
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            time: u64::from_le_bytes(*time),
            source,
            goes_on: flags == GOES_ON,
        })
    }

    /// The records at the beginning of an index that can follow each other: in order, and none where the log is not any more
    /// (`log_size`). A record at the end of the log is one whose chunk has not been written yet.
    pub(super) fn all(index: &[u8], log_size: u64) -> Vec<Self> {
        let mut records: Vec<Self> = Vec::new();
        let (whole, _) = index.as_chunks();
        for bytes in whole {
            let Some(record) = Self::decode(bytes) else { break };
            let in_order =
                records.last().is_none_or(|last| last.offset <= record.offset && last.time <= record.time);
            if !in_order || record.offset > log_size {
                break;
            }
            records.push(record);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = IndexRecord> {
        let instance = proptest::option::of(0..NO_INSTANCE);
        let record = (any::<u64>(), any::<u64>(), instance, 0_u8..6, any::<bool>());
        record.prop_map(|(offset, time, instance, stream, goes_on)| {
            let source = LogSource { instance, stream: LogStream::numbered(stream).unwrap() };
            IndexRecord { offset, time, source, goes_on }
        })
    }

    #[test]
    fn a_record_is_24_bytes_in_the_documented_order() {
        let source = LogSource { instance: Some(7), stream: LogStream::Stderr };
        let record = IndexRecord { offset: 0x0102, time: 0x0304, source, goes_on: true };
        let bytes = [2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 1, 0, 0];
        assert_eq!(record.encode(), bytes);
        let note = IndexRecord { source: LogSource::NOTE, ..record };
        assert_eq!(note.encode()[16..21], [255, 255, 255, 255, 5]);
    }

    #[test]
    fn what_is_not_of_this_format_is_no_record() {
        let good = IndexRecord { offset: 0, time: 0, source: LogSource::NOTE, goes_on: false }.encode();
        assert!(IndexRecord::decode(&good).is_some());
        for (at, byte) in [(20, 6), (21, 2), (21, 3), (22, 1), (23, 1)] {
            let mut bytes = good;
            bytes[at] = byte;
            assert_eq!(IndexRecord::decode(&bytes), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in records()) {
            prop_assert_eq!(IndexRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in any::<[u8; IndexRecord::SIZE]>()) {
            let mut bytes = bytes;
            (bytes[20], bytes[21], bytes[22], bytes[23]) = (bytes[20] % 8, bytes[21] % 4, 0, bytes[23] % 2);
            if let Some(record) = IndexRecord::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }

        #[test]
        fn of_any_bytes_only_records_in_order_and_within_the_log_are_taken(
            parts in proptest::collection::vec((0_u64..50, 0_u64..3, 0_u8..8), 0..20),
            size in 0_u64..400,
            cut in 0_usize..30,
        ) {
            let (mut offset, mut time, mut index, mut good, mut goes_on) = (0, 0, Vec::new(), 0, true);
            for (more, later, stream) in parts {
                offset += more;
                time += later;
                let mut bytes = IndexRecord { offset, time, source: LogSource::NOTE, goes_on: false }.encode();
                bytes[20] = stream;
                index.extend(bytes);
                goes_on &= offset <= size && stream < 6;
                good += usize::from(goes_on);
            }
            let cut = cut.min(index.len());
            index.truncate(index.len() - cut);
            let found = IndexRecord::all(&index, size);
            prop_assert_eq!(found.len(), good.min(index.len() / IndexRecord::SIZE));
            prop_assert!(found.is_sorted_by_key(|record| (record.offset, record.time)));
        }
    }
}
