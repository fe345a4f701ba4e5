//! The mutants that may be left: the table of docs/testing.md, each with its reason.

use anyhow::{Context as _, Result, bail};

pub(crate) const DOCUMENT: &str = "docs/testing.md";

/// The heading of the section that the table is in.
const HEADING: &str = "## Mutants that are left";

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// In the document.
    pub(crate) line: usize,
    /// The crate, and the file below its `src`.
    pub(crate) file: String,
    /// As cargo-mutants words it, without its place; with its number where several in the file are worded alike.
    pub(crate) mutant: String,
    pub(crate) reason: String,
}

/// The rows of the table in `document`.
pub(crate) fn parse(document: &str) -> Result<Vec<Left>> {
    let lines = document.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let mut section = lines.skip_while(|(_, line)| *line != HEADING).skip(1).peekable();
    section.peek().with_context(|| format!("{DOCUMENT} has no section `{HEADING}`"))?;
    // The first two lines of a table are its head and the rule below it.
    let rows =
        section.take_while(|(_, line)| !line.starts_with("## ")).filter(|(_, line)| line.starts_with('|'));
    rows.skip(2).map(|(line, row)| parse_row(line, row)).collect()
}

fn parse_row(line: usize, row: &str) -> Result<Left> {
    let cells = cells(row);
    let [file, mutant, reason] = cells.as_slice() else {
        bail!("{DOCUMENT}:{line} has {} cells instead of file, mutant and reason", cells.len());
    };
    let code = |cell: &str| cell.trim_matches('`').to_owned();
    Ok(Left { line, file: code(file), mutant: code(mutant), reason: reason.clone() })
}

/// What stands between the bars of a row; `\|` is a bar of the text.
fn cells(row: &str) -> Vec<String> {
    let held = row.replace("\\|", "\0");
    let inner = held.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Left, parse};

    #[test]
    fn a_row_names_the_file_the_mutant_and_the_reason() {
        let document = "# Tests\n\n| a | b | c |\n\n## Mutants that are left\n\nWords.\n\n\
            | file | mutant | why |\n| --- | --- | --- |\n\
            | `pmesh-x/a.rs` | `replace \\|\\| with && in f (1 of 2)` | both are true there |\n\n\
            ## Next\n\n| d | e | f |\n";
        let row = Left {
            line: 11,
            file: "pmesh-x/a.rs".to_owned(),
            mutant: "replace || with && in f (1 of 2)".to_owned(),
            reason: "both are true there".to_owned(),
        };
        assert_eq!(parse(document).unwrap(), [row]);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error_and_not_an_empty_list() {
        assert!(parse("# Tests\n").unwrap_err().to_string().contains("no section"));
        let document = "## Mutants that are left\n| a | b | c |\n|---|---|---|\n| `f` | `m` |\n";
        assert_eq!(
            parse(document).unwrap_err().to_string(),
            "docs/testing.md:4 has 2 cells instead of file, mutant and reason"
        );
    }
}
