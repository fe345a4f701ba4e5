//! What the format has and this server does not serve yet. The one list of it: messages and
//! docs/manifest.md are made from it.

macro_rules! features {
    ($($feature:ident = $name:literal, $meaning:literal;)*) => {
        /// A part of the format that is not served yet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Feature { $($feature),* }

        impl Feature {
            /// All of them, in the order of the document.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$feature),*];

            /// What was written, as messages show it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$feature => $name),* }
            }

            /// What it will do, for the document.
            #[cfg(test)]
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Self::$feature => $meaning),* }
            }
        }
    };
}

features! {
    CustomErrors = "`custom_errors`", "own pages for errors";
    Hosts = "`hosts`", "names for /etc/hosts";
    Runners = "`runners`", "runners";
    Jet = "`jet`", "the message bus";
    IpInfo = "`ipinfo`", "what is known about clients' addresses";
    Preprocessor = "the preprocessor (`$…`, `${…}`, `$(…)`, `$import`)", "values that are computed; text in single quotes or in a `|` block is never taken for it";
    RolloutChanged = "`rollout: changed`", "roll over only what differs";
    Bake = "`bake`", "how long an update may still go back by itself";
    Poll = "`poll`", "ask the remote from time to time";
    Hooks = "`hooks`", "update when the remote says so";
    Npm = "`!Npm`", "an `!App` run by npm";
    Pnpm = "`!Pnpm`", "an `!App` run by pnpm";
    Yarn = "`!Yarn`", "an `!App` run by yarn";
    Bun = "`!Bun`", "an `!App` run by bun";
    Js = "`!Js`", "an `!App` run by node";
    Py = "`!Py`", "an `!App` run by Python";
    Flask = "`!Flask`", "a Flask `!App`";
    Go = "`!Go`", "an `!App` built by go";
    Cargo = "`!Cargo`", "an `!App` built by cargo";
    Release = "`release`", "commands that run once a rollout";
    After = "`after`", "services that must be ready first";
    ClusterShare = "a share of the cores as `cluster`", "instances by the number of cores";
    ClusterMin = "`cluster_min`", "the floor of auto-scaling";
    EnvFile = "`env_file`", "environment that is not in git";
    User = "`user`", "whom the instances run as";
    UnhealthyTimeout = "`unhealthy_timeout`", "replace an instance that is unhealthy for so long";
    MaxMemory = "`max_memory`", "replace an instance that needs more";
    AutoScale = "`auto_scale`", "instances by load";
    AutoScaleStreak = "`auto_scale_streak`", "samples in a row before it scales";
    AutoScaleDefer = "`auto_scale_defer`", "the pause between two changes";
    UpscalePercent = "`upscale_percent`", "load above which it adds instances";
    DownscalePercent = "`downscale_percent`", "load below which it removes some";
    Watch = "`watch`", "more files whose change counts";
    HttpCheck = "an HTTP check (`!Http`, `GET /path 200`)", "a probe that asks and reads the answer";
    StrategyRandom = "`strat: random`", "any upstream";
    StrategyHash = "`strat: hash`", "the upstream that a client's address says";
    Sticky = "`state: sticky`", "a client stays with its upstream";
    ProtocolH2 = "`proto: h2`", "HTTP/2 towards upstreams";
    ErrorHandler = "an error handler of `lb` (`404`, `4xx`, `5xx`)", "routes for answers that are errors";
    FromMemory = "`dynamic: false`", "files from memory, compressed before";
    Immutable = "`immutable`", "cache headers for `/immutable/`";
    NoImmutableMatch = "`no_immutable_match`", "no such headers for what it matches";
    Match = "`match`", "only files whose path it matches";
    Memory = "`memory`", "how much memory files may take";
    HttpsUpstream = "an `https://` upstream", "TLS towards upstreams";
    Certs = "`certs`", "TLS certificates of a site";
    Upgrade = "`no_upgrade: false`", "redirect to https";
    SwitchHost = "`!Switch-Host`", "a route by the request's host";
    SwitchPath = "`!Switch-Path`", "a route by its path";
    SwitchMethod = "`!Switch-Method`", "a route by its method";
    SwitchProto = "`!Switch-Proto`", "a route by its protocol";
    SwitchUserAgent = "`!Switch-UserAgent`", "a route by its `User-Agent`";
    SwitchReferer = "`!Switch-Referer`", "a route by its `Referer`";
    LimitMap = "`!Limit`", "a limit, written as a map";
}
