//! One file of a log, with its index.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::Path,
    time::SystemTime,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

use super::line_assembler::LogChunk;
use crate::log::index_record::IndexRecord;

/// How many records are read at once.
const BLOCK: u64 = 512;

/// The number of the record behind a chunk.
#[derive(Debug)]
pub(super) struct NextRecord(u64);

/// A chunk that a byte is in.
#[derive(Debug)]
pub(super) struct ChunkAt {
    pub(super) chunk: LogChunk,
    /// Whether it begins with that byte.
    pub(super) begins: bool,
    /// Where it ends.
    pub(super) end: u64,
}

/// A file of a log as it was when it was opened; what is written later is not seen.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    index: Option<File>,
    pub(super) identity: (u64, u64),
    /// What it is known by as long as it is there, whatever its name.
    pub(super) id: u32,
    /// How long it is.
    pub(super) len: u64,
    /// How many records there are of bytes that are in it.
    pub(super) records: u64,
    /// When something was written to it last, in microseconds since the epoch of Unix.
    pub(super) modified: u64,
    /// Records that were read last, from this one on.
    block: (u64, Vec<IndexRecord>),
    /// How much was read of it.
    #[cfg(test)]
    pub(super) read_len: std::cell::Cell<u64>,
}

impl Segment {
    /// Opens the file of this name; none if there is none. Without its index it has no times.
    pub(super) fn open(folder: &OwnedFd, shown: &Path, name: &str) -> io::Result<Option<Self>> {
        let Some(file) = open(folder, shown, name)? else { return Ok(None) };
        // Before the index is looked at: each byte that is there now has its record already.
        let metadata = file.metadata()?;
        let index = open(folder, shown, &format!("{name}.index"))?;
        let mut segment = Self {
            identity: (metadata.dev(), metadata.ino()),
            id: id(&metadata),
            len: metadata.len(),
            records: 0,
            modified: micros(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
            file,
            index,
            block: (0, Vec::new()),
            #[cfg(test)]
            read_len: std::cell::Cell::default(),
        };
        if let Some(index) = &segment.index {
            let all = index.metadata()?.len() / IndexRecord::SIZE as u64;
            segment.records = segment.first_record(all, |record| record.offset >= segment.len)?;
        }
        Ok(Some(segment))
    }

    /// The time by which a line of it is sorted that has none, where none before it has one.
    pub(super) fn untimed(&self) -> u64 {
        if self.records == 0 { self.modified } else { 0 }
    }

    /// The number of the first record of `all` for which this holds, where it holds for all behind it.
    fn first_record(&self, all: u64, holds: impl Fn(&IndexRecord) -> bool) -> io::Result<u64> {
        let (mut from, mut to) = (0, all);
        while from < to {
            let middle = from.midpoint(to);
            match self.read_records(middle, 1)?.first() {
                Some(record) if !holds(record) => from = middle + 1,
                Some(_) | None => to = middle,
            }
        }
        Ok(from)
    }

    /// Where the first chunk begins that was written then or later, if there is one. Without an index all of it counts as
    /// written last.
    pub(super) fn since(&self, since: u64) -> io::Result<Option<u64>> {
        let first = self.first_record(self.records, |record| record.time >= since)?;
        if self.records == 0 {
            return Ok((self.modified >= since).then_some(0));
        }
        Ok(self.read_records(first, u64::from(first < self.records))?.first().map(|record| record.offset))
    }

    /// The way through the chunks from a byte on.
    pub(super) fn chunks_from(&self, offset: u64) -> io::Result<NextRecord> {
        Ok(NextRecord(self.first_record(self.records, |record| record.offset > offset)?))
    }

    /// The chunk that the byte at `offset` is in, which rises from call to call; none at the end.
    pub(super) fn next_chunk(&mut self, next: &mut NextRecord, offset: u64) -> io::Result<Option<ChunkAt>> {
        if offset >= self.len {
            return Ok(None);
        }
        let mut following = self.record(next.0)?;
        while following.is_some_and(|record| record.offset <= offset) {
            next.0 += 1;
            following = self.record(next.0)?;
        }
        let record = match next.0.checked_sub(1) {
            Some(number) => self.record(number)?,
            None => None,
        };
        Ok(Some(ChunkAt {
            chunk: LogChunk {
                source: record.map(|record| record.source),
                time: record.map(|record| record.time),
                goes_on: record.is_some_and(|record| record.goes_on),
            },
            begins: record.map_or(0, |record| record.offset) == offset,
            end: following.map_or(self.len, |record| record.offset.min(self.len)),
        }))
    }

    /// The record of this number, of those that count.
    pub(super) fn record(&mut self, number: u64) -> io::Result<Option<IndexRecord>> {
        if number >= self.records {
            return Ok(None);
        }
        let (first, block) = &self.block;
        if number < *first || number >= first + block.len() as u64 {
            let first = number / BLOCK * BLOCK;
            self.block = (first, self.read_records(first, BLOCK.min(self.records - first))?);
        }
        let (first, block) = &self.block;
        Ok(usize::try_from(number - first).ok().and_then(|at| block.get(at)).copied())
    }

    fn read_records(&self, first: u64, count: u64) -> io::Result<Vec<IndexRecord>> {
        let Some(index) = &self.index else { return Ok(Vec::new()) };
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX) * IndexRecord::SIZE];
        let read = read_at(index, &mut bytes, first * IndexRecord::SIZE as u64)?;
        let (records, _) = bytes[..read].as_chunks();
        Ok(records.iter().map_while(IndexRecord::decode).collect())
    }

    /// Reads from `at` on, at most to the end that it had. How many bytes there were.
    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = bytes.len().min(left);
        #[cfg(test)]
        self.read_len.update(|len| len + wanted as u64);
        read_at(&self.file, &mut bytes[..wanted], at)
    }
}

/// A number that no other file of a log has, as good as certainly: of the inode, which another file can have later, and of when it
/// was made, where the file system says that.
fn id(metadata: &fs::Metadata) -> u32 {
    let made = metadata.created().map_or(0, micros);
    let bytes = [metadata.ino().to_le_bytes(), made.to_le_bytes()].concat();
    let hash = blake3::hash(&bytes);
    u32::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// Fills `bytes`, or as much of it as the file has.
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Opens a file of the folder to read it: a regular one of this user, and no link.
fn open(folder: &OwnedFd, shown: &Path, name: &str) -> io::Result<Option<File>> {
    let odd = |what: &str| io::Error::other(format!("{} {what}", shown.join(name).display()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        // NOFOLLOW gives ELOOP for the last part of the path (open(2)).
        Err(Errno::LOOP) => return Err(odd("is a link; remove it")),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(odd("is no regular file; remove it"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(odd("belongs to another user; remove it"));
    }
    Ok(Some(file))
}

/// Microseconds since the epoch of Unix.
pub(super) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
