//! Figures of several programs from the same rounds: medians, ratios, and the table that shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::figures::{median, significant};

/// What is measured, and what it should be.
pub(super) struct Quantity {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) aim: &'static str,
}

/// What one round gave of one program, by quantity.
pub(super) type Measured = BTreeMap<&'static str, f64>;

/// A program and its rounds.
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) rounds: Vec<Measured>,
}

/// A line for each quantity that was measured: of the first contender the median and the extremes, of the others the
/// median, and the median of the rounds' ratios first / other.
pub(super) fn table(quantities: &[Quantity], contenders: &[Contender]) -> String {
    let Some((first, others)) = contenders.split_first() else { return String::new() };
    let mut table = format!("| | {} | lowest to highest |", first.name);
    for Contender { name, .. } in others {
        write!(table, " {name} | ratio |").expect(TAKES);
    }
    table.push_str(" aim |\n| --- | --: | --: |");
    table.push_str(&" --: | --: |".repeat(others.len()));
    table.push_str(" --: |\n");
    for Quantity { what, unit, aim } in quantities {
        let ours = values(first, what);
        if ours.is_empty() {
            continue;
        }
        let lowest = ours.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ours.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = format!("{} to {}", significant(lowest), significant(highest));
        write!(table, "| {what}, {unit} | {} | {range} |", significant(median(ours.into_iter())))
            .expect(TAKES);
        for other in others {
            let theirs = values(other, what);
            let ratios = ratios(first, other, what);
            let ratio = if ratios.is_empty() { None } else { Some(median(ratios.into_iter())) };
            let theirs = if theirs.is_empty() { None } else { Some(median(theirs.into_iter())) };
            let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), significant);
            write!(table, " {} | {} |", shown(theirs), shown(ratio)).expect(TAKES);
        }
        let aim = if aim.is_empty() { "–" } else { aim };
        writeln!(table, " {aim} |").expect(TAKES);
    }
    table
}

const TAKES: &str = "a string takes whatever is written to it";

fn values(contender: &Contender, what: &str) -> Vec<f64> {
    contender.rounds.iter().filter_map(|round| round.get(what).copied()).collect()
}

/// None where a round has no such ratio: a peer at 0.
fn ratios(first: &Contender, other: &Contender, what: &str) -> Vec<f64> {
    let pairs = first.rounds.iter().zip(&other.rounds);
    let ratios: Option<Vec<f64>> = pairs
        .map(|(ours, theirs)| Some((ours.get(what)?, theirs.get(what).filter(|theirs| **theirs > 0.0)?)))
        .map(|pair| pair.map(|(ours, theirs)| ours / theirs))
        .collect();
    ratios.unwrap_or_default()
}

/// The value that so large a share of the values does not exceed (nearest rank); 0 of none.
pub(super) fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let rank = (1..=count).find(|rank| *rank as f64 >= share * count as f64);
    rank.map_or(0.0, |rank| values[rank - 1])
}

#[cfg(test)]
mod tests {
    use super::{Contender, Measured, Quantity, percentile, table};

    fn contender(name: &'static str, rounds: &[&[(&'static str, f64)]]) -> Contender {
        Contender {
            name,
            rounds: rounds.iter().map(|round| round.iter().copied().collect::<Measured>()).collect(),
        }
    }

    #[test]
    fn all_stand_side_by_side_with_the_median_of_the_ratios_and_the_aim() {
        let quantities = [
            Quantity { what: "start", unit: "s", aim: "0.3" },
            Quantity { what: "idle", unit: "ticks", aim: "" },
            Quantity { what: "sample", unit: "ms", aim: "8" },
            Quantity { what: "nobody's", unit: "s", aim: "1" },
        ];
        let contenders = [
            contender(
                "pmesh",
                &[
                    &[("start", 1.0), ("idle", 0.0), ("sample", 9.0)],
                    &[("start", 3.0), ("idle", 1.0), ("sample", 5.0)],
                    &[("start", 2.0), ("idle", 0.0), ("sample", 7.0)],
                ],
            ),
            contender(
                "a",
                &[
                    &[("start", 4.0), ("idle", 2.0)],
                    &[("start", 3.0), ("idle", 2.0)],
                    &[("start", 40.0), ("idle", 2.0)],
                ],
            ),
            contender("b", &[&[("idle", 0.0)], &[("idle", 1.0)], &[("idle", 0.0)]]),
        ];
        assert_eq!(
            table(&quantities, &contenders),
            "| | pmesh | lowest to highest | a | ratio | b | ratio | aim |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: |\n\
             | start, s | 2.00 | 1.00 to 3.00 | 4.00 | 0.250 | – | – | 0.3 |\n\
             | idle, ticks | 0 | 0 to 1.00 | 2.00 | 0 | 0 | – | – |\n\
             | sample, ms | 7.00 | 5.00 to 9.00 | – | – | – | – | 8 |\n"
        );
    }

    #[test]
    fn without_peers_there_is_one_column() {
        let quantities = [Quantity { what: "start", unit: "s", aim: "0.3" }];
        assert_eq!(
            table(&quantities, &[contender("pmesh", &[&[("start", 0.25)]])]),
            "| | pmesh | lowest to highest | aim |\n| --- | --: | --: | --: |\n\
             | start, s | 0.250 | 0.250 to 0.250 | 0.3 |\n"
        );
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(hundred.clone(), 0.99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(hundred, 0.5) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(vec![7.0, 3.0, 5.0], 0.99) - 7.0).abs() < f64::EPSILON);
        assert!(percentile(Vec::new(), 0.99).abs() < f64::EPSILON);
    }
}
