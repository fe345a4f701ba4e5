//! An instance that has been unhealthy for too long, and another one that takes its place.

use std::{sync::Arc, time::Instant};

use super::Run;
use crate::{lifecycle::Event, machine_step::MachineStep, slot::Slot};

impl Run {
    /// All instances: those that are it, the one that is to be one of them, and those that were.
    pub(super) fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().chain(&self.successor).chain(&self.retired)
    }

    pub(super) fn all_slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().chain(&mut self.successor).chain(&mut self.retired)
    }

    /// When [`replace_unhealthy`](Self::replace_unhealthy) is due, if nothing else happens first.
    pub(crate) fn replacement_deadline(&self) -> Option<Instant> {
        if self.successor.is_some() || !self.holds.is_empty() {
            return None;
        }
        self.slots.iter().filter_map(Slot::unhealthy_until).min()
    }

    /// Replaces an instance that has been unhealthy for too long: one at a time, so that what makes all of them unhealthy
    /// does not start all of them anew. Where two may run side by side another one starts, and the old one takes what
    /// requests there are until that is ready.
    pub(crate) fn replace_unhealthy(&mut self, step: &mut MachineStep) {
        if self.replacement_deadline().is_none_or(|at| at > step.now) {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let Some(spec) = self.app().cloned() else { return };
        let is_due = |slot: &&mut Slot| slot.unhealthy_until().is_some_and(|at| at <= step.now);
        let Some(slot) = self.slots.iter_mut().find(is_due) else { return };
        slot.note_too_long_unhealthy(step);
        if plan.overlaps() {
            let mut successor = slot.successor(&plan.spec.name, &spec);
            successor.tell(Event::Start, &plan, step);
            self.successor = Some(successor);
        } else {
            slot.tell(Event::Replace, &plan, step);
        }
    }

    /// Lets the new instance take the place of the old one when it is ready, or when the old one has ended by itself; it is
    /// not wanted any more where the old one has become healthy before.
    pub(crate) fn settle_successor(&mut self, step: &mut MachineStep) {
        self.retired.retain(|slot| !slot.is_stopped());
        let Some(mut leaves) = self.successor.take() else { return };
        let Some(old) = self.slots.iter_mut().find(|slot| slot.number() == leaves.number()) else { return };
        if leaves.is_ready() {
            std::mem::swap(old, &mut leaves);
        } else if !old.is_ready() {
            leaves.take_over_trouble(old);
            std::mem::swap(old, &mut leaves);
        } else if !old.is_healthy() {
            self.successor = Some(leaves);
            return;
        }
        leaves.tell(Event::Stop, &self.plan, step);
        if !leaves.is_stopped() {
            self.retired.push(leaves);
        }
    }
}
