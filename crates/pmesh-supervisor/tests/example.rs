//! `examples/supervise.rs` as somebody runs it.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

/// Ended also where a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_example_keeps_a_command_running_and_ends_it_with_its_tree() {
    let folder = tempfile::tempdir().unwrap();
    // Cargo builds examples beside the tests.
    let example = env::current_exe().unwrap().with_file_name("").join("../examples/supervise");
    let mut command = Command::new(example);
    command.args(["sh", "-c", "sleep 1000 & echo $! > pid; echo working; wait"]);
    let child = command.current_dir(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut example = Running(child);
    let mut said = BufReader::new(example.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("healthy: 1")));
    let pid_file = folder.path().join("pid");
    let pid = std::iter::repeat_with(|| std::fs::read_to_string(&pid_file).unwrap_or_default())
        .find(|pid| pid.ends_with('\n'))
        .unwrap();
    let own = rustix::process::Pid::from_child(&example.0);
    rustix::process::kill_process(own, rustix::process::Signal::INT).unwrap();
    said.for_each(drop);
    assert!(example.0.wait().unwrap().success());
    // Whoever reaps orphans here may not have come to it yet.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')), "{stat}");
    assert!(std::fs::read_to_string(folder.path().join("job.log")).unwrap().contains("working\n"));
}
