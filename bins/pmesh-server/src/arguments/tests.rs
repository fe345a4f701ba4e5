//! The command lines and variables that are understood, and what is said of the others.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, error::ErrorKind};

use super::{CommandLine, ControlCommand, Invocation, LogFormat, RunArguments, parse};
use crate::listen_option::ListenOption;

/// Reads a command line where `shop` is the only path that exists.
fn parsed(line: &str) -> Result<Invocation, clap::Error> {
    let words = std::iter::once("pmesh-server").chain(line.split_whitespace());
    parse(words.map(Into::into).collect(), |path| path == Path::new("shop"))
}

fn run(line: &str) -> RunArguments {
    match parsed(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
        Invocation::Run(arguments) => *arguments,
        other => panic!("{line}: {other:?}"),
    }
}

fn control(line: &str) -> ControlCommand {
    match parsed(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
        Invocation::Control(command) => command,
        other => panic!("{line}: {other:?}"),
    }
}

/// What is said of a command line that is wrong.
fn mistake(line: &str) -> String {
    let error = parsed(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}: {error}");
    error.to_string()
}

fn shown(addresses: &[ListenOption]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn clap_finds_no_contradiction_in_the_arguments() {
    CommandLine::command().debug_assert();
}

#[test]
fn run_is_the_default_command() {
    assert_eq!(run("").path, None);
    for line in ["shop", "run shop", "--no-socket shop", "shop --no-socket", "-- shop"] {
        assert_eq!(run(line).path, Some(PathBuf::from("shop")), "{line}");
    }
    assert_eq!(
        run("run elsewhere").path,
        Some(PathBuf::from("elsewhere")),
        "`run` itself says what is not there"
    );
}

#[test]
fn a_word_that_is_neither_a_command_nor_a_path_is_a_mistake_with_a_near_miss() {
    for (line, near) in [
        ("restrat", "did you mean `restart`?"),
        ("restrat web --json", "did you mean `restart`?"),
        ("--no-socket staus", "did you mean `status`?"),
        ("-- updat", "did you mean `update`?"),
        ("frobnicate --url x", "the commands are run, check, status, "),
        ("shpo", "the commands are "),
    ] {
        let text = mistake(line);
        assert!(text.contains("is neither a command nor a path") && text.contains(near), "{line}: {text}");
    }
}

#[test]
fn every_flag_of_run_is_understood() {
    let all = run(
        "run shop --http 127.0.0.1:80 --http [::1]:80 --api :9000,localhost:9001 --api-open --no-socket \
        --no-pm3-host --api-host pmesh.local --api-host 192.0.2.1 --api-token-file token --state-dir state \
        --ignore-unsupported --trusted-proxy 10.0.0.0/8 --log-format json --log-level debug",
    );
    assert_eq!(shown(&all.http), ["127.0.0.1:80", "[::1]:80"]);
    assert_eq!(shown(&all.api), [":9000", "localhost:9001"]);
    assert!(all.api_open && all.no_socket && all.no_pm3_host && all.ignore_unsupported);
    assert_eq!(all.api_host, ["pmesh.local", "192.0.2.1"]);
    assert_eq!(all.api_token_file, Some("token".into()));
    assert_eq!(all.state_dir, Some("state".into()));
    assert_eq!(all.trusted_proxy, ["10.0.0.0/8"]);
    assert_eq!((all.log_format, all.log_level), (Some(LogFormat::Json), tracing::Level::DEBUG));
}

#[test]
fn without_flags_run_has_the_documented_defaults() {
    let defaults = run("run");
    assert_eq!(shown(&defaults.http), [":8080"]);
    assert_eq!(shown(&defaults.api), ["127.0.0.1:9870"]);
    assert!(!defaults.api_open && !defaults.no_socket);
    assert!(!defaults.no_pm3_host && !defaults.ignore_unsupported);
    assert!(defaults.api_host.is_empty() && defaults.trusted_proxy.is_empty());
    assert_eq!((defaults.api_token_file, defaults.state_dir, defaults.log_format), (None, None, None));
    assert_eq!(defaults.log_level, tracing::Level::INFO);
}

#[test]
fn a_wrong_value_is_a_mistake_that_names_its_flag() {
    for (line, parts) in [
        ("run --http 8080x", ["--http", ":8080 for every address"]),
        ("run --api shop.local:1", ["--api", "localhost:8080"]),
        ("run --api-host a:1", ["--api-host", "without scheme and port"]),
        ("run --trusted-proxy x", ["--trusted-proxy", "10.0.0.0/8"]),
        ("run --log-format xml", ["--log-format", "json"]),
        ("run --log-level loud", ["--log-level", "trace"]),
        ("run --https :443", ["--https", "not served yet"]),
        ("run --manage-hosts", ["--manage-hosts", "not managed yet"]),
        ("run --api :9870", ["--api :9870", "--api-token-file"]),
        ("run --api 192.0.2.1:9870", ["--api 192.0.2.1:9870", "--api-token-file"]),
        ("run --htpp :80", ["--htpp", "--http"]),
        ("status --url shop.local", ["--url", "unix:PATH"]),
        ("status --url https://shop.local", ["--url", "http://HOST:PORT"]),
        ("restart -- -web", ["SVC", "letter or digit"]),
        ("stop a/b", ["SVC", "A-Z"]),
        ("ls web", ["web", "Usage"]),
        ("status --invalidate", ["--invalidate", "Usage"]),
    ] {
        let text = mistake(line);
        for part in parts {
            assert!(text.contains(part), "{line}: {part:?} is not in {text}");
        }
    }
}

#[test]
fn an_empty_name_of_a_service_never_means_all_services() {
    for command in ["restart", "stop", "health", "metrics"] {
        let words = ["pmesh-server", command, ""].map(Into::into).to_vec();
        assert_eq!(parse(words, |_| false).expect_err(command).exit_code(), 2);
    }
}

#[test]
fn every_control_command_takes_the_server_and_json() {
    for command in [
        "status",
        "repo",
        "update",
        "reload",
        "ls",
        "logs",
        "health",
        "metrics",
        "restart",
        "stop",
        "sessions",
        "operations",
        "shutdown",
    ] {
        let command = control(&format!("{command} --url unix:api.sock --token-file token --json"));
        let server = command.server();
        assert_eq!(server.url.as_ref().map(ToString::to_string), Some("unix:api.sock".to_owned()));
        assert_eq!((server.token_file.as_deref(), server.json), (Some(Path::new("token")), true));
    }
}

#[test]
fn invalidate_is_for_what_builds_and_a_service_for_what_is_about_one() {
    assert!(
        matches!(control("update --invalidate"), ControlCommand::Update(action) if action.invalidate.invalidate)
    );
    assert!(matches!(control("reload"), ControlCommand::Reload(action) if !action.invalidate.invalidate));
    let ControlCommand::Restart(restart) = control("restart web --invalidate") else { panic!("no restart") };
    assert_eq!(restart.service.map(|name| name.to_string()), Some("web".to_owned()));
    assert!(restart.invalidate.invalidate);
    for line in ["health web", "metrics web", "stop web"] {
        let (ControlCommand::Health(which) | ControlCommand::Metrics(which) | ControlCommand::Stop(which)) =
            control(line)
        else {
            panic!("{line}")
        };
        assert_eq!(which.service.map(|name| name.to_string()), Some("web".to_owned()));
    }
    assert!(matches!(control("stop"), ControlCommand::Stop(which) if which.service.is_none()));
}

#[test]
fn the_server_is_for_control_commands_alone() {
    for line in
        ["run --url http://pm3", "shop --token-file x", "check --url http://pm3", "--url http://pm3 status"]
    {
        assert!(mistake(line).contains("unexpected argument"), "{line}");
    }
    assert!(mistake("--url http://pm3 status").contains("stand after its name"));
}

#[test]
fn help_and_version_are_no_mistakes() {
    for line in ["--version", "-V", "run --version", "--no-socket -V", "status -V"] {
        assert_eq!(parsed(line).unwrap_err().kind(), ErrorKind::DisplayVersion, "{line}");
    }
    for line in ["--help", "-h", "help", "help run", "run --help", "status -h"] {
        let error = parsed(line).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DisplayHelp, 0), "{line}");
    }
}

#[test]
fn the_help_of_ls_says_what_it_lists() {
    let help = parsed("ls --help").unwrap_err().to_string();
    assert!(help.starts_with("The services with their states and ids, also the stopped ones\n"), "{help}");
    assert!(help.contains("Usage: pmesh-server ls [OPTIONS]") && help.contains("--json"), "{help}");
}

/// The flags of a command, but for those that every program has.
fn flags(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !["help", "version"].contains(&arg.get_id().as_str()))
}

#[test]
fn every_flag_has_an_environment_variable_of_its_name() {
    for command in CommandLine::command().get_subcommands() {
        for flag in flags(command) {
            let name = flag.get_long().expect("every flag is long");
            let variable = format!("PMESH_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().and_then(|name| name.to_str()), Some(&*variable), "{name}");
        }
    }
}

/// The first words of the tables' rows in `docs/cli.md` under a heading that begins with `heading`.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = include_str!("../../../../docs/cli.md");
    let (_, section) =
        text.split_once(&format!("\n## {heading}")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(row, rest)| format!("{row} |{rest}"))
        .collect()
}

/// A row of a table in `docs/cli.md` up to its last column, which has words of its own.
fn row(flag: &clap::Arg) -> String {
    let value = match flag.get_value_names() {
        Some([name, ..]) if flag.get_action().takes_values() => format!(" {name}"),
        _ => String::new(),
    };
    let variable = flag.get_env().and_then(|name| name.to_str()).expect("every flag has one");
    let default = match flag.get_default_values() {
        [default] if flag.get_action().takes_values() => format!("`{}`", default.to_string_lossy()),
        _ => String::new(),
    };
    format!("--{}{value} | `{variable}` | {default}", flag.get_long().expect("every flag is long"))
}

#[test]
fn the_document_has_every_flag_with_its_variable_and_default_and_no_other() {
    let command_line = CommandLine::command();
    for (heading, commands) in [
        ("`run`", &["run"][..]),
        ("`check`", &["check"]),
        (
            "Commands for a server that runs",
            &[
                "status",
                "repo",
                "update",
                "reload",
                "ls",
                "logs",
                "health",
                "metrics",
                "restart",
                "stop",
                "sessions",
                "operations",
                "shutdown",
            ],
        ),
    ] {
        let rows: BTreeSet<String> =
            documented(heading).into_iter().filter(|row| row.starts_with("--")).collect();
        let expected: BTreeSet<String> = commands
            .iter()
            .flat_map(|name| {
                flags(command_line.find_subcommand(name).expect("the command is there")).map(row)
            })
            .collect();
        for flag in &expected {
            assert!(
                rows.iter().any(|row| row.starts_with(flag)),
                "docs/cli.md lacks `{flag}` under {heading}"
            );
        }
        assert_eq!(rows.len(), expected.len(), "docs/cli.md has rows too many under {heading}: {rows:?}");
    }
    let documented: BTreeSet<String> = documented("Commands for a server that runs")
        .into_iter()
        .filter(|row| !row.starts_with("--"))
        .map(|row| row.split([' ', '|']).next().unwrap_or_default().to_owned())
        .collect();
    for command in command_line.get_subcommands().map(clap::Command::get_name) {
        assert!(
            ["run", "check"].contains(&command) || documented.contains(command),
            "docs/cli.md lacks {command}"
        );
    }
    assert_eq!(documented.len(), command_line.get_subcommands().count() - 2, "{documented:?}");
}
