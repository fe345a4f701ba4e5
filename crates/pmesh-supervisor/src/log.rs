//! Logs of services: output is written into files byte for byte, with rotation and within limits.

mod file;
mod index_file;
mod index_record;
mod limits;
mod log_cursor;
mod log_files;
mod log_line;
mod log_output;
mod log_source;
mod log_stream;
mod pump;
mod reading;
mod tail;

use std::{
    collections::{HashMap, VecDeque},
    fmt, fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pmesh_threads::Threads;
use tokio::sync::{oneshot, watch};
use tracing::error;

use self::{
    file::{LogFile, Loss, Moment},
    log_output::LogOutput,
};
pub use self::{
    limits::LogLimits,
    log_cursor::{BadLogCursor, LogCursor},
    log_line::{LineEnd, LogLine},
    log_stream::LogStream,
    reading::{FollowStart, LogEvent, LogFollow, LogQuery, LogReadError},
};
pub(crate) use self::{log_source::LogSource, pump::pump_outputs, tail::Tail};
use crate::WorkThreads;

/// How many jobs may wait for the writer before a note is dropped. Each output has at most one job waiting,
/// however many outputs there are.
const JOBS: usize = 4096;

/// A folder of logs, and the one writer of all of them: a thread that runs from the start
/// ([`WorkThreads::logs`]). A disk that hangs holds up that one thread only.
///
/// Clones share both.
#[derive(Clone)]
pub struct LogFolder {
    folder: PathBuf,
    limits: LogLimits,
    writer: Arc<Writer>,
    /// For those who read.
    readers: Threads,
    logs: Arc<Mutex<HashMap<String, Weak<Shared>>>>,
}

struct Writer {
    threads: Threads,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread takes jobs from the queue.
    served: bool,
}

/// The log of one service. All of its instances write to it; clones are the same log.
///
/// Output is written as it came, and each output in its own order. Lines of several outputs stand in each other's way only where
/// one has left a line open for a while, or has one that is longer than what is read at once. What had to be dropped is
/// replaced by a line `[pmesh] <n> bytes, <n> lines were dropped: <reason>`; where the line before it is open, it begins with an
/// end of a line.
#[derive(Clone)]
pub(crate) struct ServiceLog {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

struct Shared {
    path: PathBuf,
    /// Used by the writer alone, but for readers who open the files.
    file: Mutex<LogFile>,
    /// Tells those who follow it that something was written.
    grown: watch::Sender<()>,
    /// What was dropped before it reached the writer.
    lost: Mutex<Loss>,
    /// The number of the next output.
    outputs: AtomicU64,
    /// Whether one of the pumps has taken on to have the note of a loss written.
    note_kept: AtomicBool,
}

/// Something for the writer to do.
struct Job {
    log: Arc<Shared>,
    /// Where the bytes come from.
    output: LogOutput,
    bytes: Vec<u8>,
    done: oneshot::Sender<Written>,
}

/// The writer's answer to a [`Job`].
#[derive(Clone, Copy, Debug)]
struct Written {
    /// Whether something was lost of which the note could not be written yet.
    owes_note: bool,
}

impl LogFolder {
    /// Creates the folder if it does not exist (mode 0750: logs are not for everybody). Blocks for that.
    ///
    /// A log is only written to a regular file of this user, never through a link: anything else of that name
    /// is left as it is, and the output is dropped and counted. Links in the path to `folder` are resolved
    /// once, now.
    ///
    /// # Errors
    ///
    /// The system's, if the folder cannot be created. If a log cannot be opened or written later, its output
    /// is dropped and counted.
    pub fn open(folder: &Path, limits: LogLimits, threads: &WorkThreads) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, log_files::FOLDER_MODE.bits());
        builder.recursive(true).create(folder)?;
        let folder = folder.canonicalize()?;
        let writer = Writer { threads: threads.logs.clone(), queue: Mutex::default() };
        let readers = threads.log_readers.clone();
        Ok(Self { folder, limits, writer: Arc::new(writer), readers, logs: Arc::default() })
    }

    /// The log `name`, which must be a plain file name. Two calls with the same name give the same log.
    pub(crate) fn log(&self, name: &str) -> ServiceLog {
        let mut logs = self.logs.lock();
        logs.retain(|_, log| log.strong_count() > 0);
        let found = logs.get(name).and_then(Weak::upgrade);
        let shared = found.unwrap_or_else(|| {
            let shared = Arc::new(Shared {
                path: self.folder.join(name),
                file: Mutex::new(LogFile::new(self.folder.clone(), name.into(), self.limits)),
                grown: watch::Sender::new(()),
                lost: Mutex::default(),
                outputs: AtomicU64::new(LogOutput::NOTE.number + 1),
                note_kept: AtomicBool::new(false),
            });
            logs.insert(name.to_owned(), Arc::downgrade(&shared));
            shared
        });
        ServiceLog { shared, writer: Arc::clone(&self.writer) }
    }
}

impl ServiceLog {
    /// The path of its file.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes a line of the supervisor's own, `[pmesh] <text>`, soon. Does not wait for that.
    pub(crate) fn note(&self, text: &str) {
        let bytes = format!("[pmesh] {}\n", text.replace('\n', " ")).into_bytes();
        if self.writer.queue.lock().jobs.len() < JOBS {
            drop(self.give(LogOutput::NOTE, bytes));
        } else {
            self.lose(&bytes, "too many notes at a time");
        }
    }

    /// Returns when everything that the writer was given before has been written or dropped.
    #[cfg(test)]
    pub(crate) async fn flush(&self) {
        self.write(LogOutput::NOTE, Vec::new()).await;
    }

    /// Resolves when the writer has handled the bytes; it handles them also if nobody waits. If the runtime
    /// ends, the writer is gone, and no note is owed.
    async fn write(&self, output: LogOutput, bytes: Vec<u8>) -> Written {
        self.give(output, bytes).await.unwrap_or(Written { owes_note: false })
    }

    fn give(&self, output: LogOutput, bytes: Vec<u8>) -> oneshot::Receiver<Written> {
        let (done, answer) = oneshot::channel();
        let mut queue = self.writer.queue.lock();
        queue.jobs.push_back(Job { log: Arc::clone(&self.shared), output, bytes, done });
        if !queue.served {
            queue.served = true;
            drop(queue);
            Writer::begin(&self.writer);
        }
        answer
    }

    fn lose(&self, bytes: &[u8], reason: &str) {
        self.shared.lost.lock().add(bytes, reason);
    }
}

impl Writer {
    fn begin(writer: &Arc<Self>) {
        let serving = Arc::clone(writer);
        match writer.threads.begin(Duration::MAX, move |_| serving.serve()) {
            // The jobs report their own ends, so nobody waits for this one.
            Ok(serving) => serving.detach(),
            Err(unanswered) => {
                let jobs = {
                    let mut queue = writer.queue.lock();
                    queue.served = false;
                    std::mem::take(&mut queue.jobs)
                };
                // Dropping a job tells the pump that waits for it.
                for job in jobs {
                    job.log.lost.lock().add(&job.bytes, &unanswered.to_string());
                }
            }
        }
    }

    fn serve(&self) {
        loop {
            let job = {
                let mut queue = self.queue.lock();
                let Some(job) = queue.jobs.pop_front() else {
                    queue.served = false;
                    return;
                };
                job
            };
            let lost = std::mem::take(&mut *job.log.lost.lock());
            let write = || job.log.file.lock().write(job.output, &job.bytes, lost, Moment::now());
            // A panic costs only the output that caused it: the writer serves all services, and must neither
            // end nor stay marked as busy.
            let Ok(owes_note) = catch_unwind(AssertUnwindSafe(write)) else {
                error!(log = %job.log.path.display(), "writing the output of a service ended early; it is lost");
                continue;
            };
            if job.log.grown.receiver_count() > 0 {
                job.log.grown.send_replace(());
            }
            // An error means that nobody waits: nobody waits for a note, and an output's pump can be dropped.
            // The bytes are written all the same, and the file still counts the note that is owed.
            job.done.send(Written { owes_note }).ok();
        }
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
