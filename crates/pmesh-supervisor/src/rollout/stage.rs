//! How far a service has come in its rollout.

/// Where a service stands in its rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Building,
    Built,
    /// Its release commands run.
    Releasing,
    /// It may be linked and started.
    Released,
    Linking,
    Linked,
    Starting,
    Spawned,
    Ready,
    /// Ready, and looked at once more before it takes over.
    Looking,
    /// It may take over.
    Looked,
    /// Not built, and that is no reason to go back.
    Unbuilt,
    /// Not ready, and that is no reason to go back.
    Tolerated,
    /// Not ready, and to go back alone.
    Failed,
    /// It takes over.
    Switching,
    /// It has taken over, and the old one is still there.
    Switched,
    /// The same, and it is looked at once more.
    LookingAgain,
    /// Its old run may end.
    Proven,
    /// Its new run is in force; this is how far the old one's end is.
    Ending,
    /// Its new run, which is not built or waits for others, comes into force.
    Staying,
    /// Its new run is in force, built or not.
    Settled {
        built: bool,
    },
    /// It goes back, alone or with all.
    GoingBack {
        alone: bool,
    },
    WentBack,
    /// It was stopped; its link goes back, and what it has built may be one too many.
    Leaving {
        prunes: bool,
    },
    Left,
}

impl Stage {
    /// Whether the others need not wait for it any more.
    pub(super) fn is_settled(self) -> bool {
        match self {
            Self::Waiting | Self::Building | Self::Built | Self::Releasing | Self::Released => false,
            Self::Linking | Self::Linked => false,
            Self::Starting | Self::Spawned => false,
            Self::Ready | Self::Looking | Self::Looked | Self::Unbuilt | Self::Tolerated | Self::Failed => {
                true
            }
            Self::Switching | Self::Switched | Self::LookingAgain | Self::Proven => true,
            Self::Ending | Self::Staying | Self::Settled { .. } | Self::GoingBack { .. } | Self::WentBack => {
                true
            }
            Self::Leaving { .. } | Self::Left => true,
        }
    }

    /// Whether it is out of the rollout's hands: in force, back, or stopped.
    pub(super) fn is_decided(self) -> bool {
        matches!(
            self,
            Self::Ending
                | Self::Staying
                | Self::Settled { .. }
                | Self::GoingBack { .. }
                | Self::WentBack
                | Self::Leaving { .. }
                | Self::Left
        )
    }
}
