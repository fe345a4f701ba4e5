//! What is to be told of an instance: what is wrong with it, and how it ended.

use std::time::Instant;

use super::{Slot, Trouble};
use crate::{AppSpec, ServiceFailure, Survivor, lifecycle::Phase, machine_step::MachineStep, survivor};

impl Slot {
    /// What of its tree SIGKILL has not ended.
    pub(crate) fn survivors(&self) -> &[Survivor] {
        self.process.as_ref().map_or(&[], |process| &process.survivors)
    }

    /// Something is wrong with it from now on. What is tried again and again is no newer trouble each time.
    pub(super) fn goes_wrong(&mut self, trouble: Trouble, step: &MachineStep) {
        let goes_on = matches!(
            (&self.trouble, &trouble),
            (Some(Trouble::Probe(_)), Trouble::Probe(_)) | (Some(Trouble::PutOff(_)), Trouble::PutOff(_))
        );
        self.trouble = Some(trouble);
        if !goes_on {
            self.troubled_since = Some(step.now);
        }
    }

    /// Since when something is wrong with it, or was the last time.
    pub(crate) fn troubled_since(&self) -> Option<Instant> {
        self.troubled_since
    }

    /// Whether it has no process for want of what belongs to the server itself.
    pub(crate) fn is_put_off(&self) -> bool {
        matches!(self.trouble, Some(Trouble::PutOff(_)))
    }

    /// That its last process did not end in its grace, if that is so.
    pub(crate) fn overdue_note(&self) -> Option<String> {
        let limit = self.lifecycle.grace().stop;
        self.overdue
            .then(|| format!("instance {} did not end within stop_timeout {limit:?}, killed", self.number))
    }

    /// What is to be told of an instance that is ready.
    pub(crate) fn remark(&self) -> Option<String> {
        let status = self.first_status.filter(|&status| status >= 500)?;
        Some(format!("instance {}: its first answer, to `GET /`, has status {status}", self.number))
    }

    /// What went wrong last, in words, and what of it is still there.
    pub(crate) fn failure(&self, spec: &AppSpec) -> Option<ServiceFailure> {
        match (self.trouble_in_words(spec), survivor::sentence(self.survivors())) {
            (None, None) => None,
            (Some((what, last_lines)), None) => Some(self.fails(&what, last_lines)),
            (None, Some(outlives)) => Some(self.fails(&outlives, Vec::new())),
            (Some((what, last_lines)), Some(outlives)) => {
                Some(self.fails(&format!("{what}; {outlives}"), last_lines))
            }
        }
    }

    /// What went wrong, and what was written last.
    fn trouble_in_words(&self, spec: &AppSpec) -> Option<(String, Vec<String>)> {
        Some(match self.trouble.as_ref()? {
            // Nobody answers yet: that is how every start begins.
            Trouble::Probe(_) if matches!(self.phase(), Phase::Starting { .. }) => return None,
            Trouble::Spawn(reason) | Trouble::PutOff(reason) => (reason.clone(), Vec::new()),
            Trouble::Exit { exit, lived, check, last_lines } => {
                let check = check.as_ref().map(|check| format!("; {check}")).unwrap_or_default();
                (
                    format!("it ended with {exit} after {:.1} s{check}", lived.as_secs_f64()),
                    last_lines.clone(),
                )
            }
            Trouble::Late { check, last_lines } => {
                let check = check.as_ref().map(|check| format!(": {check}")).unwrap_or_default();
                (format!("it was not ready within {:?}{check}", spec.ready_timeout), last_lines.clone())
            }
            Trouble::Overrun { limit, last_lines } => {
                (format!("it was ended: it took longer than `timeout`, {limit:?}"), last_lines.clone())
            }
            Trouble::Probe(failure) => (failure.to_string(), Vec::new()),
        })
    }

    fn fails(&self, what: &str, last_lines: Vec<String>) -> ServiceFailure {
        let retry_at = match self.phase() {
            Phase::BackingOff { until } => Some(until),
            _ => None,
        };
        ServiceFailure { what: format!("instance {}: {what}", self.number), retry_at, last_lines }
    }

    /// That it takes too long to become ready.
    pub(crate) fn lateness(&self, spec: &AppSpec) -> ServiceFailure {
        self.fails(&format!("it was not ready within {:?}", spec.ready_timeout), Vec::new())
    }
}
