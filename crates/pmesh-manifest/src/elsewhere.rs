//! What other programs call the things that a manifest says, so that somebody who comes from one of them is told
//! our word: pm2, docker compose, Procfile runners, systemd, supervisord, Fly, Kubernetes, nginx, Caddy.

/// Words of other programs, several in one text, each in lower case without `_` and `-`; and what to write here.
pub(crate) type Elsewhere = &'static [(&'static str, Ours)];

/// What somebody is told who wrote another program's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// The key of the same map that says it here.
    Key(&'static str),
    /// Where or how it is said here; reads on from "unknown key …".
    Told(&'static str),
}

use Ours::{Key, Told};

/// The entry for `word`, however it joins its parts: `max_memory`, `max-memory` and `maxMemory` are one word.
pub(crate) fn find(elsewhere: Elsewhere, word: &str) -> Option<Ours> {
    /// No word in the tables has more letters.
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return None;
    }
    let plain: String =
        word.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    let (_, ours) = elsewhere.iter().find(|(words, _)| words.split(' ').any(|word| word == plain))?;
    Some(*ours)
}

const NO_CONTAINER: Ours =
    Told("services are processes of this machine and no containers: `run` has the command that starts one");

/// At the top of the file.
pub(crate) const TOP: Elsewhere = &[
    ("apps app programs program processes procs units tasks jobs", Key("services")),
    ("servers sites vhosts virtualhosts http https ingress routes router routing domains", Key("server")),
    ("environment envs variables vars", Key("env")),
    ("git repository deploy source", Key("repo")),
    ("basedir workdir workingdir cwd", Key("root")),
    (
        "volumes networks images secrets configs",
        Told("services are processes of this machine and no containers: leave it out"),
    ),
    ("version apiversion kind metadata name", Told("a manifest has nothing of the kind: leave it out")),
    ("errorpages errors", Key("custom_errors")),
];

/// In an `!App`.
pub(crate) const APP: Elsewhere = &[
    ("instances replicas workers processes numprocs scale concurrency count", Key("cluster")),
    ("minreplicas mininstances minworkers", Key("cluster_min")),
    ("script command cmd exec execstart entrypoint entry start startcommand program main", Key("run")),
    (
        "port ports listen expose internalport containerport targetport httpport",
        Told(
            "each instance is given a port of its own, which it finds in its environment as `PORT`; \
             `env_port` gives that another name",
        ),
    ),
    (
        "host bind address hostname",
        Told(
            "each instance listens on the address that it finds in its environment as `HOST`; hosts of visitors are keys of `server`",
        ),
    ),
    ("domain domains routes router path url", Told("hosts and paths lead to a service from `server`")),
    ("cwd workdir workingdir workingdirectory chdir directory dir folder context", Key("root")),
    ("environment envs envvars variables vars", Key("env")),
    ("envfile envfiles environmentfile dotenv", Key("env_file")),
    ("cron crontab cronrestart cronexpression oncalendar periodic", Key("schedule")),
    ("dependson depends needs requires wants", Key("after")),
    (
        "healthcheck healthchecks health check checks livenessprobe readinessprobe startupprobe probe probes httpchecks tcpchecks",
        Key("monitor"),
    ),
    (
        "killtimeout stopgraceperiod terminationgraceperiodseconds timeoutstopsec stopwaitsecs gracefultimeout",
        Key("stop_timeout"),
    ),
    ("listentimeout timeoutstartsec startsecs startperiod startuptimeout startretries", Key("ready_timeout")),
    ("buildcommand buildcmd execstartpre prestart install", Key("build")),
    ("releasecommand predeploy migrate migrations", Key("release")),
    ("execstop execstoppost prestop stopcommand", Key("shutdown")),
    ("maxmemoryrestart memlimit memorylimit memory memorymax resources", Key("max_memory")),
    ("autoscaling autoscale hpa", Key("auto_scale")),
    ("username uid runas userid", Key("user")),
    ("limitnofile ulimit ulimits minfds", Key("nofile")),
    (
        "outfile errorfile errfile logfile stdoutlogfile stderrlogfile logging standardoutput standarderror",
        Key("log"),
    ),
    (
        "args arguments argv interpreter interpreterargs nodeargs",
        Told("they are words of the command: `run: node --max-old-space-size=512 app.js`"),
    ),
    (
        "autorestart restartpolicy autostart startlimit maxrestarts minuptime restartsec restartdelay expbackoffrestartdelay",
        Told("a service that ends is started again, after pauses that grow: leave it out"),
    ),
    ("execmode execinterpreter waitready", Told("`cluster` says how many instances run: leave it out")),
    ("daemon daemonize worker nohttp", Key("background")),
    ("name", Told("the key above it is the service's name")),
    ("type kind", Told("the type is a tag: `web: !App`")),
    ("image dockerfile containername volumes mounts networks privileged capadd", NO_CONTAINER),
    ("loadbalancing loadbalancer balance lbpolicy strategy", Key("lb")),
];

/// In an `!FS`.
pub(crate) const FILES: Elsewhere = &[
    ("root dir directory folder public publish publishdir outputdir static staticdir alias", Key("path")),
    ("notfound errorpage notfoundpage page404 error404", Key("404")),
    ("indexfile indexes defaultdocument", Key("index")),
    ("spa tryfiles historyfallback fallbackfile", Key("fallback")),
    ("cachecontrol headers expires maxage", Key("cache")),
];

/// In a `!Proxy`.
pub(crate) const PROXY: Elsewhere = &[
    (
        "to url urls address addresses target targets backend backends servers server host hosts proxypass endpoint endpoints",
        Key("upstreams"),
    ),
    ("healthcheck healthchecks health check checks", Key("monitor")),
    ("loadbalancing loadbalancer balance lbpolicy strategy policy", Key("lb")),
];

/// In `lb`.
pub(crate) const BALANCING: Elsewhere = &[
    ("strategy policy algorithm method type mode lbpolicy balance", Key("strat")),
    ("retries tries maxtries attempt", Key("attempts")),
    ("session sessions affinity stickiness stickysessions sticky cookie", Key("state")),
    ("dialtimeout timeoutconnect proxyconnecttimeout", Key("connect_timeout")),
    ("readtimeout proxyreadtimeout responseheadertimeout timeoutserver", Key("response_timeout")),
    ("protocol version httpversion", Key("proto")),
];

/// In `monitor`.
pub(crate) const MONITOR: Elsewhere = &[
    (
        "tests check checks path url uri endpoint httpget http tcp tcpsocket command exec type",
        Told("what is asked stands in `test`, under a name: `test: {tcp: !Tcp}`"),
    ),
    (
        "interval period periodseconds every",
        Told("the pauses are `healthy: {interval: 5s}` and `unhealthy: {interval: 5s}`"),
    ),
    (
        "threshold retries failurethreshold successthreshold rise fall",
        Told("how many in a row is `unhealthy: {threshold: 3}` and `healthy: {threshold: 1}`"),
    ),
    ("timeoutseconds", Key("timeout")),
    (
        "startperiod graceperiod initialdelayseconds",
        Told("an instance has its service's `ready_timeout` to start"),
    ),
];

/// In a site.
pub(crate) const SITE: Elsewhere = &[
    ("routes route routing locations location paths rules handlers handle", Key("router")),
    ("tls ssl certificates certificate cert sslcertificate", Key("certs")),
    (
        "root proxy proxypass reverseproxy upstream upstreams",
        Told("a service answers: `router: [NAME]` leads to the one of that name in `services`"),
    ),
    (
        "host hosts servername name aliases",
        Told("the names of a site are its key: `\"example.com, www.example.com\": …`"),
    ),
];

/// In `repo`.
pub(crate) const REPO: Elsewhere = &[
    (
        "url remote origin branch ref revision",
        Told("the branch that is checked out and its upstream are followed: `git branch --set-upstream-to`"),
    ),
    ("interval pollinterval syncperiod pollevery", Key("poll")),
    ("webhook webhooks hook", Key("hooks")),
    ("auto autoupdate enabled", Key("update")),
];

/// In a command that is written as a map.
pub(crate) const COMMAND: Elsewhere = &[
    ("program command cmd script run path", Key("exec")),
    ("arguments argv", Key("args")),
    ("environment envs variables vars", Key("env")),
    ("dir directory folder workdir workingdir root chdir", Key("cwd")),
];

/// In a handler of a route.
pub(crate) const HANDLER: Elsewhere = &[
    (
        "proxypass reverseproxy forward proxy upstream",
        Told("a `!Proxy` of `services` hands requests on; the route has its name"),
    ),
    (
        "fileserver root alias static serve",
        Told("an `!FS` of `services` has the files; the route has its name"),
    ),
    ("respond reply answer text", Told("`return CODE \"text\"` answers by itself")),
    ("deny forbid block", Told("`status 403` refuses a request")),
    ("redir rewriteto moved", Told("`redirect \"url\"` sends the client elsewhere")),
];

/// The tags of services.
pub(crate) const TYPES: Elsewhere = &[
    (
        "web process program service worker node nodejs python ruby php java deno binary exec command",
        Told("here it is `!App`"),
    ),
    ("static files file fileserver spa site folder directory", Told("here it is `!FS`")),
    ("reverseproxy upstream upstreams external http https backend", Told("here it is `!Proxy`")),
    (
        "docker container image compose",
        Told("here it is `!App`, whose `run` starts the program itself: there are no containers"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_however_its_parts_are_joined() {
        for word in ["kill_timeout", "kill-timeout", "killTimeout", "KillTimeout"] {
            assert_eq!(find(APP, word), Some(Key("stop_timeout")), "{word}");
        }
        assert_eq!(find(APP, "kill"), None);
        assert_eq!(find(APP, &"x".repeat(1 << 20)), None);
    }

    #[test]
    fn no_table_says_two_things_of_a_word() {
        for table in [TOP, APP, FILES, PROXY, BALANCING, MONITOR, SITE, REPO, COMMAND, HANDLER, TYPES] {
            let mut words: Vec<&str> = table.iter().flat_map(|(words, _)| words.split(' ')).collect();
            let count = words.len();
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), count, "{words:?}");
            let plain =
                |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            assert!(words.iter().all(plain), "{words:?}");
        }
    }
}
