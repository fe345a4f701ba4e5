//! Binds the listeners: each socket once, so that a second server on the same address fails.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::fs::Mode;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UnixListener;

use crate::listen_option::ListenOption;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listener and where it listens; the port is the real one also where 0 was asked for.
#[derive(Debug)]
pub(crate) struct BoundListener {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("the {what} cannot listen on {address}")]
    Tcp { what: &'static str, address: SocketAddr, source: io::Error },
    #[error("the API cannot listen on the socket {}; --no-socket does without", path.display())]
    Unix { path: PathBuf, source: io::Error },
}

/// Binds all addresses, or none.
pub(crate) fn all(addresses: &[ListenOption], what: &'static str) -> Result<Vec<BoundListener>, BindError> {
    let mut bound: Vec<BoundListener> = Vec::new();
    for address in addresses {
        let mut port = None;
        for (index, mut socket) in address.sockets().into_iter().enumerate() {
            // Both families of one address share a port, also where the kernel chose it.
            if let Some(port) = port {
                socket.set_port(port);
            }
            match tcp(socket) {
                Ok(one) => {
                    port = Some(one.address.port());
                    bound.push(one);
                }
                Err(error) if index > 0 && has_no_ipv6(&error) => {}
                Err(source) => return Err(BindError::Tcp { what, address: socket, source }),
            }
        }
    }
    Ok(bound)
}

/// EAFNOSUPPORT, EADDRNOTAVAIL: this machine does without IPv6 (ipv6(7)).
fn has_no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn tcp(address: SocketAddr) -> io::Result<BoundListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // So that a restart does not wait for connections of the last run (TIME_WAIT). Two listeners on
    // one address are refused all the same (socket(7), SO_REUSEADDR).
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok(BoundListener { listener, address })
}

/// Binds the API's socket, for the server's user alone from its first moment. What a dead server left
/// behind is replaced: the lock of the state folder says that no other lives.
///
/// Must be called in a tokio runtime.
pub(crate) fn unix(path: &Path) -> Result<UnixListener, BindError> {
    let bind = || -> io::Result<UnixListener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The mode of the descriptor becomes that of the file (unix(7)): it never is another.
        rustix::fs::fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
        socket.set_nonblocking(true)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket)))
    };
    bind().map_err(|source| BindError::Unix { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, os::unix::fs::PermissionsExt};

    use super::{BindError, all, tcp, unix};
    use crate::listen_option::ListenOption;

    #[test]
    fn a_second_listener_on_an_address_is_refused() {
        let first = tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let again = all(&[ListenOption::One(first.address)], "front");
        assert!(matches!(again, Err(BindError::Tcp { what: "front", .. })));
    }

    #[test]
    fn a_wildcard_listener_is_refused_beside_a_listener_on_one_address() {
        let first = tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        assert!(tcp(SocketAddr::from(([0, 0, 0, 0], first.address.port()))).is_err());
    }

    #[tokio::test]
    async fn the_socket_is_for_the_servers_user_alone_and_replaces_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        drop(unix(&path).unwrap());
        assert!(path.exists(), "a socket file outlives its socket");
        let _listener = unix(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
