//! What is left when the server ends: every process below it is ended, and what no signal ends is named.
//!
//! Services and git have been stopped by then, each by whoever started it. What is left has got away from them (a daemon of a
//! credential helper, say), or they could not end it. It is found because orphans come to this process ([`orphans`](crate::orphans)).

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::fd::OwnedFd,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// How long a process may take to end by SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// How long one may take to end by SIGKILL before it counts as held.
const KILL_LIMIT: Duration = Duration::from_millis(500);

/// How often a thread is looked at before it counts as held, and the pause between: every read of a disk is a short wait.
const LOOKS: u32 = 7;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// In how many of these looks it may be missing: the kernel leaves some threads out of a list while others end, and one that waits
/// may look awake for a moment.
const MISSES: u32 = 2;

/// The pauses before looks that may tell that nothing is held: together they are shorter than one of the others.
const FIRST_PAUSES_MS: [u64; 5] = [0, 1, 2, 4, 8];

/// How long it takes in a hurry to end what is left and to name what stays.
pub(crate) const HURRIED_LIMIT: Duration = KILL_LIMIT.saturating_add(LOOK_PAUSE.saturating_mul(LOOKS));

/// A process or a thread of this one that goes on whatever signal it gets, or that waits for a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remnant {
    what: &'static str,
    id: i32,
    name: String,
    state: char,
    /// Where in the kernel it waits (`proc_pid_wchan(5)`).
    channel: String,
}

impl fmt::Display for Remnant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, id, name, state, channel } = self;
        let channel = if channel.is_empty() || channel == "0" { "an unknown place" } else { channel };
        write!(f, "{what} {id} ({name}) in state {state} waits in {channel} of the kernel")
    }
}

impl Remnant {
    /// What a person is told who ended the server.
    pub(crate) fn left(&self) -> String {
        format!("{self}; no signal of this server ends it, and it is left")
    }
}

/// A row of the process table (`proc_pid_stat(5)`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProcRow {
    pid: i32,
    name: String,
    state: char,
    parent: i32,
    /// When it was started; with the number it stands for this process alone.
    start: u64,
}

/// Ends every process below this one, with a second of grace unless somebody is in a hurry, and answers with those that stay.
pub(crate) fn end(is_hurried: bool) -> Vec<Remnant> {
    let own = std::process::id().cast_signed();
    if !is_hurried {
        let asked = open(&below(&rows(), own));
        signal(&asked, Signal::TERM);
        wait(&asked, GRACE);
    }
    let until = Instant::now() + KILL_LIMIT;
    loop {
        let left = below(&rows(), own);
        if left.is_empty() || Instant::now() >= until {
            return left.iter().map(|row| held("process", row, Path::new("/proc"))).collect();
        }
        let killed = open(&left);
        signal(&killed, Signal::KILL);
        // What one of them has started meanwhile is found in the next round.
        wait(&killed, until.saturating_duration_since(Instant::now()).min(LOOK_PAUSE));
    }
}

/// The threads of this process that stand still in a wait that no signal ends, or, where the server did not end in time, in
/// any other wait for a file.
pub(crate) fn threads(was_forced: bool) -> Vec<Remnant> {
    let folder = Path::new("/proc/self/task");
    // Mostly nothing is, and who ends the server waits for this.
    if !was_forced
        && FIRST_PAUSES_MS.into_iter().any(|pause| {
            sleep(Duration::from_millis(pause));
            are_at_rest(folder)
        })
    {
        return Vec::new();
    }
    let mut seen: BTreeMap<Remnant, u32> = BTreeMap::new();
    for look in 0..LOOKS {
        if look > 0 {
            sleep(LOOK_PAUSE);
        }
        let threads = rows_in(folder);
        let threads = threads.iter().map(|row| held("thread", row, folder));
        for thread in threads.filter(|thread| is_held(thread, was_forced)) {
            *seen.entry(thread).or_default() += 1;
        }
        seen.retain(|_, times| *times + MISSES > look);
        if seen.is_empty() && look >= MISSES {
            break;
        }
    }
    seen.into_keys().collect()
}

/// Whether every other thread of this process sleeps where a signal could end it.
fn are_at_rest(folder: &Path) -> bool {
    let count = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
    };
    let before = count();
    let rows = rows_in(folder);
    let own = rustix::thread::gettid().as_raw_pid();
    let others: Vec<_> = rows.iter().filter(|row| row.pid != own).map(|row| row.state).collect();
    all_rest(&others, before) && before == count()
}

/// Whether these are the states of all other threads, of so many, and all of them sleep: one that is missing in the list, or awake,
/// may be one that is held.
fn all_rest(others: &[char], threads: Option<usize>) -> bool {
    threads == Some(others.len() + 1) && others.iter().all(|state| *state == 'S')
}

/// Whether a thread waits for something else than work.
fn is_held(thread: &Remnant, was_forced: bool) -> bool {
    const FOR_WORK: [&str; 5] = ["futex", "poll", "nanosleep", "wait_woken", "do_wait"];
    let waits_for_work = FOR_WORK.iter().any(|word| thread.channel.contains(word));
    match thread.state {
        'D' => true,
        'S' => was_forced && !waits_for_work && !thread.channel.is_empty() && thread.channel != "0",
        _ => false,
    }
}

fn held(what: &'static str, row: &ProcRow, folder: &Path) -> Remnant {
    let channel = fs::read_to_string(folder.join(format!("{}/wchan", row.pid))).unwrap_or_default();
    Remnant { what, id: row.pid, name: row.name.clone(), state: row.state, channel }
}

/// The processes below `own` that live.
fn below(rows: &[ProcRow], own: i32) -> Vec<ProcRow> {
    let mut found: Vec<&ProcRow> = Vec::new();
    let mut parents = vec![own];
    while let Some(parent) = parents.pop() {
        for row in rows.iter().filter(|row| row.parent == parent) {
            parents.push(row.pid);
            if !matches!(row.state, 'Z' | 'X') {
                found.push(row);
            }
        }
    }
    found.into_iter().cloned().collect()
}

/// Descriptors of those that still live.
fn open(rows: &[ProcRow]) -> Vec<OwnedFd> {
    let is_same =
        |row: &ProcRow| row_of(Path::new("/proc"), row.pid).is_some_and(|now| now.start == row.start);
    let opened = |row: &ProcRow| {
        pidfd_open(Pid::from_raw(row.pid)?, PidfdFlags::empty()).ok().filter(|_| is_same(row))
    };
    rows.iter().filter_map(opened).collect()
}

fn signal(processes: &[OwnedFd], signal: Signal) {
    for process in processes {
        // It may have ended; and one that is not ours to signal is named in the end.
        if let Err(error) = pidfd_send_signal(process, signal) {
            tracing::debug!(%error, "a process could not be signalled");
        }
    }
}

/// Waits until all have ended, as long as `limit`.
fn wait(processes: &[OwnedFd], limit: Duration) {
    let until = Instant::now() + limit;
    for process in processes {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        // An interrupted wait is a shorter one.
        let _ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left));
    }
}

fn rows() -> Vec<ProcRow> {
    rows_in(Path::new("/proc"))
}

fn rows_in(folder: &Path) -> Vec<ProcRow> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| row_of(folder, entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn row_of(folder: &Path, id: i32) -> Option<ProcRow> {
    parsed(&fs::read_to_string(folder.join(format!("{id}/stat"))).ok()?)
}

fn parsed(stat: &str) -> Option<ProcRow> {
    // The name is in brackets and may have any character in it.
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(ProcRow {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: i32, parent: i32, state: char) -> ProcRow {
        ProcRow { pid, name: "x".to_owned(), state, parent, start: 1 }
    }

    #[test]
    fn what_is_left_is_named_with_where_it_waits_and_that_no_signal_ends_it() {
        let (name, channel) = ("dd".to_owned(), "io_schedule".to_owned());
        let stuck = Remnant { what: "process", id: 7, name, state: 'D', channel };
        assert_eq!(
            stuck.left(),
            "process 7 (dd) in state D waits in io_schedule of the kernel; no signal of this server ends it, and it is left"
        );
        let nowhere = Remnant { channel: "0".to_owned(), ..stuck };
        assert!(nowhere.left().contains(" waits in an unknown place of the kernel; "), "{}", nowhere.left());
    }

    #[test]
    fn a_row_is_read_past_a_name_with_brackets() {
        let stat = "7 (a) (b) D 3 5 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        let expected = ProcRow { pid: 7, name: "a) (b".to_owned(), state: 'D', parent: 3, start: 4711 };
        assert_eq!(parsed(stat), Some(expected));
        assert_eq!(parsed("7 (a) D"), None);
    }

    #[test]
    fn below_are_children_of_children_also_behind_one_that_has_ended() {
        let rows = [row(2, 1, 'S'), row(3, 2, 'Z'), row(4, 3, 'D'), row(5, 9, 'S')];
        let found: Vec<i32> = below(&rows, 1).iter().map(|row| row.pid).collect();
        assert_eq!(found, [2, 4]);
    }

    #[test]
    fn a_thread_is_held_by_what_no_signal_ends_and_in_a_hurry_by_any_file() {
        let thread = |state, channel: &str| {
            let (name, channel) = ("git-read".to_owned(), channel.to_owned());
            Remnant { what: "thread", id: 1, name, state, channel }
        };
        for (held, always, forced) in [
            (thread('D', "nfs_wait_bit_killable"), true, true),
            (thread('S', "wait_for_partner"), false, true),
            (thread('S', "futex_do_wait"), false, false),
            (thread('S', "do_epoll_wait"), false, false),
            (thread('R', "0"), false, false),
            (thread('S', ""), false, false),
        ] {
            assert_eq!((is_held(&held, false), is_held(&held, true)), (always, forced), "{held}");
        }
    }

    #[test]
    fn one_look_is_enough_where_every_thread_was_seen_asleep() {
        assert!(all_rest(&[], Some(1)));
        assert!(all_rest(&['S', 'S'], Some(3)));
        assert!(!all_rest(&['S'], Some(3)), "one was left out of the list");
        assert!(!all_rest(&['S', 'S'], None), "it is not known whether one was");
        for awake_or_held in ['R', 'D', 'X', 'Z', 'T'] {
            assert!(!all_rest(&['S', awake_or_held], Some(3)), "{awake_or_held}");
        }
    }

    #[test]
    fn what_is_held_is_named_with_its_state_and_where_it_waits() {
        let (name, channel) = ("git".to_owned(), "fifo_open".to_owned());
        let held = Remnant { what: "process", id: 12, name, state: 'D', channel };
        assert_eq!(held.to_string(), "process 12 (git) in state D waits in fifo_open of the kernel");
    }

    #[test]
    fn a_thread_of_this_process_that_a_file_holds_is_named_in_a_hurry() {
        use std::io::{BufRead as _, BufReader};
        // Whoever opens a leased file waits (fcntl(2), "Leases").
        const HOLD: &str = "import fcntl, os, signal, sys, time\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                            fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                            print(flush=True)\ntime.sleep(1000)";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leased");
        fs::write(&file, "").unwrap();
        let mut holder = std::process::Command::new("python3")
            .args(["-c", HOLD])
            .arg(&file)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "it is leased");
        let opening =
            std::thread::Builder::new().name("held".to_owned()).spawn(move || fs::File::open(file).is_ok());
        let waits = |task: fs::DirEntry| {
            fs::read_to_string(task.path().join("wchan")).is_ok_and(|at| at.contains("lease"))
        };
        while !fs::read_dir("/proc/self/task").unwrap().flatten().any(waits) {
            std::thread::yield_now();
        }
        let named =
            |was_forced| threads(was_forced).iter().any(|it| it.what == "thread" && it.name == "held");
        let found = (named(true), named(false));
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(opening.unwrap().join().unwrap());
        assert_eq!(found, (true, false));
    }
}
