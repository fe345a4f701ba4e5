//! Aligned columns.

use crate::terminal::{Colour, Style, harmless};

/// Between two columns.
const GAP: &str = "  ";

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a line of titles.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

/// A row, and what is said about it in the lines under it.
#[derive(Debug, Default)]
pub(super) struct Row {
    cells: Vec<(String, Option<Colour>)>,
    remarks: Vec<(String, Fit)>,
}

/// What becomes of a line that is wider than the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Its end is left out.
    Cut,
    /// It goes on in the next line.
    Wrapped,
}

impl Row {
    /// Adds a cell.
    pub(super) fn cell(mut self, text: impl Into<String>) -> Self {
        self.cells.push((text.into(), None));
        self
    }

    /// Adds a cell whose colour says what its text says.
    pub(super) fn painted(mut self, text: impl Into<String>, colour: Colour) -> Self {
        self.cells.push((text.into(), Some(colour)));
        self
    }

    /// Adds a line under the row, indented and cut to the terminal.
    pub(super) fn remark(mut self, text: impl Into<String>) -> Self {
        self.remarks.push((text.into(), Fit::Cut));
        self
    }

    /// Adds a line under the row, indented, of which nothing is left out: where it is too long for the terminal it
    /// goes on in the next one.
    pub(super) fn told(mut self, text: impl Into<String>) -> Self {
        self.remarks.push((text.into(), Fit::Wrapped));
        self
    }
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Where the last column has figures, which say nothing once they are cut, the first gives way to them.
    fn shrink(&self, widths: &mut [usize], style: Style) {
        /// What is left of a name is still to be known by.
        const LEAST: usize = 8;
        let Some(room) = style.width else { return };
        let taken = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        if let (Some(first), Some((_, Align::Right))) = (widths.first_mut(), self.columns.last()) {
            let least = LEAST.min(*first);
            *first = first.saturating_sub(taken.saturating_sub(room)).max(least);
        }
    }

    /// The table as lines, each with its end.
    pub(super) fn render(&self, style: Style) -> String {
        let titles =
            self.columns.iter().fold(Row::default(), |row, (title, _)| row.painted(*title, Colour::Bold));
        let rows: Vec<Row> = std::iter::once(&titles)
            .chain(&self.rows)
            .map(|row| Row {
                cells: row.cells.iter().map(|(text, colour)| (one_line(text), *colour)).collect(),
                remarks: row.remarks.iter().map(|(remark, fit)| (one_line(remark), *fit)).collect(),
            })
            .collect();
        let mut widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.cells.get(column))
                    .map(|(text, _)| text.chars().count())
                    .max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        self.shrink(&mut widths, style);
        let mut table = String::new();
        for Row { cells, remarks } in rows {
            let mut taken = 0;
            let last = cells.len().saturating_sub(1);
            for (index, ((text, colour), (width, (_, align)))) in
                cells.iter().zip(widths.iter().zip(&self.columns)).enumerate()
            {
                let text = match index {
                    0 if text.chars().count() > *width => Style { width: Some(*width), ..style }.cut(text, 0),
                    _ if index == last => style.cut(text, taken),
                    _ => text.clone(),
                };
                let padding = " ".repeat(width.saturating_sub(text.chars().count()));
                let text = colour.map_or(text.clone(), |colour| style.paint(colour, &text));
                match align {
                    Align::Left if index == last => table.push_str(&text),
                    Align::Left => table.extend([&*text, &padding]),
                    Align::Right => table.extend([&*padding, &text]),
                }
                if index != last {
                    table.push_str(GAP);
                }
                taken += width + GAP.len();
            }
            table.push('\n');
            for (remark, fit) in remarks {
                let lines = match fit {
                    Fit::Cut => vec![style.cut(&remark, GAP.len())],
                    Fit::Wrapped => style.wrapped(&remark, GAP.len()),
                };
                for line in lines {
                    table.extend([GAP, &line, "\n"]);
                }
            }
        }
        table
    }
}

/// The text of a cell, which has one line.
fn one_line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::{Align, Row, Table};
    use crate::terminal::{Colour, Style};

    fn table() -> Table {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("WHAT", Align::Left)]);
        table.push(
            Row::default().cell("web").painted("7", Colour::Green).cell("é").remark("a longer sentence"),
        );
        table.push(Row::default().cell("assets").cell("12345").cell("two\nlines\x1b[2J"));
        table
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_spaces() {
        let lines = [
            "NAME     SIZE  WHAT",
            "web         7  é",
            "  a longer sentence",
            "assets  12345  two lines\\u{1b}[2J",
            "",
        ];
        assert_eq!(table().render(Style::PLAIN), lines.join("\n"));
    }

    #[test]
    fn what_is_told_is_never_cut() {
        let mut table = Table::new(&[("NAME", Align::Left)]);
        table.push(Row::default().cell("web").told("one two three").told("  four five six"));
        let shown = table.render(Style { colour: false, width: Some(11) });
        assert_eq!(shown, "NAME\nweb\n  one two\n  three\n    four\n    five\n    six\n");
        assert_eq!(table.render(Style::PLAIN), "NAME\nweb\n  one two three\n    four five six\n");
    }

    #[test]
    fn colours_do_not_count_as_width_and_long_lines_are_cut() {
        let shown = table().render(Style { colour: true, width: Some(17) });
        assert_eq!(
            shown,
            "\x1b[1mNAME\x1b[0m     \x1b[1mSIZE\x1b[0m  \x1b[1mW…\x1b[0m\nweb         \x1b[32m7\x1b[0m  é\n  a longer sente…\nassets  12345  t…\n"
        );
    }
}
