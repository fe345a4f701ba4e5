//! Keeps one command running with this crate alone, and says how it is:
//!
//! ```text
//! cargo run -p pmesh-supervisor --example supervise -- sh -c 'echo working; sleep 3; exit 1'
//! ```
//!
//! Ctrl-C stops it, with its whole process tree. Its output is in the log in the current folder.

use std::{env, error::Error, sync::Arc, time::Instant};

use pmesh_supervisor::{
    AppSpec, CancelToken, Command, LogFolder, LogLimits, NetProber, NoBalancer, OsSpawner, Rebuild,
    RevisionFacts, RolloutPlan, ServiceId, ServiceKind, ServiceName, ServiceSpec, Supervisor,
    SupervisorSettings, Turn,
    rollout::{Limits, Unity},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let program = words.next().ok_or("usage: supervise PROGRAM [ARGUMENT…]")?;
    let here = env::current_dir()?;
    let name: ServiceName = "job".parse()?;
    let mut app = AppSpec::new(&name, here.clone());
    app.run = Some(Command { program, arguments: words.collect(), ..Command::default() });
    app.background = true;

    let settings = SupervisorSettings {
        logs: LogFolder::open(&here, LogLimits::default())?,
        state: None,
        env: env::vars_os().collect(),
        limits: Limits::default(),
    };
    let (supervisor, task) =
        Supervisor::new(settings, Arc::new(OsSpawner::new()), Arc::new(NetProber), Arc::new(NoBalancer));
    tokio::spawn(task);
    let spec = ServiceSpec { name: name.clone(), kind: ServiceKind::App(Box::new(app)) };
    let plan = RolloutPlan {
        turns: vec![Turn { id: ServiceId(1), spec }],
        unity: Unity::Regardless,
        rebuild: Rebuild::Changed,
        revision: RevisionFacts { root: here, ..RevisionFacts::default() },
    };

    supervisor
        .roll_out(&plan, &CancelToken::new(), &|_, step, report| println!("{step:?}: {report:?}"))
        .await;

    let mut service = supervisor.service(&name).ok_or("it was just added")?;
    loop {
        println!("{:?}", service.state().health(Instant::now()));
        tokio::select! {
            () = service.changed() => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                service.stop().await;
                return Ok(());
            }
        }
    }
}
