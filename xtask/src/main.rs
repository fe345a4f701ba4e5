//! The project's own tools.
//!
//! ```text
//! cargo xtask check    the rules of docs/ARCHITECTURE.md that a program can verify
//! cargo xtask ci       everything that has to hold before a change is taken; what `.ci/run` runs
//! cargo xtask public   the lists of public items in docs/public
//! cargo xtask mutants  whether the tests of the pure files notice a changed place
//! cargo xtask bench    figures as ratios to peers in the same run, into docs/benchmarks.md
//! ```

mod bench;
mod check;
mod ci;
mod mutants;
mod public;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  check    layers, sources, circles of files, public items, tracked files, documents, and that every crate checks alone
           (--quick: without what takes minutes on an empty target)
  public   writes docs/public: the public items of each crate, which `check` compares with the sources
  ci       format, clippy, docs, check, tests: what .ci/run runs
  mutants [--file FILE]...
           changes the pure files one place at a time and runs their tests, which must fail (all files: two hours);
           what they let through is compared with docs/testing.md
  bench [front|repo|supervise]...
           measures the server against its peers (all three: about a quarter of an hour) and writes docs/benchmarks.md;
           peers come from Debian's packages, and it says which are missing
  bench front --against FILE
           measures the front of this build and of the one in FILE in the same run, and prints the table
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let workspace = Workspace::of_this_package();
    let outcome = match words.as_slice() {
        ["check"] => check::run(&workspace),
        ["check", "--quick"] => check::run_quick(&workspace),
        ["public"] => public::write(&workspace),
        ["ci"] => ci::run(&workspace),
        ["mutants", words @ ..] if words.chunks(2).all(|pair| matches!(pair, ["--file", _])) => {
            let files: Vec<&str> = words.iter().skip(1).step_by(2).copied().collect();
            mutants::run(&workspace, &files)
        }
        ["bench", bench::UPSTREAM] => bench::serve_upstream(),
        ["bench", bench::GUARD] => bench::guard(),
        ["bench", bench::WRITER, pipe] => bench::write_output(pipe),
        ["bench", "front", "--against", other] => bench::compare_front(&workspace, other),
        ["bench", names @ ..] if names.iter().all(|name| bench::knows(name)) => bench::run(&workspace, names),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
