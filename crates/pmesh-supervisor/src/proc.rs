//! Reading `/proc` (proc(5)): one handle on it, one buffer, only the files and fields that are
//! needed. A process may end between any two reads; whatever is gone is `None`, never an error.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::Pid,
};

use crate::Survivor;

/// The largest part of a file that is read: more than any `stat` or `status`.
const FILE_LIMIT: usize = 64 * 1024;

/// What `/proc/<pid>/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// False for a zombie, which can neither run nor be signalled.
    pub(crate) alive: bool,
    /// When it was started, in clock ticks since boot. With the pid it names one process.
    pub(crate) start: u64,
    /// Processor time that was used so far, user and system, in clock ticks.
    pub(crate) ticks: u64,
}

/// What `/proc/<pid>/status` says of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) virtual_size: u64,
    pub(crate) resident_peak: u64,
    pub(crate) data: u64,
    pub(crate) stack: u64,
    pub(crate) locked: u64,
    pub(crate) swapped: u64,
}

/// Bytes that were read from and written to disks (`/proc/<pid>/io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskBytes {
    pub(crate) read: u64,
    pub(crate) written: u64,
}

/// A handle on `/proc` and a buffer.
#[derive(Debug)]
pub(crate) struct Proc {
    root: OwnedFd,
    buffer: Vec<u8>,
}

impl Proc {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/proc", flags, Mode::empty())?;
        Ok(Self { root, buffer: vec![0; 4096] })
    }

    /// The bytes of a file below `/proc`, at most [`FILE_LIMIT`]; none for a process that is gone or
    /// whose file is not for our eyes.
    ///
    /// # Errors
    ///
    /// What says nothing about the process, such as too many open files.
    fn read(&mut self, path: &str) -> io::Result<Option<&[u8]>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(self.root.as_fd(), path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                if filled >= FILE_LIMIT {
                    break;
                }
                self.buffer.resize(filled * 2, 0);
            }
            match rustix::io::read(&file, &mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(Errno::SRCH | Errno::ACCESS | Errno::PERM) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(&self.buffer[..filled]))
    }

    pub(crate) fn stat(&mut self, pid: u32) -> io::Result<Option<Stat>> {
        Ok(self.read(&format!("{pid}/stat"))?.and_then(parse_stat))
    }

    pub(crate) fn memory(&mut self, pid: u32) -> io::Result<Option<Memory>> {
        Ok(self.read(&format!("{pid}/status"))?.map(parse_status))
    }

    /// `None` also for a process of another user.
    pub(crate) fn disk_bytes(&mut self, pid: u32) -> io::Result<Option<DiskBytes>> {
        Ok(self.read(&format!("{pid}/io"))?.map(parse_io))
    }

    /// What of a process helps who wonders why it lives; none for one that does not. Reads nothing that waits for a
    /// lock of the process, as its command line does.
    pub(crate) fn survivor(&mut self, pid: u32) -> Option<Survivor> {
        let mut survivor = parse_survivor(pid, self.read(&format!("{pid}/status")).ok()??)?;
        let channel = self.read(&format!("{pid}/wchan")).ok().flatten();
        let channel = channel.and_then(|bytes| std::str::from_utf8(bytes).ok());
        // `0` stands for nothing, and for what is not told.
        let channel = channel.map(str::trim).filter(|name| *name != "0").unwrap_or_default();
        channel.clone_into(&mut survivor.wait_channel);
        let number = Pid::from_raw(pid.cast_signed())?;
        if rustix::process::test_kill_process(number) != Err(Errno::PERM) {
            survivor.foreign_user = None;
        }
        Some(survivor)
    }

    /// The words of its command line with spaces between, at most 4 KiB; empty for a zombie and for
    /// a thread of the kernel.
    pub(crate) fn command_line(&mut self, pid: u32) -> io::Result<Option<String>> {
        let Some(bytes) = self.read(&format!("{pid}/cmdline"))? else { return Ok(None) };
        let bytes = &bytes[..bytes.len().min(4096)];
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let text: Vec<u8> =
            bytes[..end].iter().map(|&byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Variables of a process's environment as it was at its start, where the process has not written over it; of one that is
    /// not for our eyes, none of them. None at all where it is empty, as that of a process that is about to execute a program.
    pub(crate) fn variables<const N: usize>(
        &mut self,
        pid: u32,
        names: [&str; N],
    ) -> io::Result<Option<[Option<String>; N]>> {
        let mut path = format!("{pid}/environ");
        // The first thread may have ended before others, which still have what it no longer shows.
        if self.read(&path)?.is_none_or(<[u8]>::is_empty) {
            path = self.other_thread(pid)?.map_or(path, |thread| format!("{pid}/task/{thread}/environ"));
        }
        let Some(bytes) = self.read(&path)? else { return Ok(Some([const { None }; N])) };
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(names.map(|name| {
            let mut entries = bytes.split(|&byte| byte == 0);
            entries.find_map(|entry| {
                let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some(String::from_utf8_lossy(value).into_owned())
            })
        })))
    }

    /// A thread of a process that is not its first one.
    fn other_thread(&self, pid: u32) -> io::Result<Option<u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(self.root.as_fd(), format!("{pid}/task"), flags, Mode::empty())
        {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(numbers_in(&folder)?.into_iter().find(|&thread| thread != pid))
    }

    /// Every process that can be seen, by rising pid.
    pub(crate) fn scan(&mut self) -> io::Result<Vec<Stat>> {
        let mut found = Vec::with_capacity(512);
        for pid in self.pids()? {
            found.extend(self.stat(pid)?);
        }
        found.sort_unstable_by_key(|stat| stat.pid);
        Ok(found)
    }

    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        rustix::fs::seek(&self.root, rustix::fs::SeekFrom::Start(0))?;
        numbers_in(&self.root)
    }

    /// Calls `each` with the target of every open descriptor of a process, such as `socket:[4711]`,
    /// until it answers false.
    ///
    /// # Errors
    ///
    /// The system's: `PermissionDenied` for a process of another user.
    pub(crate) fn descriptors(&self, pid: u32, mut each: impl FnMut(&CStr) -> bool) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(self.root.as_fd(), format!("{pid}/fd"), flags, Mode::empty())?;
        let mut buffer = Vec::with_capacity(8 * 1024);
        let mut entries = rustix::fs::RawDir::new(&folder, buffer.spare_capacity_mut());
        let mut target = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if number(entry.file_name()).is_none() {
                continue;
            }
            // A descriptor that was closed meanwhile.
            let Ok(link) = rustix::fs::readlinkat(&folder, entry.file_name(), target) else {
                target = Vec::new();
                continue;
            };
            if !each(&link) {
                return Ok(());
            }
            target = link.into_bytes();
        }
        Ok(())
    }

    /// The inodes of the sockets of this network namespace that listen on a port, whatever the address.
    pub(crate) fn listeners_on(port: u16) -> io::Result<Vec<u64>> {
        Ok(Self::listening_on(port)?.into_iter().map(|(_, inode)| inode).collect())
    }

    /// What listens on a port, with its address.
    fn listening_on(port: u16) -> io::Result<Vec<(IpAddr, u64)>> {
        let mut tables = String::new();
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            match std::fs::read_to_string(table) {
                Ok(text) => tables.push_str(&text),
                // A kernel without IPv6 has no tcp6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let of_the_port = |line| listening(line).filter(|(bound, _)| bound.port() == port);
        Ok(tables.lines().filter_map(of_the_port).map(|(bound, inode)| (bound.ip(), inode)).collect())
    }

    /// The inodes of the sockets of this network namespace that a connection to `address` reaches:
    /// those that listen on exactly it, else on its port of every address.
    pub(crate) fn listeners(address: SocketAddr) -> io::Result<Vec<u64>> {
        let all = Self::listening_on(address.port())?;
        let bound_to = |wanted: IpAddr| -> Vec<u64> {
            all.iter().filter(|(ip, _)| *ip == wanted).map(|&(_, inode)| inode).collect()
        };
        // In the order in which the kernel looks.
        let wanted = match address.ip() {
            IpAddr::V4(ip) => vec![
                IpAddr::V4(ip),
                IpAddr::V6(ip.to_ipv6_mapped()),
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ],
            IpAddr::V6(ip) => vec![IpAddr::V6(ip), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        };
        Ok(wanted.into_iter().map(bound_to).find(|inodes| !inodes.is_empty()).unwrap_or_default())
    }
}

/// When the machine was started, by the wall clock.
pub(crate) fn boot_time() -> SystemTime {
    let seconds = std::fs::read_to_string("/proc/stat").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("btime "))?;
        line["btime ".len()..].trim().parse().ok()
    });
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or(0))
}

/// The entries of a folder whose names are numbers.
fn numbers_in(folder: &OwnedFd) -> io::Result<Vec<u32>> {
    let mut found = Vec::with_capacity(512);
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => found.extend(number(entry.file_name())),
            // A process that has ended meanwhile has no threads any more.
            Err(Errno::NOENT | Errno::SRCH) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn number(name: &CStr) -> Option<u32> {
    name.to_str().ok()?.parse().ok()
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name stands in parentheses and may hold any byte, parentheses too.
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
    let mut fields = std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // From field 7, tty_nr, on to 14 and 15, utime and stime.
    let user: u64 = fields.nth(7)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // Field 20, num_threads; then 22, starttime.
    let threads: u64 = fields.nth(4)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    // A process whose first thread ended before the others looks like a zombie here.
    let alive = !matches!(state, "Z" | "X" | "x") || threads > 1;
    Some(Stat { pid, parent, group, session, alive, start, ticks: user + system })
}

fn parse_status(bytes: &[u8]) -> Memory {
    let mut memory = Memory::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some((name, rest)) = split_field(line) else { continue };
        let field = match name {
            b"VmRSS" => &mut memory.resident,
            b"VmSize" => &mut memory.virtual_size,
            b"VmHWM" => &mut memory.resident_peak,
            b"VmData" => &mut memory.data,
            b"VmStk" => &mut memory.stack,
            b"VmLck" => &mut memory.locked,
            b"VmSwap" => &mut memory.swapped,
            _ => continue,
        };
        // The unit is always kB, and means 1024 bytes.
        *field = rest.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024;
    }
    memory
}

/// With whose it is, whether that is somebody foreign or not.
fn parse_survivor(pid: u32, bytes: &[u8]) -> Option<Survivor> {
    let mut survivor = Survivor { pid, ..Survivor::default() };
    for line in bytes.split(|&byte| byte == b'\n') {
        let Some((name, rest)) = split_field(line) else { continue };
        match name {
            b"Name" => rest.clone_into(&mut survivor.name),
            b"State" => rest.clone_into(&mut survivor.state),
            // Real, effective, saved, file system.
            b"Uid" => {
                survivor.foreign_user = rest.split_whitespace().nth(1).and_then(|user| user.parse().ok());
            }
            _ => {}
        }
    }
    // A zombie with threads that are not gone lives, and its state is of no help.
    (!survivor.state.is_empty()).then_some(survivor)
}

fn parse_io(bytes: &[u8]) -> DiskBytes {
    let mut io = DiskBytes::default();
    for line in bytes.split(|&byte| byte == b'\n') {
        match split_field(line) {
            Some((b"read_bytes", value)) => io.read = value.parse().unwrap_or(0),
            Some((b"write_bytes", value)) => io.written = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    io
}

fn split_field(line: &[u8]) -> Option<(&[u8], &str)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((&line[..colon], std::str::from_utf8(&line[colon + 1..]).ok()?.trim()))
}

/// The address and inode of a line of `/proc/net/tcp` or `tcp6` if that socket listens.
pub(crate) fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    /// `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.rsplit_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits as the machine stores them, printed as numbers.
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if ip.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        IpAddr::from(<[u8; 16]>::try_from(words).ok()?)
    };
    Some((SocketAddr::new(ip, port), fields.nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"4242 (a) Z (b c)) S 17 4242 4200 0 -1 4194560 1 2 3 4 50 7 9 9 20 0 3 0 98765 1 2\n";
        let stat = parse_stat(line).unwrap();
        let wanted =
            Stat { pid: 4242, parent: 17, group: 4242, session: 4200, alive: true, start: 98765, ticks: 57 };
        assert_eq!(stat, wanted);
    }

    #[test]
    fn a_zombie_is_not_alive_but_a_process_with_threads_left_is() {
        let line = |state: char, threads: u32| {
            format!("1 (x) {state} 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0")
        };
        let alive = |state, threads| parse_stat(line(state, threads).as_bytes()).unwrap().alive;
        assert!(alive('S', 1) && alive('R', 1) && alive('D', 1) && alive('T', 1));
        assert!(!alive('Z', 1) && !alive('X', 0));
        assert!(alive('Z', 2));
    }

    #[test]
    fn torn_and_foreign_text_is_no_process() {
        for text in ["", "1", "1 (x", "1 (x) S 2", "x (y) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5"] {
            assert_eq!(parse_stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = parse_status(b"Name:\tx\nVmSize:\t  8 kB\nVmRSS:\t    3 kB\nVmLck:\tbad kB\n");
        assert_eq!((memory.virtual_size, memory.resident, memory.locked), (8192, 3072, 0));
    }

    #[test]
    fn only_listening_sockets_count() {
        let line = |ip: &str, port: &str, state: &str| {
            format!(
                "   0: {ip}:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100"
            )
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 20001));
        assert_eq!(listening(&line("0100007F", "4E21", "0A")), Some((loopback, 4711)));
        assert_eq!(listening(&line("0100007F", "4E21", "01")), None);
        let v6 = listening(&line("00000000000000000000000001000000", "4E21", "0A"));
        assert_eq!(v6, Some(("[::1]:20001".parse().unwrap(), 4711)));
        assert_eq!(listening(""), None);
    }

    #[test]
    fn this_process_is_there() {
        let mut proc = Proc::open().unwrap();
        let own = proc.stat(std::process::id()).unwrap().unwrap();
        assert!(own.alive);
        let scan = proc.scan().unwrap();
        assert!(scan.iter().any(|stat| stat.pid == own.pid && stat.start == own.start));
        assert!(scan.is_sorted_by_key(|stat| stat.pid));
        assert!(proc.memory(own.pid).unwrap().unwrap().resident > 0);
        assert!(proc.command_line(own.pid).unwrap().unwrap().contains("pmesh_supervisor"));
        assert!(proc.scan().unwrap().len() > 1, "a second scan starts at the beginning again");
        assert_eq!(proc.stat(u32::MAX).unwrap(), None);
    }

    #[test]
    fn the_owner_of_a_listening_socket_is_found_by_its_descriptors() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inodes = Proc::listeners(socket.local_addr().unwrap()).unwrap();
        let [inode] = inodes[..] else { panic!("one listener, not {inodes:?}") };
        let mut found = false;
        let wanted = format!("socket:[{inode}]");
        let each = |target: &CStr| {
            found |= target.to_bytes() == wanted.as_bytes();
            !found
        };
        Proc::open().unwrap().descriptors(std::process::id(), each).unwrap();
        assert!(found);
    }
}
