//! Whoever follows logs is told what comes, once, in its order, and from where it was.

use std::{collections::BTreeMap, fs, path::Path};

use futures_util::FutureExt as _;
use proptest::{collection::vec, prelude::*};

use super::{
    line_assembler::FoundLine,
    log_scan::{LogScan, Scanned},
    tests::{Written, lines_of, open, record, source, written},
    *,
};
use crate::{LogCursor, LogLimits, LogStream, log::log_cursor::LogPosition, testing::work_threads};

/// What happens to a log and to somebody who follows it.
#[derive(Clone, Debug)]
enum Happening {
    /// Instance, whether to stderr, whether by a new process, and what.
    Write(u32, bool, bool, Vec<u8>),
    Rotate,
    /// Of how many bytes.
    Read(usize),
    /// The follower is gone, before it has told the last so many lines that it was given, and another one goes on.
    Resume(usize),
}

fn step() -> impl Strategy<Value = Happening> {
    let bytes = vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b')], 0..8);
    prop_oneof![
        6 => (0_u32..2, any::<bool>(), any::<bool>(), bytes).prop_map(|(a, b, c, d)| Happening::Write(a, b, c, d)),
        1 => Just(Happening::Rotate),
        3 => (1_usize..300).prop_map(Happening::Read),
        2 => (0_usize..4).prop_map(Happening::Resume),
    ]
}

/// Writes at the end of a log.
fn append(folder: &Path, name: &str, chunk: &Written) {
    use std::io::Write as _;
    let open = |name: &str| fs::File::options().append(true).create(true).open(folder.join(name)).unwrap();
    let offset = open(name).metadata().unwrap().len();
    open(&format!("{name}.index")).write_all(&record(offset, chunk)).unwrap();
    open(name).write_all(&chunk.bytes).unwrap();
}

fn rotate(folder: &Path) {
    for age in (0..5).rev() {
        let name = |age: u32| if age == 0 { "x.log".to_owned() } else { format!("x.log.{age}") };
        for end in ["", ".index"] {
            let from = folder.join(format!("{}{end}", name(age)));
            if from.exists() {
                fs::rename(from, folder.join(format!("{}{end}", name(age + 1)))).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn each_line_is_told_once_whatever_is_rotated_and_however_often_somebody_begins_again(
        steps in vec(step(), 0..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits::default().with(|limits| limits.files = 100);
        let logs = LogFolder::open(folder.path(), limits, &work_threads()).unwrap();
        let mut is_open: BTreeMap<(u32, bool), bool> = BTreeMap::new();
        let (mut chunks, mut rotations) = (Vec::new(), 0);
        let mut told: Vec<(FoundLine, LogPosition)> = Vec::new();
        let mut scan = LogScan::behind(LogPosition::Start);
        let read = |scan: &mut LogScan, room, told: &mut Vec<_>| {
            let mut segments = logs.segments("x.log", scan.file()).unwrap();
            let until = Instant::now() + LIMIT;
            scan.read(&mut segments, None, room, until, &mut |scanned| match scanned {
                Scanned::Line(line, position) => told.push((line, position)),
                Scanned::Gap => panic!("a gap"),
            })
            .unwrap()
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Happening::Write(instance, is_error, restarts, bytes) => {
                    let open = is_open.entry((instance, is_error)).or_default();
                    let goes_on = *open && !restarts;
                    if let Some(last) = bytes.last() {
                        *open = *last != b'\n';
                    }
                    let stream = if is_error { LogStream::Stderr } else { LogStream::Stdout };
                    let source = source(instance, stream);
                    chunks.push(Written { source, time: number as u64, goes_on, bytes });
                    append(folder.path(), "x.log", chunks.last().unwrap());
                }
                Happening::Rotate if rotations < 4 => {
                    rotations += 1;
                    rotate(folder.path());
                }
                Happening::Rotate => {}
                Happening::Read(room) => {
                    read(&mut scan, room, &mut told);
                }
                Happening::Resume(untold) => {
                    told.truncate(told.len().saturating_sub(untold));
                    scan = LogScan::behind(told.last().map_or(LogPosition::Start, |(_, position)| *position));
                }
            }
        }
        while read(&mut scan, 100, &mut told) {}
        let told: Vec<_> =
            told.into_iter().map(|(line, _)| (line.source.unwrap(), line.time, line.text)).collect();
        let all = lines_of(&chunks);
        let open = is_open.values().filter(|open| **open).count();
        prop_assert_eq!(&told, &all[..all.len() - open]);
    }
}

fn logs(names: &[&str]) -> Vec<(ServiceName, String)> {
    names.iter().map(|name| (name.parse().unwrap(), format!("{name}.log"))).collect()
}

/// Writes a line as the writer does, who tells of it.
fn write(folder: &LogFolder, name: &str, time: u64, text: &str) {
    append(&folder.folder, &format!("{name}.log"), &written(1, time, false, text.as_bytes()));
    folder.log(&format!("{name}.log")).shared.grown.send_replace(());
}

/// The next lines, `!` for a gap; the cursor goes with them.
async fn next(follow: &mut LogFollow, cursor: &mut LogCursor) -> Vec<String> {
    let told = |event: LogEvent| {
        cursor.pass(&event);
        event.line.map_or("!".to_owned(), |line| String::from_utf8(line.text).unwrap())
    };
    follow.next().await.unwrap().into_iter().map(told).collect()
}

fn last(lines: usize) -> FollowStart {
    FollowStart::Last(LogQuery::last(lines))
}

#[tokio::test]
async fn the_last_lines_of_all_logs_come_first_and_then_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = open(folder.path());
    for (name, time, text) in [("a", 1, "a1\n"), ("b", 2, "b1\n"), ("a", 3, "a2\n"), ("b", 4, "b2\nopen")] {
        write(&folder, name, time, text);
    }
    let (mut follow, mut cursor) = folder.follow(logs(&["a", "b", "new"]), last(3), None).await.unwrap();
    assert_eq!(next(&mut follow, &mut cursor).await, ["b1", "a2", "b2"]);
    assert!(follow.next().now_or_never().is_none(), "nothing has come");
    assert!(follow.looking.is_none(), "and nothing is looked at");
    write(&folder, "a", 5, "a3\na4");
    assert_eq!(next(&mut follow, &mut cursor).await, ["a3"]);
    append(&folder.folder, "b.log", &written(1, 6, true, b" and ended\n"));
    write(&folder, "new", 7, "n1\n");
    let mut told = next(&mut follow, &mut cursor).await;
    if told.len() < 2 {
        write(&folder, "b", 8, "b3\n");
        told.extend(next(&mut follow, &mut cursor).await);
    }
    told.retain(|line| line != "b3");
    told.sort();
    assert_eq!(told, ["n1", "open and ended"]);
}

#[tokio::test]
async fn one_who_comes_again_is_told_what_it_was_not_told_also_by_another_server_and_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    write(&server, "x", 1, "1\n2\n3\n");
    let (mut follow, mut cursor) = server.follow(logs(&["x"]), last(10), None).await.unwrap();
    let events = follow.next().await.unwrap();
    assert_eq!(events.len(), 3);
    // The connection is lost behind the second.
    events[..2].iter().for_each(|event| cursor.pass(event));
    drop((follow, server));
    rotate(folder.path());
    let server = open(folder.path());
    write(&server, "x", 2, "4\n");
    let cursor: LogCursor = cursor.to_string().parse().unwrap();
    let (mut follow, mut cursor) =
        server.follow(logs(&["x"]), FollowStart::Behind(cursor), None).await.unwrap();
    assert_eq!(next(&mut follow, &mut cursor).await, ["3", "4"]);
    rotate(folder.path());
    write(&server, "x", 3, "5\n");
    assert_eq!(next(&mut follow, &mut cursor).await, ["5"]);
}

#[tokio::test]
async fn what_is_rotated_away_before_it_was_told_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    write(&server, "x", 1, "1\n");
    let (mut follow, mut cursor) = server.follow(logs(&["x"]), last(10), None).await.unwrap();
    assert_eq!(next(&mut follow, &mut cursor).await, ["1"]);
    // Its file is gone, and another one has its name.
    for end in ["", ".index"] {
        fs::remove_file(folder.path().join(format!("x.log{end}"))).unwrap();
    }
    fs::write(folder.path().join("other"), "takes its inode").unwrap();
    write(&server, "x", 2, "3\n");
    assert_eq!(next(&mut follow, &mut cursor).await, ["!", "3"]);
    // Somebody has cut it short.
    fs::write(folder.path().join("x.log"), "").unwrap();
    fs::write(folder.path().join("x.log.index"), "").unwrap();
    server.log("x.log").shared.grown.send_replace(());
    assert_eq!(next(&mut follow, &mut cursor).await, ["!"]);
    write(&server, "x", 3, "4\n");
    assert_eq!(next(&mut follow, &mut cursor).await, ["4"]);
}

#[tokio::test]
async fn all_since_a_time_comes_however_much_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    let text = "x".repeat(1000);
    for time in 0..1000 {
        write(
            &server,
            if time % 3 == 0 { "a" } else { "b" },
            1_000_000 + time,
            &format!("{time:04} {text}\n"),
        );
    }
    let since = SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_100);
    let (mut follow, mut cursor) =
        server.follow(logs(&["a", "b"]), FollowStart::Since(since), None).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 900 {
        let some = next(&mut follow, &mut cursor).await;
        assert!(some.iter().map(String::len).sum::<usize>() <= 300 * 1024);
        told.extend(some);
    }
    let numbers: Vec<u64> = told.iter().map(|line| line[..4].parse().unwrap()).collect();
    assert_eq!(numbers, (100..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_that_is_followed_later_is_told_from_then_on_and_one_instance_alone_if_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    write(&server, "b", 1, "before anybody followed it\n");
    let (mut follow, mut cursor) = server.follow(logs(&["a"]), last(10), Some(1)).await.unwrap();
    follow.set_logs(logs(&["a", "b"]));
    assert!(follow.next().now_or_never().is_none());
    let now = micros(SystemTime::now()) + 1_000_000;
    append(folder.path(), "b.log", &written(2, now, false, b"of another instance\n"));
    write(&server, "b", now + 1, "new\n");
    assert_eq!(next(&mut follow, &mut cursor).await, ["new"]);
    assert!(cursor.to_string().contains(",b:"));
    follow.set_logs(logs(&["a"]));
    write(&server, "b", now + 2, "not of interest\n");
    write(&server, "a", now + 3, "this is\n");
    assert_eq!(next(&mut follow, &mut cursor).await, ["this is"]);
}

#[tokio::test]
async fn the_writer_tells_those_who_follow() {
    let folder = tempfile::tempdir().unwrap();
    let server = open(folder.path());
    let (mut follow, mut cursor) = server.follow(logs(&["x"]), last(10), None).await.unwrap();
    let (told, ()) = tokio::join!(next(&mut follow, &mut cursor), async {
        tokio::task::yield_now().await;
        server.log("x.log").note("written");
    });
    assert_eq!(told, ["[pmesh] written"]);
}
