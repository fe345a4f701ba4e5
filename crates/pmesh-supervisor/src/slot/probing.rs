//! When an instance is probed, and what its probes and the answers to requests say of it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Slot, Trouble, probes::ProbeKind};
use crate::{
    AppSpec, ExternalAddress, FirstAnswer, Plan, ProbeFailure, Readiness, ServiceKind,
    lifecycle::{Event, Phase},
    machine_step::MachineStep,
    notice::InstanceNotice,
    service_action::ServiceAction,
};

/// How long a request has no answer before that says something.
const PATIENCE: Duration = Duration::from_secs(1);

impl Slot {
    /// That the request which it was sent to see whether it is ready has no answer yet. One that has just begun says
    /// less than one that `has_failed` before it.
    pub(super) fn unanswered(&self, now: Instant, has_failed: bool) -> Option<ProbeFailure> {
        let Some(ProbeKind::Request { since }) = self.probes()?.under_way else { return None };
        if has_failed && now.saturating_duration_since(since) < PATIENCE {
            return None;
        }
        Some(ProbeFailure::unanswered_for(
            listen_address(self.address()?),
            now.saturating_duration_since(since),
        ))
    }

    pub(super) fn probe(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) {
        if !self.is_probed() {
            return;
        }
        let ServiceKind::App(spec) = &plan.spec.kind else { return };
        let (address, phase) = (self.address(), self.phase());
        let Some(process) = &mut self.process else { return };
        let (Some(address), Some(probes)) = (address, &mut process.probes) else { return };
        if probes.under_way.is_some() || probes.liveness.next_probe() > step.now {
            return;
        }
        let asks = spec.monitor.readiness == Readiness::Answer
            && (probes.silent || !probes.liveness.has_been_healthy());
        let ask = asks.then(|| match phase {
            Phase::Starting { ready_by } => ready_by.saturating_duration_since(step.now),
            // It was healthy once: how long its start may take says nothing of how long an answer may.
            _ => spec.monitor.timeout,
        });
        probes.under_way =
            Some(if ask.is_some() { ProbeKind::Request { since: step.now } } else { ProbeKind::Checks });
        step.ask(ServiceAction::Probe {
            upstream: process.upstream,
            address: listen_address(address),
            prove_owner: !probes.proven,
            seek: probes.seeks(phase, spec.ready_timeout, step.now),
            ask,
            plan: Arc::clone(plan),
        });
    }

    /// Has it probed at once; its number if a probe is under way then.
    pub(crate) fn probe_now(&mut self, plan: &Arc<Plan>, step: &mut MachineStep) -> Option<u64> {
        if !self.is_ready() {
            return None;
        }
        self.process.as_mut()?.probes.as_mut()?.liveness.probe_by(step.now);
        self.probe(plan, step);
        self.process.as_ref()?.probes.as_ref()?.under_way?;
        self.upstream()
    }

    /// Until when it may stay unhealthy; none where it is not.
    pub(crate) fn unhealthy_until(&self) -> Option<Instant> {
        let since = self.probes()?.unhealthy_since.filter(|_| self.is_ready())?;
        since.checked_add(self.lifecycle.grace().unhealthy)
    }

    pub(crate) fn note_too_long_unhealthy(&self, step: &mut MachineStep) {
        let limit = self.lifecycle.grace().unhealthy;
        self.note(InstanceNotice::TooLongUnhealthy { limit }, step);
    }

    /// A request to it has been answered, after others were not.
    pub(super) fn on_answered(&mut self, spec: &AppSpec, step: &mut MachineStep) {
        if !self.is_ready() {
            return;
        }
        let Some(probes) = self.process.as_mut().and_then(|process| process.probes.as_mut()) else { return };
        if !std::mem::take(&mut probes.silent) {
            return;
        }
        if probes.under_way.is_some() {
            probes.under_way = Some(ProbeKind::Overtaken);
        }
        let changed = probes.liveness.set_healthy(true, &spec.monitor, step.now);
        probes.note_health(step.now);
        if changed {
            self.note(InstanceNotice::HealthyAgain, step);
            self.trouble = None;
        }
    }

    /// Requests to it have had no answer: connecting says nothing of it any more, and it is asked at once.
    pub(super) fn on_timed_out(&mut self, spec: &AppSpec, plan: &Arc<Plan>, step: &mut MachineStep) {
        if !self.is_ready() {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let upstream = process.upstream;
        let Some(probes) = process.probes.as_mut().filter(|probes| !probes.silent) else { return };
        probes.silent = true;
        probes.liveness.probe_by(step.now);
        self.note(InstanceNotice::Silent { times: spec.monitor.unhealthy_threshold }, step);
        step.ask(ServiceAction::AwaitAnswer { upstream });
        self.probe(plan, step);
    }

    pub(super) fn on_probed(
        &mut self,
        result: Result<FirstAnswer, ProbeFailure>,
        spec: &AppSpec,
        plan: &Arc<Plan>,
        step: &mut MachineStep,
    ) {
        let is_ready = self.is_ready();
        let Some(probes) = self.process.as_mut().and_then(|process| process.probes.as_mut()) else { return };
        let kind = probes.under_way.take();
        if result.as_ref().is_err_and(ProbeFailure::is_unmade) {
            probes.liveness.on_unmade(step.now);
            return;
        }
        if kind == Some(ProbeKind::Overtaken) && result.is_err() {
            return;
        }
        probes.remember(&result);
        let is_its_last_word = probes.silent && is_ready_probe(kind, spec);
        let changed = if probes.silent && !is_ready_probe(kind, spec) {
            // It was under way when requests had no answer: what counts comes next.
            probes.liveness.probe_by(step.now);
            false
        } else if is_its_last_word {
            probes.silent = result.is_err();
            probes.liveness.set_healthy(result.is_ok(), &spec.monitor, step.now)
        } else {
            probes.liveness.on_result(result.is_ok(), &spec.monitor, step.now)
        };
        if is_ready {
            probes.note_health(step.now);
        }
        match result {
            Ok(_) if changed && is_ready => {
                self.note(InstanceNotice::HealthyAgain, step);
                self.trouble = None;
            }
            Ok(answer) if !is_ready => {
                self.first_status = answer.status;
                if let Some(status) = answer.status.filter(|&status| status >= 500) {
                    self.note(InstanceNotice::AnswersWithError { status }, step);
                }
                self.tell(Event::Ready, plan, step);
            }
            Ok(_) => {}
            Err(failure) => {
                if changed {
                    self.note(InstanceNotice::Unhealthy { failure: failure.clone() }, step);
                    // One that has been overcome since is not this one.
                    self.trouble.take_if(|trouble| matches!(trouble, Trouble::Probe(_)));
                }
                // Before the first pass an exit says more than the probes that met nobody.
                if !matches!(self.trouble, Some(Trouble::Exit { .. } | Trouble::Late { .. })) {
                    self.goes_wrong(Trouble::Probe(failure), step);
                }
            }
        }
    }
}

/// Whether a probe of this kind can say that an instance is ready.
fn is_ready_probe(kind: Option<ProbeKind>, spec: &AppSpec) -> bool {
    matches!(kind, Some(ProbeKind::Request { .. })) || spec.monitor.readiness == Readiness::ChecksPass
}

fn listen_address(address: SocketAddr) -> ExternalAddress {
    ExternalAddress { host: address.ip().to_string(), port: address.port() }
}
