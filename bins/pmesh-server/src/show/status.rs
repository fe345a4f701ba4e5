//! `status`: one screen.

use std::path::{Path, PathBuf};

use pmesh_api::wire::{Metrics, Named, Operation, Repo};
use time::OffsetDateTime;

use super::{
    figures::{between, counted, instant, span},
    repository,
    services::{
        LINES, NONE, colour, health_cells, life_cells, load_cell, reason, statuses, used_cells, worst_first,
    },
    table::{Align, Row, Table},
};
use crate::terminal::{Colour, Style, harmless};

/// What a terminal has to have for every column with figures of their usual lengths.
const ALL_COLUMNS: usize = 78;

/// What the screen is made of.
#[derive(Debug)]
pub(crate) struct StatusScreen {
    /// The name of the machine.
    pub(crate) host: String,
    /// The version of the server.
    pub(crate) version: String,
    /// What it serves, if it says so.
    pub(crate) manifest: Option<PathBuf>,
    /// The repository, or why there is none to show.
    pub(crate) repo: Result<Repo, String>,
    /// The services.
    pub(crate) services: Named<Metrics>,
    /// The operation that is under way.
    pub(crate) under_way: Option<Operation>,
    /// How many clients there are.
    pub(crate) clients: usize,
}

impl StatusScreen {
    /// The screen: how it stands in one line, then where, then each service, the worst first.
    pub(crate) fn show(&self, style: Style, now: OffsetDateTime) -> String {
        let health = self.services.0.iter().map(|(_, metrics)| &metrics.health);
        let summary: Vec<String> = statuses(health)
            .into_iter()
            .map(|(status, count)| style.paint(colour(status), &format!("{count} {}", harmless(status))))
            .collect();
        let colon = if summary.is_empty() { "" } else { ": " };
        let mut shown = format!(
            "{}{colon}{}; {}\n",
            counted(self.services.0.len(), "service"),
            summary.join(", "),
            counted(self.clients, "client")
        );
        let manifest =
            self.manifest.as_ref().map(|path| format!("{} on ", path.display())).unwrap_or_default();
        let place = harmless(&format!("{manifest}{}, pmesh {}", self.host, self.version));
        shown.extend([&*style.cut(&place, 0), "\n"]);
        let repo = match &self.repo {
            Ok(repo) => repository::one_line(repo, style),
            // It says what helps at its end.
            Err(reason) => style.wrapped(&harmless(reason), 0).join("\n"),
        };
        shown.extend([&*repo, "\n"]);
        if let Some(folder) = self.log_folder() {
            let place = format!("logs in {folder}, `pmesh-server logs` shows them");
            shown.extend([&*style.wrapped(&harmless(&place), 0).join("\n"), "\n"]);
        }
        match &self.under_way {
            // What runs and what is checked out differ until it has ended.
            Some(operation) => shown.extend([&*under_way(operation, style, now), "\n"]),
            None => {
                for warning in self.moved_by_hand(style) {
                    shown.extend([&*warning, "\n"]);
                }
            }
        }
        shown.push('\n');
        if self.services.0.is_empty() {
            shown.push_str(NONE);
            return shown;
        }
        let has_room = style.width.is_none_or(|width| width >= ALL_COLUMNS);
        let mut columns = vec![("SERVICE", Align::Left), ("STATUS", Align::Left), ("HEALTHY", Align::Right)];
        if has_room {
            columns.extend(["UPTIME", "RESTARTS", "PORT"].map(|title| (title, Align::Right)));
        }
        columns.extend(["LOAD", "CPU", "MEMORY"].map(|title| (title, Align::Right)));
        let mut table = Table::new(&columns);
        for (name, metrics) in worst_first(&self.services.0, |metrics| &metrics.health) {
            let row = health_cells(Row::default().cell(name), &metrics.health);
            let row = if has_room { life_cells(row, &metrics.processes, now) } else { row };
            let row = used_cells(load_cell(row, &metrics.server.upstreams), &metrics.processes);
            table.push(reason(row, &metrics.health, LINES, now));
        }
        shown.push_str(&table.render(style));
        shown
    }

    /// Where the logs are: all of them are in one folder.
    fn log_folder(&self) -> Option<String> {
        let log = self.services.0.iter().find_map(|(_, metrics)| metrics.log.as_deref())?;
        Some(Path::new(log).parent()?.display().to_string())
    }

    /// What runs that is not what is checked out, or that the last rollout has not brought.
    fn moved_by_hand(&self, style: Style) -> Vec<String> {
        let Ok(repo) = &self.repo else { return Vec::new() };
        let deployed = repo.deployed.as_ref().map(|deployed| deployed.hash.as_str());
        let others = self.services.0.iter().filter_map(|(name, metrics)| {
            let is_other = |commit: &str| !commit.is_empty() && deployed.is_some_and(|hash| hash != commit);
            let others = metrics.processes.iter().filter(|process| is_other(&process.commit)).count();
            let all = metrics.processes.len();
            let was = if others == 1 { "was" } else { "were" };
            (others > 0).then(|| {
                let sentence = format!(
                    "{others} of {} of {} {was} started from another commit: `pmesh-server update` rolls over",
                    counted(all, "instance"),
                    harmless(name)
                );
                style.paint(Colour::Yellow, &style.wrapped(&sentence, 0).join("\n"))
            })
        });
        repository::moved_by_hand(repo, style).into_iter().chain(others).collect()
    }
}

/// How long an operation has run.
fn under_way(operation: &Operation, style: Style, now: OffsetDateTime) -> String {
    let kind = harmless(&operation.kind);
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let time = instant(&operation.started).map(|started| span(between(started, now)));
    let time = time.map_or_else(|| "is under way".to_owned(), |time| format!("has run for {time}"));
    style.cut(&format!("{article} {kind} {time}; `pmesh-server operations` shows its steps"), 0)
}

#[cfg(test)]
mod tests {
    use pmesh_api::wire::Named;
    use serde_json::json;

    use time::{OffsetDateTime, macros::datetime};

    use super::StatusScreen;
    use crate::{
        show::{repository::tests::commit, services::tests::METRICS},
        terminal::Style,
    };

    const NOW: OffsetDateTime = datetime!(2024-03-09 12:00:00 UTC);

    fn status() -> StatusScreen {
        let (head, remote) = (commit("main", 'a', "Fix cart"), commit("origin/main", 'b', "New cart"));
        let repo = json!({"sys": "git", "ref": head, "remote": remote, "url": ""});
        StatusScreen {
            host: "web1".to_owned(),
            version: "v0.1.0-9af3c21d0b4e".to_owned(),
            manifest: Some("/srv/shop/pm3.yml".into()),
            repo: Ok(serde_json::from_value(repo).unwrap()),
            services: serde_json::from_str(METRICS).unwrap(),
            under_way: None,
            clients: 68,
        }
    }

    #[test]
    fn the_status_is_one_screen_with_the_worst_first() {
        let lines = [
            "4 services: 1 Down, 1 Degraded, 1 OK, 1 Stopped; 68 clients",
            "/srv/shop/pm3.yml on web1, pmesh v0.1.0-9af3c21d0b4e",
            "main aaaaaaaaaaaa \"Fix cart\"; origin/main is at bbbbbbbbbbbb \"New cart\"",
            "logs in /var/lib/pmesh/shop/logs, `pmesh-server logs` shows them",
            "",
            "SERVICE  STATUS    HEALTHY  UPTIME  RESTARTS   PORT  LOAD   CPU   MEMORY",
            "billing  Down          0/1       -         -      -     -     -        -",
            "  instance 1: it ended with exit code 1 after 0.3 s; next try in 38 s",
            "  |   File \"app.py\", line 7, in <module>",
            "  |     db = connect(os.environ[\"DATABASE_URL\"], timeout=5, retries=3, options=DEFAULT_OPTIONS)",
            "  | psycopg2.OperationalError: connection to server at \"db.internal\" (10.0.3.7), port 5432 failed: Connection refused",
            "api      Degraded      1/2     3 h         3  20012    12  41 %  412 MiB",
            "  127.0.0.1:40002: GET /health answered 503",
            "assets   OK            0/0       -         -      -     -     -        -",
            "reports  Stopped       0/0       -         -      -     -     -        -",
            "",
        ];
        assert_eq!(status().show(Style::PLAIN, NOW), lines.join("\n"));
    }

    #[test]
    fn instances_that_were_started_from_files_of_another_commit_are_counted() {
        let mut status = status();
        let repo = status.repo.as_mut().unwrap();
        repo.deployed = Some(repo.head.clone());
        let (_, metrics) = status.services.0.iter_mut().find(|(_, one)| !one.processes.is_empty()).unwrap();
        metrics.processes[0].commit = "b".repeat(40);
        let all = metrics.processes.len();
        let shown = status.show(Style::PLAIN, NOW);
        let warning = format!("1 of {} of ", crate::show::figures::counted(all, "instance"));
        assert!(shown.contains(&warning) && shown.contains(" was started from another commit"), "{shown}");
    }

    #[test]
    fn while_an_operation_runs_nobody_is_told_to_update_because_head_and_services_differ() {
        let mut status = status();
        let repo = status.repo.as_mut().unwrap();
        repo.deployed = Some(serde_json::from_value(commit("main", 'c', "Before")).unwrap());
        let (_, metrics) = status.services.0.iter_mut().find(|(_, one)| !one.processes.is_empty()).unwrap();
        metrics.processes[0].commit = "a".repeat(40);
        let shown = status.show(Style::PLAIN, NOW);
        assert!(
            shown.contains(
                "the services run cccccccccccc \"Before\", and aaaaaaaaaaaa is checked out: `pmesh-server update` rolls"
            ),
            "{shown}"
        );
        for (kind, told) in
            [("update", "an update has run for 42 s; "), ("restart", "a restart has run for 42 s; ")]
        {
            let operation = json!({"id": "1", "kind": kind, "state": "running",
                "started": "2024-03-09T11:59:18.000Z", "ended": "", "steps": []});
            status.under_way = Some(serde_json::from_value(operation).unwrap());
            let shown = status.show(Style::PLAIN, NOW);
            assert!(
                shown.contains(&format!("\n{told}`pmesh-server operations` shows its steps\n")),
                "{shown}"
            );
            assert!(!shown.contains("rolls over"), "{shown}");
        }
    }

    #[test]
    fn on_a_terminal_no_line_is_wider_than_it_and_the_status_has_its_colour() {
        let shown = status().show(Style { colour: false, width: Some(60) }, NOW);
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(
            shown.contains(
                "  instance 1: it ended with exit code 1 after 0.3 s; next\n  try in 38 s\n  |   File"
            ),
            "{shown}"
        );
        assert!(shown.contains("failed: Connection\n  refused\napi "), "{shown}");
        let usual = status().show(Style { colour: false, width: Some(80) }, NOW);
        assert!(
            usual.lines().all(|line| line.chars().count() <= 80) && usual.contains("RESTARTS"),
            "{usual}"
        );
        let coloured = status().show(Style { colour: true, width: None }, NOW);
        assert!(
            coloured.contains("\x1b[31mDown\x1b[0m") && coloured.contains("\x1b[32m1 OK\x1b[0m"),
            "{coloured}"
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        let bare = StatusScreen {
            manifest: None,
            repo: Err("no repository at /srv/shop or above it".to_owned()),
            services: Named::default(),
            clients: 0,
            ..status()
        };
        let lines = [
            "0 services; 0 clients",
            "web1, pmesh v0.1.0-9af3c21d0b4e",
            "no repository at /srv/shop or above it",
            "",
            "the manifest has no services",
            "",
        ];
        assert_eq!(bare.show(Style::PLAIN, NOW), lines.join("\n"));
        let narrow = Style { width: Some(24), ..Style::PLAIN };
        let shown = bare.show(narrow, NOW);
        assert!(
            shown.contains("\nno repository at\n/srv/shop or above it\n"),
            "nothing of it is cut: {shown}"
        );
    }
}
