//! How an operation goes back whose services failed.

use std::sync::Arc;

use pmesh_supervisor::{Remade, ServiceName, StepName, StepState};

use super::{Act, Aim, Course, Instruction};
use crate::unfinished::Trial;

impl Course {
    /// Manifest, files, holds, old runs and the list of services become what they were, in this order.
    pub(super) fn go_back(&mut self) {
        let mut back: Vec<Act> = self.undo.drain(..).rev().collect();
        if let Some(act) = self.back_to_deployed() {
            // Behind the manifest and our own move, and before anything is started from the files.
            let moved = back.iter().rposition(|act| matches!(act, Act::PutInForce(_) | Act::GoBack { .. }));
            back.insert(moved.map_or(0, |at| at + 1), act);
        }
        // Behind all that moves files, and before anything is started from them.
        let release = back.iter().position(|act| *act == Act::Release);
        back.insert(release.unwrap_or(back.len()), Act::FindLacking);
        self.todo.extend(back);
        if self.target().is_none() {
            let of_reload = matches!(self.aim, Aim::Reload(_));
            let trial = if of_reload { Trial::ManifestFailed } else { Trial::Failed };
            self.todo.push_back(self.remember(trial));
        }
        self.todo.extend([Act::Revive, Act::Forget(Arc::clone(&self.situation.manifest))]);
    }

    /// What takes the work tree from where somebody else has moved it to what the services run. Whoever ends the server has
    /// said nothing against that.
    fn back_to_deployed(&mut self) -> Option<Act> {
        let (found, deployed) = (self.fetched.as_ref()?, self.situation.deployed.as_ref()?.commit.clone()?);
        if self.is_cancelled || found.head.commit.as_ref() == Some(&deployed) {
            return None;
        }
        if found.local == 0 {
            return Some(Act::Return(deployed));
        }
        self.stuck = Some(format!(
            "the work tree stays where it was moved by hand, because it has {} that no remote has; push them, or `git reset` \
             it by hand",
            if found.local == 1 { "a commit".to_owned() } else { format!("{} commits", found.local) }
        ));
        None
    }

    /// Builds services again, side by side, but for one whose server is about to end.
    pub(super) fn remake(&mut self, names: Vec<ServiceName>) {
        for name in names.into_iter().filter(|_| !self.is_cancelled) {
            let step = Instruction::Tell(Some(name.clone()), StepName::Build, StepState::Running);
            self.decided.extend([step, Instruction::Do(Act::Remake(name.clone()))]);
            self.remaking.begin(name);
        }
    }

    /// Takes what has come of an [`Act::Remake`].
    pub(crate) fn on_remade(&mut self, name: ServiceName, remade: Remade) {
        let state = self.remaking.on_end(&name, remade);
        self.decided.push_back(Instruction::Tell(Some(name), StepName::Build, state));
    }
}
