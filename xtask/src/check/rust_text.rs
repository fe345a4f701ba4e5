//! Rust source without its comments and literals, so that a word found in it is code.

/// `source` with every comment, string and character literal replaced by spaces; the lines stay where they are.
pub(super) fn code_only(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < text.len() {
        let end = literal_or_comment(&text, at);
        if end == at {
            code.push(text[at]);
            at += 1;
        } else {
            code.extend(text[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn literal_or_comment(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => {
            text[at..].iter().position(|&c| c == '\n').map_or(text.len(), |length| at + length)
        }
        '/' if next == Some('*') => block_comment(text, at),
        '"' => quoted(text, at, '"'),
        'r' if !follows_a_word(text, at) => raw_string(text, at).unwrap_or(at),
        // `'a` is a lifetime unless a quote follows the one character.
        '\'' if next == Some('\\') || text.get(at + 2) == Some(&'\'') => quoted(text, at, '\''),
        _ => at,
    }
}

/// Whether the `r` at `at` belongs to a longer word; the prefixes of `br"…"` and `cr"…"` do not count.
fn follows_a_word(text: &[char], at: usize) -> bool {
    let word = |index: usize| text[index].is_alphanumeric() || text[index] == '_';
    match at {
        0 => false,
        1 => word(0) && !matches!(text[0], 'b' | 'c'),
        _ => word(at - 1) && (!matches!(text[at - 1], 'b' | 'c') || word(at - 2)),
    }
}

/// The end of a comment that may hold others.
fn block_comment(text: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut index = at;
    while index < text.len() {
        match (text[index], text.get(index + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                index += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    text.len()
}

/// The end of a literal in which a backslash escapes the next character.
fn quoted(text: &[char], at: usize, quote: char) -> usize {
    let mut index = at + 1;
    while index < text.len() {
        match text[index] {
            '\\' => index += 2,
            c if c == quote => return index + 1,
            _ => index += 1,
        }
    }
    text.len()
}

/// The end of `r"…"` or `r#"…"#`; `None` if this is no raw string but an identifier such as `r#type`.
fn raw_string(text: &[char], at: usize) -> Option<usize> {
    let hashes = text[at + 1..].iter().take_while(|&&c| c == '#').count();
    let body = at + 1 + hashes;
    if text.get(body) != Some(&'"') {
        return None;
    }
    let closes = |&index: &usize| {
        text[index] == '"' && text[index + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    Some((body + 1..text.len()).find(closes).map_or(text.len(), |index| index + 1 + hashes))
}

/// The lines, counted from 1, on which `word` stands as a word of its own.
pub(super) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let stands_alone = |line: &str, at: usize| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    };
    code.lines()
        .enumerate()
        .filter(|(_, line)| line.match_indices(word).any(|(at, _)| stands_alone(line, at)))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{code_only, lines_with_word};

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l b\"m\" 'n' '\\'' o";
        let words: Vec<String> = code_only(source).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "e", "i", "l", "b", "o"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        let source = "fn f<'a>(r#type: &'a str, for_: char) -> &'a str";
        assert_eq!(code_only(source), source);
    }

    #[test]
    fn a_word_is_found_on_its_line_and_not_inside_another() {
        let code = code_only("deny(unsafe_code)\n// unsafe\nunsafe { x }\n\"unsafe\"");
        assert_eq!(lines_with_word(&code, "unsafe"), [3]);
    }
}
