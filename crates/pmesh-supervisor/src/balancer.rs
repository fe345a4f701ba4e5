//! The seam to whatever spreads requests over instances.

use std::net::SocketAddr;

use futures_util::future::BoxFuture;

use crate::{ExternalAddress, ServiceName};

/// Who takes traffic for a service, told to a balancer before it can be noticed.
///
/// The supervisor tells a balancer that an instance leaves *before* it signals the instance, and
/// waits for what is under way: so no request meets an instance that is about to end.
pub trait Balancer: Send + Sync + 'static {
    /// These take the service's requests from now on, and no others.
    fn set_upstreams(&self, service: &ServiceName, upstreams: Vec<ServiceUpstream>, when_empty: Expected);

    /// Takes upstreams out at once. The future resolves when nothing is under way to them and
    /// nothing new will come; dropping it changes nothing.
    fn withdraw(&self, service: &ServiceName, ids: &[u64]) -> BoxFuture<'static, ()>;

    /// Resolves with the id of an upstream that has left `times` requests in a row, with none answered between,
    /// without an answer in their time; asked again, it counts anew. Dropping it changes nothing. A balancer that
    /// does not know never resolves.
    fn timed_out(&self, _service: &ServiceName, _times: u32) -> BoxFuture<'static, u64> {
        Box::pin(std::future::pending())
    }
}

/// An address that takes traffic for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// An address of somebody else's.
    External(ExternalAddress),
}

/// What a service without upstreams has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// They come back: requests may wait.
    Back,
    /// It was stopped on request.
    Nothing,
}

/// For services that take no traffic: nobody to tell, and nothing to wait for.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBalancer;

impl Balancer for NoBalancer {
    fn set_upstreams(&self, _: &ServiceName, _: Vec<ServiceUpstream>, _: Expected) {}

    fn withdraw(&self, _: &ServiceName, _: &[u64]) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
