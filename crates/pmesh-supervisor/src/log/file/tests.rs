use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{CWD, Mode};

use super::{
    super::index_file::ENOUGH_RECORDS,
    super::index_record::{IndexRecord, MOST_RECORDS},
    *,
};
use crate::{LogSource, LogStream};

struct Fixture {
    folder: tempfile::TempDir,
    file: LogFile,
    now: Instant,
    time: u64,
}

/// The standard output of instance `number`.
fn output(number: u64) -> LogOutput {
    let instance = Some(u32::try_from(number).unwrap());
    LogOutput { number, source: LogSource { instance, stream: LogStream::Stdout } }
}

fn log(bytes: u64, files: u32) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogLimits { bytes, files };
    let file = LogFile::new(folder.path().canonicalize().unwrap(), "x.log".into(), limits);
    Fixture { folder, file, now: Instant::now(), time: 0 }
}

impl Fixture {
    fn moment(&self) -> Moment {
        Moment { instant: self.now, time: self.time }
    }

    /// Writes, and lets 2 ms pass.
    fn write(&mut self, number: u64, text: &str) -> bool {
        self.time += 2000;
        self.file.write(output(number), text.as_bytes(), Loss::default(), self.moment())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What an index says: where, when in milliseconds, the source, and `+` where a line goes on.
    fn index(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        assert_eq!(bytes.len() % IndexRecord::SIZE, 0);
        let records = IndexRecord::all(&bytes, u64::MAX);
        assert_eq!(records.len(), bytes.len() / IndexRecord::SIZE);
        let shown = records.iter().map(|record| {
            let instance = record.source.instance.map_or(String::new(), |number| number.to_string());
            let (stream, goes_on) = (record.source.stream.as_str(), if record.goes_on { "+" } else { "" });
            format!("{}@{} {stream}{instance}{goes_on}", record.offset, record.time / 1000)
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The log's path as messages show it.
    fn shown(&self) -> String {
        self.folder.path().canonicalize().unwrap().join("x.log").display().to_string()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.contains(".index"));
        names.sort();
        names
    }
}

#[test]
fn a_full_file_is_moved_on_at_a_line_border_and_the_oldest_goes() {
    let mut log = log(10, 3);
    log.write(1, "aaaa\nbbbb\ncc");
    assert_eq!((log.read("x.log.1").as_str(), log.read("x.log").as_str()), ("aaaa\nbbbb\n", "cc"));
    log.write(1, "ccccccccccc\nd\n");
    assert_eq!(log.read("x.log.1"), "ccccccccccccc\n", "a line is not cut");
    assert_eq!((log.read("x.log.2").as_str(), log.read("x.log").as_str()), ("aaaa\nbbbb\n", "d\n"));
    log.write(1, "eeeeeeeee\nfffffffff\n");
    assert_eq!(log.read("x.log.1"), "eeeeeeeee\n");
    assert_eq!(log.names(), ["x.log", "x.log.1", "x.log.2"]);
}

#[test]
fn one_file_begins_anew_when_it_is_full() {
    let mut log = log(10, 1);
    log.write(1, "aaaaaaaa\nbbbb\n");
    assert_eq!((log.read("x.log").as_str(), log.names().len()), ("bbbb\n", 1));
}

#[test]
fn outputs_are_written_as_they_came_also_where_lines_are_open() {
    let mut log = log(1000, 2);
    log.write(1, "one ");
    log.write(1, "more ");
    log.write(2, "two\n");
    log.write(1, "rest\n");
    assert_eq!(log.read("x.log"), "one more two\nrest\n");
    assert_eq!(log.index("x.log.index"), "0@2 stdout1, 4@4 stdout1+, 9@6 stdout2, 13@8 stdout1+");
}

#[test]
fn an_older_log_is_continued_at_its_end() {
    let mut log = log(1000, 2);
    fs::write(log.folder.path().join("x.log"), "torn").unwrap();
    log.write(1, "new\n");
    assert_eq!(log.read("x.log"), "tornnew\n");
    assert_eq!(log.index("x.log.index"), "4@2 stdout1");
}

#[test]
fn a_file_that_was_moved_or_deleted_is_made_again_within_a_second() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    fs::rename(log.folder.path().join("x.log"), log.folder.path().join("moved")).unwrap();
    log.write(1, "b\n");
    assert_eq!(log.read("moved"), "a\nb\n");
    log.now += SECOND;
    log.write(1, "c\n");
    assert_eq!((log.read("x.log").as_str(), log.read("moved").as_str()), ("c\n", "a\nb\n"));
}

#[test]
fn what_the_disk_refuses_is_counted_and_written_down_when_it_takes_again() {
    let mut log = log(1000, 2);
    // A folder has the name of the file: every open fails.
    fs::create_dir(log.folder.path().join("x.log")).unwrap();
    assert!(log.write(1, "a\nb\n"));
    fs::remove_dir(log.folder.path().join("x.log")).unwrap();
    assert!(log.write(1, "c\n"), "not tried again at once");
    assert_eq!(log.names(), Vec::<String>::new());
    log.now += SECOND;
    assert!(!log.write(1, "d\n"));
    let note = "[pmesh] 6 bytes, 3 lines were dropped: Is a directory (os error 21)\nd\n";
    assert_eq!(log.read("x.log"), note);
}

#[test]
fn a_loss_before_the_writer_is_noted_also_without_more_output() {
    let mut log = log(1000, 2);
    let mut lost = Loss::default();
    lost.add(b"12\n4", "slow");
    assert!(!log.file.write(output(1), b"", lost, log.moment()));
    assert_eq!(log.read("x.log"), "[pmesh] 4 bytes, 1 lines were dropped: slow\n");
}

#[test]
fn a_full_disk_loses_exactly_what_is_counted() {
    let mut log = log(1000, 2);
    // /dev/full refuses every write with ENOSPC (full(4)).
    log.file.open_as(File::options().append(true).open("/dev/full").unwrap(), log.now);
    assert!(log.write(1, "a\nb"));
    log.now += SECOND;
    assert!(!log.write(1, "c\n"));
    let note = "[pmesh] 3 bytes, 1 lines were dropped: No space left on device (os error 28)\nc\n";
    assert_eq!(log.read("x.log"), note);
}

#[test]
fn nothing_is_written_through_a_link_and_the_loss_says_why() {
    let mut log = log(1000, 2);
    let (victim, path) = (log.folder.path().join("victim"), log.folder.path().join("x.log"));
    fs::write(&victim, "kept").unwrap();
    for target in ["victim", "nothing"] {
        std::os::unix::fs::symlink(log.folder.path().join(target), &path).unwrap();
        assert!(log.write(1, "a\n"));
        fs::remove_file(&path).unwrap();
        log.now += SECOND;
    }
    assert!(!log.write(1, "b\n"));
    let note = format!("[pmesh] 4 bytes, 2 lines were dropped: {} is a link; remove it\nb\n", log.shown());
    assert_eq!((log.read("x.log"), log.read("victim").as_str()), (note, "kept"));
    assert_eq!(log.names(), ["victim", "x.log"]);
}

#[test]
fn a_link_that_takes_the_name_of_an_open_log_is_not_followed_either() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    let path = log.folder.path().join("x.log");
    fs::rename(&path, log.folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", &path).unwrap();
    log.now += SECOND;
    assert!(log.write(1, "b\n"), "it leads to the same file, but is not it");
    assert_eq!(log.read("moved"), "a\n");
}

#[test]
fn a_folder_that_has_become_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (logs, elsewhere) = (root.join("logs"), root.join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &logs).unwrap();
    let mut file = LogFile::new(logs, "x.log".into(), LogLimits::default());
    assert!(file.write(output(1), b"a\n", Loss::default(), Moment::now()));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_is_no_regular_file_of_this_user_is_not_written_to() {
    let mut log = log(1000, 2);
    let path = log.folder.path().join("x.log");
    rustix::fs::mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    assert!(log.write(1, "a\n"), "and nobody waits for its other end");
    fs::remove_file(&path).unwrap();
    log.now += SECOND;
    assert!(!log.write(1, ""));
    assert!(log.read("x.log").contains("is no regular file; remove it"));
    if !rustix::process::geteuid().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        eprintln!("skipped in part: only root can give a file to another user");
        return;
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
    log.now += SECOND;
    assert!(log.write(1, "b\n"));
    assert_eq!(log.read("x.log"), "");
}

#[test]
fn a_file_that_has_another_name_is_moved_on_and_not_written_to() {
    for files in [1, 2] {
        let mut log = log(1000, files);
        let victim = log.folder.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        fs::hard_link(&victim, log.folder.path().join("x.log")).unwrap();
        assert!(!log.write(1, "a\n"));
        assert_eq!((log.read("x.log").as_str(), log.read("victim").as_str()), ("a\n", "kept"));
        assert_eq!(log.read("x.log.1"), if files == 1 { "" } else { "kept" });
    }
}

#[test]
fn a_log_that_others_could_write_to_is_mended() {
    let mut log = log(1000, 2);
    let path = log.folder.path().join("x.log");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    log.write(1, "a\n");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn the_index_says_when_each_chunk_came_and_from_whom() {
    let mut log = log(1000, 2);
    log.write(1, "a\nopen ");
    log.write(1, "line\n");
    log.write(2, "b\n");
    log.time = 0;
    log.write(1, "the clock was set back\n");
    assert_eq!(log.index("x.log.index"), "0@2 stdout1, 7@4 stdout1+, 12@6 stdout2, 14@6 stdout1");
    assert_eq!(fs::metadata(log.path("x.log.index")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn chunks_of_one_output_within_a_millisecond_share_a_record() {
    let mut log = log(1000, 2);
    for (number, time) in [(1, 5000), (1, 5500), (1, 6000), (1, 6001), (2, 6001), (1, 6001)] {
        log.time = time;
        log.file.write(output(number), b"a\n", Loss::default(), log.moment());
    }
    assert_eq!(log.index("x.log.index"), "0@5 stdout1, 6@6 stdout1, 8@6 stdout2, 10@6 stdout1");
}

#[test]
fn a_note_is_a_chunk_of_its_own() {
    let mut log = log(1000, 2);
    log.write(1, "open");
    let mut lost = Loss::default();
    lost.add(b"12\n4", "slow");
    log.time += 2000;
    log.file.write(output(1), b"a\n", lost, log.moment());
    let end = log.read("x.log").len() - 2;
    assert_eq!(log.index("x.log.index"), format!("0@2 stdout1, 4@4 pmesh, {end}@4 stdout1+"));
}

#[test]
fn what_pmesh_says_is_on_a_line_of_its_own_also_in_the_middle_of_an_open_one() {
    let mut log = log(1000, 2);
    log.write(1, "open ");
    log.file.write(LogOutput::NOTE, b"[pmesh] hello\n", Loss::default(), log.moment());
    log.write(1, "line\n");
    assert_eq!(log.read("x.log"), "open \n[pmesh] hello\nline\n");
    assert_eq!(log.index("x.log.index"), "0@2 stdout1, 5@2 pmesh, 20@4 stdout1+");
}

#[test]
fn a_folder_that_is_gone_is_made_again_with_its_mode_and_its_parents_are_not() {
    let mut log = log(1000, 2);
    let logs = log.folder.path().canonicalize().unwrap().join("logs");
    log.file = LogFile::new(logs.clone(), "x.log".into(), log.file.limits);
    log.write(1, "a\n");
    assert_eq!(fs::metadata(&logs).unwrap().mode() & 0o777, 0o750);
    let moved = log.path("moved");
    fs::rename(&logs, &moved).unwrap();
    log.now += SECOND;
    assert!(!log.write(1, "b\n"));
    assert_eq!((log.read("logs/x.log").as_str(), log.read("moved/x.log").as_str()), ("b\n", "a\n"));
    fs::remove_dir_all(&logs).unwrap();
    log.now += SECOND;
    assert!(!log.write(1, "c\n"));
    assert_eq!(
        (log.read("logs/x.log").as_str(), log.index("logs/x.log.index").as_str()),
        ("c\n", "0@6 stdout1")
    );
    assert_eq!(fs::metadata(&logs).unwrap().mode() & 0o777, 0o750);
    let deep = logs.join("deep/logs");
    log.file = LogFile::new(deep, "x.log".into(), log.file.limits);
    assert!(log.write(1, "d\n"));
    assert!(!logs.join("deep").exists());
}

#[test]
fn the_index_is_moved_on_with_its_log() {
    let mut log = log(10, 3);
    for text in ["aaaaaaaa\n", "bbbbbbbb\n", "cccccccc\n", "dddddddd\n"] {
        log.write(1, text);
    }
    let indexes =
        ["x.log.index", "x.log.1.index", "x.log.2.index", "x.log.3.index"].map(|name| log.index(name));
    assert_eq!(indexes, ["0@8 stdout1", "0@6 stdout1", "0@4 stdout1", ""]);
    // An older log without an index does not get that of another one.
    fs::remove_file(log.path("x.log.1.index")).unwrap();
    log.write(1, "eeeeeeee\n");
    assert_eq!(log.index("x.log.2.index"), "");
    assert_eq!(log.index("x.log.1.index"), "0@8 stdout1");
}

#[test]
fn one_file_begins_anew_with_its_index() {
    let mut log = log(10, 1);
    log.write(1, "aaaaaaaa\n");
    log.write(1, "bbbb\n");
    assert_eq!(log.index("x.log.index"), "0@4 stdout1");
}

#[test]
fn the_next_server_goes_on_in_the_index() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    log.file = log_file(&log);
    log.write(2, "b\n");
    assert_eq!(log.index("x.log.index"), "0@2 stdout1, 2@4 stdout2");
}

/// As the next server has it.
fn log_file(log: &Fixture) -> LogFile {
    LogFile::new(log.folder.path().canonicalize().unwrap(), "x.log".into(), log.file.limits)
}

#[test]
fn what_is_no_index_of_the_log_is_made_anew_and_the_log_is_kept() {
    let record = |offset, time| {
        IndexRecord { offset, time, source: output(9).source, goes_on: false }.encode().to_vec()
    };
    let two = [record(0, 1000), record(2, 1000)].concat();
    let huge = vec![0; usize::try_from(MOST_RECORDS + 1).unwrap() * IndexRecord::SIZE];
    let kept = "0@1 stdout9, 2@1 stdout9, 4@2 stdout1";
    for (index, wanted) in [
        (Vec::new(), "4@2 stdout1"),
        (b"This is a letter to a friend of mine, and no index.".to_vec(), "4@2 stdout1"),
        (huge, "4@2 stdout1"),
        ([two.clone(), b"half a record".to_vec()].concat(), kept),
        ([two.clone(), record(50, 1000)].concat(), kept),
        ([two.clone(), record(1, 1000)].concat(), kept),
        ([two, record(3, 999)].concat(), kept),
    ] {
        let mut log = log(1000, 2);
        fs::write(log.path("x.log"), "a\nb\n").unwrap();
        fs::write(log.path("x.log.index"), index).unwrap();
        log.write(1, "c\n");
        assert_eq!((log.read("x.log").as_str(), log.index("x.log.index").as_str()), ("a\nb\nc\n", wanted));
    }
}

#[test]
fn a_log_that_is_gone_takes_its_index_with_it() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    fs::rename(log.path("x.log"), log.path("moved")).unwrap();
    log.now += SECOND;
    log.write(2, "b\n");
    assert_eq!((log.read("x.log").as_str(), log.index("x.log.index").as_str()), ("b\n", "0@4 stdout2"));
}

#[test]
fn an_index_that_is_gone_is_made_again() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    fs::remove_file(log.path("x.log.index")).unwrap();
    log.now += SECOND;
    log.write(2, "b\n");
    assert_eq!((log.read("x.log").as_str(), log.index("x.log.index").as_str()), ("a\nb\n", "2@4 stdout2"));
}

#[test]
fn a_log_that_others_have_cut_goes_on_at_its_end_and_so_does_its_index() {
    let mut log = log(1000, 2);
    log.write(1, "a\n");
    log.write(2, "b\n");
    let file = File::options().write(true).open(log.path("x.log")).unwrap();
    file.set_len(1).unwrap();
    log.write(1, "c\n");
    assert_eq!(log.index("x.log.index"), "0@2 stdout1, 1@6 stdout1");
    assert_eq!(log.read("x.log"), "ac\n");
    file.set_len(0).unwrap();
    log.write(1, "d\n");
    assert_eq!((log.read("x.log").as_str(), log.index("x.log.index").as_str()), ("d\n", "0@8 stdout1"));
}

#[test]
fn a_log_whose_index_is_full_is_moved_on() {
    let mut log = log(u64::MAX, 2);
    let record = IndexRecord { offset: 0, time: 0, source: output(1).source, goes_on: false }.encode();
    fs::write(log.path("x.log"), "a\n").unwrap();
    fs::write(log.path("x.log.index"), record.repeat(usize::try_from(ENOUGH_RECORDS - 1).unwrap())).unwrap();
    log.write(1, "last\n");
    assert_eq!(log.names(), ["x.log"]);
    log.write(1, "next\n");
    assert_eq!((log.read("x.log.1").as_str(), log.read("x.log").as_str()), ("a\nlast\n", "next\n"));
    assert_eq!(log.index("x.log.index"), "0@4 stdout1");
    let size = fs::metadata(log.path("x.log.1.index")).unwrap().len();
    assert_eq!(size, ENOUGH_RECORDS * IndexRecord::SIZE as u64);
}

#[test]
fn no_index_takes_more_than_its_most_records_although_a_line_stays_open() {
    let mut log = log(u64::MAX, 2);
    let record = IndexRecord { offset: 0, time: 0, source: output(1).source, goes_on: false }.encode();
    fs::write(log.path("x.log"), "a\n").unwrap();
    fs::write(log.path("x.log.index"), record.repeat(usize::try_from(ENOUGH_RECORDS - 1).unwrap())).unwrap();
    for _ in 0..=2 * (MOST_RECORDS - ENOUGH_RECORDS) {
        log.write(1, "open");
    }
    let size = fs::metadata(log.path("x.log.index")).unwrap().len();
    assert_eq!(size, MOST_RECORDS * IndexRecord::SIZE as u64);
}

#[test]
fn a_log_is_written_where_its_index_cannot_be_and_nothing_is_written_through_a_link() {
    let mut log = log(1000, 2);
    fs::write(log.path("victim"), "kept").unwrap();
    std::os::unix::fs::symlink(log.path("victim"), log.path("x.log.index")).unwrap();
    assert!(!log.write(1, "a\n"));
    fs::remove_file(log.path("x.log.index")).unwrap();
    fs::hard_link(log.path("victim"), log.path("x.log.index")).unwrap();
    log.file = log_file(&log);
    assert!(!log.write(1, "b\n"));
    assert_eq!((log.read("x.log").as_str(), log.read("victim").as_str()), ("a\nb\n", "kept"));
    assert_eq!(log.index("x.log.index"), "2@4 stdout1");
}
