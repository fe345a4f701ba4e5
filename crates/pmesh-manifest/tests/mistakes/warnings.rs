//! What is served as it stands, and surely not meant so.

use std::path::Path;

use pmesh_manifest::{Manifest, ManifestText, Unsupported, parse};

#[track_caller]
fn read(text: &str, folder: &Path) -> Manifest {
    let source = ManifestText::new(text.as_bytes(), Path::new("pm3.yml"), folder);
    parse(&source, Unsupported::Refuse).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[track_caller]
fn warnings(text: &str) -> Vec<String> {
    read(text, Path::new("/srv")).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_shell_would_expand_is_a_warning_outside_of_quotes_and_nothing_inside() {
    let app = |line: &str| warnings(&format!("services:\n  a: !App\n    run: |\n      {line}\n"));
    for (line, word) in [
        ("ls *.txt", "*.txt"),
        ("~/bin/serve", "~/bin/serve"),
        ("x --a ~", "~"),
        ("HOME=~ada x", "HOME=~ada"),
        ("rm file?.txt", "file?.txt"),
        ("x [a-z].js", "[a-z].js"),
        ("gunicorn --forwarded-allow-ips * app:app", "*"),
    ] {
        let message = format!(
            "pm3.yml:4:7: services.a.run: no shell is involved, so the program gets {word:?} as it stands; put it in \
             quotes if that is meant, or write `sh -c '…'`"
        );
        assert_eq!(app(line), [message], "{line}");
    }
    for (line, word) in [
        ("python3 app.py --port \"$PORT\"", "\"$PORT\""),
        ("x --url=\"http://${HOST}/\"", "--url=\"http://${HOST}/\""),
    ] {
        let message = format!(
            "pm3.yml:4:7: services.a.run: no shell is involved, so the program gets {word:?} as it stands; put it in \
             single quotes if that is meant, or write `sh -c '…'`"
        );
        assert_eq!(app(line), [message], "{line}");
    }
    for line in [
        "gunicorn --forwarded-allow-ips '*' app:app",
        "x \"*.txt\" \\*",
        "x '~' a~b --x=~",
        "x http://127.0.0.1/?a=1;b=2",
        "pip install uvicorn[standard]>=0.2",
        "sh -c 'ls *.txt ~'",
        "sh -c \"exec x --port $PORT\"",
        "bash -ec \"exec x --port $PORT\"",
        "x --price '$PORT' \"5 $\" \"\\$PORT\"",
    ] {
        assert_eq!(app(line), [""; 0], "{line}");
    }
}

#[test]
fn a_port_of_somebodys_own_that_has_no_effect_is_a_warning() {
    let told = |place: &str, variable: &str, key: &str| {
        format!(
            "pm3.yml:{place}: `{variable}` has no effect here: each instance is told in it where to listen, on a port \
             of its own; `{key}: NAME` tells it that in another variable"
        )
    };
    let text = "env: {PORT: 1}
services:
  a: !App {run: PORT=3000 node app.js}
  b: !App {run: x, env: {PORT: 3000, HOST: 0.0.0.0, LISTEN: x}}
  c: !App {run: {exec: x, env: {WEB: 3000}}, env_port: WEB}
";
    assert_eq!(
        warnings(text),
        [
            told("3:17: services.a.run", "PORT", "env_port"),
            told("4:32: services.b.env.PORT", "PORT", "env_port"),
            told("4:44: services.b.env.HOST", "HOST", "env_host"),
            told("4:61: services.b.env.LISTEN", "LISTEN", "env_listen"),
            told("5:38: services.c.run.env.WEB", "WEB", "env_port"),
        ]
    );
    let everywhere = "env: {PORT: 1}\nservices: {a: !App {run: x}}";
    assert_eq!(warnings(everywhere), [told("1:13: env.PORT", "PORT", "env_port")]);
    for effective in [
        "services: {a: !App {run: PORT=3000 x, background: true, env: {PORT: 1}}}",
        "services: {a: !App {run: PORT=3000 x, env: {PORT: 1}, env_port: WEB}}",
        "services: {a: !App {build: PORT=3000 x, env: {PORT: 1}}}",
        "env: {PORT: 1}\nservices: {a: !App {run: x}, b: !App {run: x, background: true}}",
    ] {
        assert_eq!(warnings(effective), [""; 0], "{effective}");
    }
}

#[test]
fn instances_that_fit_but_not_beside_their_successors_are_a_warning() {
    let text = "services: {a: !App {run: x, cluster: 6000}, b: !App {run: x, cluster: 3000, overlap: false}}";
    assert_eq!(
        warnings(text),
        [
            "pm3.yml:1:11: services: 9000 instances in all, of which 6000 overlap with new ones in a rollout, and there \
             are 10000 ports (20000–29999) for them; such a rollout will fail"
        ]
    );
    assert_eq!(warnings(&text.replace("6000", "3000")), [""; 0]);
}

#[test]
fn folders_and_programs_that_are_absent_are_told_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    for made in ["here/bin", "made"] {
        std::fs::create_dir_all(folder.path().join(made)).unwrap();
    }
    std::fs::write(folder.path().join("here/bin/serve"), "").unwrap();
    let text = "services:
  here: !App {run: bin/serve, shutdown: [bin/gone, sh x]}
  gone: !App {run: sh x}
  other: !App {root: away, run: sh x}
  path: !App {root: here, run: no-such-program x, env: {PATH: /nowhere}}
  made: !App {run: node_modules/.bin/x, build: [no-such-program x, '@sub sh x']}
  files: !FS
  dist: !FS made/dist
  built: !FS here/bin/serve
";
    let absent: Vec<String> = read(text, folder.path()).absent().iter().map(ToString::to_string).collect();
    let path = std::env::var("PATH").unwrap();
    let commands = "where its commands start; `root` names another";
    assert_eq!(
        absent,
        [
            format!(
                "pm3.yml:2:20: services.here.run: {root}/here/bin/serve is not executable; `chmod +x` makes it so"
            ),
            format!("pm3.yml:2:42: services.here.shutdown.0: there is no program {root}/here/bin/gone"),
            format!("pm3.yml:3:9: services.gone: there is no folder {root}/gone, {commands}"),
            format!("pm3.yml:4:22: services.other: there is no folder {root}/away, {commands}"),
            "pm3.yml:5:32: services.path.run: there is no program \"no-such-program\" in /nowhere".to_owned(),
            format!("pm3.yml:6:49: services.made.build.0: there is no program \"no-such-program\" in {path}"),
            format!("pm3.yml:6:68: services.made.build.1: there is no folder {root}/made/sub"),
            format!("pm3.yml:7:3: services.files: there is no folder {root}/files, whose files it serves"),
            format!(
                "pm3.yml:9:10: services.built: {root}/here/bin/serve is no folder, whose files it serves"
            ),
        ]
    );
}

#[test]
fn a_script_whose_interpreter_is_absent_is_told_with_what_its_first_line_asks_for() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web");
    std::fs::create_dir(&web).unwrap();
    for (name, line) in [
        ("good", "#!/bin/sh"),
        ("absent", "#!/nowhere/python3 -u"),
        ("crlf", "#!/bin/sh\r"),
        ("env", "#!/usr/bin/env node\r"),
    ] {
        std::fs::write(web.join(name), format!("{line}\n")).unwrap();
        std::fs::set_permissions(web.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = "services:
  web: !App {run: ./good, shutdown: [./absent, crlf x, ./env, ./missing], env: {PATH: '/usr/bin:/bin:.'}}
";
    let root = web.display();
    let line_ends = "the line ends with CR LF, and has to end with LF alone";
    let absent: Vec<String> = read(text, folder.path()).absent().iter().map(ToString::to_string).collect();
    assert_eq!(
        absent,
        [
            format!(
                "pm3.yml:2:38: services.web.shutdown.0: {root}/absent cannot start: its first line asks for \
                 \"/nowhere/python3\", which is not there; install it, or name another one"
            ),
            format!(
                "pm3.yml:2:48: services.web.shutdown.1: {root}/crlf cannot start: its first line asks for \
                 \"/bin/sh\\r\", which is not there; {line_ends}"
            ),
            format!(
                "pm3.yml:2:56: services.web.shutdown.2: {root}/env cannot start: its first line asks for \"node\\r\", \
                 which is not in /usr/bin:/bin:.; {line_ends}"
            ),
            format!("pm3.yml:2:63: services.web.shutdown.3: there is no program {root}/missing"),
        ]
    );
}
