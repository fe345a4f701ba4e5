//! Which lines of an output say most of why something ended.

/// Words of lines that name an error, in small letters.
const WORDS: [&str; 14] = [
    "error",
    "exception",
    "panic",
    "fatal",
    "fail",
    "cannot",
    "can't",
    "unable",
    "denied",
    "refused",
    "not found",
    "no such",
    "undefined",
    "unknown",
];

/// What frames of a stack begin with: they name files, and files have names such as `errors.js`.
const FRAMES: [&str; 3] = ["at ", "from ", "File \""];

/// The newest of these lines, at most `count`, oldest first. Where none of them names an error and an older line
/// does, the newest of those stands in the place of the first: a stack or a version often comes behind the error.
pub fn telling_lines(lines: &[String], count: usize) -> Vec<&str> {
    let (before, newest) = lines.split_at(lines.len().saturating_sub(count));
    let mut told: Vec<&str> = newest.iter().map(String::as_str).collect();
    if told.len() > 1
        && !told.iter().any(|line| names_an_error(line))
        && let Some(error) = before.iter().rfind(|line| names_an_error(line))
    {
        told[0] = error;
    }
    told
}

/// Whether a line of an output names an error, and is no frame of a stack.
pub fn names_an_error(line: &str) -> bool {
    let line = line.trim_start();
    let small = line.to_lowercase();
    !FRAMES.iter().any(|frame| line.starts_with(frame)) && WORDS.iter().any(|word| small.contains(word))
}

#[cfg(test)]
mod tests {
    use super::telling_lines;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_newest_lines_are_told_oldest_first() {
        assert_eq!(telling_lines(&lines("a\nb\nc\nValueError: x"), 3), ["b", "c", "ValueError: x"]);
        assert_eq!(telling_lines(&lines("a\nb"), 3), ["a", "b"]);
        assert_eq!(telling_lines(&lines("a error\nb"), 1), ["b"], "the newest always");
        assert!(telling_lines(&[], 3).is_empty());
    }

    #[test]
    fn an_error_that_a_stack_and_a_version_follow_is_told_before_them() {
        let node = lines(
            "Error: Cannot find module 'express'\n    at Module._load (node:internal/errors:1)\n    at main\n{\n}\nNode.js v20.11.0",
        );
        assert_eq!(telling_lines(&node, 3), ["Error: Cannot find module 'express'", "}", "Node.js v20.11.0"]);
    }
}
