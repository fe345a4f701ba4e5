//! What a fetch has found, and where an update is to go by it. Plain values.

use pmesh_vcs::{Moved, Relation, Revision, VcsError};

/// What the remote has, and how the work tree stands to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) head: Revision,
    pub(crate) remote: Revision,
    pub(crate) relation: Relation,
    /// How many commits of the head were never fetched.
    pub(crate) local: usize,
    /// Whether the manifest in the work tree is not that of the head: somebody has edited it.
    pub(crate) has_edited_manifest: bool,
    /// Where the remote has sent the fetch.
    pub(crate) moved_to: Option<Moved>,
}

/// Where an update is to take the work tree, by what was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is there.
    Stay,
    /// It has so many commits more than the remote, all of them local work: it is left there.
    StayAhead(usize),
    /// To the remote head, with nothing lost.
    ToRemote,
    /// Local work would be lost.
    Nowhere,
}

impl Comparison {
    /// The remote is the truth for a server, and what was ever fetched from it is no local work: a remote that was rewound or
    /// pushed to by force is followed.
    pub(crate) fn way(&self) -> Way {
        match self.relation {
            Relation::Same => Way::Stay,
            Relation::Ahead { by } if by == self.local => Way::StayAhead(by),
            Relation::Behind { .. } => Way::ToRemote,
            _ if self.local == 0 => Way::ToRemote,
            Relation::Ahead { .. } | Relation::Diverged { .. } | Relation::Unrelated | Relation::Unknown => {
                Way::Nowhere
            }
        }
    }

    /// Why an update can go nowhere.
    pub(crate) fn refusal(&self) -> VcsError {
        match self.relation {
            Relation::Diverged { ahead, behind } => VcsError::Diverged { ahead, behind },
            Relation::Unrelated => VcsError::Unrelated { branch: self.head.branch.clone() },
            Relation::Unknown => VcsError::Shallow { branch: self.head.branch.clone() },
            _ => VcsError::Rewound { local: self.local },
        }
    }
}
