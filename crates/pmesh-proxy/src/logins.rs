//! Connections to upstreams that a client's connection has to itself, because somebody has logged in over them.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    live_upstream::{InFlight, LiveUpstream},
    pool::{Binding, Lease, Owned},
    upstream_group::UpstreamGroup,
};

/// How many a client's connection may have; beyond it the one that was made first is closed.
const MAX_LOGINS: usize = 8;

/// The logins of a client's connection: one for each client behind it and each destination.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    all: Mutex<Vec<Login>>,
    /// The connection closes behind the next answer: a login that it had is none any more.
    is_closing: AtomicBool,
}

#[derive(Debug)]
struct Login {
    client: IpAddr,
    to: Arc<UpstreamGroup>,
    upstream: Arc<LiveUpstream>,
    binding: Binding,
}

/// What a client has logged in to at a destination.
pub(crate) enum KeptLogin {
    Nothing,
    /// Its instance has left, or has closed the connection.
    Left,
    Connection(InFlight, Owned),
}

impl Logins {
    /// The connection of the client's login at a destination, for a request.
    pub(crate) fn take(&self, client: IpAddr, to: &Arc<UpstreamGroup>) -> KeptLogin {
        let all = self.all.lock();
        let found = all.iter().position(|login| login.client == client && Arc::ptr_eq(&login.to, to));
        let Some(at) = found else { return KeptLogin::Nothing };
        let login = &all[at];
        if to.has(&login.upstream)
            && let Some(connection) = login.binding.take()
        {
            return KeptLogin::Connection(InFlight::begin(login.upstream.clone()), connection);
        }
        drop(all);
        self.lose(client, to);
        KeptLogin::Left
    }

    /// The login of a client at a destination is none any more.
    pub(crate) fn lose(&self, client: IpAddr, to: &Arc<UpstreamGroup>) {
        self.all.lock().retain(|login| login.client != client || !Arc::ptr_eq(&login.to, to));
        self.close();
    }

    /// From here on a connection, which has brought the head of an answer, is for this client alone.
    pub(crate) fn keep(&self, client: IpAddr, to: &Arc<UpstreamGroup>, lease: &mut Lease) {
        let upstream = lease.in_flight.upstream();
        if !lease.connection.may_be_kept() || !to.has(upstream) {
            self.close();
        }
        if lease.owner.is_none() {
            let binding = lease.pool.bind();
            lease.owner = Some(binding.id());
            let mut all = self.all.lock();
            if all.len() == MAX_LOGINS {
                all.remove(0);
                self.close();
            }
            all.push(Login { client, to: to.clone(), upstream: upstream.clone(), binding });
        }
    }

    /// Whether the client's connection closes behind the answer that is made now.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }
}
