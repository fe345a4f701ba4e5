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
    Acme = "`acme`", "certificates that the server gets by itself";
    Hosts = "`hosts`", "names for /etc/hosts";
    Limits = "`limits`", "limits of the front; today it has those of docs/operations.md";
    AccessLog = "`access_log`", "a line for each request, of all sites or of one";
    Runners = "`runners`", "how a type of service is run";
    Jet = "`jet`", "the message bus";
    IpInfo = "`ipinfo`", "what is known about clients' addresses";
    Preprocessor = "the preprocessor (`$…`, `${…}`, `$(…)`, `$import`)", "values that are computed; text in single quotes or in a `|` block is never taken for it";
    Releases = "`releases`", "each revision is built and run in a folder of its own";
    Keep = "`keep` of `repo`", "how many good revisions stay at hand";
    Persist = "`persist`", "what all revisions share";
    KeepAssets = "`keep_assets`", "how many revisions' immutable files still answer";
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
    ClusterShare = "a share of the cores as `cluster`", "instances by the number of cores";
    ClusterMin = "`cluster_min`", "the floor of auto-scaling";
    Notify = "`notify`", "an instance is ready when it says so to `NOTIFY_SOCKET`";
    Watchdog = "`watchdog`", "an instance that falls silent there is replaced";
    MaxMemory = "`max_memory`", "replace an instance that needs more";
    AutoScale = "`auto_scale`", "instances by load";
    AutoScaleStreak = "`auto_scale_streak`", "samples in a row before it scales";
    AutoScaleDefer = "`auto_scale_defer`", "the pause between two changes";
    UpscalePercent = "`upscale_percent`", "load above which it adds instances";
    DownscalePercent = "`downscale_percent`", "load below which it removes some";
    Watch = "`watch`", "more files whose change counts";
    Reuse = "`reuse`", "folders that a build wants to find again";
    LogMap = "a map as `log`", "size and number of a service's log files";
    HttpCheck = "an HTTP check (`!Http`, `GET /path 200`)", "a probe that asks and reads the answer";
    ExecCheck = "`!Exec`", "a command as a probe";
    StrategyRandom = "`strat: random`", "any upstream";
    StrategyHash = "`strat: hash`", "the upstream that a client's address says";
    StrategyP2c = "`strat: p2c`", "the faster one of two";
    Sticky = "`state: sticky`", "a client stays with its upstream";
    StickyCookie = "`state: {cookie: NAME}`", "a client stays with its instance, by a cookie";
    DrainStreams = "`drain_streams`", "how long websockets and event streams go on at a restart";
    ProtocolH2 = "`proto: h2`", "HTTP/2 towards upstreams";
    ErrorHandler = "an error handler of `lb` (`404`, `4xx`, `5xx`)", "routes for answers that are errors";
    Fallback = "`fallback`", "a file for what no file answers, for single-page apps";
    Cache = "`cache`", "`Cache-Control` by the file's name";
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
    InternalMap = "`!Internal`", "a route for internal requests alone";
    LimitMap = "`!Limit`", "a limit, written as a map";
    RedirectCode = "`redirect CODE \"url\"`", "a redirect with another status than 302";
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Feature;
    use crate::{Manifest, ManifestText, Mistakes, Unsupported, directive::DIRECTIVES, parse};

    fn read(text: &str, unsupported: Unsupported) -> Result<Manifest, Mistakes> {
        let source =
            ManifestText { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv") };
        parse(&source, unsupported)
    }

    /// A manifest whose only mistake is that it uses this.
    fn example(feature: Feature) -> String {
        use Feature as F;
        let app = |keys: &str| format!("services: {{s: !App {{run: x, {keys}}}}}");
        let wrapper = |tag: &str, keys: &str| format!("services: {{s: !{tag} {{cluster: 2, {keys}}}}}");
        let files = |keys: &str| format!("services: {{s: !FS {{{keys}}}}}");
        let site = |keys: &str| format!("server: {{_: {{router: [], {keys}}}}}");
        let router = |handler: &str| format!("server: {{_: {{router: [{handler}]}}}}");
        match feature {
            F::CustomErrors => "custom_errors: ./errors".to_owned(),
            F::Acme => "acme: {email: a@example.org, directory: 'https://a', ca_file: ca.pem, challenge: http-01, eab: {kid: a, hmac_file: b}}".to_owned(),
            F::Limits => "limits: {connections_per_client: 512, streams: 128, header_timeout: 10s, idle: 75s, body_rate: 240, body_grace: 10s, write_stall: 30s}".to_owned(),
            F::AccessLog => "access_log: {file: '-', format: json, keep: 5, size: 16MiB}".to_owned(),
            F::Hosts => "hosts: [api.my.local, {x.my.local: 10.0.0.2}]".to_owned(),
            F::Runners => "runners: {x: y}".to_owned(),
            F::Jet => "jet: {x: y}".to_owned(),
            F::IpInfo => "ipinfo: {x: y}".to_owned(),
            F::Preprocessor => "env: {A: $(b)}".to_owned(),
            F::Releases => "repo: {releases: true}".to_owned(),
            F::Keep => "repo: {keep: 5}".to_owned(),
            F::Persist => "repo: {persist: [web/uploads, data/, .env]}".to_owned(),
            F::KeepAssets => "repo: {keep_assets: 0}".to_owned(),
            F::RolloutChanged => "repo: {rollout: changed}".to_owned(),
            F::Bake => "repo: {bake: 1m}".to_owned(),
            F::Poll => "repo: {poll: 1m}".to_owned(),
            F::Hooks => "repo: {hooks: {x: {kind: github, secret_file: /a, branch: main}}}".to_owned(),
            F::Npm => {
                wrapper("Npm", "start_script: a, build_script: b, no_install: true, package_manager: npm")
            }
            F::Pnpm => wrapper("Pnpm", "start_script: a"),
            F::Yarn => wrapper("Yarn", "start_script: a"),
            F::Bun => wrapper("Bun", "start_script: a"),
            F::Js => wrapper("Js", "index: a.js"),
            F::Py => wrapper("Py", "requirements: a.txt, main: a.py"),
            F::Flask => wrapper("Flask", "main: a.py"),
            F::Go => wrapper("Go", "main: ./cmd"),
            F::Cargo => wrapper("Cargo", "bin: a, profile: release"),
            F::ClusterShare => app("cluster: 50%"),
            F::ClusterMin => app("cluster_min: 1"),
            F::Notify => app("notify: true"),
            F::Watchdog => app("watchdog: 10s"),
            F::Reuse => app("reuse: [node_modules]"),
            F::LogMap => app("log: {file: a.log, size: 16MiB, keep: 5, compress: true}"),
            F::MaxMemory => app("max_memory: 512M"),
            F::AutoScale => app("auto_scale: true"),
            F::AutoScaleStreak => app("auto_scale_streak: 30"),
            F::AutoScaleDefer => app("auto_scale_defer: 30s"),
            F::UpscalePercent => app("upscale_percent: 0.8"),
            F::DownscalePercent => app("downscale_percent: 2"),
            F::Watch => app("watch: ['*.toml']"),
            F::HttpCheck => app("monitor: {test: {a: !Http {method: GET, path: /, code: 2xx, body: '~^ok$'}}}"),
            F::ExecCheck => app("monitor: {test: {a: !Exec ./check.sh}}"),
            F::StrategyRandom => app("lb: {strat: random}"),
            F::StrategyHash => app("lb: {strat: hash}"),
            F::StrategyP2c => app("lb: {strat: p2c}"),
            F::StickyCookie => app("lb: {state: {cookie: instance}}"),
            F::DrainStreams => app("lb: {drain_streams: 5s}"),
            F::Sticky => app("lb: {state: sticky}"),
            F::ProtocolH2 => app("lb: {proto: h2}"),
            F::ErrorHandler => app("lb: {5xx: {limit: 1m, handle: [status 500]}}"),
            F::Fallback => files("fallback: index.html"),
            F::Cache => files("cache: {'*.html': no-cache, '/assets/**': 'public, max-age=31536000, immutable'}"),
            F::FromMemory => files("dynamic: false"),
            F::Immutable => files("immutable: true"),
            F::NoImmutableMatch => files("no_immutable_match: ^/x"),
            F::Match => files("match: js$"),
            F::Memory => files("memory: 256MiB"),
            F::HttpsUpstream => "services: {s: !Proxy 'https://x:1'}".to_owned(),
            F::Certs => site("certs: x"),
            F::Upgrade => site("no_upgrade: false"),
            F::SwitchHost => router("!Switch-Host []"),
            F::SwitchPath => router("!Switch-Path [/a: status 404]"),
            F::SwitchMethod => router("!Switch-Method []"),
            F::SwitchProto => router("!Switch-Proto []"),
            F::SwitchUserAgent => router("!Switch-UserAgent []"),
            F::SwitchReferer => router("!Switch-Referer []"),
            F::InternalMap => router("!Internal {inner: status 404}"),
            F::LimitMap => {
                router("!Limit {id: a, rate: 10/s, burst: 5, block_after: 100/5m, block_for: 1h, advise: true}")
            }
            F::RedirectCode => router(r#"redirect 301 "/new""#),
        }
    }

    /// Asserts that `text` is refused because of `name` alone, and taken without it if that is asked.
    fn assert_not_served(text: &str, name: &str) {
        let mistakes = read(text, Unsupported::Refuse).expect_err(text);
        let messages: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.message).collect();
        assert_eq!(
            messages,
            [format!("{name} is part of the format, but this server does not serve it yet")],
            "{text}"
        );
        let manifest = read(text, Unsupported::Warn).expect(text);
        assert!(manifest.warnings[0].message.starts_with(name), "{:?}", manifest.warnings);
    }

    #[test]
    fn each_feature_that_is_not_served_is_named_where_it_is_written() {
        for &feature in Feature::ALL {
            assert_not_served(&example(feature), feature.name());
        }
    }

    #[test]
    fn each_directive_that_is_not_served_is_named() {
        for directive in DIRECTIVES.iter().filter(|directive| !directive.is_served()) {
            let written = crate::whole_format::directive(directive.word);
            let text = format!("server:\n  _:\n    router:\n      - {written}\n");
            assert_not_served(&text, &format!("`{}`", directive.word));
        }
    }

    #[test]
    fn what_is_not_served_is_validated_all_the_same() {
        for (text, path) in [
            ("services: {s: !App {run: x, max_memory: lots}}", "services.s.max_memory"),
            ("services: {s: !App {run: x, unhealthy_timeout: 5}}", "services.s.unhealthy_timeout"),
            ("services: {s: !App {run: x, cluster: 0%}}", "services.s.cluster"),
            ("services: {s: !Npm {cluster: 0}}", "services.s.cluster"),
            ("services: {s: !FS {match: '('}}", "services.s.match"),
            ("services: {s: !FS {fallback: ../x}}", "services.s.fallback"),
            ("services: {s: !FS {cache: no-cache}}", "services.s.cache"),
            ("services: {s: !App {run: x, watchdog: 5}}", "services.s.watchdog"),
            ("services: {s: !App {run: x, log: {file: a/b}}}", "services.s.log.file"),
            ("services: {s: !App {run: x, log: {files: a}}}", "services.s.log"),
            ("services: {s: !App {run: x, lb: {state: {cooky: a}}}}", "services.s.lb.state"),
            (
                "services: {s: !App {run: x, monitor: {test: {a: !Http {code: 2x}}}}}",
                "services.s.monitor.test.a.code",
            ),
            (
                "services: {s: !App {run: x, monitor: {test: {a: !Http {body: '~('}}}}}",
                "services.s.monitor.test.a.body",
            ),
            (
                "services: {s: !App {run: x, monitor: {test: {a: !Exec 'a && b'}}}}",
                "services.s.monitor.test.a",
            ),
            ("acme: {challenge: dns-01}", "acme.challenge"),
            ("limits: {idle: 75}", "limits.idle"),
            ("access_log: {format: xml}", "access_log.format"),
            ("repo: {keep: many}", "repo.keep"),
            ("server: {_: {router: [!Limit {rate: lots}]}}", "server._.router.0.rate"),
            ("server: {_: {router: [!Internal {inner: nobody}]}}", "server._.router.0.inner"),
            ("server: {_: {router: ['redirect 200 /a']}}", "server._.router.0"),
            ("server: {_: {router: [rewrite ( b]}}", "server._.router.0"),
            ("server: {_: {router: [max-body lots]}}", "server._.router.0"),
        ] {
            let mistakes = read(text, Unsupported::Warn).expect_err(text);
            let paths: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.path).collect();
            assert_eq!(paths, [path], "{text}");
        }
    }

    #[test]
    fn a_guard_that_is_left_out_leaves_the_door_shut() {
        for guard in [
            "internal",
            "!Internal {inner: s}",
            "auth staff ann:secret",
            "abort",
            "drop",
            "hook x",
            "allow-internal",
        ] {
            let text = format!("services: {{s: !App {{run: x}}}}\nserver: {{_: {{router: [[{guard}, s]]}}}}");
            let manifest = read(&text, Unsupported::Warn).expect(guard);
            let pmesh_proxy::Handler::Mux(routes) = &manifest.sites[0].routes[0].handler else {
                panic!("{:?}", manifest.sites)
            };
            let shut = pmesh_proxy::Handler::Status(http::StatusCode::FORBIDDEN);
            assert_eq!(routes[0].handler, shut, "{guard}");
        }
    }

    #[test]
    fn a_service_of_a_type_that_is_not_served_is_left_out_with_its_routes() {
        let text = "services: {a: !Npm {}, b: !FS , c: !Proxy 'https://x'}\nserver: {_: {router: [a, /b: [b, a, c]]}}";
        let manifest = read(text, Unsupported::Warn).expect("it is served without them");
        assert_eq!(manifest.services.len(), 1);
        let pmesh_proxy::Handler::Mux(routes) = &manifest.sites[0].routes[0].handler else {
            panic!("{:?}", manifest.sites)
        };
        assert_eq!((manifest.sites[0].routes.len(), routes.len()), (1, 1));
        assert_eq!(manifest.warnings.len(), 6);
    }

    /// The table of docs/manifest.md.
    fn table() -> String {
        let head = ["| what | meaning |", "| --- | --- |"].map(str::to_owned);
        let features =
            Feature::ALL.iter().map(|feature| format!("| {} | {} |", feature.name(), feature.meaning()));
        let directives = DIRECTIVES
            .iter()
            .filter(|directive| !directive.is_served())
            .map(|directive| format!("| `{}` | directive: `{}` |", directive.word, directive.usage));
        head.into_iter().chain(features).chain(directives).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_document_lists_what_is_not_served() {
        let document = include_str!("../../../docs/manifest.md");
        let table = table();
        assert!(document.contains(&table), "docs/manifest.md has another table than:\n{table}");
    }
}
