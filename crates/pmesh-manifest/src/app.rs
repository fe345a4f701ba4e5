//! `!App`: processes that are kept running, and the keys of its wrappers.

use std::{path::PathBuf, time::Duration};

use pmesh_proxy::LoadBalancing;
use pmesh_supervisor::{
    AppSpec, BuildCache, Overlap, Ports, RestartPolicy, Schedule, ServiceName, StartOrder, Stdin,
};

use crate::{
    after::After,
    balancing::balancing,
    command::{command, commands, environment, is_variable},
    elsewhere, later,
    later::written,
    mistake::quoted,
    monitor::{MonitoredKind, monitor},
    needs::Needed,
    not_served::Feature,
    parse_duration,
    place::Place,
    report::Report,
    scalar::Span,
    surroundings::Surroundings,
    value::{KeyedMap, Value, Zero},
};

/// An `!App` as it was declared.
pub(crate) struct App {
    pub(crate) spec: AppSpec,
    pub(crate) balancing: LoadBalancing,
    /// Where the name of its log file is written, if it is.
    pub(crate) log_place: Option<Place>,
}

/// What wraps an `!App`: tag, feature, and its keys beyond those of `!App`.
pub(crate) const WRAPPERS: &[(&str, Feature, WrapperKeys)] = &[
    ("Npm", Feature::Npm, NODE),
    ("Pnpm", Feature::Pnpm, NODE),
    ("Yarn", Feature::Yarn, NODE),
    ("Bun", Feature::Bun, NODE),
    ("Js", Feature::Js, &[("index", WrapperKey::Text)]),
    ("Py", Feature::Py, PYTHON),
    ("Flask", Feature::Flask, PYTHON),
    ("Go", Feature::Go, &[("main", WrapperKey::Text)]),
    ("Cargo", Feature::Cargo, &[("bin", WrapperKey::Text), ("profile", WrapperKey::Text)]),
];

const NODE: WrapperKeys = &[
    ("start_script", WrapperKey::Text),
    ("build_script", WrapperKey::Text),
    ("no_install", WrapperKey::Flag),
    ("package_manager", WrapperKey::Text),
];
const PYTHON: WrapperKeys = &[("requirements", WrapperKey::Text), ("main", WrapperKey::Text)];

/// Keys of a wrapper.
pub(crate) type WrapperKeys = &'static [(&'static str, WrapperKey)];

/// What a key of a wrapper takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WrapperKey {
    Text,
    Flag,
}

/// Reads an `!App`; or a wrapper, which has the keys in `more` besides, and need not be told what to run.
pub(crate) fn app(
    value: &Value,
    name: &ServiceName,
    around: &Surroundings,
    after: &mut After,
    more: Option<WrapperKeys>,
    report: &mut Report<'_>,
) -> App {
    let mut table = KeyedMap::of(value, report, "a map such as {run: python3 app.py}");
    let mut spec = AppSpec::new(name, around.service_root.join(name.as_str()));
    let mut spread = LoadBalancing::default();
    spec.env.clone_from(&around.env);

    let root = table.take("root");
    let root_place = root.as_ref().map_or(table.place, |root| root.place);
    if let Some(folder) = root.and_then(|value| value.path_under(report, &around.service_root)) {
        spec.folder = folder;
    }
    let run = table.take("run");
    let build = table.take("build");
    if run.is_none() && build.is_none() && more.is_none() && value.is_map_or_null() {
        let message = "neither `run` nor `build`: there is nothing to do for it; expected `run: COMMAND`";
        report.mistake_at(table.place, &value.path, message.to_owned());
    }
    spec.run = run.as_ref().and_then(|value| command(value, report));
    spec.build = build.as_ref().map_or_else(Vec::new, |value| commands(value, report));
    let shutdown = table.take("shutdown");
    spec.shutdown = shutdown.as_ref().map_or_else(Vec::new, |value| commands(value, report));
    instances(&mut table, &mut spec, report);
    let env = table.take("env");
    if let Some(value) = &env {
        spec.env.extend(environment(value, report));
    }
    if let Some(flag) = table.take("background").and_then(|value| value.flag(report)) {
        spec.background = flag;
    }
    if let Some(value) = table.take("monitor") {
        spec.monitor = monitor(&value, MonitoredKind::Instances, report);
    }
    let release = table.take("release");
    spec.release = release.as_ref().map_or_else(Vec::new, |value| commands(value, report));
    if let Some(value) = table.take("after") {
        spec.after = after.read(&value, name, around, report);
    }
    if let Some(value) = table.take("lb") {
        spread = balancing(&value, report);
    }
    timing(&mut table, &mut spec, report);
    variables(&mut table, &mut spec, report);
    process(&mut table, &mut spec, report);
    if let Some(value) = table.take("env_file") {
        spec.env_files = env_files(&value, around, report);
    }
    scaling(&mut table, report);
    job(&mut table, &mut spec, report);
    let log_place = log(&mut table, &mut spec, report);
    wrapped(&mut table, more.unwrap_or_default(), report);
    table.end_with(elsewhere::APP, report);
    own_address(&spec, run.as_ref(), env.as_ref(), report);
    if more.is_some() {
        // It is left out, and needs nothing.
        return App { spec, balancing: spread, log_place };
    }
    report.needs(root_place, &value.path, Needed::Folder(spec.folder.clone()));
    let written = [
        (&run, spec.run.as_slice()),
        (&build, &spec.build),
        (&release, &spec.release),
        (&shutdown, &spec.shutdown),
    ];
    for (value, commands) in written {
        for (value, command) in value.iter().flat_map(Value::one_or_many).zip(commands) {
            report.needs(value.place, &value.path, Needed::program(command, &spec));
        }
    }
    App { spec, balancing: spread, log_place }
}

/// The files of `env_file`, each of which has to be there.
fn env_files(value: &Value, around: &Surroundings, report: &mut Report<'_>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in value.one_or_many().into_iter().filter(|item| !item.is_empty()) {
        if let Some(file) = item.path_under(report, &around.folder) {
            report.needs(item.place, &item.path, Needed::EnvFile(file.clone()));
            files.push(file);
        }
    }
    files
}

/// What its processes are started with.
fn process(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) {
    if let Some(limit) = table.take("nofile").and_then(|value| value.number(report, 1, u64::from(u32::MAX))) {
        spec.nofile = limit;
    }
    if table.take("no_build_control").and_then(|value| value.flag(report)) == Some(true) {
        spec.build_cache = BuildCache::Never;
    }
    if table.take("stdin").and_then(|value| value.flag(report)) == Some(true) {
        spec.stdin = Stdin::Inherit;
    }
    if let Some(value) = table.take("user") {
        let wanted = "the name or the number of a user";
        match value.text(report, wanted) {
            Some("") => value.expected(report, wanted),
            Some(user) => {
                report.needs(value.place, &value.path, Needed::User(user.to_owned()));
                spec.user = Some(user.to_owned());
            }
            None => {}
        }
    }
    if let Some(value) = table.take_later("watch") {
        value.one_or_many_texts(report, "a glob, or a list of them");
        written(&value, Feature::Watch, report);
    }
    if let Some(value) = table.take_later("reuse") {
        value.one_or_many_texts(report, "a folder, or a list of them");
        written(&value, Feature::Reuse, report);
    }
}

/// The name of the log file, and where it is written if it is.
fn log(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) -> Option<Place> {
    let value = table.take("log")?;
    if let Some(file) = log_file(&value, report) {
        spec.log = file;
    }
    Some(value.place)
}

/// The keys that a wrapper has beside those of an `!App`.
fn wrapped(table: &mut KeyedMap, more: WrapperKeys, report: &mut Report<'_>) {
    for (key, kind) in more {
        if let Some(value) = table.take_later(key) {
            match kind {
                WrapperKey::Text => {
                    value.text(report, "a text");
                }
                WrapperKey::Flag => {
                    value.flag(report);
                }
            }
        }
    }
}

/// Warns of a `PORT`, `HOST` or `LISTEN` of somebody's own: what instances find there is the server's.
fn own_address(spec: &AppSpec, run: Option<&Value>, env: Option<&Value>, report: &mut Report<'_>) {
    if spec.background || spec.run.is_none() {
        return;
    }
    for (variable, key) in address_variables(spec) {
        let message = no_effect(variable, key);
        if let Some(value) = env.and_then(|env| env.peek(variable)) {
            report.warning(value.place, &value.path, message.clone());
        }
        if let Some(run) = run
            && spec.run.as_ref().is_some_and(|command| command.env.contains_key(variable))
        {
            let value = run.peek("env").and_then(|env| env.peek(variable)).unwrap_or_else(|| run.clone());
            report.warning(value.place, &value.path, message);
        }
    }
}

/// The variables that say where an instance listens, with the key that gives each another name.
pub(crate) fn address_variables(spec: &AppSpec) -> [(&str, &'static str); 3] {
    [
        (&spec.port_variable, "env_port"),
        (&spec.host_variable, "env_host"),
        (&spec.listen_variable, "env_listen"),
    ]
}

/// What is said where such a variable is set to something else.
pub(crate) fn no_effect(variable: &str, key: &str) -> String {
    format!(
        "`{variable}` has no effect here: each instance is told in it where to listen, on a port of its own; \
         `{key}: NAME` tells it that in another variable"
    )
}

/// Whether an `!App` has something to run: `run` is written, be it with a mistake.
pub(crate) fn runs(value: &Value) -> bool {
    value.has_key("run")
}

/// How many ports there are for instances, and so how many instances a service can have, and all services together.
pub(crate) const MOST_INSTANCES: u32 = (*Ports::RANGE.end() - *Ports::RANGE.start()) as u32 + 1;

fn count(value: &Value, report: &mut Report<'_>) -> Option<u32> {
    let wanted = "the number of instances";
    if !value.is_scalar() {
        value.expected(report, wanted);
        return None;
    }
    let share = value.text(report, wanted)?.strip_suffix('%');
    match share.map(str::parse::<f64>) {
        None => value.number(report, 1, MOST_INSTANCES),
        Some(Ok(share)) if share > 0.0 && share.is_finite() => {
            value.not_served(report, Feature::ClusterShare);
            None
        }
        Some(_) => {
            value.expected(report, "a share of the cores such as `50%`");
            None
        }
    }
}

fn instances(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) {
    // Where `cluster` is a mistake, it is not known whether the floor is too high.
    let mut most = Some(spec.instances);
    if let Some(value) = table.take("cluster") {
        most = count(&value, report);
        spec.instances = most.unwrap_or(spec.instances);
    }
    if let Some(value) = table.take_later("cluster_min") {
        if let (Some(least), Some(most)) = (count(&value, report), most)
            && least > most
        {
            value.mistake(report, format!("{least} is more than `cluster`, which is {most}"));
        }
        value.not_served(report, Feature::ClusterMin);
    }
}

fn variables(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) {
    let mut name = |key, variable: &mut String| {
        let value = table.take(key)?;
        match value.text(report, "the name of a variable") {
            Some(text) if is_variable(text) => text.clone_into(variable),
            Some(_) => value.expected(report, "the name of a variable"),
            None => {}
        }
        Some(value)
    };
    let host = name("env_host", &mut spec.host_variable);
    let port = name("env_port", &mut spec.port_variable);
    let listen = name("env_listen", &mut spec.listen_variable);
    let [host, port, listen] = [
        ("the host", &spec.host_variable, host),
        ("the port", &spec.port_variable, port),
        ("host and port", &spec.listen_variable, listen),
    ];
    for ((what, variable, value), (other, same, later)) in
        [(&host, &port), (&host, &listen), (&port, &listen)]
    {
        let (value, taken_by) = match (value, later) {
            (_, Some(later)) => (later, what),
            (Some(value), None) => (value, other),
            // Defaults differ.
            (None, None) => continue,
        };
        if variable == same {
            value.mistake(report, format!("{} is the variable of {taken_by} already", quoted(variable)));
        }
    }
}

fn timing(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) {
    // Without an end to these two a rollout or a stop might never end.
    for (key, zero, time) in [
        ("ready_timeout", Zero::Refused, &mut spec.ready_timeout),
        ("stop_timeout", Zero::Allowed, &mut spec.stop_timeout),
    ] {
        if let Some(written) = table.take(key).and_then(|value| value.duration(report, zero)) {
            *time = written;
        }
    }
    for (key, zero, time) in [
        ("build_timeout", Zero::Refused, &mut spec.build_timeout),
        ("drain_timeout", Zero::Allowed, &mut spec.drain_timeout),
        ("unhealthy_timeout", Zero::Refused, &mut spec.unhealthy_timeout),
    ] {
        if let Some(written) = table.take(key).and_then(|value| value.duration_or_never(report, zero)) {
            *time = written;
        }
    }
    if let Some(value) = table.take_later("watchdog") {
        not_for_ever(&value, Feature::Watchdog, report);
    }
    if let Some(flag) = table.take("overlap").and_then(|value| value.flag(report)) {
        spec.overlap = if flag { Overlap::Yes } else { Overlap::No };
    }
    if table.take("slow_start").and_then(|value| value.flag(report)) == Some(true) {
        spec.start = StartOrder::OneByOne;
    }
}

/// A time of which nothing but `never` is served.
fn not_for_ever(value: &Value, feature: Feature, report: &mut Report<'_>) {
    if !matches!(value.span(report, Zero::Refused), Some(Span::Never)) {
        value.not_served(report, feature);
    }
}

/// The keys by which a service may end by itself, or is to run at set times.
fn job(table: &mut KeyedMap, spec: &mut AppSpec, report: &mut Report<'_>) {
    if let Some(value) = table.take_later("notify")
        && value.flag(report) != Some(false)
    {
        value.not_served(report, Feature::Notify);
    }
    let schedule = table.take("schedule");
    if let Some(value) = &schedule {
        spec.schedule = times(value, spec, report);
        spec.background = true;
    }
    if let Some(value) = table.take("restart") {
        if schedule.is_some() {
            let message =
                "it has no effect beside `schedule`: what has ended is started again at its next time";
            report.warning(value.place, &value.path, message.to_owned());
        }
        let words = [
            ("always", Ok(RestartPolicy::Always)),
            ("on-failure", Ok(RestartPolicy::OnFailure)),
            ("never", Ok(RestartPolicy::Never)),
        ];
        match value.word(report, &words) {
            Some(policy) if policy == RestartPolicy::Always || spec.background => spec.restart = policy,
            Some(_) => {
                let message = "it is for background services: one with a port is always started again; \
                               expected `background: true` beside it";
                value.mistake(report, message.to_owned());
            }
            None => {}
        }
    }
    if let Some(value) = table.take("timeout") {
        if schedule.is_none() {
            let message = "`timeout` is for the runs of a `schedule`, and there is none; of other services it is \
                           `ready_timeout`, `stop_timeout`, `build_timeout` or `drain_timeout`";
            value.mistake(report, message.to_owned());
        }
        if let Some(limit) = value.duration_or_never(report, Zero::Refused) {
            spec.run_timeout = limit;
        }
    }
}

/// The times at which a job is started.
fn times(value: &Value, spec: &AppSpec, report: &mut Report<'_>) -> Option<Schedule> {
    let text = value.text(report, "times such as `*/5 * * * *` or `every 10m`")?;
    if spec.run.is_none() {
        value.mistake(report, "there is nothing to run at these times; expected `run: COMMAND`".to_owned());
        return None;
    }
    if let Some(period) = text.strip_prefix("every ") {
        let period = parse_duration(period.trim()).filter(|period| *period >= SHORTEST_PERIOD);
        if period.is_none() {
            value.expected(report, "a period of at least 1 s such as `every 10m` or `every 1h30m`");
        }
        return period.map(Schedule::every);
    }
    match Schedule::cron(text, spec.env.get("TZ").map(String::as_str)) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            value.mistake(report, error.to_string());
            None
        }
    }
}

/// The shortest period between two runs of a job.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

fn scaling(table: &mut KeyedMap, report: &mut Report<'_>) {
    if let Some(value) = table.take_later("max_memory") {
        value.size(report);
        value.not_served(report, Feature::MaxMemory);
    }
    if let Some(value) = table.take_later("auto_scale")
        && value.flag(report) != Some(false)
    {
        value.not_served(report, Feature::AutoScale);
    }
    if let Some(value) = table.take_later("auto_scale_streak") {
        value.number(report, 1, 100_000);
        value.not_served(report, Feature::AutoScaleStreak);
    }
    if let Some(value) = table.take_later("auto_scale_defer") {
        value.duration(report, Zero::Allowed);
        value.not_served(report, Feature::AutoScaleDefer);
    }
    for (key, feature) in
        [("upscale_percent", Feature::UpscalePercent), ("downscale_percent", Feature::DownscalePercent)]
    {
        if let Some(value) = table.take_later(key) {
            let wanted = "a share such as `0.8` or `80`";
            if let Some(text) = value.text(report, wanted)
                && !text.parse().is_ok_and(|share: f64| (0.0..=100.0).contains(&share))
            {
                value.expected(report, wanted);
            }
            value.not_served(report, feature);
        }
    }
}

/// The longest name of a log file: the file system takes 255 bytes, and rotated files get an ending.
const LONGEST_LOG: usize = 200;

fn log_file(value: &Value, report: &mut Report<'_>) -> Option<String> {
    if value.is_map() {
        let mut table = KeyedMap::of(value, report, "a map of file, size, keep, compress");
        let file = table.take_later("file").and_then(|value| log_file(&value, report));
        later::rotation(&mut table, report);
        if let Some(value) = table.take_later("compress") {
            value.flag(report);
        }
        table.end(report);
        value.not_served(report, Feature::LogMap);
        return file;
    }
    let wanted = "a plain file name in the log folder";
    let file = value.text(report, wanted)?;
    if file.is_empty() || file.contains('/') || matches!(file, "." | "..") || file.len() > LONGEST_LOG {
        value.expected(report, wanted);
        return None;
    }
    Some(file.to_owned())
}
