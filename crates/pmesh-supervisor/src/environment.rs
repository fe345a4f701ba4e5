//! What the processes of a service find in their environment. Pure: the server's own is an argument.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use crate::{AppSpec, BuildId, MachineFacts, ServiceName};

/// Where every instance is told to listen.
const HOST: &str = "127.0.0.1";

/// The facts about a service that its processes find in their environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceFacts<'a> {
    /// The service: `PM3_SERVICE`.
    pub service: &'a ServiceName,
    /// The commit that is checked out: `PM3_COMMIT`.
    pub commit: Option<&'a str>,
    /// Its branch: `PM3_BRANCH`.
    pub branch: Option<&'a str>,
    /// The project's folder: `PM3_ROOT`.
    pub root: &'a Path,
    /// The build that they run from: `PM3_BUILD`.
    pub build: Option<&'a BuildId>,
    /// What its env files say, which is the weakest of what is declared, and who its processes run as.
    pub machine: Option<&'a MachineFacts>,
}

/// The defaults for production, which the service's `env` can override.
const PRODUCTION: [(&str, &str); 2] = [("NODE_ENV", "production"), ("FLASK_DEBUG", "0")];

/// The environment of a service's `shutdown` commands, and the base of an instance's environment.
///
/// From weak to strong: the server's environment, without what concerns the server alone (`PMESH_*`, what a
/// service manager told it, what another pmesh told it, and where they run as somebody else what is about its user); that
/// user's `HOME`, `USER` and `LOGNAME`; the defaults for production; the service's env files; its `env`;
/// the facts. The caller puts the command's own `env` on top.
pub(crate) fn command_environment(
    server: &BTreeMap<OsString, OsString>,
    spec: &AppSpec,
    facts: &ServiceFacts<'_>,
) -> BTreeMap<OsString, OsString> {
    let mut env = build_environment(server, spec, facts);
    for (name, value) in PRODUCTION {
        env.entry(name.into()).or_insert_with(|| value.into());
    }
    env
}

/// The environment of a build: that of the service's other commands without the defaults for production,
/// because with these `npm ci` would leave out packages that the build needs. [`Builder`](crate::Builder)
/// puts the step's own `env` on top, and the variables that only builds have.
pub(crate) fn build_environment(
    server: &BTreeMap<OsString, OsString>,
    spec: &AppSpec,
    facts: &ServiceFacts<'_>,
) -> BTreeMap<OsString, OsString> {
    let account = facts.machine.and_then(|machine| machine.account.as_ref());
    let inherited =
        server.iter().filter(|(name, _)| is_inherited(name) && !(account.is_some() && is_of_a_user(name)));
    let mut env: BTreeMap<OsString, OsString> =
        inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(account) = account {
        env.insert("HOME".into(), account.home.clone().into());
        for variable in account.name.iter().flat_map(|name| [("USER", name), ("LOGNAME", name)]) {
            env.insert(variable.0.into(), variable.1.into());
        }
    }
    let files = facts.machine.into_iter().flat_map(|machine| machine.file_env.variables());
    env.extend(files.chain(&spec.env).map(|(name, value)| (name.into(), value.into())));
    env.extend(fact_variables(facts));
    env
}

/// The environment of an instance: that of the service's commands, the `run` command's own `env`, and where
/// to listen. The latter cannot be overridden, because the port is the instance's own. Without a port (a
/// background service) it is told nothing about listening.
pub(crate) fn instance_environment(
    server: &BTreeMap<OsString, OsString>,
    spec: &AppSpec,
    facts: &ServiceFacts<'_>,
    instance: u32,
    port: Option<u16>,
) -> BTreeMap<OsString, OsString> {
    let mut env = command_environment(server, spec, facts);
    let own = spec.run.iter().flat_map(|run| &run.env);
    env.extend(own.map(|(name, value)| (name.into(), value.into())));
    env.extend(fact_variables(facts));
    env.insert("PM3_INSTANCE".into(), instance.to_string().into());
    if let Some(port) = port {
        env.insert(OsString::from(&spec.host_variable), HOST.into());
        env.insert(OsString::from(&spec.port_variable), port.to_string().into());
        env.insert(OsString::from(&spec.listen_variable), format!("{HOST}:{port}").into());
    }
    env
}

fn fact_variables(facts: &ServiceFacts<'_>) -> impl Iterator<Item = (OsString, OsString)> {
    let variables: [(&str, Option<&OsStr>); 6] = [
        ("PM3", Some(OsStr::new("1"))),
        ("PM3_SERVICE", Some(OsStr::new(facts.service.as_str()))),
        ("PM3_COMMIT", facts.commit.map(OsStr::new)),
        ("PM3_BRANCH", facts.branch.map(OsStr::new)),
        ("PM3_ROOT", Some(facts.root.as_os_str())),
        ("PM3_BUILD", facts.build.map(|build| OsStr::new(build.as_str()))),
    ];
    variables.map(|(name, value)| value.map(|value| (name.into(), value.to_owned()))).into_iter().flatten()
}

fn is_inherited(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let own = ["PMESH_", "PM3_", "WATCHDOG_", "LISTEN_"].iter().any(|own| name.starts_with(own.as_bytes()));
    // The values that a developer's shell has for these are not meant for services.
    let production = PRODUCTION.iter().any(|(production, _)| name == production.as_bytes());
    !own && !production && name != b"NOTIFY_SOCKET" && name != b"PM3"
}

/// Whether a variable is about the user who set it, and wrong for another one.
fn is_of_a_user(name: &OsStr) -> bool {
    const OWN: [&str; 11] = [
        "HOME",
        "USER",
        "LOGNAME",
        "MAIL",
        "SSH_AUTH_SOCK",
        "DBUS_SESSION_BUS_ADDRESS",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ];
    OWN.iter().any(|own| name == *own)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{Command, UserAccount};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn instance(server: &[(&str, &str)], change: impl FnOnce(&mut AppSpec)) -> BTreeMap<OsString, OsString> {
        let service = "web".parse().unwrap();
        let mut spec = AppSpec::new(&service, PathBuf::from("/p/web"));
        change(&mut spec);
        let facts = ServiceFacts {
            service: &service,
            commit: Some("c0ffee"),
            branch: Some("main"),
            root: Path::new("/p"),
            build: None,
            machine: None,
        };
        let port = (!spec.background).then_some(20001);
        instance_environment(&map(server), &spec, &facts, 2, port)
    }

    const FACTS: [(&str, &str); 8] = [
        ("FLASK_DEBUG", "0"),
        ("NODE_ENV", "production"),
        ("PM3", "1"),
        ("PM3_BRANCH", "main"),
        ("PM3_COMMIT", "c0ffee"),
        ("PM3_INSTANCE", "2"),
        ("PM3_ROOT", "/p"),
        ("PM3_SERVICE", "web"),
    ];

    #[test]
    fn an_instance_is_told_where_to_listen_and_who_it_is() {
        let mut wanted = map(&FACTS);
        wanted.extend(map(&[("HOST", "127.0.0.1"), ("PORT", "20001"), ("LISTEN", "127.0.0.1:20001")]));
        assert_eq!(instance(&[], |_| ()), wanted);
    }

    #[test]
    fn a_background_service_is_not_told_of_a_port() {
        assert_eq!(instance(&[], |spec| spec.background = true), map(&FACTS));
    }

    #[test]
    fn the_servers_environment_is_handed_on_without_its_own_affairs() {
        let server = [
            ("PATH", "/bin"),
            ("NODE_ENV", "development"),
            ("LISTENER", "x"),
            ("PMESH_API_TOKEN", "x"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("WATCHDOG_USEC", "1"),
            ("LISTEN_FDS", "1"),
            ("PM3_BUILDING", "1"),
            ("PM3_BUILD", "of another pmesh"),
        ];
        let mut wanted = map(&FACTS);
        wanted.extend(map(&[("PATH", "/bin"), ("LISTENER", "x")]));
        assert_eq!(instance(&server, |spec| spec.background = true), wanted);
    }

    #[test]
    fn the_more_special_place_wins_but_for_the_facts() {
        let env = instance(&[("A", "server"), ("B", "server"), ("C", "server")], |spec| {
            spec.env = strings(&[("B", "service"), ("C", "service"), ("NODE_ENV", "test"), ("PORT", "80")]);
            let env = strings(&[("C", "command"), ("HOST", "0.0.0.0"), ("PM3", "0")]);
            spec.run = Some(Command { env, ..Command::default() });
        });
        for (name, value) in [
            ("A", "server"),
            ("B", "service"),
            ("C", "command"),
            ("NODE_ENV", "test"),
            ("FLASK_DEBUG", "0"),
            ("HOST", "127.0.0.1"),
            ("PORT", "20001"),
            ("PM3", "1"),
        ] {
            assert_eq!(env[OsStr::new(name)], value, "{name}");
        }
    }

    #[test]
    fn the_variables_of_the_address_can_have_other_names() {
        let env = instance(&[("PORT", "1")], |spec| {
            spec.host_variable = "BIND".to_owned();
            spec.port_variable = "APP_PORT".to_owned();
            spec.listen_variable = "ADDRESS".to_owned();
        });
        for (name, value) in
            [("BIND", "127.0.0.1"), ("APP_PORT", "20001"), ("ADDRESS", "127.0.0.1:20001"), ("PORT", "1")]
        {
            assert_eq!(env[OsStr::new(name)], value, "{name}");
        }
        assert!(!env.contains_key(OsStr::new("HOST")) && !env.contains_key(OsStr::new("LISTEN")));
    }

    #[test]
    fn whoever_runs_as_somebody_else_is_told_who_and_nothing_of_the_servers_user() {
        let service = "web".parse().unwrap();
        let server =
            map(&[("HOME", "/root"), ("USER", "root"), ("XDG_RUNTIME_DIR", "/run/user/0"), ("PATH", "/bin")]);
        let told = |account: UserAccount, env: &[(&str, &str)]| {
            let spec = AppSpec { env: strings(env), ..AppSpec::new(&service, PathBuf::from("/p/web")) };
            let machine = MachineFacts { account: Some(account), ..MachineFacts::default() };
            let facts = ServiceFacts {
                service: &service,
                commit: None,
                branch: None,
                root: Path::new("/p"),
                build: None,
                machine: Some(&machine),
            };
            let mut env = build_environment(&server, &spec, &facts);
            env.retain(|name, _| !name.as_bytes().starts_with(b"PM3"));
            env
        };
        let web = UserAccount::of_number(7).with(|account| {
            (account.name, account.home) = (Some("web".to_owned()), "/srv/web".into());
        });
        let wanted = [("HOME", "/srv/web"), ("LOGNAME", "web"), ("PATH", "/bin"), ("USER", "web")];
        assert_eq!(told(web.clone(), &[]), map(&wanted));
        assert_eq!(told(web, &[("HOME", "/else")])[OsStr::new("HOME")], "/else");
        assert_eq!(told(UserAccount::of_number(7), &[]), map(&[("HOME", "/"), ("PATH", "/bin")]));
    }

    #[test]
    fn other_commands_are_told_the_same_but_for_the_instance() {
        let service = "web".parse().unwrap();
        let spec = AppSpec::new(&service, PathBuf::from("/p/web"));
        let facts = ServiceFacts {
            service: &service,
            commit: None,
            branch: None,
            root: Path::new("/p"),
            build: None,
            machine: None,
        };
        let facts_alone = map(&[("PM3", "1"), ("PM3_ROOT", "/p"), ("PM3_SERVICE", "web")]);
        let mut wanted = facts_alone.clone();
        wanted.extend(map(&[("FLASK_DEBUG", "0"), ("NODE_ENV", "production")]));
        assert_eq!(command_environment(&BTreeMap::new(), &spec, &facts), wanted);
        // With `NODE_ENV=production` npm would leave out packages that a build needs.
        let server = map(&[("NODE_ENV", "production"), ("FLASK_DEBUG", "1")]);
        assert_eq!(build_environment(&server, &spec, &facts), facts_alone);
        let spec = AppSpec { env: strings(&[("NODE_ENV", "test")]), ..spec };
        assert_eq!(build_environment(&server, &spec, &facts)[OsStr::new("NODE_ENV")], "test");
    }
}
