//! The recipes of docs/builds.md, as they stand there: built, served, updated, and taken back.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::harness::{Connection, Project, Server, git, pmesh, wait_for, web_manifest, works};

const PAGE: &str = include_str!("../../docs/builds.md");

/// What stands below a heading of the page, up to the next one.
fn section(heading: &str) -> &'static str {
    let (_, section) = PAGE.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    let end = section.find("\n## ").into_iter().chain(section.find("\n### ")).min();
    &section[..end.unwrap_or(section.len())]
}

/// The files of a recipe, each below its name, and the commands that are run before the first commit.
#[derive(Default)]
struct Recipe {
    files: Vec<(&'static str, &'static str)>,
    commands: Vec<&'static str>,
}

impl Recipe {
    /// Reads a section; what it says of a file wins over what was said before.
    fn with(mut self, heading: &str) -> Self {
        let parts: Vec<&str> = section(heading).split("```").collect();
        for pair in parts.chunks_exact(2) {
            let [before, block] = pair else { unreachable!("chunks of two") };
            let (language, text) = block.split_once('\n').expect("a block has lines");
            let name = before.trim_end().lines().last().unwrap_or_default();
            match name.strip_prefix('`').and_then(|name| name.strip_suffix("`:")) {
                Some(name) => {
                    self.files.retain(|(other, _)| *other != name);
                    self.files.push((name, text));
                }
                None if language == "sh" => self.commands.push(text),
                None => panic!("{heading}: a block without a name: {text}"),
            }
        }
        self
    }

    fn project(&self) -> Project {
        Project::of(&self.files, |folder| {
            for command in &self.commands {
                let output = Command::new("sh").args(["-ec", command]).current_dir(folder).output().unwrap();
                assert!(output.status.success(), "{command}{}", String::from_utf8_lossy(&output.stderr));
            }
        })
    }

    fn text_of(&self, file: &str) -> &'static str {
        self.files.iter().find(|(name, _)| *name == file).expect("it is in the recipe").1
    }
}

/// The operation that is newest now, when it has ended. A build may take longer than any other answer.
fn ended(server: &Server) -> Value {
    for _ in 0..15 {
        let newest = server.get("/operation?wait=20s")[0].clone();
        if newest["state"] != "running" && newest["state"] != "queued" {
            return newest;
        }
    }
    panic!("{}", server.get("/operation"));
}

fn update(server: &Server, commit: &str) {
    let (status, accepted) = server.call("POST", "/repo/update?wait=false", &[], "");
    assert_eq!(status, 202, "{accepted}");
    let operation = ended(server);
    assert_eq!(operation["result"]["to"]["hash"], commit, "{operation}");
    assert!(operation["result"]["services"].is_null(), "{operation}");
}

fn get(server: &Server, path: &str) -> String {
    let (status, body) = Connection::to(&server.front).send("GET", path, "any.local", &[], "").unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Serves a recipe, changes "hello" in `file` and takes that back, and answers how many builds that took. `ask` gets what
/// the app says.
fn builds_of(recipe: &Recipe, file: &str, ask: impl Fn(&Server) -> String) -> usize {
    let project = recipe.project();
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    assert_eq!(ended(&server)["result"]["services"], Value::Null, "{}", server.get("/service/health"));
    server.settle();
    let first = ask(&server);
    assert!(first.contains("hello"), "{first}");
    let changed = recipe.text_of(file).replace("hello", "good day");
    update(&server, &project.push(&[(file, &changed)]));
    assert_eq!(ask(&server), first.replace("hello", "good day"));
    update(&server, &project.revert());
    assert_eq!(ask(&server), first);
    assert_eq!(git(&project.work, &["status", "--porcelain"]), "", "nothing of a build is local work");
    let log = fs::read_to_string(server.state.join("logs/web.log")).unwrap();
    assert_eq!(server.terminate(), Some(0));
    log.lines().filter(|line| line.contains("build ") && line.contains(" done in ")).count()
}

/// What the revert needs is there still.
const ELSEWHERE: usize = 2;
/// A revert is a build, too.
const IN_PLACE: usize = 3;

fn has_npm() -> bool {
    works("npm view express name", "there is no npm here, or it reaches no registry")
}

fn has_pip() -> bool {
    let look = "python3 -c 'import ensurepip, venv' && folder=$(mktemp -d) && trap 'rm -r \"$folder\"' EXIT && \
                python3 -m pip download -q --no-deps -d \"$folder\" flask==3.1.1";
    works(look, "there is no python3-venv here, or pip reaches no index")
}

/// The text of the script that a page of Vite's loads.
fn script(server: &Server) -> String {
    let page = get(server, "/");
    assert!(page.contains("<title>hello from Vite"), "{page}");
    let (_, rest) = page.split_once("src=\"").expect("it has a script");
    let text = get(server, rest.split('"').next().unwrap());
    // The part of it that is ours: what is around has names by content.
    text.lines().find(|line| line.contains("document.body.append")).expect("it is in there").to_owned()
}

#[test]
fn express_in_a_product_goes_forth_and_back() {
    if has_npm() {
        let recipe = Recipe::default().with("## Node.js with Express");
        assert_eq!(builds_of(&recipe, "web/server.js", |server| get(server, "/")), ELSEWHERE);
    }
}

#[test]
fn vite_into_a_product_goes_forth_and_back() {
    if has_npm() {
        let recipe = Recipe::default().with("## Vite");
        assert_eq!(builds_of(&recipe, "web/src/main.js", script), ELSEWHERE);
    }
}

#[test]
fn a_virtual_environment_in_a_product_goes_forth_and_back() {
    if has_pip() {
        let recipe = Recipe::default().with("## Python with a virtual environment");
        assert_eq!(builds_of(&recipe, "web/app.py", |server| get(server, "/")), ELSEWHERE);
    }
}

#[test]
fn go_goes_forth_and_back() {
    if works("go version", "there is no Go here") {
        let recipe = Recipe::default().with("## Go");
        assert_eq!(builds_of(&recipe, "web/main.go", |server| get(server, "/")), ELSEWHERE);
    }
}

#[test]
fn express_in_place_is_built_again_on_the_way_back() {
    if has_npm() {
        let recipe = Recipe::default().with("## Node.js with Express").with("### Express in place");
        assert_eq!(builds_of(&recipe, "web/server.js", |server| get(server, "/")), IN_PLACE);
    }
}

#[test]
fn vite_in_place_is_built_again_on_the_way_back() {
    if has_npm() {
        let recipe = Recipe::default().with("## Vite").with("### Vite in place");
        assert_eq!(builds_of(&recipe, "web/src/main.js", script), IN_PLACE);
    }
}

#[test]
fn a_virtual_environment_in_place_is_built_again_on_the_way_back() {
    if has_pip() {
        let recipe = Recipe::default().with("## Python with a virtual environment");
        let recipe = recipe.with("### A virtual environment in place");
        assert_eq!(builds_of(&recipe, "web/app.py", |server| get(server, "/")), IN_PLACE);
    }
}

#[test]
fn each_recipe_ignores_what_its_build_makes() {
    let recipes: Vec<&str> = PAGE.split("\n## ").filter(|section| section.contains("`pm3.yml`:")).collect();
    assert_eq!(recipes.len(), 4);
    for recipe in recipes {
        assert!(recipe.contains("```text\n.build*\n.run\n"), "{recipe}");
        let manifests = recipe.split("`pm3.yml`:").skip(1);
        for manifest in manifests {
            let inside = |word: &str| manifest.split("```").nth(1).is_some_and(|text| text.contains(word));
            assert!(inside("services:") && inside("server:"), "{manifest}");
        }
    }
}

#[test]
fn while_it_builds_health_status_and_the_servers_log_say_so() {
    let build = "    build:\n      - true\n      - sh -c 'read line < ../gate'\n";
    let project = Project::new(&web_manifest(1, build));
    let gate = project.work.join("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let server = Server::start(&project.work, &project.folder.path().join("state"));
    let building = || server.get("/service/health/web")["building"].clone();
    wait_for("the second step runs", || building()["number"] == 2);
    let now = building();
    assert_eq!((&now["of"], &now["step"]), (&json!(2), &json!("sh -c 'read line < ../gate'")), "{now}");
    assert!(now["started"].as_str().is_some_and(|time| time.ends_with('Z')), "{now}");
    let status = pmesh().args(["status", "--url"]).arg(format!("http://{}", server.api)).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("  building for ") && status.contains(", step 2 of 2: sh -c"), "{status}");
    let log = server.log();
    assert!(
        log.contains("build step 2 of 2 begins: sh -c")
            && log.contains("build step 1 of 2 has ended after 0.")
    );
    assert!(!log.contains("build step 2 of 2 has ended"), "{log}");
    fs::write(&gate, "go on\n").unwrap();
    server.settle();
    assert_eq!(building(), Value::Null);
    assert!(server.log().contains("build step 2 of 2 has ended after "), "{}", server.log());
}
