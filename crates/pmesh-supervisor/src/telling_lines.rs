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

/// What Node.js writes around an error of an event emitter, without a word of the error itself.
const EMITTED: [&str; 2] = ["Emitted 'error' event", "throw er; // Unhandled 'error' event"];

/// What Node.js ends with when it dies of an error: its version.
const NODE_TRAILER: &str = "Node.js v";

/// The newest of these lines, at most `count`, oldest first. Where there are more, those that say nothing (brackets, the version
/// behind an error) are the first to go. Where none of the rest names an error and an older line does, the newest of those
/// stands in the place of the first: a stack often comes behind the error.
pub fn telling_lines(lines: &[String], count: usize) -> Vec<&str> {
    let mut telling: Vec<&str> = lines.iter().map(String::as_str).collect();
    if telling.len() > count {
        telling.retain(|line| says_something(line));
        if telling.is_empty() {
            telling = lines.iter().map(String::as_str).collect();
        }
    }
    let (before, newest) = telling.split_at(telling.len().saturating_sub(count));
    let mut told = newest.to_vec();
    if told.len() > 1
        && !told.iter().any(|line| names_an_error(line))
        && let Some(error) = before.iter().rfind(|line| names_an_error(line))
    {
        told[0] = error;
    }
    told
}

fn says_something(line: &str) -> bool {
    line.chars().any(char::is_alphanumeric) && !line.starts_with(NODE_TRAILER)
}

/// Whether a line of an output names an error, and is no frame of a stack.
pub fn names_an_error(line: &str) -> bool {
    let line = line.trim_start();
    let small = line.to_lowercase();
    let is_around = FRAMES.iter().chain(&EMITTED).any(|around| line.starts_with(around));
    !is_around && WORDS.iter().any(|word| small.contains(word))
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
        assert_eq!(telling_lines(&lines("a error\nb"), 1), ["b"], "the newest of those that say something");
        assert!(telling_lines(&[], 3).is_empty());
    }

    #[test]
    fn an_error_that_a_stack_and_a_version_follow_is_told_before_them() {
        let node = lines(
            "Error: Cannot find module 'express'\n    at Module._load (node:internal/errors:1)\n    at main\n{\n}\n\nNode.js v20.11.0",
        );
        let stack = ["    at Module._load (node:internal/errors:1)", "    at main"];
        assert_eq!(telling_lines(&node, 3), [node[0].as_str(), stack[0], stack[1]]);
        assert_eq!(telling_lines(&node, 2), [node[0].as_str(), stack[1]]);
        assert_eq!(telling_lines(&node, 9), node, "all of them");
    }

    #[test]
    fn what_node_writes_around_an_error_of_an_emitter_is_not_taken_for_it() {
        let taken = lines(
            "node:events:495\n      throw er; // Unhandled 'error' event\n      ^\n\nError: listen EADDRINUSE: address already in use \
             127.0.0.1:3000\n    at Server.listen (node:net:1817:16)\nEmitted 'error' event on Server instance at:\n    at \
             emitErrorNT (node:net:1796:8) {\n  code: 'EADDRINUSE',\n  errno: -98,\n  syscall: 'listen',\n  address: \
             '127.0.0.1',\n  port: 3000\n}\n\nNode.js v20.11.0",
        );
        let told = telling_lines(&taken, 3);
        let error = "Error: listen EADDRINUSE: address already in use 127.0.0.1:3000";
        assert_eq!(told, [error, "  address: '127.0.0.1',", "  port: 3000"]);
    }

    #[test]
    fn the_version_of_node_and_brackets_hide_no_line() {
        let thrown = lines("listening\nTypeError: x is not a function\n}\n\nNode.js v20.11.0");
        assert_eq!(telling_lines(&thrown, 1), ["TypeError: x is not a function"]);
        assert_eq!(telling_lines(&lines("}\n\nNode.js v20.11.0"), 1), ["Node.js v20.11.0"], "nothing else");
    }
}
