//! What is read is what was written.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    LineEnd, LogLimits, LogStream,
    log::{LogOutput, LogSource, index_record::IndexRecord},
    testing::work_threads,
};

/// A chunk as the writer puts it down.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) source: LogSource,
    pub(super) time: u64,
    pub(super) goes_on: bool,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn source(instance: u32, stream: LogStream) -> LogSource {
    LogSource { instance: Some(instance), stream }
}

pub(super) fn written(instance: u32, time: u64, goes_on: bool, bytes: &[u8]) -> Written {
    Written { source: source(instance, LogStream::Stdout), time, goes_on, bytes: bytes.to_vec() }
}

pub(super) fn record(offset: u64, chunk: &Written) -> [u8; IndexRecord::SIZE] {
    IndexRecord { offset, time: chunk.time, source: chunk.source, goes_on: chunk.goes_on }.encode()
}

/// The files of the log `x.log`, of which the last is the newest.
fn put(folder: &Path, files: &[&[Written]]) {
    for (age, chunks) in files.iter().rev().enumerate() {
        let name = if age == 0 { "x.log".to_owned() } else { format!("x.log.{age}") };
        let (mut text, mut index) = (Vec::new(), Vec::new());
        for chunk in *chunks {
            index.extend(record(text.len() as u64, chunk));
            text.extend(&chunk.bytes);
        }
        fs::write(folder.join(&name), text).unwrap();
        fs::write(folder.join(format!("{name}.index")), index).unwrap();
    }
}

pub(super) fn open(folder: &Path) -> LogFolder {
    LogFolder::open(folder, LogLimits::default(), &work_threads()).unwrap()
}

async fn read(folder: &LogFolder, query: LogQuery) -> Vec<LogLine> {
    folder.read(vec![("x".parse().unwrap(), "x.log".to_owned())], query).await.unwrap()
}

fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8(line.text.clone()).unwrap()).collect()
}

fn micros_of(line: &LogLine) -> Option<u64> {
    line.time.map(micros)
}

/// The lines that chunks make, one byte after the other: those that are ended in order, then those that are open.
pub(super) fn lines_of(chunks: &[Written]) -> Vec<(LogSource, Option<u64>, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut open: Vec<(LogSource, u64, Vec<u8>)> = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.bytes.is_empty()) {
        let mut line = Vec::new();
        if let Some(at) = open.iter().position(|(source, ..)| *source == chunk.source) {
            let (source, time, text) = open.remove(at);
            if chunk.goes_on {
                line = text;
            } else {
                lines.push((source, Some(time), text));
            }
        }
        for &byte in &chunk.bytes {
            if byte == b'\n' {
                lines.push((chunk.source, Some(chunk.time), std::mem::take(&mut line)));
            } else {
                line.push(byte);
            }
        }
        if !line.is_empty() {
            open.push((chunk.source, chunk.time, line));
        }
    }
    lines.extend(open.into_iter().map(|(source, time, line)| (source, Some(time), line)));
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lines_come_together_again_whatever_stands_between_their_parts_and_wherever_a_file_ends(
        chunks in vec((0_u32..3, any::<bool>(), any::<bool>(), vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b')], 0..8)), 0..40),
        borders in vec(0_usize..40, 0..4),
        wanted in 0_usize..60,
    ) {
        let mut is_open: BTreeMap<(u32, bool), bool> = BTreeMap::new();
        let chunks: Vec<Written> = chunks
            .into_iter()
            .enumerate()
            .map(|(number, (instance, is_error, restarts, bytes))| {
                let open = is_open.entry((instance, is_error)).or_default();
                let goes_on = *open && !restarts;
                if let Some(last) = bytes.last() {
                    *open = *last != b'\n';
                }
                let stream = if is_error { LogStream::Stderr } else { LogStream::Stdout };
                Written { source: source(instance, stream), time: 1000 + number as u64, goes_on, bytes }
            })
            .collect();
        let mut borders: Vec<usize> = borders.into_iter().map(|at| at.min(chunks.len())).collect();
        borders.extend([0, chunks.len()]);
        borders.sort_unstable();
        let files: Vec<&[Written]> = borders.windows(2).map(|pair| &chunks[pair[0]..pair[1]]).collect();
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), &files);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lines = runtime.block_on(read(&open(folder.path()), LogQuery::last(wanted)));
        let read: Vec<_> = lines
            .iter()
            .map(|line| {
                let source = LogSource { instance: line.instance, stream: line.stream.unwrap() };
                (source, micros_of(line), line.text.clone())
            })
            .collect();
        let all = lines_of(&chunks);
        prop_assert_eq!(read, &all[all.len().saturating_sub(wanted)..]);
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_comes_in_pieces_and_one_that_just_fits_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![b'x'; 2 * LogLine::MAX_LEN + 1];
    let fits = &long[..LogLine::MAX_LEN];
    put(
        folder.path(),
        &[&[
            written(1, 1, false, fits),
            written(1, 2, true, b"\n"),
            written(1, 3, false, &long),
            written(2, 4, false, b"between\n"),
            written(1, 5, true, b"y\nz"),
        ]],
    );
    let lines = read(&open(folder.path()), LogQuery::last(10)).await;
    let shapes: Vec<_> = lines.iter().map(|line| (line.text.len(), micros_of(line), line.end)).collect();
    let (max, cut, newline) = (LogLine::MAX_LEN, LineEnd::Cut, LineEnd::Newline);
    let wanted = [
        (max, Some(2), newline),
        (max, Some(3), cut),
        (max, Some(3), cut),
        (7, Some(4), newline),
        (2, Some(5), newline),
        (1, Some(5), LineEnd::Open),
    ];
    // The text of the first was complete before its newline came, which ended it.
    assert_eq!(shapes, wanted);
    assert_eq!(lines[4].text, b"xy");
}

#[tokio::test]
async fn lines_are_those_since_a_time_also_if_they_began_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = [written(1, 10, false, b"old\n"), written(2, 20, false, b"begun ")];
    let new = [written(1, 30, false, b"new\n"), written(2, 40, true, b"and ended\n")];
    put(folder.path(), &[&old, &new]);
    let folder = open(folder.path());
    let since = |time| {
        LogQuery::last(10)
            .with(|query| query.since = Some(SystemTime::UNIX_EPOCH + Duration::from_micros(time)))
    };
    let both = ["new", "begun and ended"];
    assert_eq!(texts(&read(&folder, since(30)).await), both);
    assert_eq!(texts(&read(&folder, since(11)).await), both);
    assert_eq!(texts(&read(&folder, since(31)).await), ["begun and ended"]);
    assert_eq!(texts(&read(&folder, since(41)).await), [""; 0]);
    assert_eq!(texts(&read(&folder, since(10)).await), ["old", "new", "begun and ended"]);
    let one = |instance| LogQuery::last(10).with(|query| query.instance = Some(instance));
    assert_eq!(texts(&read(&folder, one(1)).await), ["old", "new"]);
    assert_eq!(texts(&read(&folder, one(2)).await), ["begun and ended"]);
    assert_eq!(texts(&read(&folder, one(3)).await), [""; 0]);
}

#[tokio::test]
async fn what_has_no_record_has_no_time_and_records_of_what_never_came_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &[&[written(1, 10, false, b"one\n"), written(1, 20, false, b"")]]);
    let path = |name: &str| folder.path().join(name);
    let mut index = fs::read(path("x.log.index")).unwrap();
    index.extend(record(400, &written(1, 30, false, b"")));
    // The beginning of one more.
    index.extend([1, 2, 3]);
    fs::write(path("x.log.index"), index).unwrap();
    fs::write(path("x.log.1"), "from before\nthe index").unwrap();
    let lines = read(&open(folder.path()), LogQuery::last(10)).await;
    assert_eq!(texts(&lines), ["from before", "one", "the index"]);
    assert_eq!(lines.iter().map(micros_of).collect::<Vec<_>>(), [None, Some(10), None]);
    assert_eq!((lines[0].instance, lines[0].stream), (None, None));
    assert_eq!(read(&open(&folder.path().join("empty")), LogQuery::last(10)).await, []);
}

#[test]
fn of_long_logs_no_more_is_looked_at_than_the_last_lines_need() {
    let folder = tempfile::tempdir().unwrap();
    let line = [&[b'x'; 99][..], b"\n"].concat();
    let chunks: Vec<Written> = (0..20_000).map(|time| written(1, time, false, &line)).collect();
    put(folder.path(), &[&chunks, &chunks, &chunks]);
    let mut segments = open(folder.path()).segments("x.log", None).unwrap();
    let until = Instant::now() + LIMIT;
    let wanted = Wanted { lines: 200, since: None, instance: None, open: true };
    assert_eq!(last_lines(&mut segments, wanted, until).unwrap().len(), 200);
    let read: u64 = segments.iter().map(|segment| segment.read_len.get()).sum();
    assert!(read <= 3 * 64 * 1024, "{read} of {} bytes", segments.iter().map(|it| it.len).sum::<u64>());
}

#[tokio::test]
async fn an_answer_has_no_more_text_than_may_be_and_the_newest_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let line = [vec![b'x'; LogLine::MAX_LEN], b"\n".to_vec()].concat();
    let chunks: Vec<Written> = (0..300).map(|time| written(1, time, false, &line)).collect();
    put(folder.path(), &[&chunks]);
    let lines = read(&open(folder.path()), LogQuery::last(10_000)).await;
    let len: usize = lines.iter().map(|line| line.text.len()).sum();
    assert!(len as u64 <= LogFolder::MAX_READ_LEN && lines.len() > 100, "{len}");
    assert_eq!(micros_of(lines.last().unwrap()), Some(299));
    assert!(lines.iter().all(|line| line.text.len() == LogLine::MAX_LEN && line.end == LineEnd::Newline));
    // One line without an end that is larger than all that may be read.
    put(folder.path(), &[&[written(1, 1, false, &vec![b'x'; 10 << 20])]]);
    let lines = read(&open(folder.path()), LogQuery::last(10_000)).await;
    assert!((100..=128).contains(&lines.len()), "{}", lines.len());
}

#[tokio::test]
async fn the_lines_of_many_logs_come_by_their_times_and_those_of_each_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let logs =
        [("a", vec![(10, "a1"), (30, "a2"), (25, "a3")]), ("b", vec![(20, "b1"), (27, "b2"), (40, "b3")])];
    for (name, lines) in &logs {
        let chunks: Vec<Written> = lines
            .iter()
            .map(|(time, text)| written(1, *time, false, format!("{text}\n").as_bytes()))
            .collect();
        put(folder.path(), &[&chunks]);
        for end in ["", ".index"] {
            fs::rename(folder.path().join(format!("x.log{end}")), folder.path().join(format!("{name}{end}")))
                .unwrap();
        }
    }
    let folder = open(folder.path());
    let both = || ["a", "b"].map(|name| (name.parse().unwrap(), name.to_owned())).to_vec();
    let lines = folder.read(both(), LogQuery::last(10)).await.unwrap();
    assert_eq!(texts(&lines), ["a1", "b1", "b2", "a2", "a3", "b3"]);
    assert_eq!(lines[1].service.as_str(), "b");
    assert_eq!(texts(&folder.read(both(), LogQuery::last(2)).await.unwrap()), ["a3", "b3"]);
    assert_eq!(folder.read(both(), LogQuery::last(0)).await.unwrap(), []);
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_log_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    fs::write(folder.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink("secret", &path).unwrap();
    let logs = || vec![("x".parse().unwrap(), "x.log".to_owned())];
    let error = open(folder.path()).read(logs(), LogQuery::last(1)).await.unwrap_err();
    assert!(
        matches!(&error, LogReadError::Io { source, .. } if source.to_string().ends_with("is a link; remove it"))
    );
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let error = open(folder.path()).read(logs(), LogQuery::last(1)).await.unwrap_err();
    assert!(matches!(error, LogReadError::Io { .. }), "and nobody waits for its other end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_while_it_is_read_neither_loses_nor_doubles_a_line_and_each_file_has_its_own_index() {
    const LINES: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits::default().with(|limits| limits.bytes = 200);
    let logs = LogFolder::open(folder.path(), limits, &work_threads()).unwrap();
    let log = logs.log("x.log");
    let has_ended = std::sync::Arc::new(AtomicBool::new(false));
    let (ended, writer) = (std::sync::Arc::clone(&has_ended), log.clone());
    // Whose a line is changes from line to line, so that in each file another one begins.
    let instance = |number: u64| u32::try_from(number * number % 7).unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..LINES {
            let output =
                LogOutput { number: number + 1, source: source(instance(number), LogStream::Stdout) };
            writer.write(output, format!("{number:04}\n").into_bytes()).await;
        }
        ended.store(true, Ordering::Relaxed);
    });
    loop {
        let is_last = has_ended.load(Ordering::Relaxed);
        let lines = read(&logs, LogQuery::last(100)).await;
        let numbers: Vec<u64> = texts(&lines).iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        for (line, number) in lines.iter().zip(&numbers) {
            assert_eq!(line.instance, Some(instance(*number)), "{number}");
        }
        assert!(lines.is_sorted_by_key(|line| line.time));
        if is_last {
            assert_eq!((numbers.len(), numbers.last()), (100, Some(&(LINES - 1))));
            break;
        }
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn no_file_is_opened_while_the_writer_may_be_moving_it_and_nobody_waits_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let logs = open(folder.path());
    let log = logs.log("x.log");
    let _writes = log.shared.file.lock();
    let error = logs.segments("x.log", None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
}
