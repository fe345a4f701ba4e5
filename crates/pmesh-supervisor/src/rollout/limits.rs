//! How much of a rollout goes on at a time.

use std::thread;

/// How many services may be in a phase at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolloutLimits {
    /// Between spawn and ready. A background service counts only until it is spawned.
    pub starts: usize,
    /// In a build.
    pub builds: usize,
}

impl RolloutLimits {
    /// The same with something changed: `limits.with(|it| …)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// 4 × `cores` starts and one build per core.
    pub fn of_cores(cores: usize) -> Self {
        Self { starts: (4 * cores).max(1), builds: cores.max(1) }
    }
}

impl Default for RolloutLimits {
    /// Those of this machine.
    fn default() -> Self {
        Self::of_cores(thread::available_parallelism().map_or(1, usize::from))
    }
}

#[cfg(test)]
mod tests {
    use super::RolloutLimits;

    #[test]
    fn each_core_builds_one_service_and_starts_four_and_no_machine_has_less_than_one_core() {
        assert_eq!(RolloutLimits::of_cores(8), RolloutLimits { starts: 32, builds: 8 });
        let one_build = RolloutLimits::of_cores(8).with(|limits| limits.builds = 1);
        assert_eq!(one_build, RolloutLimits { starts: 32, builds: 1 });
        assert_eq!(RolloutLimits::of_cores(0), RolloutLimits { starts: 1, builds: 1 });
    }
}
