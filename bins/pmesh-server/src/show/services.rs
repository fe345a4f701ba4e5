//! `ls`, `health` and `metrics`.

use pmesh_api::wire::{Building, Figures, Health, Metrics, Named, Process, Upstream};
use pmesh_supervisor::{names_an_error, telling_lines};
use time::OffsetDateTime;

use super::{
    figures::{ago, between, bytes, instant, percent, short, span},
    table::{Align, Row, Table},
};
use crate::terminal::{Colour, Style};

/// Every service with its state, in the manifest's order, and the id of its run, which a stopped one has not.
pub(crate) fn list(ids: &Named<String>, services: &Named<Health>, style: Style) -> String {
    if services.0.is_empty() {
        return NONE.to_owned();
    }
    let mut table = Table::new(&[("SERVICE", Align::Left), ("STATUS", Align::Left), ("ID", Align::Left)]);
    for (name, health) in &services.0 {
        let id = ids.0.iter().find(|(other, _)| other == name).map_or("-", |(_, id)| id);
        table.push(Row::default().cell(name).painted(&health.status, colour(&health.status)).cell(id));
    }
    table.render(style)
}

/// The health of services, the worst first, with every line of what is wrong.
pub(crate) fn health(services: &Named<Health>, style: Style, now: OffsetDateTime) -> String {
    if services.0.is_empty() {
        return NONE.to_owned();
    }
    let mut table =
        Table::new(&[("SERVICE", Align::Left), ("STATUS", Align::Left), ("HEALTHY", Align::Right)]);
    for (name, health) in worst_first(&services.0, |health| health) {
        let row = health_cells(Row::default().cell(name), health);
        table.push(reason(row, health, usize::MAX, now));
    }
    table.render(style)
}

/// What is said of a manifest without services.
pub(super) const NONE: &str = "the manifest has no services\n";

/// One row for each service, the worst first: health, traffic, processes.
pub(crate) fn metrics(services: &Named<Metrics>, style: Style, now: OffsetDateTime) -> String {
    if services.0.is_empty() {
        return NONE.to_owned();
    }
    let mut columns = vec![("SERVICE", Align::Left), ("STATUS", Align::Left), ("HEALTHY", Align::Right)];
    let has_room = style.width.is_none_or(|width| width >= TRAFFIC_COLUMNS);
    let traffic = if has_room { &TRAFFIC[..] } else { &FEW_OF_TRAFFIC[..] };
    columns.extend(traffic.iter().map(|title| (*title, Align::Right)));
    columns.extend([("CPU", Align::Right), ("MEMORY", Align::Right)]);
    let mut table = Table::new(&columns);
    for (name, metrics) in worst_first(&services.0, |metrics| &metrics.health) {
        let row = health_cells(Row::default().cell(name), &metrics.health);
        let upstreams = &metrics.server.upstreams;
        let row = if has_room { traffic_cells(row, upstreams) } else { few_traffic_cells(row, upstreams) };
        let row = used_cells(row, &metrics.processes);
        table.push(reason(row, &metrics.health, LINES, now));
    }
    table.render(style)
}

/// One service in full: its upstreams and every process of its instances.
pub(crate) fn metrics_of_one(name: &str, metrics: &Metrics, style: Style, now: OffsetDateTime) -> String {
    let mut shown = self::metrics(&Named(vec![(name.to_owned(), metrics.clone())]), style, now);
    if !metrics.server.upstreams.is_empty() {
        let mut columns = vec![("UPSTREAM", Align::Left), ("HEALTHY", Align::Left)];
        columns.extend(TRAFFIC.map(|title| (title, Align::Right)));
        let mut table = Table::new(&columns);
        for upstream in &metrics.server.upstreams {
            let row = Row::default().cell(&upstream.address);
            let row = if upstream.healthy {
                row.painted("yes", Colour::Green)
            } else {
                row.painted("no", Colour::Red)
            };
            table.push(traffic_cells(row, std::slice::from_ref(upstream)));
        }
        shown.extend(["\n", &table.render(style)]);
    }
    if !metrics.processes.is_empty() {
        let mut table = Table::new(&[
            ("PROCESS", Align::Left),
            ("CPU", Align::Right),
            ("MEMORY", Align::Right),
            ("PEAK", Align::Right),
            ("SWAP", Align::Right),
            ("READ", Align::Right),
            ("WRITTEN", Align::Right),
            ("STARTED", Align::Left),
            ("COMMAND", Align::Left),
        ]);
        for Process { figures, tree, .. } in &metrics.processes {
            // The sums stand at the instance where it is more than one process.
            let own = tree.0.iter().find(|(pid, _)| *pid == figures.pid.to_string());
            let others: Vec<&Figures> =
                tree.0.iter().map(|(_, one)| one).filter(|one| one.pid != figures.pid).collect();
            table.push(process_row(figures.pid.to_string(), figures, now));
            if let (Some((_, own)), false) = (own, others.is_empty()) {
                table.push(process_row(format!("  {}", own.pid), own, now));
            }
            for other in others {
                table.push(process_row(format!("  {}", other.pid), other, now));
            }
        }
        shown.extend(["\n", &table.render(style)]);
    }
    shown
}

fn process_row(pid: String, figures: &Figures, now: OffsetDateTime) -> Row {
    Row::default()
        .cell(pid)
        .cell(percent(figures.cpu))
        .cell(bytes(figures.rss))
        .cell(bytes(figures.hwm))
        .cell(bytes(figures.swap))
        .cell(bytes(figures.io_read))
        .cell(bytes(figures.io_write))
        .cell(ago(&figures.create_time, now))
        .cell(&figures.cmd)
}

/// How bad a status is, from 0; the API's words, `docs/api.md`.
fn trouble(status: &str) -> usize {
    ["Down", "Degraded", "Starting", "OK", "Stopped"].iter().position(|word| *word == status).unwrap_or(0)
}

/// The statuses that services have and how many have each, the worst first.
pub(super) fn statuses<'a>(services: impl Iterator<Item = &'a Health>) -> Vec<(&'a str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for health in services {
        match counts.iter_mut().find(|(status, _)| *status == health.status) {
            Some((_, count)) => *count += 1,
            None => counts.push((&health.status, 1)),
        }
    }
    counts.sort_by_key(|(status, _)| trouble(status));
    counts
}

/// Services by trouble, then by name.
pub(super) fn worst_first<T>(services: &[(String, T)], health: impl Fn(&T) -> &Health) -> Vec<(&str, &T)> {
    let mut sorted: Vec<(&str, &T)> =
        services.iter().map(|(name, service)| (name.as_str(), service)).collect();
    sorted.sort_by_key(|(name, service)| (trouble(&health(service).status), *name));
    sorted
}

/// The colour of a status.
pub(super) fn colour(status: &str) -> Colour {
    match status {
        "OK" => Colour::Green,
        "Degraded" | "Starting" => Colour::Yellow,
        "Stopped" => Colour::Grey,
        _ => Colour::Red,
    }
}

/// Adds the status, and how many of how many are healthy.
pub(super) fn health_cells(row: Row, health: &Health) -> Row {
    row.painted(&health.status, colour(&health.status)).cell(format!("{}/{}", health.healthy, health.total))
}

/// How many of the last lines are shown where a service is one of many.
pub(super) const LINES: usize = 3;

/// Adds the build that is under way, and what is wrong, if anything is: the reason with the next try, and the last lines that tell most, at most
/// `lines`. Of the newest, and of those that name an error, nothing is left out.
pub(super) fn reason(row: Row, health: &Health, lines: usize, now: OffsetDateTime) -> Row {
    let row = match &health.building {
        Some(building) => row.told(under_way(building, now)),
        None => row,
    };
    let Some(said) = &health.reason else {
        // Of a server that does not tell the pieces.
        return health.err.iter().flat_map(|all| all.lines()).fold(row, Row::told);
    };
    let row = match health.next_try.as_deref().and_then(instant) {
        Some(next) if next > now && health.err.is_none() => {
            row.told(format!("{said}; next run in {}", span(between(now, next))))
        }
        Some(next) if next > now => row.told(format!("{said}; next try in {}", span(between(now, next)))),
        Some(_) => row.told(format!("{said}; the next try is due now")),
        None => row.told(said),
    };
    let told = telling_lines(&health.last_lines, lines);
    told.iter().enumerate().fold(row, |row, (index, line)| {
        let is_newest = index + 1 == told.len();
        if is_newest || names_an_error(line) { row.told(quoted(line)) } else { row.remark(quoted(line)) }
    })
}

/// How far a build is, and how long it has taken.
fn under_way(Building { started, step, number, of, .. }: &Building, now: OffsetDateTime) -> String {
    let time = instant(started).map(|started| span(between(started, now)));
    let time = time.map(|time| format!(" for {time}")).unwrap_or_default();
    match (step, number.zip(*of)) {
        (Some(step), Some((number, of))) if of > 1 => {
            format!("building{time}, step {number} of {of}: {step}")
        }
        (Some(step), _) => format!("building{time}: {step}"),
        (None, _) => format!("waiting to build{time}"),
    }
}

/// A line that a service wrote.
fn quoted(line: &str) -> String {
    format!("| {line}")
}

/// Adds what the processes use, or `-` where there are none.
pub(super) fn used_cells(row: Row, processes: &[Process]) -> Row {
    if processes.is_empty() {
        return row.cell("-").cell("-");
    }
    let figures = || processes.iter().map(|process| &process.figures);
    let cpu: f64 = figures().map(|figures| figures.cpu).sum();
    row.cell(percent(cpu)).cell(bytes(figures().map(|figures| figures.rss).sum()))
}

/// Adds how long its oldest instance has run, how often one was started again, and where they listen.
pub(super) fn life_cells(row: Row, processes: &[Process], now: OffsetDateTime) -> Row {
    let began = processes.iter().filter_map(|process| instant(&process.figures.create_time)).min();
    if processes.is_empty() {
        return row.cell("-").cell("-").cell("-");
    }
    let restarts: u64 = processes.iter().map(|process| u64::from(process.restarts)).sum();
    let ports: Vec<String> = processes
        .iter()
        .filter(|process| process.port != 0)
        .map(|process| process.port.to_string())
        .collect();
    let port = match &ports[..] {
        [] => "-".to_owned(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
    };
    let uptime = began.map_or_else(|| "-".to_owned(), |began| span(between(began, now)));
    row.cell(uptime).cell(short(restarts)).cell(port)
}

/// Adds the requests in flight, or `-` where nothing takes any.
pub(super) fn load_cell(row: Row, upstreams: &[Upstream]) -> Row {
    row.cell(sum(upstreams, |upstream| upstream.load_factor))
}

/// Short, so that a row fits into 80 columns with the memory at its end.
const TRAFFIC: [&str; 5] = ["LOAD", "REQS", "FAIL", "5XX", "4XX"];

/// From this width on a terminal has room for all of [`TRAFFIC`]; below it, for [`FEW_OF_TRAFFIC`].
const TRAFFIC_COLUMNS: usize = 80;

/// What is left of [`TRAFFIC`] where the memory would be cut otherwise.
const FEW_OF_TRAFFIC: [&str; 2] = ["REQS", "FAIL"];

/// Adds the columns of [`FEW_OF_TRAFFIC`].
fn few_traffic_cells(row: Row, upstreams: &[Upstream]) -> Row {
    row.cell(sum(upstreams, |upstream| upstream.request_count))
        .cell(sum(upstreams, |upstream| upstream.error_count))
}

/// Adds the columns of [`TRAFFIC`].
fn traffic_cells(row: Row, upstreams: &[Upstream]) -> Row {
    load_cell(row, upstreams)
        .cell(sum(upstreams, |upstream| upstream.request_count))
        .cell(sum(upstreams, |upstream| upstream.error_count))
        .cell(sum(upstreams, |upstream| upstream.server_error_count))
        .cell(sum(upstreams, |upstream| upstream.client_error_count))
}

fn sum(upstreams: &[Upstream], count: impl Fn(&Upstream) -> u64) -> String {
    if upstreams.is_empty() { "-".to_owned() } else { short(upstreams.iter().map(count).sum()) }
}

#[cfg(test)]
pub(super) mod tests {
    use pmesh_api::wire::{Health, Metrics, Named};
    use time::{OffsetDateTime, macros::datetime};

    use super::{LINES, health, list, metrics, metrics_of_one};
    use crate::{
        show::table::{Align, Row, Table},
        terminal::Style,
    };

    /// An answer to `/service/metrics`.
    pub(crate) const METRICS: &str = r#"{
        "assets": {"id": "286012345678901248", "type": "file", "server": {}, "processes": [],
            "status": "OK", "healthy": 0, "total": 0},
        "api": {"id": "286012345678901249", "type": "app",
            "server": {"upstreams": [
                {"address": "127.0.0.1:40001", "healthy": true, "load_factor": 9, "request_count": 1200,
                    "error_count": 1, "server_error_count": 2, "client_error_count": 30},
                {"address": "127.0.0.1:40002", "healthy": false, "load_factor": 3, "request_count": 34,
                    "error_count": 0, "server_error_count": 0, "client_error_count": 0}]},
            "processes": [
                {"pid": 41, "create_time": "2024-03-09T09:00:00.000Z", "cmd": "python3 app.py", "cpu": 0.41,
                    "rss": 432013312, "vms": 0, "hwm": 536870912, "data": 0, "stack": 0, "locked": 0, "swap": 0,
                    "io_read": 2048, "io_write": 0, "instance": 1, "port": 20012, "commit": "c0ffee", "restarts": 3,
                    "tree": {
                        "41": {"pid": 41, "create_time": "2024-03-09T09:00:00.000Z", "cmd": "python3 app.py",
                            "cpu": 0.4, "rss": 431964160, "vms": 0, "hwm": 536870912, "data": 0, "stack": 0,
                            "locked": 0, "swap": 0, "io_read": 2048, "io_write": 0},
                        "57": {"pid": 57, "create_time": "2024-03-09T11:59:30.000Z", "cmd": "sleep 60", "cpu": 0.01,
                            "rss": 49152, "vms": 0, "hwm": 49152, "data": 0, "stack": 0, "locked": 0, "swap": 0,
                            "io_read": 0, "io_write": 0}}}],
            "log": "/var/lib/pmesh/shop/logs/api.log", "status": "Degraded", "healthy": 1, "total": 2,
            "err": "127.0.0.1:40002: GET /health answered 503"},
        "billing": {"id": "286012345678901250", "type": "app", "server": {}, "processes": [],
            "status": "Down", "healthy": 0, "total": 1,
            "err": "instance 1: it ended with exit code 1 after 0.3 s; the next try is in 38.0 s; its last lines: …",
            "reason": "instance 1: it ended with exit code 1 after 0.3 s", "next_try": "2024-03-09T12:00:38.000Z",
            "last_lines": ["begin", "Traceback (most recent call last):", "  File \"app.py\", line 7, in <module>",
                "    db = connect(os.environ[\"DATABASE_URL\"], timeout=5, retries=3, options=DEFAULT_OPTIONS)",
                "psycopg2.OperationalError: connection to server at \"db.internal\" (10.0.3.7), port 5432 failed: Connection refused"]},
        "reports": {"id": "286012345678901251", "type": "app", "server": {}, "processes": [],
            "status": "Stopped", "healthy": 0, "total": 0}
    }"#;

    const NOW: OffsetDateTime = datetime!(2024-03-09 12:00:00 UTC);
    const NARROW: Style = Style { colour: false, width: Some(80) };

    fn parsed() -> Named<Metrics> {
        serde_json::from_str(METRICS).unwrap()
    }

    #[test]
    fn services_are_listed_with_their_states_and_ids_also_the_stopped_ones() {
        let ids = serde_json::from_str(r#"{"web": "286012345678901248", "a": "9"}"#).unwrap();
        let health = r#"{"web": {"status": "OK", "healthy": 1, "total": 1},
            "mailer": {"status": "Stopped", "healthy": 0, "total": 0},
            "a": {"status": "Down", "healthy": 0, "total": 1, "err": "exit code 1"}}"#;
        let lines = [
            "SERVICE  STATUS   ID",
            "web      OK       286012345678901248",
            "mailer   Stopped  -",
            "a        Down     9",
            "",
        ];
        assert_eq!(list(&ids, &serde_json::from_str(health).unwrap(), Style::PLAIN), lines.join("\n"));
        assert_eq!(list(&ids, &Named::default(), Style::PLAIN), "the manifest has no services\n");
    }

    #[test]
    fn metrics_fit_80_columns_with_the_memory_whatever_the_names_and_counts() {
        let text = METRICS.replace("\"api\"", "\"the-api-of-the-shop-and-of-its-mobile-apps\"");
        let text = text.replace("1200", "123456789").replace("\"error_count\": 1", "\"error_count\": 98765");
        let shown = metrics(&serde_json::from_str(&text).unwrap(), NARROW, NOW);
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(shown.contains("Degraded      1/2    12  123M   99k    2   30  41 %  412 MiB\n"), "{shown}");
        assert!(shown.contains("the-api-of-"), "{shown}");
        let piped = metrics(&serde_json::from_str(&text).unwrap(), Style::PLAIN, NOW);
        assert!(piped.contains("the-api-of-the-shop-and-of-its-mobile-apps  Degraded"), "{piped}");
    }

    #[test]
    fn metrics_fit_60_columns_with_the_memory_and_what_tells_least_is_left_out() {
        let text = METRICS.replace("\"api\"", "\"the-api-of-the-shop-and-of-its-mobile-apps\"");
        let style = Style { colour: false, width: Some(60) };
        let shown = metrics(&serde_json::from_str(&text).unwrap(), style, NOW);
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        assert!(shown.lines().next().unwrap().ends_with("HEALTHY  REQS  FAIL   CPU   MEMORY"), "{shown}");
        assert!(shown.lines().any(|line| line.contains("Degraded") && line.ends_with("412 MiB")), "{shown}");
    }

    #[test]
    fn the_worst_health_comes_first_with_all_that_is_said_of_it() {
        let services: Named<Health> =
            parsed().0.into_iter().map(|(name, metrics)| (name, metrics.health)).collect();
        let lines = [
            "SERVICE  STATUS    HEALTHY",
            "billing  Down          0/1",
            "  instance 1: it ended with exit code 1 after 0.3 s; next try in 38 s",
            "  | begin",
            "  | Traceback (most recent call last):",
            "  |   File \"app.py\", line 7, in <module>",
            "  |     db = connect(os.environ[\"DATABASE_URL\"], timeout=5, retries=3, options=DEFAULT_OPTIONS)",
            "  | psycopg2.OperationalError: connection to server at \"db.internal\" (10.0.3.7), port 5432 failed: Connection refused",
            "api      Degraded      1/2",
            "  127.0.0.1:40002: GET /health answered 503",
            "assets   OK            0/0",
            "reports  Stopped       0/0",
            "",
        ];
        assert_eq!(health(&services, Style::PLAIN, NOW), lines.join("\n"));
    }

    #[test]
    fn at_80_columns_the_newest_line_and_the_reason_are_whole() {
        let lines = [
            "  instance 1: it ended with exit code 1 after 0.3 s; next try in 38 s",
            "  |   File \"app.py\", line 7, in <module>",
            "  |     db = connect(os.environ[\"DATABASE_URL\"], timeout=5, retries=3, options=…",
            "  | psycopg2.OperationalError: connection to server at \"db.internal\" (10.0.3.7),",
            "  port 5432 failed: Connection refused",
            "api      Degraded      1/2",
        ];
        let services: Named<Health> =
            parsed().0.into_iter().map(|(name, metrics)| (name, metrics.health)).collect();
        let shown = health(&services, NARROW, NOW);
        assert!(shown.contains(&lines[3..].join("\n")) && shown.contains("  | begin\n"), "{shown}");
        let shown = metrics(&parsed(), NARROW, NOW);
        assert!(shown.contains(&lines[..5].join("\n")) && !shown.contains("begin"), "{shown}");
    }

    #[test]
    fn at_80_columns_the_line_that_names_the_error_is_whole_though_others_came_behind_it() {
        let error = "Error: Cannot find module '/srv/shop/node_modules/express/index.js' imported from /srv/shop/app.js";
        let frame =
            "    at Module._load (node:internal/modules/cjs/loader:1143:15) in a folder with a long name";
        let mut billing = parsed().0.remove(2).1.health;
        billing.last_lines = [error, frame, frame, frame, "Node.js v20.11.0"].map(str::to_owned).to_vec();
        let shown = super::reason(Row::default().cell("billing"), &billing, LINES, NOW);
        let mut table = Table::new(&[("SERVICE", Align::Left)]);
        table.push(shown);
        let lines = [
            "SERVICE",
            "billing",
            "  instance 1: it ended with exit code 1 after 0.3 s; next try in 38 s",
            "  | Error: Cannot find module '/srv/shop/node_modules/express/index.js' imported",
            "  from /srv/shop/app.js",
            "  |     at Module._load (node:internal/modules/cjs/loader:1143:15) in a folder …",
            "  |     at Module._load (node:internal/modules/cjs/loader:1143:15) in a folder",
            "  with a long name",
            "",
        ];
        assert_eq!(table.render(NARROW), lines.join("\n"));
    }

    #[test]
    fn a_next_try_that_is_due_is_no_time_in_the_past_and_an_older_server_is_told_whole() {
        let mut services: Named<Health> =
            parsed().0.into_iter().map(|(name, metrics)| (name, metrics.health)).collect();
        let later = NOW + time::Duration::minutes(1);
        let shown = health(&services, Style::PLAIN, later);
        assert!(shown.contains(" after 0.3 s; the next try is due now\n"), "{shown}");
        for (_, health) in &mut services.0 {
            (health.reason, health.err) = (None, health.err.as_ref().map(|_| "one\ntwo".to_owned()));
        }
        let shown = health(&services, Style::PLAIN, NOW);
        assert!(shown.contains("billing  Down          0/1\n  one\n  two\n"), "{shown}");
    }

    #[test]
    fn metrics_have_a_row_for_each_service() {
        let lines = [
            "SERVICE  STATUS    HEALTHY  LOAD  REQS  FAIL  5XX  4XX   CPU   MEMORY",
            "billing  Down          0/1     -     -     -    -    -     -        -",
            "  instance 1: it ended with exit code 1 after 0.3 s; next try in 38 s",
            "  |   File \"app.py\", line 7, in <module>",
            "  |     db = connect(os.environ[\"DATABASE_URL\"], timeout=5, retries=3, options=DEFAULT_OPTIONS)",
            "  | psycopg2.OperationalError: connection to server at \"db.internal\" (10.0.3.7), port 5432 failed: Connection refused",
            "api      Degraded      1/2    12  1234     1    2   30  41 %  412 MiB",
            "  127.0.0.1:40002: GET /health answered 503",
            "assets   OK            0/0     -     -     -    -    -     -        -",
            "reports  Stopped       0/0     -     -     -    -    -     -        -",
            "",
        ];
        assert_eq!(metrics(&parsed(), Style::PLAIN, NOW), lines.join("\n"));
    }

    #[test]
    fn one_service_is_shown_with_its_upstreams_and_its_process_trees() {
        let services = parsed().0;
        let (name, api) = &services[1];
        let shown = metrics_of_one(name, api, Style::PLAIN, NOW);
        let tail = [
            "",
            "UPSTREAM         HEALTHY  LOAD  REQS  FAIL  5XX  4XX",
            "127.0.0.1:40001  yes         9  1200     1    2   30",
            "127.0.0.1:40002  no          3    34     0    0    0",
            "",
            "PROCESS    CPU   MEMORY     PEAK  SWAP     READ  WRITTEN  STARTED   COMMAND",
            "41        41 %  412 MiB  512 MiB   0 B  2.0 KiB      0 B  3 h ago   python3 app.py",
            "  41      40 %  412 MiB  512 MiB   0 B  2.0 KiB      0 B  3 h ago   python3 app.py",
            "  57     1.0 %   48 KiB   48 KiB   0 B      0 B      0 B  30 s ago  sleep 60",
            "",
        ];
        assert!(shown.ends_with(&tail.join("\n")), "{shown}");
    }

    #[test]
    fn a_build_under_way_is_told_with_its_step_and_the_time_since_it_was_asked_for() {
        let started = r#""started": "2024-03-09T11:59:18.000Z""#;
        for (building, line) in [
            (r#", "step": "npm ci", "number": 1, "of": 1"#, "building for 42 s: npm ci"),
            (
                r#", "step": "npm run build", "number": 2, "of": 2"#,
                "building for 42 s, step 2 of 2: npm run build",
            ),
            ("", "waiting to build for 42 s"),
        ] {
            let one = r#"{"web": {"status": "Starting", "healthy": 0, "total": 1, "building": {"#;
            let services = serde_json::from_str(&format!("{one}{started}{building}}}}}}}")).unwrap();
            let lines =
                ["SERVICE  STATUS    HEALTHY", "web      Starting      0/1", &format!("  {line}"), ""];
            assert_eq!(health(&services, Style::PLAIN, NOW), lines.join("\n"));
        }
    }

    #[test]
    fn the_uptime_is_that_of_the_oldest_instance_the_restarts_are_a_sum_and_further_ports_are_counted() {
        let processes = &parsed().0[1].1.processes;
        let mut younger = processes[0].clone();
        younger.figures.create_time = "2024-03-09T11:59:18.000Z".to_owned();
        (younger.restarts, younger.port) = (1039, 20013);
        let cells = |processes: &[_]| {
            let mut table = Table::new(&["UPTIME", "RESTARTS", "PORT"].map(|title| (title, Align::Left)));
            table.push(super::life_cells(Row::default(), processes, NOW));
            let shown = table.render(Style::PLAIN);
            shown
                .lines()
                .nth(1)
                .unwrap()
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(cells(&[younger.clone()]), ["42 s", "1039", "20013"]);
        assert_eq!(cells(&[younger.clone(), processes[0].clone()]), ["3 h", "1042", "20013 +1"]);
        younger.figures.create_time = String::new();
        younger.port = 0;
        assert_eq!(cells(&[younger]), ["-", "1039", "-"], "it does not say, and has no port");
        assert_eq!(cells(&[]), ["-", "-", "-"]);
    }

    #[test]
    fn a_manifest_without_services_is_no_empty_screen() {
        assert_eq!(health(&Named::default(), Style::PLAIN, NOW), "the manifest has no services\n");
        assert_eq!(metrics(&Named::default(), Style::PLAIN, NOW), "the manifest has no services\n");
    }
}
