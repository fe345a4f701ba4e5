//! One step of a service's machine.

use std::time::Instant;

use crate::{
    notice::Notice,
    saved::saved,
    service_action::{ServiceAction, ServiceAnswer},
    service_event::Ticket,
};

/// The numbers that one service gives its processes, addresses, runs and builds. They are unique in the
/// supervisor, because each service has a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    block: u32,
    used: u32,
}

saved!(struct Numbers { block, used });

impl Numbers {
    /// The numbers of a block.
    pub(crate) fn of_block(block: u32) -> Self {
        Self { block, used: 0 }
    }

    /// A number that was not used before; a block has four thousand million of them.
    pub(crate) fn next(&mut self) -> u64 {
        self.used += 1;
        u64::from(self.block) << 32 | u64::from(self.used)
    }
}

/// What one step of the machine knows, and the actions that it asks for.
#[derive(Debug)]
pub(crate) struct MachineStep {
    pub(crate) now: Instant,
    pub(crate) numbers: Numbers,
    pub(crate) actions: Vec<ServiceAction>,
}

impl MachineStep {
    pub(crate) fn ask(&mut self, action: ServiceAction) {
        self.actions.push(action);
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: ServiceAnswer) {
        self.ask(ServiceAction::Answer(ticket, answer));
    }

    pub(crate) fn note(&mut self, notice: Notice) {
        self.ask(ServiceAction::Note(notice));
    }
}
