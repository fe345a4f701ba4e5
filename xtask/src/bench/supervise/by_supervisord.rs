//! supervisord with its defaults, but for the places of its files and how much output it keeps.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use super::supervisor::{LOG_BYTES, OLD_LOGS, Run, Service, Supervisor};
use crate::bench::peers::first_line;
use crate::bench::processes::Running;

pub(super) struct Supervisord;

impl Supervisor for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn version(&self) -> Result<String> {
        Ok(format!("supervisord {}", first_line(Command::new("supervisord").arg("--version"))?))
    }

    fn start(&self, scratch: &Path, services: &[Service]) -> Result<Run> {
        let config = scratch.join("supervisord.conf");
        std::fs::write(&config, configuration(scratch, services))?;
        let mut command = Command::new("supervisord");
        command.arg("--nodaemon").arg("--configuration").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let since = Instant::now();
        let process = Running::start(&mut command)?;
        let (log, count, folder) = (scratch.join("supervisord.log"), services.len(), scratch.to_owned());
        // It writes a line when a program is up. supervisorctl, to ask it, takes longer to start than some of what is measured.
        let is_ready = move || {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            Ok(told.matches("entered RUNNING state").count() >= count)
        };
        Ok(Run {
            process,
            since,
            is_ready: Some(Box::new(is_ready)),
            metrics: None,
            logs: Box::new(move |service| {
                let old = (1..=OLD_LOGS).map(|number| format!("{service}.log.{number}"));
                [format!("{service}.log")].into_iter().chain(old).map(|name| folder.join(name)).collect()
            }),
        })
    }
}

fn configuration(scratch: &Path, services: &[Service]) -> String {
    let folder = scratch.display();
    let mut config = format!(
        "[supervisord]\nlogfile={folder}/supervisord.log\npidfile={folder}/supervisord.pid\nchildlogdir={folder}\n"
    );
    for Service { name, words } in services {
        write!(
            config,
            "[program:{name}]\ncommand={}\nstdout_logfile={folder}/{name}.log\n\
             stdout_logfile_maxbytes={LOG_BYTES}\nstdout_logfile_backups={OLD_LOGS}\n",
            words.join(" ")
        )
        .expect("a string takes whatever is written to it");
    }
    config
}
