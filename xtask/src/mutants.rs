//! `cargo xtask mutants`: whether the tests of the pure files notice when one place of a file does something else.
//!
//! cargo-mutants changes one place at a time — a mutant —, builds, and runs the tests near the file, then all of the crate
//! for what those let through. One must fail. What is missed is compared with the table in docs/testing.md.

mod copy;
mod counts;
mod left;
mod mutant;
mod pure;
mod verdict;

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::copy::Copy;
use self::counts::Counts;
use self::mutant::Mutant;
use self::pure::{PURE, PureFile, PureFiles};
pub(crate) use self::{
    left::{DOCUMENT, parse as parse_left},
    pure::pure_files,
};
use crate::workspace::Workspace;

/// The release whose words the table in docs/testing.md uses.
const VERSION: &str = "27.1.0";

/// Seconds after which a test of a stage does not end. The near ones take one, all of a crate's five.
const TEST_TIMEOUTS: [&str; 2] = ["20", "60"];
const BUILD_TIMEOUT: &str = "600";

/// Bytes of memory that each process may have: a loop that a mutant does not end may collect things all the while.
const MEMORY: u64 = 4 << 30;

/// The same random cases in every run, and no time for the smallest one that fails.
const RANDOM_CASES: &[(&str, &str)] = &[
    ("PROPTEST_RNG_SEED", "7"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true"),
];

/// Tests all pure files, or those that the words after each `--file` mean.
pub(crate) fn run(workspace: &Workspace, words: &[&str]) -> Result<()> {
    let wanted = wanted(words)?;
    require_cargo_mutants(workspace)?;
    let left = parse_left(&workspace.read(DOCUMENT)?)?;
    let copy = Copy::new(workspace)?;
    limit_memory()?;
    let (mut total, mut rows, mut problems) = (Counts::default(), Vec::new(), Vec::new());
    for pure in PURE {
        let files: Vec<PureFile> = pure.each().filter(|file| wanted.contains(file)).collect();
        if !files.is_empty() {
            println!("==> {} without a change", pure.package);
            unchanged(workspace, &copy, pure)?;
        }
        for file in files {
            println!("==> {}", file.name());
            let mutants = mutants(workspace, &copy, pure, file).with_context(|| file.name())?;
            let counts = Counts::of(&mutants);
            total += counts;
            rows.push(counts.row(&file.name()));
            let new = verdict::of_file(&file.name(), &mutants, &left);
            println!("{}\n{}", counts::head(""), counts.row(&file.name()));
            for problem in &new {
                println!("{problem}");
            }
            problems.extend(new);
        }
    }
    println!("==> all\n{}", counts::head("file"));
    for row in rows.into_iter().chain([total.row("all")]) {
        println!("{row}");
    }
    if words.is_empty() {
        problems.extend(verdict::of_all(total));
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("1 finding"),
        more => bail!("{more} findings"),
    }
}

/// The pure files that are meant; all where nothing is named.
fn wanted(words: &[&str]) -> Result<Vec<PureFile>> {
    let all = pure_files();
    if words.is_empty() {
        return Ok(all);
    }
    let mut wanted = Vec::new();
    for word in words {
        let meant: Vec<PureFile> = all.iter().copied().filter(|file| file.is_meant_by(word)).collect();
        let names = |files: &[PureFile]| files.iter().map(|file| file.name()).collect::<Vec<_>>().join(", ");
        match meant.as_slice() {
            [one] => wanted.push(*one),
            [] => bail!("{word} is none of the pure files: {}", names(&all)),
            several => bail!("{word} may be any of {}", names(several)),
        }
    }
    Ok(wanted)
}

/// Fails where cargo-mutants is not there, or words its mutants otherwise than the table.
fn require_cargo_mutants(workspace: &Workspace) -> Result<()> {
    let output = workspace.cargo().args(["mutants", "--version"]).output().context("cannot run cargo")?;
    let told = String::from_utf8_lossy(&output.stdout);
    let found = told.trim().strip_prefix("cargo-mutants ").filter(|_| output.status.success());
    if let Some(problem) = lacks(found) {
        bail!("{problem}; install it: cargo install cargo-mutants --version {VERSION} --locked");
    }
    Ok(())
}

/// What is wrong with the release that was found.
fn lacks(found: Option<&str>) -> Option<String> {
    match found {
        Some(VERSION) => None,
        Some(other) => {
            Some(format!("cargo-mutants {other} is here, and the table in {DOCUMENT} is of {VERSION}"))
        }
        None => Some("cargo-mutants is not here".to_owned()),
    }
}

/// Bounds the memory of what is started from here on.
fn limit_memory() -> Result<()> {
    let now = getrlimit(Resource::Data);
    let limit = Rlimit { current: Some(now.maximum.map_or(MEMORY, |most| most.min(MEMORY))), ..now };
    setrlimit(Resource::Data, limit).context("cannot limit the memory of the tests")
}

/// What cargo runs in the copy.
fn cargo(workspace: &Workspace, copy: &Copy) -> Command {
    let mut command = workspace.cargo();
    command.current_dir(&copy.tree).env("CARGO_TARGET_DIR", &copy.target);
    command.envs(RANDOM_CASES.iter().copied());
    command
}

/// Builds the tests and has them pass, without which no failure says anything.
fn unchanged(workspace: &Workspace, copy: &Copy, pure: &PureFiles) -> Result<()> {
    let mut command = cargo(workspace, copy);
    command.args(["test", "--quiet", "--all-features", "--profile=mutants", "--package", pure.package]);
    let status = command.args(pure.tests).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the tests of {} fail without a change", pure.package);
    }
    Ok(())
}

fn mutants(workspace: &Workspace, copy: &Copy, pure: &PureFiles, file: PureFile) -> Result<Vec<Mutant>> {
    // What another file left would be taken for this one's.
    match std::fs::remove_dir_all(&copy.output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("cannot remove the last output");
        }
        _ => std::fs::create_dir_all(&copy.output)?,
    }
    let mut outcomes = Vec::new();
    for (words, limit) in pure.stages(file).iter().zip(TEST_TIMEOUTS) {
        outcomes.extend(stage(workspace, copy, file, words, limit)?);
    }
    mutant::parse(&outcomes)
}

/// What does not end in one stage does not end in the next, which passes over what it finds in `caught.txt`.
fn pass_over_timeouts(folder: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let all = read("caught.txt") + &read("timeout.txt");
    std::fs::write(folder.join("caught.txt"), all).context("cannot write caught.txt")
}

/// Tests what no stage before it has noticed; none where nothing is left.
fn stage(
    workspace: &Workspace,
    copy: &Copy,
    file: PureFile,
    words: &[String],
    limit: &str,
) -> Result<Option<String>> {
    let mut command = cargo(workspace, copy);
    command.args([
        "mutants",
        "--in-place",
        "--iterate",
        "--no-config",
        "--baseline=skip",
        "--profile=mutants",
    ]);
    command.args(["--timeout", limit, "--build-timeout", BUILD_TIMEOUT, "--colors=never"]);
    command.args(["--package", file.package, "--file", &file.path(), "--all-features"]);
    // For the builds too, which would make all tests of the crate otherwise.
    command.args(words.iter().map(|word| format!("--cargo-arg={word}")));
    // One at a time, because there is one copy.
    command.env_remove("CARGO_MUTANTS_JOBS");
    let output = command.arg("--output").arg(&copy.output).output().context("cannot run cargo")?;
    // 2: some were missed; 3: some tests did not end.
    if !matches!(output.status.code(), Some(0 | 2 | 3)) {
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        bail!("cargo mutants failed ({}):\n{}", output.status, told.concat());
    }
    let written = copy.output.join("mutants.out/outcomes.json");
    match std::fs::read_to_string(&written) {
        // The next stage may have nothing to do, and write nothing.
        Ok(outcomes) => {
            std::fs::remove_file(&written).context("cannot remove outcomes.json")?;
            pass_over_timeouts(&copy.output.join("mutants.out"))?;
            Ok(Some(outcomes))
        }
        // Nothing in the file can be changed, or nothing is left.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read outcomes.json"),
    }
}

#[cfg(test)]
mod tests {
    use super::{VERSION, lacks, wanted};

    #[test]
    fn a_file_is_meant_by_its_path_its_name_or_the_end_of_it_if_that_is_clear() {
        let names = |words: &[&str]| -> Result<Vec<String>, String> {
            let files = wanted(words).map_err(|error| error.to_string())?;
            Ok(files.into_iter().map(super::PureFile::name).collect())
        };
        let backoff = || Ok(vec!["pmesh-supervisor/backoff.rs".to_owned()]);
        assert_eq!(names(&["crates/pmesh-supervisor/src/backoff.rs"]), backoff());
        assert_eq!(names(&["pmesh-supervisor/backoff.rs"]), backoff());
        assert_eq!(names(&["backoff.rs"]), backoff());
        assert!(names(&["off.rs"]).unwrap_err().starts_with("off.rs is none of the pure files: "));
        assert!(names(&[]).unwrap().len() > 20);
    }

    #[test]
    fn another_release_words_its_mutants_otherwise_and_is_refused() {
        assert_eq!(lacks(Some(VERSION)), None);
        assert!(lacks(Some("1.0.0")).unwrap().contains(VERSION));
        assert_eq!(lacks(None).unwrap(), "cargo-mutants is not here");
    }
}
