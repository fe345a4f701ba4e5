//! An external address, which somebody else keeps running: it is probed, never started nor stopped. A plain
//! type.

use std::{sync::Arc, time::Instant};

use crate::{
    AddressView, ExternalAddress, FirstAnswer, Liveness, Monitor, Plan, ProbeFailure, ServiceFailure,
    machine_step::MachineStep, notice::Notice, saved::saved, service_action::ServiceAction,
};

/// An external address of a service, and what its probes have said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct External {
    upstream: u64,
    address: ExternalAddress,
    liveness: Liveness,
    probing: bool,
    failure: Option<ProbeFailure>,
    /// Since when its probes fail.
    failing_since: Option<Instant>,
}

saved!(struct External { upstream, address, liveness, probing, failure, failing_since });

impl External {
    pub(crate) fn new(address: ExternalAddress, step: &mut MachineStep) -> Self {
        Self {
            upstream: step.numbers.next(),
            address,
            liveness: Liveness::unknown(step.now),
            probing: false,
            failure: None,
            failing_since: None,
        }
    }

    pub(crate) fn upstream(&self) -> u64 {
        self.upstream
    }

    pub(crate) fn address(&self) -> &ExternalAddress {
        &self.address
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.liveness.is_healthy()
    }

    pub(crate) fn has_been_healthy(&self) -> bool {
        self.liveness.has_been_healthy()
    }

    /// Whether its last probe failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why its last probe failed, if it did.
    pub(crate) fn failure(&self) -> Option<ServiceFailure> {
        let failure = self.failure.as_ref()?;
        Some(ServiceFailure {
            what: format!("{}: {failure}", self.address),
            retry_at: self.deadline(),
            last_lines: Vec::new(),
        })
    }

    /// Since when its probes fail, if they do.
    pub(crate) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    pub(crate) fn view(&self) -> AddressView {
        AddressView { upstream: self.upstream, address: self.address.clone(), healthy: self.is_healthy() }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.probing).then(|| self.liveness.next_probe())
    }

    /// Probes it if a probe is due.
    pub(crate) fn tick(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) {
        if self.deadline().is_some_and(|due| due <= step.now) {
            self.probing = true;
            step.ask(ServiceAction::Probe {
                upstream: self.upstream,
                address: self.address.clone(),
                prove_owner: false,
                seek: false,
                ask: None,
                plan: Arc::clone(plan),
            });
        }
    }

    pub(crate) fn on_probed(
        &mut self,
        result: Result<FirstAnswer, ProbeFailure>,
        monitor: &Monitor,
        step: &mut MachineStep,
    ) {
        self.probing = false;
        if result.as_ref().is_err_and(ProbeFailure::is_unmade) {
            self.liveness.on_unmade(step.now);
            return;
        }
        if self.liveness.on_result(result.is_ok(), monitor, step.now) {
            let failure = result.clone().err();
            step.note(Notice::Address { address: self.address.clone(), failure });
        }
        self.failure = result.err();
        self.failing_since = self.failure.as_ref().map(|_| self.failing_since.unwrap_or(step.now));
    }
}
