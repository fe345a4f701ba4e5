//! The index beside a log that is written.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use super::{
    LogSource,
    index_record::{IndexRecord, MOST_RECORDS, SAME},
};

/// With how many records an index is full: what is left is for the chunks before the end of a line.
pub(super) const ENOUGH_RECORDS: u64 = MOST_RECORDS - 1024;

/// An open index. It follows its log, whatever becomes of that, and a log without one is as good: so errors leave
/// it as it is, and what could not be written is without a time.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    records: u64,
    last: Option<IndexRecord>,
    /// Of the last record's output: a number of its own, because two processes can be instance 1.
    output: Option<u64>,
}

/// Where the next chunk of a log begins, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkStart {
    pub(super) offset: u64,
    pub(super) source: LogSource,
    /// The number of the output that it comes from.
    pub(super) output: u64,
    /// Whether it goes on in a line that this output has left open.
    pub(super) goes_on: bool,
}

impl IndexFile {
    /// Goes on in the index of a log of this size: what is no index of it is cut off, all of it for a log that is
    /// empty.
    ///
    /// # Errors
    ///
    /// The system's, where the file cannot be read or cut.
    pub(super) fn of_log(file: File, log_size: u64) -> io::Result<Self> {
        let size = file.metadata()?.size();
        let mut index = Self { file, records: 0, last: None, output: None };
        let most = MOST_RECORDS * IndexRecord::SIZE as u64;
        if log_size > 0 && size <= most {
            let mut bytes = vec![0; usize::try_from(size).expect("at most 1.5 MiB")];
            index.file.read_exact_at(&mut bytes, 0)?;
            let records = IndexRecord::all(&bytes, log_size);
            index.records = records.len() as u64;
            index.last = records.last().copied();
        }
        if index.end() < size {
            index.file.set_len(index.end())?;
        }
        Ok(index)
    }

    /// Writes down that a chunk begins that has come at this `time`, in microseconds since the Unix epoch, unless it can go with
    /// the one before. A clock that was set back stands still here.
    ///
    /// # Errors
    ///
    /// The system's. The record is not there then.
    pub(super) fn begin(&mut self, chunk: ChunkStart, time: u64) -> io::Result<()> {
        let ChunkStart { offset, source, output, goes_on } = chunk;
        let time = time.max(self.last.map_or(0, |last| last.time));
        let goes_with = |last: IndexRecord| {
            self.output == Some(output) && last.source == source && time - last.time <= SAME
        };
        if self.records >= MOST_RECORDS || self.last.is_some_and(goes_with) {
            return Ok(());
        }
        let record = IndexRecord { offset, time, source, goes_on };
        // A part of it that was written is written over by the next one.
        self.file.write_all_at(&record.encode(), self.end())?;
        self.records += 1;
        self.last = Some(record);
        self.output = Some(output);
        Ok(())
    }

    /// Whether its log is to be moved on at the next end of a line.
    pub(super) fn is_full(&self) -> bool {
        self.records >= ENOUGH_RECORDS
    }

    /// What the file is, for the system.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn end(&self) -> u64 {
        self.records * IndexRecord::SIZE as u64
    }
}
