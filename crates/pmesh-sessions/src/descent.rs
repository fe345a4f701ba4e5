//! Whether the process at the other end of a connection was started by this one, directly or not.
//!
//! The way up leads through parents, and whoever loses its parent is handed to its nearest subreaper
//! (prctl(2)): the answers hold where this process is one.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    time::{ClockId, clock_gettime},
};

/// How many looks at the process table a question takes at most, where that changes meanwhile.
const LOOKS: usize = 4;

/// The longest way up that is followed.
const GENERATIONS: usize = 1024;

/// Whether a process descends from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// It does, or is this one.
    Descends,
    /// It does not.
    Stranger,
    /// That cannot be told: it has gone, or what it has open may not be read.
    Unknown,
}

/// The process that made a connection to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    pid: Option<u32>,
    /// By when it was running, since boot.
    seen: Duration,
}

impl UnixPeer {
    /// The process with this number, which has connected by now; none of the processes that can be seen from
    /// here without one (a connection from outside of this pid namespace). Both is what `SO_PEERCRED` says
    /// (unix(7)), and cheap.
    pub fn now(pid: Option<u32>) -> Self {
        Self { pid, seen: since_boot() }
    }

    /// Whether it descends from this process. Reads some files of `/proc`.
    pub fn descent(self) -> Descent {
        // Whoever descends from here can be seen from here.
        let Some(pid) = self.pid else { return Descent::Stranger };
        let Some(handle) = Pid::from_raw(pid.cast_signed()) else { return Descent::Unknown };
        let Ok(handle) = pidfd_open(handle, PidfdFlags::empty()) else { return Descent::Unknown };
        let seen = ticks(self.seen);
        // Somebody else's number by now, if that somebody was started later.
        if stat(pid).is_none_or(|stat| stat.start > seen) {
            return Descent::Unknown;
        }
        let descent =
            (0..LOOKS).find_map(|_| way_up(pid, std::process::id(), stat)).unwrap_or(Descent::Unknown);
        // If it lives still, the way that was found was its own.
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        match poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(0) => descent,
            Ok(_) | Err(_) => Descent::Unknown,
        }
    }
}

/// Whether one of those who have a socket open descends from this process, by the number of the socket.
///
/// Takes a look at all descriptors of all descendants, some milliseconds. Whoever asks makes sure that the
/// peer still has the socket open: before, so that this is about it at all, and after, so that it was found.
pub fn descent_of_socket(inode: u64) -> Descent {
    let own = std::process::id();
    let wanted = format!("socket:[{inode}]");
    let mut looked_at = HashSet::new();
    let mut is_hidden = false;
    for _ in 0..LOOKS {
        let Ok(table) = table() else { return Descent::Unknown };
        let family = family(&table, own);
        let new: Vec<u32> =
            family.iter().filter(|&&pid| looked_at.insert((pid, table[&pid].start))).copied().collect();
        if new.is_empty() {
            // With a part of the family hidden, only who was found elsewhere is a stranger.
            let mut others = table.iter().filter(|(pid, _)| !family.contains(pid));
            is_hidden |= !table.contains_key(&1) && own != 1;
            let is_found = !is_hidden || others.any(|(&pid, &stat)| has_open(pid, stat, &wanted) == Ok(true));
            return if is_found { Descent::Stranger } else { Descent::Unknown };
        }
        for pid in new {
            match has_open(pid, table[&pid], &wanted) {
                Ok(true) => return Descent::Descends,
                Ok(false) => {}
                Err(Unreadable) => is_hidden = true,
            }
        }
    }
    Descent::Unknown
}

/// What `/proc/<pid>/stat` says (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcStat {
    parent: u32,
    /// In clock ticks since boot. With the number it names one process.
    start: u64,
    /// Whether its first thread has ended: a zombie if there is no other.
    has_ended: bool,
    threads: u32,
}

/// The descriptors of a process are not for our eyes.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The clock counts from boot, up.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// In clock ticks as `stat` counts them, rounded up: a process of the same tick may be the earlier one.
fn ticks(time: Duration) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second();
    let ticks = time.as_nanos() * u128::from(per_second) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn stat(pid: u32) -> Option<ProcStat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of the program, which may have any byte in it, ends at the last parenthesis.
fn parse_stat(text: &[u8]) -> Option<ProcStat> {
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let has_ended = matches!(words.next()?, "Z" | "X");
    let parent = words.next()?.parse().ok()?;
    // Words 20 and 22 of all, where the parent is the fourth.
    let threads = words.nth(15)?.parse().ok()?;
    let start = words.nth(1)?.parse().ok()?;
    Some(ProcStat { parent, start, has_ended, threads })
}

/// Every process that can be seen.
fn table() -> io::Result<HashMap<u32, ProcStat>> {
    let mut table = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        // One that has ended meanwhile is not there.
        table.extend(pid.and_then(|pid| Some((pid, stat(pid)?))));
    }
    Ok(table)
}

/// A process and all its descendants.
fn family(table: &HashMap<u32, ProcStat>, head: u32) -> HashSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (&pid, stat) in table {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut family = HashSet::new();
    let mut queue = vec![head];
    while let Some(pid) = queue.pop() {
        if table.contains_key(&pid) && family.insert(pid) {
            queue.extend(children.get(&pid).into_iter().flatten());
        }
    }
    family
}

/// Follows the parents of `pid` up to `head` or to the end; none where the way changed while it was followed.
fn way_up(pid: u32, head: u32, stat: impl Fn(u32) -> Option<ProcStat>) -> Option<Descent> {
    let mut at = pid;
    let mut child_start = u64::MAX;
    for _ in 0..GENERATIONS {
        if at == head {
            return Some(Descent::Descends);
        }
        // The first process, or what is outside of this pid namespace.
        if at <= 1 {
            return Some(Descent::Stranger);
        }
        // A parent that ended was replaced by another one; one that is younger than its child is a stranger
        // with its number.
        let found = stat(at).filter(|found| found.start <= child_start)?;
        (at, child_start) = (found.parent, found.start);
    }
    None
}

/// Whether a process has `target` open; not if it is gone.
fn has_open(process: u32, stat: ProcStat, target: &str) -> Result<bool, Unreadable> {
    if stat.has_ended && stat.threads < 2 {
        return Ok(false);
    }
    if !stat.has_ended {
        return is_in(&PathBuf::from(format!("/proc/{process}/fd")), target);
    }
    // Its first thread has ended, and what is open stands below the others alone.
    let mut is_open = false;
    for thread in entries(&PathBuf::from(format!("/proc/{process}/task")))? {
        is_open |=
            thread != process && is_in(&PathBuf::from(format!("/proc/{process}/task/{thread}/fd")), target)?;
    }
    Ok(is_open)
}

/// Whether one of the links in a folder of descriptors leads to `target`.
fn is_in(folder: &Path, target: &str) -> Result<bool, Unreadable> {
    for descriptor in entries(folder)? {
        match fs::read_link(folder.join(descriptor.to_string())) {
            Ok(found) if found.as_os_str() == target => return Ok(true),
            Ok(_) => {}
            // Closed meanwhile, so it was not what the peer waits with.
            Err(error) if is_gone(&error) => {}
            Err(_) => return Err(Unreadable),
        }
    }
    Ok(false)
}

/// The numbers in a folder; none if it is gone.
fn entries(folder: &Path) -> Result<Vec<u32>, Unreadable> {
    let found = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
            .collect::<io::Result<Vec<_>>>()
    });
    match found {
        Ok(numbers) => Ok(numbers.into_iter().flatten().collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(_) => Err(Unreadable),
    }
}

/// ENOENT where a process has been reaped, ESRCH where it was while it was read (proc(5)).
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        io::{BufRead as _, BufReader, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
        process::{Child, Command, Stdio},
    };

    use super::{Descent, ProcStat, UnixPeer, descent_of_socket, family, parse_stat, way_up};

    fn process(parent: u32, start: u64) -> ProcStat {
        ProcStat { parent, start, has_ended: false, threads: 1 }
    }

    /// 1 ─ 10 (the server) ─ 11 ─ 12, and 1 ─ 20 ─ 21.
    fn processes() -> HashMap<u32, ProcStat> {
        [(1, 0, 1), (10, 1, 5), (11, 10, 7), (12, 11, 8), (20, 1, 3), (21, 20, 9)]
            .map(|(pid, parent, start)| (pid, process(parent, start)))
            .into()
    }

    #[test]
    fn the_family_of_a_process_is_itself_and_whoever_descends_from_it() {
        assert_eq!(family(&processes(), 10), HashSet::from([10, 11, 12]));
        assert_eq!(family(&processes(), 21), HashSet::from([21]));
        assert_eq!(family(&processes(), 30), HashSet::new());
    }

    #[test]
    fn the_way_up_ends_at_the_server_or_at_the_first_process() {
        let up = |pid| way_up(pid, 10, |pid| processes().get(&pid).copied());
        assert_eq!([up(12), up(11), up(10)], [Some(Descent::Descends); 3]);
        assert_eq!([up(21), up(20), up(1)], [Some(Descent::Stranger); 3]);
        assert_eq!(up(30), None, "it has gone");
        // The parent has ended, and somebody else has its number.
        let reused = |pid| if pid == 11 { Some(process(1, 90)) } else { processes().get(&pid).copied() };
        assert_eq!(way_up(12, 10, reused), None);
        assert_eq!(way_up(2, 10, |_| Some(process(2, 1))), None, "a circle is left");
    }

    #[test]
    fn a_stat_is_read_behind_whatever_name_the_program_has() {
        let rest = "3 4 5 34816 6 4194304 1 2 3 4 5 6 7 8 20 0 9 0 682056 10 11";
        let read = |text: String| parse_stat(text.as_bytes());
        let found = ProcStat { parent: 3, start: 682_056, has_ended: false, threads: 9 };
        for name in ["sh", "a) S 1 2", "(", ""] {
            assert_eq!(read(format!("7 ({name}) S {rest}")), Some(found), "{name:?}");
        }
        assert_eq!(read(format!("7 (sh) Z {rest}")), Some(ProcStat { has_ended: true, ..found }));
        assert_eq!(read("7 (sh) S 3 4".to_owned()), None);
        assert_eq!(read(String::new()), None);
    }

    /// A shell that has the socket open, or whose child has it, and that ends when its input does.
    fn shell_with_a_connection(port: u16, script: &str) -> Child {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; {script}");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn inode_of(peer: std::net::SocketAddr, local: std::net::SocketAddr) -> u64 {
        use crate::{peer_socket::SocketPair, socket_diagnostics::SocketDiagnostics};
        SocketDiagnostics::open().unwrap().ask(&SocketPair::new(peer, local)).unwrap().unwrap().inode
    }

    #[test]
    fn a_socket_of_a_child_or_of_its_children_is_one_of_a_descendant() {
        for script in ["read", "exec 5<&0; ( read <&5 ) & exec 3>&-; wait"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let local = listener.local_addr().unwrap();
            let mut shell = shell_with_a_connection(local.port(), script);
            let (_served, peer) = listener.accept().unwrap();
            assert_eq!(descent_of_socket(inode_of(peer, local)), Descent::Descends, "{script}");
            drop(shell.stdin.take());
            shell.wait().unwrap();
        }
    }

    #[test]
    fn a_socket_of_this_process_is_its_own_and_one_of_nobody_is_a_strangers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = rustix::fs::fstat(client.as_fd()).unwrap().st_ino;
        assert_eq!(descent_of_socket(inode), Descent::Descends);
        assert_eq!(descent_of_socket(u64::MAX), Descent::Stranger);
    }

    #[test]
    fn a_peer_of_a_unix_socket_is_judged_by_its_parents() {
        assert_eq!(UnixPeer::now(Some(std::process::id())).descent(), Descent::Descends);
        let parent = std::os::unix::process::parent_id();
        let expected = if parent == 0 { Descent::Unknown } else { Descent::Stranger };
        assert_eq!(UnixPeer::now(Some(parent)).descent(), expected);
        assert_eq!(UnixPeer::now(None).descent(), Descent::Stranger);

        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; read x'; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = line.trim().parse().unwrap();
        assert_eq!(UnixPeer::now(Some(grandchild)).descent(), Descent::Descends);
        shell.stdin.take().unwrap().write_all(b"\n").unwrap();
        shell.wait().unwrap();
        assert_eq!(UnixPeer::now(Some(grandchild)).descent(), Descent::Unknown, "it has gone");
    }

    #[test]
    fn somebody_with_the_number_of_a_peer_that_has_gone_is_not_that_peer() {
        let before = UnixPeer { seen: std::time::Duration::ZERO, ..UnixPeer::now(Some(std::process::id())) };
        assert_eq!(before.descent(), Descent::Unknown);
    }
}
