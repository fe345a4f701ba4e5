//! What this process has open itself.

use std::{io, os::fd::OwnedFd};

use parking_lot::Mutex;
use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags, RawDir, SeekFrom, open, readlinkat_raw, seek},
    io::Errno,
};

/// The links in `/proc/self/fd` (proc(5)), through a handle that is kept: a look needs no descriptor of its own,
/// which may be the very thing that is missing.
#[derive(Debug)]
pub(crate) struct OwnDescriptors(Mutex<OwnedFd>);

impl OwnDescriptors {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Mutex::new(open("/proc/self/fd", flags, Mode::empty())?)))
    }

    /// Whether one of them leads to the socket with this number. Takes about two microseconds a descriptor.
    pub(crate) fn have_socket(&self, inode: u64) -> io::Result<bool> {
        let wanted = format!("socket:[{inode}]");
        let folder = self.0.lock();
        seek(&*folder, SeekFrom::Start(0))?;
        let mut entries = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(&*folder, entries.spare_capacity_mut());
        // Longer than any name of a socket; what does not fit is none.
        let mut target = Vec::with_capacity(64);
        while let Some(entry) = entries.next() {
            target.clear();
            match readlinkat_raw(&*folder, entry?.file_name(), spare_capacity(&mut target)) {
                Ok(_) if target == wanted.as_bytes() => return Ok(true),
                // `.` and `..` are no links, and what was closed meanwhile was not what the peer has.
                Ok(_) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd as _};

    use super::OwnDescriptors;

    #[test]
    fn a_socket_is_found_again_and_again_until_it_is_closed() {
        let own = OwnDescriptors::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(listener.as_fd()).unwrap().st_ino;
        for _ in 0..3 {
            assert!(own.have_socket(inode).unwrap());
        }
        drop(listener);
        assert!(!own.have_socket(inode).unwrap());
    }
}
