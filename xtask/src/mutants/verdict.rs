//! What is wrong with a run: what the tests let through against what docs/testing.md says that they may.

use super::counts::Counts;
use super::left::{DOCUMENT, Left};
use super::mutant::{Fate, Mutant};

/// Of all mutants that compile, so many are noticed at least.
const LEAST_PERCENT: f64 = 95.0;

/// One line for each thing that is wrong with `mutants`, those of the file `name`.
pub(super) fn of_file(name: &str, mutants: &[Mutant], left: &[Left]) -> Vec<String> {
    let left: Vec<&Left> = left.iter().filter(|row| row.file == name).collect();
    let is_listed = |mutant: &Mutant| left.iter().any(|row| row.mutant == mutant.text);
    let missed = mutants.iter().filter(|mutant| mutant.fate == Fate::Missed && !is_listed(mutant));
    let new = missed.map(|Mutant { place: (line, column), text, .. }| {
        format!("{name}:{line}:{column}: {text}: no test notices; write it, or list it in {DOCUMENT} with the reason")
    });
    let old = left.iter().filter_map(|row| {
        let problem = match mutants.iter().find(|mutant| mutant.text == row.mutant).map(|mutant| mutant.fate)
        {
            Some(Fate::Missed) => return None,
            Some(Fate::Caught | Fate::TimedOut) => "the tests notice it",
            Some(Fate::Unviable) => "it does not compile",
            None => "there is no such mutant",
        };
        Some(format!("{DOCUMENT}:{}: {name}: {}: {problem}; take it out", row.line, row.mutant))
    });
    new.chain(old).collect()
}

/// What is wrong with a run over all files.
pub(super) fn of_all(total: Counts) -> Option<String> {
    (total.percent() < LEAST_PERCENT).then(|| format!("fewer than {LEAST_PERCENT} % are noticed"))
}

#[cfg(test)]
mod tests {
    use super::{Counts, Fate, Left, Mutant, of_all, of_file};

    fn mutant(text: &str, fate: Fate) -> Mutant {
        Mutant { place: (3, 5), text: text.to_owned(), fate }
    }

    fn row(file: &str, mutant: &str) -> Left {
        Left { line: 9, file: file.to_owned(), mutant: mutant.to_owned(), reason: "equivalent".to_owned() }
    }

    #[test]
    fn a_missed_mutant_must_be_listed_for_its_own_file() {
        let mutants = [mutant("replace f", Fate::Missed), mutant("replace g", Fate::Caught)];
        assert_eq!(of_file("x/a.rs", &mutants, &[row("x/a.rs", "replace f")]), [""; 0]);
        let problems = of_file("x/a.rs", &mutants, &[row("x/b.rs", "replace f")]);
        let problem =
            "x/a.rs:3:5: replace f: no test notices; write it, or list it in docs/testing.md with the reason";
        assert_eq!(problems, [problem]);
    }

    #[test]
    fn a_listed_mutant_that_is_noticed_or_gone_is_taken_out() {
        let mutants = [
            mutant("replace f", Fate::Caught),
            mutant("replace g", Fate::TimedOut),
            mutant("replace h", Fate::Unviable),
        ];
        let left = ["replace f", "replace g", "replace h", "replace i"].map(|text| row("x/a.rs", text));
        let problems = of_file("x/a.rs", &mutants, &left);
        let whys =
            ["the tests notice it", "the tests notice it", "it does not compile", "there is no such mutant"];
        assert_eq!(problems.len(), whys.len());
        for (problem, why) in problems.iter().zip(whys) {
            assert!(
                problem.starts_with("docs/testing.md:9: x/a.rs: replace ") && problem.contains(why),
                "{problem}"
            );
        }
    }

    #[test]
    fn ninety_five_percent_are_enough_and_less_is_not() {
        let run = |caught, missed| {
            let caught = std::iter::repeat_n(mutant("replace f", Fate::Caught), caught);
            let missed = std::iter::repeat_n(mutant("replace f", Fate::Missed), missed);
            Counts::of(&caught.chain(missed).collect::<Vec<_>>())
        };
        assert_eq!(of_all(run(95, 5)), None);
        assert!(of_all(run(949, 51)).is_some());
    }
}
