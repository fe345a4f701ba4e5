//! The commands that ask a server which runs: which calls each is, and what a person sees of the answer.

use std::process::ExitCode;

use pmesh_api::{
    MAX_LINES, Token,
    client::{Answer, Client, ClientError, Endpoint, logs_path, query_value, service_path},
    wire::{Accepted, Counted, LogEntry, Metrics, Named, Operation, Reloaded, Updated},
};
use pmesh_node::in_one_line;
use pmesh_supervisor::ServiceName;
use pmesh_vcs::redact::printable_json;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    arguments::{ControlCommand, DEFAULT_API, Invalidate, LogsArguments, ServerArguments},
    call::{self, CallError},
    exit_code::NO_SERVER,
    log_following::{self, FollowForm},
    place,
    progress::Progress,
    server_search::{FoundServer, Here, Search, SearchPurpose},
    show::{
        figures::counted,
        logs::LogLines,
        operations::operations,
        repository::{repository, updated},
        services::{health, list, metrics, metrics_of_one},
        sessions::{SHOWN, sessions},
        status::StatusScreen,
    },
    terminal::{Style, complain, harmless, is_interactive, print, say},
};

/// Does what `command` asks for and returns its exit code.
pub(crate) fn control(command: &ControlCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot wait for an answer: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(answered(command))
}

async fn answered(command: &ControlCommand) -> ExitCode {
    let arguments = command.server();
    let token = match arguments.token_file.as_deref().map(Token::read).transpose() {
        Ok(token) => token,
        Err(error) => {
            complain(&in_one_line(&error));
            return ExitCode::from(crate::exit_code::WRONG_COMMAND_LINE);
        }
    };
    let plan = Question::of(command);
    let search = search(arguments);
    let FoundServer { client, note } = match search.run(plan.purpose(), token).await {
        Ok(found) => found,
        Err(error) => {
            complain(&harmless(&error.to_string()));
            return ExitCode::from(NO_SERVER);
        }
    };
    if let Some(note) = note {
        complain(&harmless(&note));
    }
    match plan.carry_out(&client, arguments.json).await {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn search(arguments: &ServerArguments) -> Search {
    // Without a current folder there is no project either.
    let here = place::current_folder().and_then(|folder| Here::find(&folder));
    let default: Endpoint = format!("http://{DEFAULT_API}").parse().expect("the default is an address");
    Search { url: arguments.url.clone(), here, default }
}

/// What an answer looks like to a person.
type Printer = Box<dyn Fn(&Answer, Style, OffsetDateTime) -> Result<String, ClientError>>;

/// What a command asks of a server.
enum Question {
    /// Several reads, for one screen.
    Status,
    /// All services, also those that are stopped, which `/service` leaves out.
    List,
    /// A read. The query has what only a person needs.
    Read { path: String, query: String, view: Printer },
    /// What services write, as it comes.
    Follow { path: String, services: Vec<ServiceName>, shows_time: bool },
    /// A change that a person may watch.
    Operate { path: String, parameters: Value, view: fn(Value) -> Result<OutcomeText, serde_json::Error> },
    /// A change that is done when it is answered, with what is said then.
    Post { path: String, sentence: String },
    /// The end of the server.
    ShutDown,
}

/// What an operation did, for a person.
#[derive(Debug, Default)]
struct OutcomeText {
    sentence: String,
    /// Services that had no ready instance before and have none now, and why.
    failed: Named<String>,
    /// What else a person should know.
    warnings: Vec<String>,
}

impl Question {
    fn of(command: &ControlCommand) -> Self {
        fn read<T: serde::de::DeserializeOwned>(
            path: impl Into<String>,
            view: impl Fn(T, Style, OffsetDateTime) -> String + 'static,
        ) -> Question {
            let view: Printer = Box::new(move |answer, style, now| Ok(view(answer.json()?, style, now)));
            Question::Read { path: path.into(), query: String::new(), view }
        }
        let operate = |path: String, invalidate: Invalidate, view| {
            let parameters = if invalidate.invalidate { json!({"invalidate": true}) } else { json!({}) };
            Self::Operate { path, parameters, view }
        };
        match command {
            ControlCommand::Status(_) => Self::Status,
            ControlCommand::Repo(_) => read("/repo", |repo, style, _| repository(&repo, style)),
            ControlCommand::Update(action) => operate("/repo/update".into(), action.invalidate, |result| {
                let update: Updated = serde_json::from_value(result)?;
                let sentence = updated(&update, Style::of_stdout());
                Ok(OutcomeText { sentence, failed: update.services, warnings: update.warnings })
            }),
            ControlCommand::Reload(action) => operate("/reload".into(), action.invalidate, |result| {
                let reload: Reloaded = serde_json::from_value(result)?;
                let sentence = "reloaded\n".to_owned();
                Ok(OutcomeText { sentence, failed: reload.services, warnings: reload.warnings })
            }),
            ControlCommand::Ls(_) => Self::List,
            ControlCommand::Health(which) => match &which.service {
                None => read("/service/health", |services, style, now| health(&services, style, now)),
                Some(name) => {
                    let name = name.to_string();
                    read(service_path("health", Some(&name)), move |one, style, now| {
                        health(&Named(vec![(name.clone(), one)]), style, now)
                    })
                }
            },
            ControlCommand::Logs(logs) => Self::of_logs(logs),
            ControlCommand::Metrics(which) => match &which.service {
                None => read("/service/metrics", |services, style, now| metrics(&services, style, now)),
                Some(name) => {
                    let name = name.to_string();
                    read(service_path("metrics", Some(&name)), move |one: Metrics, style, now| {
                        metrics_of_one(&name, &one, style, now)
                    })
                }
            },
            ControlCommand::Restart(restart) => {
                let service = restart.service.as_ref().map(ServiceName::as_str);
                operate(service_path("restart", service), restart.invalidate, |result| {
                    let Counted { count, warnings, .. } = serde_json::from_value(result)?;
                    let sentence = format!("{} restarted\n", counted(count, "service"));
                    Ok(OutcomeText { sentence, warnings, ..OutcomeText::default() })
                })
            }
            ControlCommand::Stop(which) => {
                let service = which.service.as_ref().map(ServiceName::as_str);
                operate(service_path("stop", service), Invalidate { invalidate: false }, |result| {
                    let Counted { count, warnings, .. } = serde_json::from_value(result)?;
                    let sentence = format!("{} stopped\n", counted(count, "service"));
                    Ok(OutcomeText { sentence, warnings, ..OutcomeText::default() })
                })
            }
            ControlCommand::RunNow(job) => {
                let name = job.service.to_string();
                Self::Post {
                    path: service_path("run", Some(&name)),
                    sentence: format!("a run of {name} has begun\n"),
                }
            }
            ControlCommand::Cancel(cancel) => Self::Post {
                path: format!("/operation/{}/cancel", cancel.operation),
                sentence: "it leaves the queue, or goes back\n".to_owned(),
            },
            ControlCommand::Sessions(_) => {
                let view: Printer = Box::new(|answer, style, now| Ok(sessions(&answer.json()?, style, now)));
                Self::Read { path: "/session".into(), query: format!("?limit={SHOWN}&sort=num_reqs"), view }
            }
            ControlCommand::Operations(_) => {
                read("/operation", |all: Vec<Operation>, style, now| operations(&all, style, now))
            }
            ControlCommand::Shutdown(_) => Self::ShutDown,
        }
    }

    fn of_logs(logs: &LogsArguments) -> Self {
        let (path, shows_time) = (log_query(logs), logs.time);
        if logs.follow {
            return Self::Follow { path, services: logs.services.clone(), shows_time };
        }
        let view: Printer =
            Box::new(move |answer, style, _| Ok(log_entries(&answer.json::<Vec<_>>()?, style, shows_time)));
        Self::Read { path, query: String::new(), view }
    }

    fn purpose(&self) -> SearchPurpose {
        match self {
            Self::Status | Self::List | Self::Read { .. } | Self::Follow { .. } => SearchPurpose::Read,
            Self::Operate { .. } | Self::Post { .. } | Self::ShutDown => SearchPurpose::Act,
        }
    }

    async fn carry_out(self, client: &Client, json: bool) -> Result<ExitCode, CallError> {
        let style = Style::of_stdout();
        match self {
            Self::Status if json => {
                Ok(print(&printable_json(&format!("{}\n", status_as_json(client).await?))))
            }
            Self::Status => Ok(print(&status(client).await?.show(style, OffsetDateTime::now_utc()))),
            Self::List if json => as_it_came(&client.get("/service").await?),
            Self::List => {
                let ids = call::read(client, "/service").await?.json()?;
                let health = call::read(client, "/service/health").await?.json()?;
                Ok(print(&list(&ids, &health, style)))
            }
            Self::Read { path, .. } if json => as_it_came(&client.get(&path).await?),
            Self::Read { path, query, view } => {
                let answer = call::read(client, &format!("{path}{query}")).await?;
                Ok(print(&view(&answer, style, OffsetDateTime::now_utc())?))
            }
            Self::Follow { path, services, shows_time } => {
                let form =
                    if json { FollowForm::Json } else { FollowForm::Text(LogLines::new(style, shows_time)) };
                log_following::follow(client, (&path, &services), form).await
            }
            Self::Operate { path, parameters, .. } if json => {
                as_it_came(&client.post(&path, parameters).await?)
            }
            Self::Operate { path, parameters, view } => {
                let result = if is_interactive() {
                    match watched(client, &path, parameters).await? {
                        Some(result) => result,
                        None => return Ok(ExitCode::FAILURE),
                    }
                } else {
                    call::act(client, &path, parameters).await?.json()?
                };
                let not_ours = |source| ClientError::NotOurs { endpoint: client.endpoint().clone(), source };
                let OutcomeText { sentence, failed, warnings } = view(result).map_err(not_ours)?;
                for warning in warnings {
                    complain(&harmless(&format!("warning: {warning}")));
                }
                for (service, reason) in &failed.0 {
                    complain(&harmless(&format!("{service} is not ready and goes on trying: {reason}")));
                }
                Ok(print(&sentence))
            }
            Self::Post { path, .. } if json => as_it_came(&client.post(&path, json!({})).await?),
            Self::Post { path, sentence } => {
                call::act(client, &path, json!({})).await?;
                Ok(print(&sentence))
            }
            Self::ShutDown => {
                let answer = client.post("/shutdown", json!({})).await?;
                if json {
                    return as_it_came(&answer);
                }
                call::accept(answer)?;
                Ok(print("the server stops\n"))
            }
        }
    }
}

/// Where the lines are that are asked for.
fn log_query(logs: &LogsArguments) -> String {
    let names: Vec<&str> = logs.services.iter().map(ServiceName::as_str).collect();
    // Whoever asks for the last minutes does not ask for the last lines of them.
    let all = logs.since.as_ref().filter(|_| !logs.follow).map(|_| MAX_LINES);
    let lines = logs.lines.map(|lines| lines as usize).or(all);
    let parameters = [
        lines.map(|lines| format!("lines={lines}")),
        logs.since.as_ref().map(|since| format!("since={}", query_value(since))),
        logs.instance.map(|instance| format!("instance={instance}")),
    ];
    let parameters: Vec<String> = parameters.into_iter().flatten().collect();
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", logs_path(&names), parameters.join("&"))
}

fn log_entries(entries: &[LogEntry], style: Style, shows_time: bool) -> String {
    let mut lines = LogLines::new(style, shows_time);
    for entry in entries {
        lines.make_room(entry);
    }
    let shown: String = entries.iter().map(|entry| lines.show(entry)).collect();
    shown + &lines.end()
}

/// Prints an answer as it came but for what a terminal would act on, also when it is an error; the exit code says which.
fn as_it_came(answer: &Answer) -> Result<ExitCode, CallError> {
    // What is no JSON is no answer of the API.
    answer.json::<Value>()?;
    let mut body = printable_json(&String::from_utf8_lossy(&answer.body));
    if !body.ends_with('\n') {
        body.push('\n');
    }
    let printed = print(&body);
    Ok(if answer.status.is_success() { printed } else { ExitCode::FAILURE })
}

async fn status(client: &Client) -> Result<StatusScreen, CallError> {
    let manifest = client.manifest().await?;
    let host = call::read(client, "/ping").await?.json()?;
    let version = call::read(client, "/version").await?.json()?;
    let services = call::read(client, "/service/metrics").await?.json()?;
    let clients =
        call::read(client, "/session?limit=1").await?.json::<pmesh_api::wire::Sessions>()?.num_clients;
    let operations = client.get("/operation").await?;
    let operations: Vec<Operation> = match operations.error()? {
        None => operations.json()?,
        // The screen has worth without it.
        Some(_) => Vec::new(),
    };
    let under_way = operations.into_iter().find(|operation| operation.state == "running");
    let repo = client.get("/repo").await?;
    let repo = match repo.error()? {
        None => Ok(repo.json()?),
        Some(error) => Err(error.error),
    };
    Ok(StatusScreen { host, version, manifest, repo, services, under_way, clients })
}

/// The answers that the screen is made of, in one object; an error of `/repo` stands in its place.
async fn status_as_json(client: &Client) -> Result<Value, CallError> {
    let host: Value = call::read(client, "/ping").await?.json()?;
    let version: Value = call::read(client, "/version").await?.json()?;
    let repo: Value = client.get("/repo").await?.json()?;
    let services: Value = call::read(client, "/service/metrics").await?.json()?;
    let sessions: Value = call::read(client, "/session?limit=1").await?.json()?;
    Ok(json!({
        "host": host,
        "version": version,
        "repo": repo,
        "services": services,
        "num_clients": sessions["num_clients"],
    }))
}

/// Begins an operation and shows its steps on stderr until it has ended; its result, or none if the
/// person does not want to wait any more.
async fn watched(client: &Client, path: &str, mut parameters: Value) -> Result<Option<Value>, CallError> {
    parameters["wait"] = json!(false);
    let Accepted { operation: id, .. } = call::act(client, path, parameters).await?.json()?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        result = followed(client, &id) => result.map(Some),
        _ = interrupted => {
            say(CLEAR_LINE);
            complain(&format!("operation {id} goes on; `pmesh-server operations` shows how it ends"));
            Ok(None)
        }
    }
}

/// Back to the first column, and erase the line (ECMA-48, 8.3.41).
const CLEAR_LINE: &str = "\r\x1b[K";

async fn followed(client: &Client, id: &str) -> Result<Value, CallError> {
    let style = Style::of_stderr();
    let mut progress = Progress::default();
    loop {
        // The server answers when the operation has ended, or after this time to show the steps so far.
        let asked = call::read(client, &format!("/operation/{id}?wait=500ms")).await;
        let operation: Operation = match asked.and_then(|answer| Ok(answer.json()?)) {
            Ok(operation) => operation,
            Err(error) => {
                say(CLEAR_LINE);
                return Err(error);
            }
        };
        let shown = progress.on_operation(&operation, style, OffsetDateTime::now_utc());
        say(&format!("{CLEAR_LINE}{}{}", shown.lines, shown.live));
        match (operation.state.as_str(), operation.error) {
            ("queued" | "running", _) => {}
            ("done", _) => return Ok(operation.result.unwrap_or_else(|| json!({}))),
            (_, Some(error)) => return Err(CallError::Refused(call::refusal(&error))),
            (state, None) => return Err(CallError::Refused(format!("operation {id} is {state}"))),
        }
    }
}
