//! Tells a service manager where the server stands (`sd_notify`(3)).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::ffi::OsStrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotifyState {
    Ready,
    Reloading,
    Stopping,
}

/// Tells it, if somebody asked by `NOTIFY_SOCKET`. Nobody listening is no reason not to serve.
pub(crate) fn tell(state: NotifyState) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message(state).as_bytes(), &address)?;
        Ok(())
    };
    if let Err(error) = send() {
        warn!(%error, "the service manager cannot be told");
    }
}

/// `Type=notify-reload` wants the moment of a reload too, on the monotonic clock, in microseconds.
fn message(state: NotifyState) -> String {
    match state {
        NotifyState::Ready => "READY=1".to_owned(),
        NotifyState::Reloading => {
            let now = clock_gettime(ClockId::Monotonic);
            let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        }
        NotifyState::Stopping => "STOPPING=1".to_owned(),
    }
}
