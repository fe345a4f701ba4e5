//! Keeps one command running with this crate alone, and says how it is:
//!
//! ```text
//! cargo run -p pmesh-supervisor --example supervise -- sh -c 'echo working; sleep 3; exit 1'
//! ```
//!
//! Ctrl-C stops it, with its whole process tree. Its output is in the log in the current folder.

use std::{env, error::Error, time::Instant};

use pmesh_supervisor::{
    Command, LogFolder, LogLimits, ServiceSpec, Supervisor, SupervisorSettings, WorkThreads,
};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut words = env::args().skip(1);
    let program = words.next().ok_or("usage: supervise PROGRAM [ARGUMENT…]")?;
    let command = Command::new(program).arguments(words);
    let here = env::current_dir()?;
    let threads = WorkThreads::start()?;
    let logs = LogFolder::open(&here, LogLimits::default(), &threads)?;
    let (supervisor, task) = Supervisor::on_this_machine(SupervisorSettings::new(logs, threads));
    tokio::spawn(task);
    let mut service = supervisor.run_one(ServiceSpec::background("job".parse()?, here, command)).await;
    loop {
        println!("{:?}", service.state().health(Instant::now()));
        tokio::select! {
            () = service.changed() => {}
            _ = interrupts.recv() => {
                service.stop().await;
                return Ok(());
            }
        }
    }
}
