//! Splitting a line into words like a shell does, with the quotes still to be seen.

/// Why a line has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("opens a quote and does not close it")]
    OpenQuote,
    #[error("has more than one line")]
    ManyLines,
}

/// The words of a line as they stand there, with quotes and backslashes (POSIX.1, 2.2).
pub(crate) fn raw_words(line: &str) -> Result<Vec<&str>, WordsError> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n');
    let line = line.trim_matches(blank);
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            // A backslash at the end of a line only joins it with the next.
            if start.is_some() || !line[index + 1..].starts_with('\n') {
                start.get_or_insert(index);
            }
            escaped = true;
        } else if let Some(open) = quote {
            if c == open {
                quote = None;
            }
        } else if blank(c) {
            if let Some(start) = start.take() {
                words.push(&line[start..index]);
            }
            if c == '\n' {
                return Err(WordsError::ManyLines);
            }
        } else {
            start.get_or_insert(index);
            if matches!(c, '\'' | '"') {
                quote = Some(c);
            }
        }
    }
    if quote.is_some() {
        return Err(WordsError::OpenQuote);
    }
    if let Some(start) = start {
        words.push(&line[start..]);
    }
    Ok(words)
}

/// A word of [`raw_words`] without its quotes and backslashes.
pub(crate) fn unquoted(raw: &str) -> Result<String, WordsError> {
    // To shell-words a `#` at the beginning is a comment and the rest of the line is gone.
    match raw.strip_prefix('#') {
        Some(rest) => Ok(format!("#{}", unquoted(rest)?)),
        None => shell_words::split(raw).map(|words| words.concat()).map_err(|_| WordsError::OpenQuote),
    }
}

/// The parts of a word that stand outside of quotes and behind no backslash, with what follows.
pub(crate) fn bare_characters(raw: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    raw.char_indices().filter(move |(_, c)| {
        if escaped {
            escaped = false;
        } else if *c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if let Some(open) = quote {
            if *c == open {
                quote = None;
            }
        } else if matches!(c, '\'' | '"') {
            quote = Some(*c);
        } else {
            return true;
        }
        false
    })
}
