//! The seam to whatever spreads requests over instances.

use std::net::SocketAddr;

use futures_util::future::BoxFuture;

use crate::{ExternalAddress, ServiceName};

/// Learns which upstreams take traffic for a service, before anybody else can see the change.
///
/// The supervisor tells a balancer that an instance leaves *before* it signals the instance, and waits for
/// the requests under way: so no request meets an instance that is about to end.
pub trait Balancer: Send + Sync + 'static {
    /// From now on these upstreams, and no others, take the service's requests. `when_empty` says what
    /// requests may expect while there are none.
    fn set_upstreams(&self, service: &ServiceName, upstreams: Vec<ServiceUpstream>, when_empty: Expected);

    /// From now on the service's processes run as this user; none: as the server's, or there are none. A balancer that treats all
    /// clients alike does not care.
    fn set_user(&self, _service: &ServiceName, _user: Option<u32>) {}

    /// Takes upstreams out at once. The future resolves when nothing is under way to them and nothing new
    /// will come; dropping the future changes nothing.
    fn withdraw(&self, service: &ServiceName, ids: &[u64]) -> BoxFuture<'static, ()>;

    /// Resolves with the id of an upstream that has not answered `times` requests in a row in time. Each call
    /// counts from zero. Dropping the future changes nothing. A balancer that does not count this never
    /// resolves.
    fn timed_out(&self, _service: &ServiceName, _times: u32) -> BoxFuture<'static, u64> {
        Box::pin(std::future::pending())
    }

    /// Resolves when an upstream that [`timed_out`](Self::timed_out) has told of has answered a request since, one
    /// that was under way then or a later one. Dropping it changes nothing. A balancer that does not know never
    /// resolves.
    fn answered(&self, _service: &ServiceName, _id: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// An address that takes traffic for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceUpstream {
    /// Unique in the supervisor, new for each process that is started.
    pub id: u64,
    /// Where it listens.
    pub address: ListenAddress,
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An instance's own port.
    Instance(SocketAddr),
    /// An external address, which somebody else keeps running.
    External(ExternalAddress),
}

/// What requests may expect while a service has no upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Upstreams come back: requests may wait for them.
    Back,
    /// Nothing: the service was stopped on request.
    Nothing,
}

/// A balancer for services that take no traffic: it tells nobody, and waits for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBalancer;

impl Balancer for NoBalancer {
    fn set_upstreams(&self, _: &ServiceName, _: Vec<ServiceUpstream>, _: Expected) {}

    fn withdraw(&self, _: &ServiceName, _: &[u64]) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
