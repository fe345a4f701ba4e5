//! What addresses and Unix sockets processes listen on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
};

use crate::proc::{Proc, listening};

/// How many places are listed: more would not help the reader.
const MOST: usize = 4;

/// What these processes listen on: TCP addresses, and Unix sockets by their paths; at most four, sorted.
///
/// # Errors
///
/// Those of reading `/proc`; `PermissionDenied` where a process is another user's.
pub(crate) fn of(processes: &[u32]) -> io::Result<Vec<String>> {
    let sockets = sockets()?;
    let proc = Proc::open()?;
    let mut found = BTreeSet::new();
    for &pid in processes {
        let descriptors = proc.descriptors(pid, |target| {
            let inode = target.to_str().ok().and_then(inode);
            found.extend(inode.and_then(|inode| sockets.get(&inode)).cloned());
            true
        });
        match descriptors {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // The process has ended meanwhile.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(found.into_iter().map(|ListenPlace(_, name)| name).take(MOST).collect())
}

/// Where somebody listens. TCP comes before Unix sockets, and low ports before high ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListenPlace(Option<SocketAddr>, String);

fn sockets() -> io::Result<BTreeMap<u64, ListenPlace>> {
    let mut sockets = BTreeMap::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/unix"] {
        match fs::read_to_string(table) {
            Ok(text) => sockets.extend(text.lines().filter_map(|line| {
                listening(line)
                    .map(|(address, inode)| (inode, ListenPlace(Some(address), address.to_string())))
                    .or_else(|| unix(line))
            })),
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// The inode in the target of a descriptor's link, such as `socket:[4711]`.
fn inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The inode and path in a line of `/proc/net/unix`, if that socket listens.
fn unix(line: &str) -> Option<(u64, ListenPlace)> {
    /// `__SO_ACCEPTCON` of the kernel's `net.h`.
    const LISTENS: &str = "00010000";
    // Num RefCount Protocol Flags Type St Inode Path
    let mut fields = line.split_ascii_whitespace();
    if fields.nth(3)? != LISTENS {
        return None;
    }
    let inode = fields.nth(2)?.parse().ok()?;
    let path = fields.next().unwrap_or("without a name");
    Some((inode, ListenPlace(None, format!("the socket {path}"))))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::{of, unix};

    #[test]
    fn a_listening_unix_socket_has_its_path_and_another_none() {
        let listens = "0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/app.sock";
        let (inode, place) = unix(listens).unwrap();
        assert_eq!((inode, place.1.as_str()), (4711, "the socket /run/app.sock"));
        assert_eq!(unix("0000000000000000: 00000003 00000000 00000000 0001 03 4712 /run/app.sock"), None);
        assert_eq!(unix("Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(unix(""), None);
    }

    #[test]
    fn what_this_process_listens_on_is_found_also_by_version_6_and_by_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, tcp6) = (listener.local_addr().unwrap(), TcpListener::bind("[::1]:0"));
        let unix = UnixListener::bind(&path).unwrap();
        let found = super::sockets().unwrap();
        let names: Vec<&str> = found.values().map(|place| place.1.as_str()).collect();
        assert!(names.contains(&address.to_string().as_str()), "{names:?}");
        assert!(names.contains(&format!("the socket {}", path.display()).as_str()), "{names:?}");
        if let Ok(tcp6) = &tcp6 {
            assert!(names.contains(&tcp6.local_addr().unwrap().to_string().as_str()), "{names:?}");
        }
        drop((listener, tcp6, unix));
        assert!(!of(&[std::process::id()]).unwrap().contains(&address.to_string()));
        assert_eq!(of(&[u32::MAX]).unwrap(), Vec::<String>::new(), "it has ended");
    }
}
