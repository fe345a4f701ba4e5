//! One log file on the disk: appending, rotation, a file that was moved away, a disk that refuses to write.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    index_file::{ChunkStart, IndexFile},
    limits::LogLimits,
    log_files::LogFiles,
    log_output::LogOutput,
};

/// How long no write is tried after the disk refused one, and how often the name is checked to lead to the
/// open file still.
const SECOND: Duration = Duration::from_secs(1);

/// What was dropped, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    reason: String,
}

impl Loss {
    pub(super) fn add(&mut self, bytes: &[u8], reason: &str) {
        self.bytes += bytes.len() as u64;
        self.lines += bytes.split(|&byte| byte == b'\n').count() as u64 - 1;
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
        }
    }

    fn join(&mut self, other: Self) {
        if other.bytes > 0 {
            self.bytes += other.bytes;
            self.lines += other.lines;
            self.reason = other.reason;
        }
    }
}

/// A log's file. Blocks; all calls come from one thread.
#[derive(Debug)]
pub(super) struct LogFile {
    files: LogFiles,
    limits: LogLimits,
    open: Option<Open>,
    /// The outputs that have left a line open, in the order in which they wrote last.
    open_lines: VecDeque<u64>,
    lost: Loss,
    /// When to try again after the disk refused.
    try_again: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and inode.
    identity: (u64, u64),
    index: Option<IndexFile>,
    /// When the name was last seen to lead to this file.
    checked: Instant,
    /// Whether its last line is not ended.
    unended: bool,
}

/// Of how many outputs it is remembered that they have left a line open; of more those that did so last.
const OPEN_LINES: usize = 1024;

/// A moment, by the clock that only goes on and by the one that people read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    /// In microseconds since the Unix epoch.
    pub(super) time: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Self { instant: Instant::now(), time: u64::try_from(time).unwrap_or(u64::MAX) }
    }
}

/// A write that failed, and how many bytes had been written before.
struct Failed {
    error: io::Error,
    written: usize,
}

impl LogFile {
    /// The log `name` in `folder`, which is absolute and without links.
    pub(super) fn new(folder: PathBuf, name: OsString, limits: LogLimits) -> Self {
        let files = LogFiles::new(folder, name, limits.files);
        Self {
            files,
            limits,
            open: None,
            open_lines: VecDeque::new(),
            lost: Loss::default(),
            try_again: None,
        }
    }

    /// Appends bytes of an output, after a note of what was lost before them. What cannot be written is
    /// dropped and counted. Answers whether a note is still owed.
    pub(super) fn write(&mut self, output: LogOutput, bytes: &[u8], lost: Loss, moment: Moment) -> bool {
        let now = moment.instant;
        self.lost.join(lost);
        if self.try_again.is_some_and(|at| now < at) {
            let reason = self.lost.reason.clone();
            self.lost.add(bytes, &reason);
            return true;
        }
        match self.try_write(output, bytes, moment) {
            Ok(()) => self.try_again = None,
            Err(Failed { error, written }) => {
                self.lost.add(&bytes[written..], &error.to_string());
                self.try_again = Some(now + SECOND);
                // Whatever is wrong with this file, the next try opens it anew.
                self.open = None;
            }
        }
        self.lost.bytes > 0
    }

    fn try_write(&mut self, output: LogOutput, bytes: &[u8], moment: Moment) -> Result<(), Failed> {
        let nothing = |error| Failed { error, written: 0 };
        if bytes.is_empty() && self.lost.bytes == 0 {
            return Ok(());
        }
        self.open(moment.instant).map_err(nothing)?;
        self.write_note(moment).map_err(nothing)?;
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let failed = |error| Failed { error, written };
            let open = self.open.as_mut().expect("opened above, and again by each rotation");
            let must = open.unended || open.size == 0;
            let index_is_full = open.index.as_ref().is_some_and(IndexFile::is_full);
            let room = usize::try_from(self.limits.bytes.saturating_sub(open.size)).unwrap_or(usize::MAX);
            let end = part(rest, if index_is_full { 0 } else { room }, must);
            let Some(end) = end else {
                self.rotate(moment.instant).map_err(failed)?;
                continue;
            };
            let goes_on = self.open_lines.contains(&output.number);
            open.begin(output, goes_on, moment);
            // What pmesh says is on lines of its own.
            if output.is_note() && open.unended {
                open.append(b"\n").map_err(|(error, _)| failed(error))?;
            }
            open.append(&rest[..end]).map_err(|(error, some)| Failed { error, written: written + some })?;
            open.unended = rest[end - 1] != b'\n';
            let stays_open = open.unended;
            self.remember(output, stays_open);
            written += end;
        }
        Ok(())
    }

    /// Remembers whether an output has left a line open.
    fn remember(&mut self, output: LogOutput, stays_open: bool) {
        self.open_lines.retain(|&other| other != output.number);
        if stays_open {
            self.open_lines.push_back(output.number);
            let excess = self.open_lines.len().saturating_sub(OPEN_LINES);
            self.open_lines.drain(..excess);
        }
    }

    /// Continues in a file that a test has opened, such as a device that refuses to write.
    #[cfg(test)]
    pub(super) fn open_as(&mut self, file: File, now: Instant) {
        let identity = identity(&file.metadata().expect("a test's file is open"));
        self.open = Some(Open { file, size: 0, identity, index: None, checked: now, unended: false });
    }

    /// Opens the file, if none is open or the name leads to another file by now.
    fn open(&mut self, now: Instant) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && now.duration_since(open.checked) >= SECOND
        {
            open.checked = now;
            let index = open.index.as_ref().map(IndexFile::identity).transpose()?;
            if !self.files.lead_to(open.identity, index) {
                self.open = None;
            }
        }
        // Others may empty it (`copytruncate`), or write to it.
        if let Some(open) = &self.open {
            let metadata = open.file.metadata()?;
            if metadata.is_file() && metadata.len() != open.size {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let (mut file, index) = self.files.open()?;
            let metadata = file.metadata()?;
            let size = metadata.len();
            let mut unended = false;
            if size > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                unended = last != *b"\n";
            }
            self.open =
                Some(Open { file, size, identity: identity(&metadata), index, checked: now, unended });
        }
        Ok(())
    }

    fn write_note(&mut self, moment: Moment) -> io::Result<()> {
        if self.lost.bytes == 0 {
            return Ok(());
        }
        let Loss { bytes, lines, reason } = &self.lost;
        let open = self.open.as_mut().expect("opened by the caller");
        let before = if open.unended { "\n" } else { "" };
        let note = format!("{before}[pmesh] {bytes} bytes, {lines} lines were dropped: {reason}\n");
        let size = open.size;
        open.begin(LogOutput::NOTE, false, moment);
        if let Err((error, _)) = open.append(note.as_bytes()) {
            // Half a note would make the next one count the same loss twice. Only we write to the file.
            open.file.set_len(size)?;
            return Err(error);
        }
        open.unended = false;
        self.lost = Loss::default();
        Ok(())
    }

    fn rotate(&mut self, now: Instant) -> io::Result<()> {
        self.files.move_on()?;
        self.open = None;
        self.open(now)
    }
}

impl Open {
    /// Writes into the index that bytes of this output come.
    fn begin(&mut self, output: LogOutput, goes_on: bool, moment: Moment) {
        let Some(index) = &mut self.index else { return };
        let LogOutput { number, source } = output;
        let chunk = ChunkStart { offset: self.size, source, output: number, goes_on };
        // Without it the bytes have no time, and that is no reason not to write them.
        index.begin(chunk, moment.time).ok();
    }

    /// Appends all bytes, or says how many were appended before the error.
    fn append(&mut self, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
                Ok(count) => {
                    written += count;
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, written)),
            }
        }
        Ok(())
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// How many bytes of `rest` go into a file with `room` bytes left, up to the end of a line; `None`: the file
/// is full. If the file `must` take something (a line is open in it, or it is empty), it takes at least the
/// rest of one line.
fn part(rest: &[u8], room: usize, must: bool) -> Option<usize> {
    if rest.len() <= room {
        return Some(rest.len());
    }
    let line_end = |bytes: &[u8]| bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
    let within = rest[..room].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    within.or_else(|| must.then(|| line_end(rest).unwrap_or(rest.len())))
}
