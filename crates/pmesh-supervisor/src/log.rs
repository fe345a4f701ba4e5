//! Logs of services: output into files, byte for byte, with rotation and with bounds.

mod file;
mod pump;
mod tail;

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::{
    io::AsyncRead,
    sync::{mpsc, oneshot},
};

use self::file::{LogFile, Loss};
pub use self::tail::Tail;

/// How many jobs may wait for the writer. Each output has at most one there, so only a flood of
/// notes can fill it.
const JOBS: usize = 4096;

/// The bounds of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// The size of one file, in bytes. A file ends with a whole line, so one can be longer by a
    /// line's length.
    pub bytes: u64,
    /// How many files there are: `x.log` and the older `x.log.1`, `x.log.2`…; at least 1.
    pub files: u32,
    /// The longest line in bytes; a longer one is split, and each piece but the last ends with
    /// ` [pmesh] line goes on`.
    pub line: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { bytes: 16_000_000, files: 5, line: 64 * 1024 }
    }
}

/// A folder of logs and the one thread that writes them.
///
/// Clones share both. The thread ends when the last clone and the last [`ServiceLog`] are gone and
/// everything is written.
#[derive(Clone)]
pub struct LogFolder {
    folder: PathBuf,
    limits: LogLimits,
    jobs: mpsc::Sender<Job>,
    logs: Arc<Mutex<HashMap<String, Weak<Shared>>>>,
}

/// The log of one service. All of its instances write to it; clones are the same log.
///
/// What is written is what came, in the order of each output, with these exceptions: a long line is
/// split ([`LogLimits::line`]), a line that one output has left open is closed before another output
/// goes on, and what had to be dropped is replaced by
/// `[pmesh] <n> bytes, <n> lines were dropped: <reason>`.
#[derive(Clone)]
pub struct ServiceLog {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

struct Shared {
    path: PathBuf,
    line: usize,
    /// Used by the writer's thread alone.
    file: Mutex<LogFile>,
    /// What was dropped before it came to the writer.
    lost: Mutex<Loss>,
    streams: AtomicU64,
}

/// Something for the writer to do.
struct Job {
    log: Arc<Shared>,
    /// Which output the bytes are of; 0 for the supervisor's own lines.
    stream: u64,
    bytes: Vec<u8>,
    done: oneshot::Sender<Written>,
}

/// The writer's answer to a [`Job`].
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Something was lost, and that could not be written down yet.
    owes_note: bool,
}

impl LogFolder {
    /// Makes the folder if there is none (mode 0750, the logs are not for everybody) and starts the
    /// writer.
    ///
    /// # Errors
    ///
    /// The system's, if the folder cannot be made or the thread not started. That a log cannot be
    /// opened or written later is no error: its output is dropped and counted.
    pub fn open(folder: &Path, limits: LogLimits) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
        builder.recursive(true).create(folder)?;
        let (jobs, mut inbox) = mpsc::channel::<Job>(JOBS);
        std::thread::Builder::new().name("pmesh-logs".to_owned()).spawn(move || {
            while let Some(job) = inbox.blocking_recv() {
                job.run();
            }
        })?;
        Ok(Self { folder: folder.to_owned(), limits, jobs, logs: Arc::default() })
    }

    /// The log `name`, which must be a plain file name. Who asks for a name twice gets the same log.
    pub fn log(&self, name: &str) -> ServiceLog {
        let mut logs = self.logs.lock();
        logs.retain(|_, log| log.strong_count() > 0);
        let found = logs.get(name).and_then(Weak::upgrade);
        let shared = found.unwrap_or_else(|| {
            let path = self.folder.join(name);
            let shared = Arc::new(Shared {
                path: path.clone(),
                line: self.limits.line.max(1),
                file: Mutex::new(LogFile::new(path, self.limits)),
                lost: Mutex::default(),
                streams: AtomicU64::new(1),
            });
            logs.insert(name.to_owned(), Arc::downgrade(&shared));
            shared
        });
        ServiceLog { shared, jobs: self.jobs.clone() }
    }
}

impl ServiceLog {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes what `output` gives, until it ends, and keeps the last of it in `tail`.
    ///
    /// At most 256 KiB of it are in memory. When the disk does not take them, the output
    /// is not read on, which stops its writer; after 5 s of that it is read and dropped. On an error
    /// of the disk, such as "no space left", output is dropped at once and the disk tried again each
    /// second. A line that is not ended is written after 100 ms without more of it.
    ///
    /// Dropped early, what was read and not yet given to the writer is lost without a count.
    pub fn pump(
        &self,
        output: impl AsyncRead + Send + Unpin + 'static,
        tail: Tail,
    ) -> impl Future<Output = ()> + Send + 'static {
        let stream = self.shared.streams.fetch_add(1, Ordering::Relaxed);
        pump::run(self.clone(), stream, output, tail)
    }

    /// Writes a line of the supervisor's own, `[pmesh] <text>`, soon. Never waits.
    pub fn note(&self, text: &str) {
        let bytes = format!("[pmesh] {}\n", text.replace('\n', " ")).into_bytes();
        if let Err(refused) = self.jobs.try_send(self.job(0, bytes).0) {
            self.lose(&refused.into_inner().bytes, "too many notes at a time");
        }
    }

    /// Returns when everything that was given to the writer before is written or dropped.
    pub async fn flush(&self) {
        self.write(0, Vec::new()).await;
    }

    /// Cancel-safe: the bytes are written also if nobody waits, once they are in the queue.
    async fn write(&self, stream: u64, bytes: Vec<u8>) -> Written {
        let (job, done) = self.job(stream, bytes);
        let sent = self.jobs.send(job).await;
        sent.expect("the writer lives as long as a sender does");
        done.await.expect("the writer answers each job")
    }

    fn job(&self, stream: u64, bytes: Vec<u8>) -> (Job, oneshot::Receiver<Written>) {
        let (done, answer) = oneshot::channel();
        (Job { log: Arc::clone(&self.shared), stream, bytes, done }, answer)
    }

    fn lose(&self, bytes: &[u8], reason: &str) {
        self.shared.lost.lock().add(bytes, reason);
    }
}

impl Job {
    fn run(self) {
        let lost = std::mem::take(&mut *self.log.lost.lock());
        let owes_note = self.log.file.lock().write(self.stream, &self.bytes, lost, Instant::now());
        // Nobody waits for a note.
        drop(self.done.send(Written { owes_note }));
    }
}

impl fmt::Debug for LogFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFolder").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServiceLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceLog").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
