use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{ExternalAddress, FirstAnswer, Holder, Monitor, ProbeFailure, ProbeTarget, Prober, ServiceName};

/// A prober that passes whatever the test does not let fail. Clones share their state.
#[derive(Clone, Debug)]
pub struct FakeProber {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    probed: Vec<ExternalAddress>,
    failing_services: HashSet<ServiceName>,
    failing_ports: HashSet<u16>,
    holders: HashMap<u16, Holder>,
    without_descriptors: bool,
    held: bool,
    asked: Vec<ExternalAddress>,
    silent: bool,
    status: Option<u16>,
}

impl FakeProber {
    /// A prober that passes everything.
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(0) }
    }

    /// From now on probes of this service fail.
    pub fn fail(&self, service: &ServiceName) {
        self.change(|state| {
            state.failing_services.insert(service.clone());
        });
    }

    /// From now on probes of this service pass.
    pub fn pass(&self, service: &ServiceName) {
        self.change(|state| {
            state.failing_services.remove(service);
        });
    }

    /// From now on probes of this port fail.
    pub fn fail_port(&self, port: u16) {
        self.change(|state| {
            state.failing_ports.insert(port);
        });
    }

    /// From now on probes of this port pass.
    pub fn pass_port(&self, port: u16) {
        self.change(|state| {
            state.failing_ports.remove(&port);
        });
    }

    /// From now on this process listens on a port.
    pub fn hold_port(&self, port: u16, holder: Holder) {
        self.change(|state| {
            state.holders.insert(port, holder);
        });
    }

    /// Whether no probe can be made, as without descriptors.
    pub fn cannot_probe(&self, cannot: bool) {
        self.change(|state| state.without_descriptors = cannot);
    }

    /// Whether probes, also those under way, get no answer. They are answered by what is said when
    /// this is taken back.
    pub fn hold(&self, held: bool) {
        self.change(|state| state.held = held);
    }

    /// Whether requests get no answer, also those under way; connecting goes on to be enough for checks.
    pub fn silence(&self, silent: bool) {
        self.change(|state| state.silent = silent);
    }

    /// From now on first answers have this status.
    pub fn answer_with(&self, status: u16) {
        self.change(|state| state.status = Some(status));
    }

    /// The addresses that were sent a request, in order.
    pub fn asked(&self) -> Vec<ExternalAddress> {
        self.state.lock().asked.clone()
    }

    /// The addresses that were probed or asked, in order.
    pub fn probes(&self) -> Vec<ExternalAddress> {
        self.state.lock().probed.clone()
    }

    /// Waits until `count` probes were begun in all.
    pub async fn wait_for_probes(&self, count: usize) {
        self.wait_until(|state| state.probed.len() >= count).await;
    }

    async fn wait_until(&self, mut reached: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        while !reached(&self.state.lock()) {
            changes.changed().await.expect("the sender is a field of self");
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Default for FakeProber {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober for FakeProber {
    fn probe(&self, target: &ProbeTarget, monitor: &Monitor) -> BoxFuture<'static, Result<(), ProbeFailure>> {
        self.begin(target, monitor)
    }

    fn ask(
        &self,
        target: &ProbeTarget,
        monitor: &Monitor,
        _limit: Duration,
    ) -> BoxFuture<'static, Result<FirstAnswer, ProbeFailure>> {
        self.change(|state| state.asked.push(target.address.clone()));
        let (fake, probed) = (self.clone(), self.begin(target, monitor));
        Box::pin(async move {
            probed.await?;
            fake.wait_until(|state| !state.silent).await;
            Ok(FirstAnswer { status: fake.state.lock().status })
        })
    }

    fn holder(&self, port: u16) -> BoxFuture<'static, Option<Holder>> {
        let holder = self.state.lock().holders.get(&port).cloned();
        Box::pin(async move { holder })
    }
}

impl FakeProber {
    fn begin(&self, target: &ProbeTarget, monitor: &Monitor) -> BoxFuture<'static, Result<(), ProbeFailure>> {
        let (fake, target) = (self.clone(), target.clone());
        let check = monitor.checks.first().map_or_else(|| "fake".to_owned(), |check| check.name.clone());
        self.change(|state| state.probed.push(target.address.clone()));
        Box::pin(async move {
            fake.wait_until(|state| !state.held).await;
            let state = fake.state.lock();
            if state.without_descriptors {
                let reason = "the test says so".to_owned();
                return Err(ProbeFailure::Unmade { address: target.address, reason });
            }
            if state.failing_services.contains(&target.service)
                || state.failing_ports.contains(&target.address.port)
            {
                let reason = "the test says so".to_owned();
                return Err(ProbeFailure::Connect { check, address: target.address, reason });
            }
            Ok(())
        })
    }
}
