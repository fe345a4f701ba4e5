//! The text of an env file: lines of `KEY=value`, as dotenv has them. Pure.

use std::collections::BTreeMap;

/// The longest that `KEY=value` may be with its NUL (execve(2), `MAX_ARG_STRLEN`).
const LONGEST: usize = 128 * 1024;

/// What is wrong with an env file, and where. Nothing of what stands there is told: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnvMistake {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) what: &'static str,
}

/// Reads an env file; of two lines for one variable the later one counts.
///
/// A line is `KEY=value`, with `export ` before it if one likes, and spaces around `=`. A value ends with the line or at a `#`
/// behind a space, or it is in quotes, over several lines if need be: between `'` or `` ` `` everything stands for itself,
/// between `"` a backslash makes `\n`, `\r`, `\t`, `\"`, `\\` and `\$`. Nothing is put in the place of `$…`. Behind a closing
/// quote there may be a comment. CR LF is a line end like LF.
pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, EnvMistake> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mistake_at = |at: usize, what| EnvMistake { line: 1 + newlines(&bytes[..at]), what };
    let text =
        std::str::from_utf8(bytes).map_err(|error| mistake_at(error.valid_up_to(), "it is not UTF-8"))?;
    if let Some(at) = text.find('\0') {
        return Err(mistake_at(at, "there is a NUL character, which no variable can have"));
    }
    let text = text.replace("\r\n", "\n");
    let (mut rest, mut line, mut variables) = (text.as_str(), 1, BTreeMap::new());
    while !rest.is_empty() {
        let mistake = |what| EnvMistake { line, what };
        let (head, mut behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if let Some((name, written)) = assignment(head).map_err(mistake)? {
            let begin = written.trim_start_matches([' ', '\t']);
            let value = match begin.chars().next().filter(|first| "'\"`".contains(*first)) {
                Some(quote) => {
                    let inside = &rest[head.len() - begin.len() + 1..];
                    let (value, length) =
                        quoted(inside, quote).ok_or(mistake("the quote is never closed"))?;
                    let tail = inside[length..].split_once('\n').unwrap_or((&inside[length..], ""));
                    if !is_comment(tail.0) {
                        return Err(EnvMistake {
                            line: line + newlines(&inside.as_bytes()[..length]),
                            what: "behind the closing quote there may be nothing but a comment",
                        });
                    }
                    behind = tail.1;
                    value
                }
                None => unquoted(written).to_owned(),
            };
            if name.len() + value.len() + 2 > LONGEST {
                return Err(mistake("the variable is longer than the 128 KiB that a process can be given"));
            }
            variables.insert(name.to_owned(), value);
        }
        line += newlines(&rest.as_bytes()[..rest.len() - behind.len()]);
        rest = behind;
    }
    Ok(variables)
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count() - 1
}

/// The variable of a line, and all that stands behind its `=`; none where there is nothing or a comment.
fn assignment(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    if is_comment(line) {
        return Ok(None);
    }
    let content = line.trim_start();
    let exported = content.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let (name, value) =
        exported.map_or(content, str::trim_start).split_once('=').ok_or("expected `KEY=value`")?;
    let name = name.trim_end();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err("a name has letters, digits and `_`, and begins with no digit");
    }
    Ok(Some((name, value)))
}

/// Whether nothing stands there but perhaps a comment.
fn is_comment(text: &str) -> bool {
    let text = text.trim_start();
    text.is_empty() || text.starts_with('#')
}

/// A value without quotes: all of the line but a comment and the spaces around.
fn unquoted(written: &str) -> &str {
    let comment =
        written.match_indices('#').map(|(at, _)| at).find(|&at| written[..at].ends_with([' ', '\t']));
    written[..comment.unwrap_or(written.len())].trim()
}

/// The value before the next `quote`, and how long all of it is with that; none where it never comes.
fn quoted(inside: &str, quote: char) -> Option<(String, usize)> {
    let (mut value, mut characters) = (String::new(), inside.char_indices());
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => return Some((value, at + 1)),
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                meant @ ('"' | '\\' | '$') => value.push(meant),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EnvMistake, LONGEST, parse};

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).expect(text).into_iter().collect()
    }

    #[test]
    fn a_line_is_a_variable_as_dotenv_writes_it() {
        for (line, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A=  ", ""),
            ("  export\tA = b c \t", "b c"),
            ("export A=b", "b"),
            ("A=b # c", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", "#c"),
            ("A= #c", ""),
            ("A=b\t#c", "b"),
            ("A=$HOME ${X} $(y)", "$HOME ${X} $(y)"),
            ("A=b=c", "b=c"),
            ("A=b\\n", "b\\n"),
            ("A='b # \"c\" \\n'", "b # \"c\" \\n"),
            ("A=`it's \"b\"`", "it's \"b\""),
            (r#"A="b\n\"c\" \\ \t\r\$x \d""#, "b\n\"c\" \\ \t\r$x \\d"),
            ("A=''  # c", ""),
            ("A=\"\"", ""),
            ("A = \"b\"#c", "b"),
            ("A='b\n# c\n'", "b\n# c\n"),
            ("A=b'c'", "b'c'"),
            ("A=\u{fc}", "\u{fc}"),
        ] {
            assert_eq!(read(line), [("A".to_owned(), value.to_owned())], "{line}");
            let around = format!("\n# A=x\n  #\n{line}\nB=1");
            assert_eq!(read(&around)[0].1, value, "{around}");
            assert_eq!(read(&around)[1].1, "1", "{around}");
        }
    }

    #[test]
    fn a_byte_order_mark_and_ends_of_lines_as_windows_has_them_are_no_content() {
        let text = "\u{feff}A=b\r\n\r\n# c\r\nexport C=\"d\r\ne\" \r\nF=g\r\n";
        let wanted = [("A", "b"), ("C", "d\ne"), ("F", "g")];
        assert_eq!(read(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn of_two_lines_the_later_one_counts_and_an_empty_file_has_none() {
        assert_eq!(read("A=1\nA=2\n"), [("A".to_owned(), "2".to_owned())]);
        assert_eq!(read(""), []);
        assert_eq!(read("\n\n# only\n"), []);
    }

    #[test]
    fn a_mistake_has_its_line() {
        for (text, line, what) in [
            ("A=1\nsecret\n", 2, "KEY=value"),
            ("exports A=1", 1, "a name has"),
            ("A=1\n\n1B=2", 3, "a name has"),
            ("=1", 1, "a name has"),
            ("A-B=1", 1, "a name has"),
            ("A='x\n\n\nB=1", 1, "never closed"),
            ("A=\"x\\\"", 1, "never closed"),
            ("A=\"x\\", 1, "never closed"),
            ("A='1\n2\n' secret\nB=", 3, "closing quote"),
            ("A=1\r\nB=2\r\nC\r\n", 3, "KEY=value"),
            ("A=1\nB=\0", 2, "NUL"),
        ] {
            let mistake = parse(text.as_bytes()).expect_err(text);
            assert_eq!(mistake.line, line, "{text:?}: {mistake:?}");
            assert!(mistake.what.contains(what), "{text:?}: {mistake:?}");
        }
        let mistake = parse(b"A=1\nB=\xff").expect_err("no UTF-8");
        assert_eq!(mistake, EnvMistake { line: 2, what: "it is not UTF-8" });
    }

    #[test]
    fn what_no_process_could_be_given_is_a_mistake() {
        let fits = format!("A={}", "x".repeat(LONGEST - 3));
        assert_eq!(read(&fits)[0].1.len(), LONGEST - 3);
        let mistake = parse(format!("\n{fits}x").as_bytes()).expect_err("one more");
        assert_eq!(mistake.line, 2);
    }

    proptest! {
        #[test]
        fn any_value_in_double_quotes_comes_back(value in "[^\\x00]{0,40}", before in "(#[^\n\\x00]*\n|\n){0,3}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\r', "\\r");
            let text = format!("{before}A=\"{quoted}\"\nB=1\n");
            prop_assert_eq!(read(&text), [("A".to_owned(), value), ("B".to_owned(), "1".to_owned())]);
        }

        #[test]
        fn any_bytes_are_read_or_refused_with_a_line_of_theirs(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(mistake) = parse(&bytes) {
                let lines = bytes.split(|&byte| byte == b'\n').count();
                prop_assert!((1..=lines).contains(&mistake.line));
            }
        }
    }
}
