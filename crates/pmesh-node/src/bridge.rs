//! Between the supervisor, which knows services, and the front, which knows destinations.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pmesh_manifest::{Manifest, Serves};
use pmesh_proxy::{
    Destination, DestinationKey, LoadBalancing, Routing, Tables, Upstream, UpstreamAddress, UpstreamSet,
    WhenEmpty,
};
use pmesh_supervisor::{Balancer, Expected, ListenAddress, ServiceKind, ServiceName, ServiceUpstream};

use crate::run_link;

/// The destination that routes to this service lead to.
pub(crate) fn key_of(service: &ServiceName) -> DestinationKey {
    DestinationKey::new(service.as_str())
}

/// Tells the front's tables what the supervisor tells a balancer, and which services lead where.
pub(crate) struct Bridge {
    tables: Tables,
    /// What the supervisor has said last of each service. The tables forget the upstreams of a service that their routing
    /// does not name, but such a service runs on until it is [forgotten](Self::forget): where its manifest comes back, its
    /// routes get their upstreams from here. The lock is held while the tables are told, so that of two changes at a time,
    /// one of the routing and one of upstreams, none is lost.
    announced: Mutex<BTreeMap<ServiceName, Announced>>,
    /// Folders that builds have made, and where they were when they were [pinned](Self::pin).
    pins: Mutex<Pins>,
}

/// What the supervisor has announced of a service.
struct Announced {
    upstreams: Vec<Upstream>,
    when_empty: WhenEmpty,
}

impl Bridge {
    pub(crate) fn new(tables: Tables) -> Arc<Self> {
        Arc::new(Self { tables, announced: Mutex::default(), pins: Mutex::default() })
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Forgets the services that a manifest lacks.
    pub(crate) fn forget(&self, manifest: &Manifest) {
        let is_in_it =
            |name: &ServiceName| manifest.services.iter().any(|service| service.spec.name == *name);
        self.announced.lock().retain(|name, _| {
            let stays = is_in_it(name);
            if !stays {
                self.tables.set_user(&key_of(name), None);
            }
            stays
        });
    }

    /// Puts the sites and routes of a manifest in force, and what its instances need of the descriptors. Services
    /// that it lacks stay known until they are [forgotten](Self::forget): the one before may come back.
    ///
    /// Files that an app's build has made (`path: web/.run/public`) are served through the app's link `.run`, wherever it leads,
    /// unless they are pinned.
    pub(crate) fn route(&self, manifest: &Manifest) {
        let pins = self.pins.lock().folders.clone();
        let announced = self.announced.lock();
        let destination = |service: &pmesh_manifest::DeclaredService| {
            let announced = announced.get(&service.spec.name);
            let when_empty = announced.map_or(WhenEmpty::Wait, |announced| announced.when_empty);
            let upstreams = || announced.map(|announced| announced.upstreams.clone()).unwrap_or_default();
            match &service.serves {
                Serves::Upstreams(balancing) => {
                    Some(Destination::Upstreams(UpstreamSet::new(upstreams(), when_empty, balancing.clone())))
                }
                Serves::Files(_) if when_empty == WhenEmpty::Refuse => Some(Destination::Upstreams(
                    UpstreamSet::new(Vec::new(), when_empty, LoadBalancing::default()),
                )),
                Serves::Files(files) => Some(Destination::Files(match pins.get(&files.folder) {
                    Some(pin) => files.clone().with(|files| files.folder.clone_from(pin)),
                    None => files.clone(),
                })),
                Serves::Nothing => None,
            }
        };
        let destinations = manifest
            .services
            .iter()
            .filter_map(|service| Some((key_of(&service.spec.name), destination(service)?)))
            .collect();
        let wanted = manifest.services.iter().map(|service| match &service.spec.kind {
            ServiceKind::App(app) => app.instances as usize,
            ServiceKind::External(_) | ServiceKind::Files => 0,
        });
        self.tables.budget().set_wanted_instances(wanted.sum());
        self.tables.set_routing(Routing::new(manifest.sites.clone(), destinations));
    }
}

impl Bridge {
    /// Serves files that builds have made from where they are now, until [`unpin`](Self::unpin): a rollout moves the links
    /// before its new instances start, and the files belong to those that serve.
    pub(crate) fn pin(&self, manifest: &Manifest) {
        let folders = manifest.services.iter().filter_map(|service| match &service.serves {
            Serves::Files(files) if run_link::is_through(&files.folder) => Some(&files.folder),
            Serves::Files(_) | Serves::Upstreams(_) | Serves::Nothing => None,
        });
        let pins: BTreeMap<_, _> = folders.map(|folder| (folder.clone(), run_link::pinned(folder))).collect();
        let are_pinned = {
            let mut held = self.pins.lock();
            held.holders += 1;
            // Another operation has seen where they led before it began.
            if held.folders.is_empty() {
                held.folders = pins;
            }
            !held.folders.is_empty()
        };
        if are_pinned {
            self.route(manifest);
        }
    }

    /// When nobody holds them any more, files are served again from the next [`route`](Self::route) on where the links lead.
    /// The answer is whether that is so now, and any were pinned elsewhere.
    pub(crate) fn unpin(&self) -> bool {
        let mut held = self.pins.lock();
        held.holders = held.holders.saturating_sub(1);
        held.holders == 0 && !std::mem::take(&mut held.folders).is_empty()
    }
}

/// Where files are served from instead of where links lead.
#[derive(Debug, Default)]
struct Pins {
    folders: BTreeMap<PathBuf, PathBuf>,
    /// How many operations hold them.
    holders: u32,
}

impl Balancer for Bridge {
    fn set_upstreams(&self, service: &ServiceName, upstreams: Vec<ServiceUpstream>, when_empty: Expected) {
        let address = |address| match address {
            ListenAddress::Instance(address) => UpstreamAddress::Socket(address),
            ListenAddress::External(address) => match address.host.parse::<IpAddr>() {
                Ok(ip) => UpstreamAddress::Socket((ip, address.port).into()),
                Err(_) => UpstreamAddress::Name(address.host.into(), address.port),
            },
        };
        let upstreams: Vec<Upstream> = upstreams
            .into_iter()
            .map(|upstream| Upstream::new(upstream.id, address(upstream.address)))
            .collect();
        let when_empty = match when_empty {
            Expected::Back => WhenEmpty::Wait,
            Expected::Nothing => WhenEmpty::Refuse,
        };
        let mut announced = self.announced.lock();
        self.tables.set_upstreams(&key_of(service), upstreams.clone(), when_empty);
        announced.insert(service.clone(), Announced { upstreams, when_empty });
    }

    fn set_user(&self, service: &ServiceName, user: Option<u32>) {
        self.tables.set_user(&key_of(service), user);
    }

    fn withdraw(&self, service: &ServiceName, ids: &[u64]) -> BoxFuture<'static, ()> {
        Box::pin(self.tables.withdraw(&key_of(service), ids))
    }

    fn timed_out(&self, service: &ServiceName, times: u32) -> BoxFuture<'static, u64> {
        Box::pin(self.tables.timed_out(&key_of(service), times))
    }

    fn answered(&self, service: &ServiceName, id: u64) -> BoxFuture<'static, ()> {
        Box::pin(self.tables.answered(&key_of(service), id))
    }
}
