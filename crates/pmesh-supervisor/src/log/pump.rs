//! From an output to the writer, in bounded memory.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

use super::{LogSource, LogStream, ServiceLog, Tail, Written, log_output::LogOutput};

/// The most that is read at once, and that is given to the writer at once; the rest of a line can come on
/// top.
const CHUNK: usize = 64 * 1024;
/// The most that is read at once from an output that writes little.
const SIP: usize = 2 * 1024;
/// After how long without more of it an open line is written.
const OPEN_LINE: Duration = Duration::from_millis(100);
/// How long the disk may hold up an output before output is dropped.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a write is tried while a note is owed and there is no output.
const RETRY: Duration = Duration::from_secs(1);

/// The longest wait while nothing is due.
const IDLE: Duration = Duration::from_hours(1);

const TOO_SLOW: &str = "the disk took nothing for 5 s";

/// Splits an output into chunks of whole lines.
#[derive(Default)]
struct Chunker {
    /// What was read and not given to the writer yet.
    pending: Vec<u8>,
    /// Up to where `pending` consists of whole lines.
    whole: usize,
}

impl Chunker {
    /// Looks at what was appended to `pending` after `from`.
    fn appended(&mut self, from: usize) {
        let end = self.pending[from..].iter().rposition(|&byte| byte == b'\n');
        self.whole = end.map_or(self.whole, |end| from + end + 1);
    }

    fn take_lines(&mut self) -> Vec<u8> {
        let rest = self.pending.split_off(self.whole);
        self.whole = 0;
        std::mem::replace(&mut self.pending, rest)
    }

    fn take_all(&mut self) -> Vec<u8> {
        self.whole = 0;
        std::mem::take(&mut self.pending)
    }
}

/// Reads one output. When it is dropped, it gives the writer what it still holds.
struct Pump {
    log: ServiceLog,
    output: LogOutput,
    chunker: Chunker,
    /// Whether this pump has taken on to have the log's note of a loss written.
    keeps_note: bool,
}

impl Pump {
    /// Takes on the note, unless another pump has; answers whether it is this pump's.
    fn keep_note(&mut self) -> bool {
        self.keeps_note |= !self.log.shared.note_kept.swap(true, Ordering::AcqRel);
        self.keeps_note
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let rest = self.chunker.take_all();
        if !rest.is_empty() {
            drop(self.log.give(self.output, rest));
        }
        if self.keeps_note {
            self.log.shared.note_kept.store(false, Ordering::Release);
        }
    }
}

impl ServiceLog {
    /// Writes what `output` of this source gives, until it ends, and keeps the last of it in `tail`.
    ///
    /// At most 256 KiB of it are held in memory. While the disk does not take them, the output is not read,
    /// which holds up the process that writes it; after 5 s the output is read and dropped. On an error of
    /// the disk, such as "no space left", output is dropped at once and a write is tried each second. A line
    /// that is not ended is written after 100 ms without more of it.
    ///
    /// A note of what was lost is written as soon as the disk takes it: for that, one of a log's pumps goes
    /// on after the end of its output. Dropped early, a pump gives the writer what it has read.
    pub(crate) fn pump(
        &self,
        source: LogSource,
        output: impl AsyncRead + Send + Unpin + 'static,
        tail: Tail,
    ) -> impl Future<Output = ()> + Send + 'static {
        let number = self.shared.outputs.fetch_add(1, Ordering::Relaxed);
        run(self.clone(), LogOutput { number, source }, output, tail)
    }
}

/// Pumps both outputs of a process into its log, as [`ServiceLog::pump`] does.
pub(crate) fn pump_outputs(
    log: &ServiceLog,
    source: LogSource,
    output: Box<dyn AsyncRead + Send + Unpin>,
    errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    tail: &Tail,
) -> impl Future<Output = ()> + Send + 'static {
    let of_errors = match source.stream {
        LogStream::Stdout => LogSource { stream: LogStream::Stderr, ..source },
        _ => source,
    };
    let errors = errors.map(|errors| log.pump(of_errors, errors, tail.clone()));
    let output = log.pump(source, output, tail.clone());
    async move {
        futures_util::future::join(output, futures_util::future::OptionFuture::from(errors)).await;
    }
}

async fn run(log: ServiceLog, source: LogOutput, mut output: impl AsyncRead + Send + Unpin, tail: Tail) {
    let chunker = Chunker::default();
    let mut pump = Pump { log, output: source, chunker, keeps_note: false };
    let mut writing: Option<(BoxFuture<'static, Written>, Instant)> = None;
    let mut owes_note = false;
    let mut last_read = Instant::now();
    let mut appetite = SIP;
    let mut ended = false;
    let mut dropped = Vec::new();

    loop {
        let now = Instant::now();
        let open_line_due = last_read + OPEN_LINE;
        if writing.is_none() {
            let full = pump.chunker.pending.len() >= CHUNK && pump.chunker.whole == 0;
            let all = ended || full || now >= open_line_due;
            let chunk = if all { pump.chunker.take_all() } else { pump.chunker.take_lines() };
            if !chunk.is_empty() {
                writing = Some((write(&pump.log, source, chunk), now));
            } else if ended && !(owes_note && pump.keep_note()) {
                return;
            }
        }
        let full = pump.chunker.pending.len() >= CHUNK;
        let out_of_patience = writing.as_ref().is_some_and(|(_, since)| now >= *since + PATIENCE);
        if ended && out_of_patience {
            // What is being written now is counted by the writer, or was never accepted.
            pump.log.lose(&pump.chunker.take_all(), TOO_SLOW);
            // An empty job behind it makes the writer write the note.
            drop(pump.log.give(source, Vec::new()));
            return;
        }
        let dropping = full && out_of_patience;
        let due = match &writing {
            Some((_, since)) if full || ended => *since + PATIENCE,
            None if !pump.chunker.pending.is_empty() => open_line_due,
            None if owes_note => now + RETRY,
            Some(_) | None => now + IDLE,
        };
        let into = if dropping { &mut dropped } else { &mut pump.chunker.pending };
        into.reserve(if full && !dropping { 0 } else { appetite });
        tokio::select! {
            written = async { (&mut writing.as_mut().expect("the branch's condition").0).await },
                if writing.is_some() =>
            {
                writing = None;
                owes_note = written.owes_note;
            }
            read = output.read_buf(into), if !ended && (!full || dropping) => match read {
                Ok(count) if count > 0 && dropping => {
                    tail.push(&dropped);
                    pump.log.lose(&dropped, TOO_SLOW);
                    dropped.clear();
                }
                Ok(count) if count > 0 => {
                    last_read = Instant::now();
                    let from = pump.chunker.pending.len() - count;
                    tail.push(&pump.chunker.pending[from..]);
                    pump.chunker.appended(from);
                    appetite = if count >= appetite { CHUNK } else { SIP };
                }
                // The end of the output, or an error while reading it: either way nothing more comes.
                _ => ended = true,
            },
            () = tokio::time::sleep_until(due), if !dropping => {
                if writing.is_none() && owes_note && pump.chunker.pending.is_empty() {
                    writing = Some((write(&pump.log, source, Vec::new()), Instant::now()));
                }
            }
        }
    }
}

fn write(log: &ServiceLog, source: LogOutput, chunk: Vec<u8>) -> BoxFuture<'static, Written> {
    let log = log.clone();
    async move { log.write(source, chunk).await }.boxed()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rustix::{
        event::{PollFd, PollFlags, Timespec},
        fs::{Mode, OFlags},
    };
    use tokio::io::AsyncWriteExt;

    use pmesh_threads::{PoolLimits, Threads};

    use super::*;
    use crate::{
        Launch, LogFolder, LogLimits, OsSpawner, Spawner as _, WorkThreads, log::index_record::IndexRecord,
        testing::work_threads,
    };

    const APP: LogSource = LogSource { instance: Some(1), stream: LogStream::Stdout };

    fn chunks(reads: &[&str]) -> String {
        let mut chunker = Chunker::default();
        let mut out = String::new();
        for read in reads {
            let from = chunker.pending.len();
            chunker.pending.extend_from_slice(read.as_bytes());
            chunker.appended(from);
            out.push_str(&String::from_utf8(chunker.take_lines()).unwrap());
            out.push('|');
        }
        out + &String::from_utf8(chunker.take_all()).unwrap()
    }

    #[test]
    fn chunks_end_with_a_line() {
        assert_eq!(chunks(&["a\nb", "c\n", "d", "e"]), "a\n|bc\n|||de");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_changed_and_chunks_end_with_a_line(
            reads in proptest::collection::vec("[ab\n]{0,30}", 0..10),
        ) {
            let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
            let out = chunks(&reads);
            proptest::prop_assert_eq!(out.replace('|', ""), reads.concat());
            let mut whole = out.split('|').rev().skip(1);
            proptest::prop_assert!(whole.all(|chunk| chunk.is_empty() || chunk.ends_with('\n')));
        }
    }

    fn log(folder: &Path) -> ServiceLog {
        LogFolder::open(folder, LogLimits::default(), &crate::testing::work_threads()).unwrap().log("x.log")
    }

    fn read(log: &ServiceLog) -> String {
        fs::read_to_string(log.path()).unwrap_or_default()
    }

    #[tokio::test]
    async fn where_the_writer_is_refused_nobody_waits_for_it_and_the_loss_is_told_later() {
        let folder = tempfile::tempdir().unwrap();
        let limits = PoolLimits::new(1, 1).with(|limits| limits.replacements = 0);
        let threads = WorkThreads { logs: Threads::start("logs", limits).unwrap(), ..work_threads() };
        let (held, until) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let other = threads.logs.begin(Duration::MAX, move |_| {
            begun.send(()).unwrap();
            until.recv().is_err()
        });
        has_begun.recv().unwrap();
        let queued = threads.logs.begin(Duration::MAX, |_| ()).unwrap();
        let log = LogFolder::open(folder.path(), LogLimits::default(), &threads).unwrap().log("x.log");
        log.note("this comes in a bad moment");
        log.flush().await;
        assert_eq!(read(&log), "");
        drop(held);
        assert!(other.unwrap().await.unwrap());
        queued.await.unwrap();
        log.note("and this later");
        log.flush().await;
        let text = read(&log);
        assert!(text.contains("1 lines were dropped: too much is asked at a time (logs)"), "{text}");
        assert!(text.ends_with("[pmesh] and this later\n"), "{text}");
    }

    #[tokio::test]
    async fn output_goes_into_the_file_and_its_end_into_the_tail() {
        let folder = tempfile::tempdir().unwrap();
        let (log, tail) = (log(folder.path()), Tail::new());
        let (mut app, output) = tokio::io::duplex(1024);
        let pump = tokio::spawn(log.pump(APP, output, tail.clone()));
        app.write_all(b"\xff\x00 bytes\nas they come").await.unwrap();
        drop(app);
        pump.await.unwrap();
        log.note("two\nlines");
        log.flush().await;
        let wanted = b"\xff\x00 bytes\nas they come\n[pmesh] two lines\n";
        assert_eq!(fs::read(log.path()).unwrap(), wanted);
        assert_eq!(tail.lines(), ["\u{fffd} bytes", "as they come"]);
    }

    #[tokio::test]
    async fn what_a_process_writes_to_its_standard_error_is_known_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let (log, tail) = (log(folder.path()), Tail::new());
        let launch = Launch::new("/bin/sh", folder.path().to_owned()).with(|launch| {
            launch.arguments = vec!["-c".into(), "echo out; echo err >&2".into()];
        });
        let spawned = OsSpawner::new(work_threads().proc).spawn(&launch).unwrap();
        pump_outputs(&log, APP, spawned.output, spawned.errors, &tail).await;
        spawned.exit.await;
        let index = fs::read(folder.path().join("x.log.index")).unwrap();
        let text = read(&log);
        let mut seen: Vec<_> = IndexRecord::all(&index, 4)
            .iter()
            .map(|record| {
                (record.source.stream.as_str(), &text[usize::try_from(record.offset).unwrap()..][..4])
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [("stderr", "err\n"), ("stdout", "out\n")]);
        assert_eq!(tail.lines().len(), 2);
    }

    #[tokio::test]
    async fn a_long_line_is_written_as_it_came_and_takes_little_memory() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let (mut app, output) = tokio::io::duplex(CHUNK);
        let pump = tokio::spawn(log.pump(APP, output, Tail::new()));
        let line = [vec![b'x'; 1 << 20], b"\n".to_vec()].concat();
        app.write_all(&line).await.unwrap();
        drop(app);
        pump.await.unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), line);
        let index = fs::read(folder.path().join("x.log.index")).unwrap();
        let records = IndexRecord::all(&index, u64::MAX);
        assert!(records.iter().skip(1).all(|record| record.goes_on));
        assert!(!records[0].goes_on);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_line_is_written_after_a_while_and_can_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let (mut app, output) = tokio::io::duplex(1024);
        let pump = tokio::spawn(log.pump(APP, output, Tail::new()));
        app.write_all(b"Password: ").await.unwrap();
        while read(&log) != "Password: " {
            tokio::time::sleep(OPEN_LINE).await;
        }
        app.write_all(b"given\n").await.unwrap();
        drop(app);
        pump.await.unwrap();
        assert_eq!(read(&log), "Password: given\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_noted_when_the_disk_takes_it_although_no_output_comes_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(&folder.path().join("logs"));
        fs::remove_dir(folder.path().join("logs")).unwrap();
        // Something else has its name.
        fs::write(folder.path().join("logs"), "").unwrap();
        let mut pumps = Vec::new();
        for _ in 0..2 {
            let (mut app, output) = tokio::io::duplex(1024);
            pumps.push(tokio::spawn(log.pump(APP, output, Tail::new())));
            app.write_all(b"lost\n").await.unwrap();
        }
        while !log.write(LogOutput::NOTE, Vec::new()).await.owes_note {
            tokio::task::yield_now().await;
        }
        fs::remove_file(folder.path().join("logs")).unwrap();
        for pump in pumps {
            pump.await.unwrap();
        }
        let note = "[pmesh] 10 bytes, 2 lines were dropped: Not a directory (os error 20)\n";
        assert_eq!(read(&log), note);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_pump_has_read_is_written_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let (mut app, output) = tokio::io::duplex(1024);
        let tail = Tail::new();
        let pump = tokio::spawn(log.pump(APP, output, tail.clone()));
        app.write_all(b"half a li").await.unwrap();
        while tail.lines().is_empty() {
            tokio::task::yield_now().await;
        }
        pump.abort();
        assert!(pump.await.unwrap_err().is_cancelled());
        log.flush().await;
        assert_eq!(read(&log), "half a li");
    }

    #[tokio::test]
    async fn the_lines_of_two_instances_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let mut pumps = Vec::new();
        for name in ["a", "b"] {
            let (mut app, output) = tokio::io::duplex(100);
            pumps.push(tokio::spawn(log.pump(APP, output, Tail::new())));
            pumps.push(tokio::spawn(async move {
                for number in 0..2000 {
                    app.write_all(format!("{name} {number}\n").as_bytes()).await.unwrap();
                }
            }));
        }
        for pump in pumps {
            pump.await.unwrap();
        }
        let text = read(&log);
        for name in ["a ", "b "] {
            let numbers = text.lines().filter_map(|line| line.strip_prefix(name));
            let wanted = (0..2000).map(|number: u32| number.to_string());
            assert!(numbers.eq(wanted), "{name}");
        }
        assert_eq!(text.lines().count(), 4000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_stops_the_app_for_5_s_and_then_costs_what_is_counted() {
        const LINES: u64 = 100_000;
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        // A FIFO that nobody reads takes 64 KiB and then lets its writer wait.
        rustix::fs::mkfifoat(rustix::fs::CWD, log.path(), Mode::RWXU).unwrap();
        let fifo = rustix::fs::open(log.path(), OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        let has_room = || {
            let mut room = [PollFd::new(&fifo, PollFlags::OUT)];
            rustix::event::poll(&mut room, Some(&Timespec::default())).unwrap() > 0
        };
        let hanging = fs::File::options().append(true).open(log.path()).unwrap();
        log.shared.file.lock().open_as(hanging, std::time::Instant::now());
        let (mut app, output) = tokio::io::duplex(CHUNK);
        let pump = tokio::spawn(log.pump(APP, output, Tail::new()));
        let begin = Instant::now();
        let app = tokio::spawn(async move {
            let numbers: Vec<u64> = (0..LINES).collect();
            for some in numbers.chunks(100) {
                let lines: Vec<u8> =
                    some.iter().flat_map(|number| format!("{number:09}\n").into_bytes()).collect();
                app.write_all(&lines).await.unwrap();
            }
        });
        // The writer's thread does not follow the paused clock, so no time passes before it hangs.
        while has_room() {
            tokio::task::yield_now().await;
        }
        while !app.is_finished() {
            // By hand, because a thread that hangs in a write stops the paused clock.
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let waited = begin.elapsed();
        assert!(waited >= PATIENCE && waited < 2 * PATIENCE, "{waited:?}");
        while !pump.is_finished() {
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        // The disk works again.
        let fifo = fs::File::open(log.path()).unwrap();
        let threads = pmesh_threads::testing::threads("test");
        let reader = threads.begin(Duration::MAX, move |_| {
            let (mut lines, mut bytes, mut dropped) = (0, 0, 0);
            for line in std::io::BufRead::lines(std::io::BufReader::new(fifo)) {
                let line = line.unwrap();
                let note = line.strip_prefix("[pmesh] ").map(|note| note.split(' ').collect::<Vec<_>>());
                match note.as_deref() {
                    Some([dropped_bytes, _, dropped_lines, ..]) => {
                        bytes += dropped_bytes.parse::<u64>().unwrap();
                        dropped += dropped_lines.parse::<u64>().unwrap();
                    }
                    _ => (lines, bytes) = (lines + 1, bytes + line.len() as u64 + 1),
                }
                if lines + dropped >= LINES {
                    break;
                }
            }
            (lines, bytes, dropped)
        });
        log.flush().await;
        let (lines, bytes, dropped) = reader.unwrap().await.unwrap();
        // One that was written in part is ended before the note, which has the rest of it: it is a line of both.
        let in_both = lines + dropped - LINES;
        assert!(in_both <= 1, "{lines} {dropped}");
        assert_eq!(bytes, 10 * LINES + in_both);
        assert!(dropped > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_for_all_logs_stops_each_app_for_5_s_and_costs_what_is_counted() {
        const BYTES: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let limits = PoolLimits::new(1, 16).with(|limits| limits.replacements = 0);
        let threads = WorkThreads { logs: Threads::start("logs", limits).unwrap(), ..work_threads() };
        let (held, until) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let other = threads.logs.begin(Duration::MAX, move |_| {
            begun.send(()).unwrap();
            until.recv().is_err()
        });
        has_begun.recv().unwrap();
        let logs = LogFolder::open(folder.path(), LogLimits::default(), &threads).unwrap();
        let logs = ["a.log", "b.log"].map(|name| logs.log(name));
        let begin = Instant::now();
        let apps = logs.clone().map(|log| {
            let (mut app, output) = tokio::io::duplex(CHUNK);
            let pump = tokio::spawn(log.pump(APP, output, Tail::new()));
            let line = [&[b'x'; 1023][..], b"\n"].concat();
            let app = tokio::spawn(async move {
                for _ in 0..BYTES / line.len() {
                    app.write_all(&line).await.unwrap();
                }
            });
            (app, pump)
        });
        while !apps.iter().all(|(app, pump)| app.is_finished() && pump.is_finished()) {
            // By hand, because a thread that hangs in a write stops the paused clock.
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let waited = begin.elapsed();
        assert!(waited >= PATIENCE && waited < 2 * PATIENCE + PATIENCE / 2, "{waited:?}");
        drop(held);
        assert!(other.unwrap().await.unwrap());
        for log in &logs {
            log.flush().await;
            let text = read(log);
            let (notes, lines): (Vec<&str>, Vec<&str>) =
                text.lines().partition(|line| line.starts_with("[pmesh] "));
            let dropped = |note: &str| note.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
            let dropped: usize = notes.into_iter().map(dropped).sum();
            let written: usize = lines.iter().map(|line| line.len() + 1).sum();
            assert!(dropped > 0);
            assert_eq!(written + dropped, BYTES);
        }
    }
}
