//! Figures from pairs of runs: medians, ratios, and the table that shows them.

use std::fmt::Write as _;

/// Pairs of runs per benchmark.
pub(super) const PAIRS: usize = 5;

/// One quantity, measured once for the server and once for its peer in each pair.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    /// (server, peer), one for each pair.
    pub(super) pairs: Vec<(f64, f64)>,
}

/// The rows as a Markdown table: both medians, and of the ratios server / peer the median and the extremes.
pub(super) fn table(peer: &str, rows: &[Row]) -> String {
    let mut table =
        format!("| | pmesh | {peer} | ratio | lowest to highest |\n| --- | --: | --: | --: | --: |\n");
    for row in rows {
        let server = median(row.pairs.iter().map(|pair| pair.0));
        let other = median(row.pairs.iter().map(|pair| pair.1));
        let ratios: Vec<f64> =
            row.pairs.iter().filter(|pair| pair.1 > 0.0).map(|pair| pair.0 / pair.1).collect();
        let (ratio, range) = if ratios.len() == row.pairs.len() {
            let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = ratios.iter().copied().fold(0.0, f64::max);
            let middle = median(ratios.into_iter());
            (significant(middle), format!("{} to {}", significant(lowest), significant(highest)))
        } else {
            // A peer at 0 has no ratio; the figures themselves say enough.
            ("–".to_owned(), "–".to_owned())
        };
        writeln!(
            table,
            "| {}, {} | {} | {} | **{ratio}** | {range} |",
            row.what,
            row.unit,
            significant(server),
            significant(other)
        )
        .expect("a string takes whatever is written to it");
    }
    table
}

/// The middle value; of an even number the mean of the two in the middle, and 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// Three significant digits, or all that stand before the point.
pub(super) fn significant(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{Row, median, significant, table};

    #[test]
    fn the_median_is_not_moved_by_one_disturbed_run() {
        assert_eq!(significant(median([1.0, 900.0, 1.2, 1.1, 0.9].into_iter())), "1.10");
    }

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_ratios_and_not_the_ratio_of_the_medians() {
        let pairs = vec![(10.0, 5.0), (30.0, 30.0), (2.0, 4.0)];
        let table = table("nginx", &[Row { what: "CPU", unit: "µs", pairs }]);
        assert!(table.ends_with("| CPU, µs | 10.0 | 5.00 | **1.00** | 0.500 to 2.00 |\n"), "{table}");
    }

    #[test]
    fn a_peer_at_zero_has_no_ratio() {
        let table = table("supervisord", &[Row { what: "CPU", unit: "ticks", pairs: vec![(1.0, 0.0)] }]);
        assert!(table.ends_with("| CPU, ticks | 1.00 | 0 | **–** | – |\n"), "{table}");
    }
}
