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
    Runners = "`runners`", "how a type of service is run";
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Feature;
    use crate::{Manifest, Mistakes, Source, Unsupported, directive::DIRECTIVES, parse};

    fn read(text: &str, unsupported: Unsupported) -> Result<Manifest, Mistakes> {
        let source = Source { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv") };
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
            F::Hosts => "hosts: [api.my.local, {x.my.local: 10.0.0.2}]".to_owned(),
            F::Runners => "runners: {x: y}".to_owned(),
            F::Jet => "jet: {x: y}".to_owned(),
            F::IpInfo => "ipinfo: {x: y}".to_owned(),
            F::Preprocessor => "env: {A: $(b)}".to_owned(),
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
            F::Release => app("release: ./migrate"),
            F::After => "services: {s: !App {run: x, after: f}, f: !FS}".to_owned(),
            F::ClusterShare => app("cluster: 50%"),
            F::ClusterMin => app("cluster_min: 1"),
            F::EnvFile => app("env_file: .env"),
            F::User => app("user: web"),
            F::UnhealthyTimeout => app("unhealthy_timeout: never"),
            F::MaxMemory => app("max_memory: 512M"),
            F::AutoScale => app("auto_scale: true"),
            F::AutoScaleStreak => app("auto_scale_streak: 30"),
            F::AutoScaleDefer => app("auto_scale_defer: 30s"),
            F::UpscalePercent => app("upscale_percent: 0.8"),
            F::DownscalePercent => app("downscale_percent: 2"),
            F::Watch => app("watch: ['*.toml']"),
            F::HttpCheck => app("monitor: {test: {a: !Http {method: GET, path: /, code: 200}}}"),
            F::StrategyRandom => app("lb: {strat: random}"),
            F::StrategyHash => app("lb: {strat: hash}"),
            F::Sticky => app("lb: {state: sticky}"),
            F::ProtocolH2 => app("lb: {proto: h2}"),
            F::ErrorHandler => app("lb: {5xx: {limit: 1m, handle: [status 500]}}"),
            F::FromMemory => files("dynamic: false"),
            F::Immutable => files("immutable: true"),
            F::NoImmutableMatch => files("no_immutable_match: ^/x"),
            F::Match => files("match: js$"),
            F::Memory => files("memory: 256MiB"),
            F::HttpsUpstream => "services: {s: !Proxy 'https://x:1'}".to_owned(),
            F::Certs => site("certs: x"),
            F::Upgrade => site("no_upgrade: false"),
            F::SwitchHost => router("!Switch-Host {}"),
            F::SwitchPath => router("!Switch-Path {}"),
            F::SwitchMethod => router("!Switch-Method {}"),
            F::SwitchProto => router("!Switch-Proto {}"),
            F::SwitchUserAgent => router("!Switch-UserAgent {}"),
            F::SwitchReferer => router("!Switch-Referer {}"),
            F::LimitMap => router("!Limit {}"),
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
            let written = match directive.word {
                "rewrite" => "rewrite ^/a /b",
                "max-body" => "max-body 1MiB",
                "read-timeout" | "write-timeout" => &format!("{} 5s", directive.word),
                "auth" => "auth staff ann:secret",
                "limit" => "limit @x 10/s burst=5 block_after=100/5m block_for=1h advise=true",
                _ => &directive.usage.replace('…', "x"),
            };
            let text = format!("server:\n  _:\n    router:\n      - {written}\n");
            assert_not_served(&text, &format!("`{}`", directive.word));
        }
    }

    #[test]
    fn what_is_not_served_is_validated_all_the_same() {
        for (text, path) in [
            ("services: {s: !App {run: x, after: t}}", "services.s.after"),
            ("services: {s: !App {run: x, max_memory: lots}}", "services.s.max_memory"),
            ("services: {s: !App {run: x, release: 'a && b'}}", "services.s.release"),
            ("services: {s: !App {run: x, unhealthy_timeout: 5}}", "services.s.unhealthy_timeout"),
            ("services: {s: !App {run: x, cluster: 0%}}", "services.s.cluster"),
            ("services: {s: !Npm {cluster: 0}}", "services.s.cluster"),
            ("services: {s: !FS {match: '('}}", "services.s.match"),
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
        for guard in ["internal", "auth staff ann:secret", "abort", "drop", "hook x", "allow-internal"] {
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
