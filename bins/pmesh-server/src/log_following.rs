//! `logs -f`: what services write, as it comes, also from a server that is started again.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
    time::Duration,
};

use pmesh_api::{
    client::{Answer, Client, ClientError, EventStream, ServerEvent},
    wire::{Health, LogEntry, Named},
};
use pmesh_supervisor::ServiceName;
use pmesh_vcs::redact::printable_json;
use serde_json::Value;
use tokio::{io::Interest, net::unix::pipe, time::sleep};

use crate::{
    call::{self, CallError},
    show::logs::LogLines,
    terminal::{complain, harmless},
};

/// How long to wait before the server is tried again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// In which form events are printed.
pub(crate) enum FollowForm {
    /// As lines for a person.
    Text(LogLines),
    /// As they came.
    Json,
}

/// Why nothing more is printed.
enum End {
    /// Nobody reads it.
    Unread,
    /// The server said so, or the answer is none.
    Failed(CallError),
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// Prints what comes until somebody does not want it any more.
pub(crate) async fn follow(
    client: &Client,
    (path, services): (&str, &[ServiceName]),
    mut form: FollowForm,
) -> Result<ExitCode, CallError> {
    if let FollowForm::Text(lines) = &mut form {
        make_room(client, services, lines).await;
    }
    tokio::select! {
        end = print_all(client, path, &mut form) => match end {
            End::Failed(error) => return Err(error),
            End::Unread => {}
        },
        () = stdout_closed() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    if let FollowForm::Text(lines) = &mut form {
        write(&lines.end()).unwrap_or_default();
    }
    Ok(ExitCode::SUCCESS)
}

async fn print_all(client: &Client, path: &str, form: &mut FollowForm) -> End {
    let mut last_id: Option<String> = None;
    let mut pause = PAUSES.0;
    let mut is_lost = false;
    loop {
        match client.events(path, last_id.as_deref()).await {
            Ok(Ok(mut events)) => {
                if std::mem::take(&mut is_lost) {
                    complain("the server is there again");
                }
                pause = PAUSES.0;
                if let Err(end) = print_events(&mut events, form).await {
                    return end;
                }
                last_id = events.last_id().map(str::to_owned).or(last_id);
            }
            Ok(Err(answer)) if last_id.is_some() && answer.status.as_u16() == 503 => {}
            Ok(Err(answer)) => return End::Failed(refused(answer)),
            Err(ClientError::Unreachable { .. } | ClientError::BrokenOff { .. }) if last_id.is_some() => {}
            Err(error) => return End::Failed(error.into()),
        }
        if !std::mem::replace(&mut is_lost, true) {
            complain("the server has ended, or is started again; waiting for it (Ctrl-C ends that)");
        }
        sleep(pause).await;
        pause = (2 * pause).min(PAUSES.1);
    }
}

/// Prints events until the connection ends.
async fn print_events(events: &mut EventStream, form: &mut FollowForm) -> Result<(), End> {
    while let Some(event) = events.next().await {
        let text = shown(&event, form)?;
        if write(&text).is_err() {
            return Err(End::Unread);
        }
    }
    Ok(())
}

fn shown(event: &ServerEvent, form: &mut FollowForm) -> Result<String, CallError> {
    let not_ours = |_| CallError::Refused("what comes is no event of pmesh".to_owned());
    if event.name == "failure" {
        let body: Value = serde_json::from_str(&event.data).map_err(not_ours)?;
        return Err(CallError::Refused(call::refusal(&body)));
    }
    match (form, event.name.as_str()) {
        (FollowForm::Json, _) => Ok(printable_json(&event.data) + "\n"),
        (FollowForm::Text(lines), "message") => {
            let entry: LogEntry = serde_json::from_str(&event.data).map_err(not_ours)?;
            Ok(lines.show(&entry))
        }
        (FollowForm::Text(_), "gap") => {
            let body: Value = serde_json::from_str(&event.data).map_err(not_ours)?;
            let service = harmless(body["service"].as_str().unwrap_or_default());
            complain(&format!("lines of {service} are missing here: the files that they were in are gone"));
            Ok(String::new())
        }
        // Of a newer server.
        (FollowForm::Text(_), _) => Ok(String::new()),
    }
}

fn refused(answer: Answer) -> CallError {
    match call::accept(answer) {
        Err(error) => error,
        Ok(_) => {
            CallError::Refused("the server cannot follow logs; it is older than this program".to_owned())
        }
    }
}

/// Makes room for all labels that are to be expected, so that lines which come later stand in line too.
async fn make_room(client: &Client, wanted: &[ServiceName], lines: &mut LogLines) {
    let services = async { call::read(client, "/service/health").await?.json().map_err(CallError::from) };
    // Where that fails, the lines stand as they come.
    let services: Named<Health> = services.await.unwrap_or_default();
    for (service, health) in services.0 {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|wanted| wanted.as_str() == service);
        if is_wanted && health.total > 0 {
            lines.make_room_for(&service, health.total);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Returns when whoever reads the output of this process has gone away; never where that cannot be seen.
async fn stdout_closed() {
    // Unchecked: a terminal will do, too, and what others have of it must not be made non-blocking.
    let watched = io::stdout().as_fd().try_clone_to_owned().and_then(pipe::Sender::from_owned_fd_unchecked);
    if let Ok(out) = watched
        && out.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
