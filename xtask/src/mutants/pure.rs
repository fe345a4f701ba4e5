//! The files that decide in values (rule 1 of docs/ARCHITECTURE.md), whose tests can therefore say everything.

/// The pure files of one crate.
pub(crate) struct PureFiles {
    pub(crate) package: &'static str,
    /// The module whose tests speak about these files, of which `cargo test` runs those that have this in their name. None: each
    /// file's own.
    near: Option<&'static str>,
    /// The words of `cargo test` for all tests that speak about these files. They are asked of what the near ones let through.
    pub(crate) tests: &'static [&'static str],
    /// Below `src` of the crate.
    pub(crate) files: &'static [&'static str],
}

/// The one list of them.
pub(crate) const PURE: &[PureFiles] = &[
    PureFiles {
        package: "pmesh-supervisor",
        near: None,
        tests: &["--lib"],
        files: &[
            "backoff.rs",
            "env_file.rs",
            "health.rs",
            "lifecycle.rs",
            "rollout.rs",
            "rollout/going_back.rs",
            "precedence.rs",
            "timetable.rs",
            "rollout/limits.rs",
            "rollout/order.rs",
            "rollout/releasing.rs",
            "rollout/stage.rs",
            "user_account.rs",
        ],
    },
    // Much of what a service shows of itself is said where its drivers are tested.
    PureFiles {
        package: "pmesh-supervisor",
        near: Some("service_machine::"),
        tests: &["--lib", "--test=supervision"],
        files: &[
            "run.rs",
            "run/replacing.rs",
            "service_machine.rs",
            "service_machine/before.rs",
            "service_machine/broken.rs",
            "service_machine/building.rs",
            "service_machine/jobs.rs",
            "service_machine/candidate.rs",
            "service_machine/ending.rs",
            "service_machine/leaving.rs",
            "service_machine/last_look.rs",
            "service_machine/outliving.rs",
            "service_machine/product.rs",
            "service_machine/replacing.rs",
            "service_machine/room.rs",
            "service_machine/shown.rs",
            "service_machine/switch.rs",
            "slot.rs",
            "slot/hold.rs",
            "slot/job.rs",
            "slot/probes.rs",
            "slot/probing.rs",
            "slot/reasons.rs",
            "unbuilt.rs",
        ],
    },
    PureFiles {
        package: "pmesh-proxy",
        near: None,
        tests: &["--lib"],
        files: &["next_head.rs", "path.rs", "pattern.rs", "phase.rs", "routing_table.rs"],
    },
    PureFiles {
        package: "pmesh-node",
        near: None,
        tests: &["--lib"],
        files: &[
            "course.rs",
            "course/aim.rs",
            "course/going_back.rs",
            "course/operation_end.rs",
            "course/remaking.rs",
            "course/situation.rs",
            "history.rs",
        ],
    },
    PureFiles { package: "pmesh-api", near: None, tests: &["--lib"], files: &["access.rs", "parameters.rs"] },
];

/// All of them.
pub(crate) fn pure_files() -> Vec<PureFile> {
    PURE.iter().flat_map(PureFiles::each).collect()
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PureFile {
    pub(crate) package: &'static str,
    file: &'static str,
}

impl PureFile {
    /// As the documents name it: the crate, and the file below its `src`.
    pub(crate) fn name(self) -> String {
        format!("{}/{}", self.package, self.file)
    }

    /// Relative to the workspace's root.
    pub(crate) fn path(self) -> String {
        format!("crates/{}/src/{}", self.package, self.file)
    }

    /// Whether somebody means it who writes `words`: its name, its path or the end of it.
    pub(crate) fn is_meant_by(self, words: &str) -> bool {
        self.name() == words || self.path() == words || self.path().ends_with(&format!("/{words}"))
    }
}

impl PureFiles {
    pub(crate) fn each(&self) -> impl Iterator<Item = PureFile> {
        self.files.iter().map(|file| PureFile { package: self.package, file })
    }

    /// The words of `cargo test`, for one run after the other: the tests near a file, which are quick and notice most, then all.
    pub(crate) fn stages(&self, file: PureFile) -> [Vec<String>; 2] {
        let own = || file.file.split(['/', '.']).next().map(|module| format!("{module}::"));
        let near = self.near.map(str::to_owned).or_else(own).unwrap_or_default();
        [vec!["--lib".to_owned(), near], self.tests.iter().map(|&word| word.to_owned()).collect()]
    }
}

#[cfg(test)]
mod tests {
    use super::PURE;

    #[test]
    fn the_tests_near_a_file_come_first_and_all_others_then() {
        let stages = |name: &str| {
            let mut all = PURE.iter().flat_map(|pure| pure.each().map(move |file| (pure, file)));
            let (pure, file) = all.find(|(_, file)| file.name() == name).unwrap();
            pure.stages(file).map(|words| words.join(" "))
        };
        assert_eq!(stages("pmesh-node/course/remaking.rs"), ["--lib course::", "--lib"]);
        let of_machine = ["--lib service_machine::", "--lib --test=supervision"];
        assert_eq!(stages("pmesh-supervisor/slot.rs"), of_machine);
    }
}
