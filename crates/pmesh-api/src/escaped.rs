//! JSON that a terminal can show.

use std::io::{self, Write};

use pmesh_vcs::redact::printable_json;

/// A writer of JSON that escapes in strings what steers a terminal or turns text around: what JSON itself lets
/// stand (RFC 8259, 7). The values stay what they are.
#[derive(Debug)]
pub(crate) struct Escaped<W>(pub(crate) W);

impl<W: Write> Write for Escaped<W> {
    /// Takes whole characters only, as `serde_json` gives them.
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        // Controls of ASCII are escaped in strings already, and stand between values in indented JSON.
        let is_plain = json.iter().all(|&b| b < 0x7f);
        match std::str::from_utf8(json) {
            Ok(text) if !is_plain => {
                self.0.write_all(printable_json(text).as_bytes())?;
            }
            _ => self.0.write_all(json)?,
        }
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use pmesh_vcs::redact::is_unprintable;

    use super::*;

    #[test]
    fn json_for_a_terminal_is_the_same_value_without_controls() {
        let value = serde_json::json!({"a\u{9b}2J": ["\u{1b}[2J\u{202e}\u{7f}\u{2028}é😀", "plain\n"]});
        for indented in [false, true] {
            let mut text = Vec::new();
            if indented {
                serde_json::to_writer_pretty(Escaped(&mut text), &value).unwrap();
            } else {
                serde_json::to_writer(Escaped(&mut text), &value).unwrap();
            }
            let text = String::from_utf8(text).unwrap();
            assert!(!text.chars().any(|c| c != '\n' && is_unprintable(c)), "{text:?}");
            assert!(text.contains("é😀") && text.contains("\\u009b2J"), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }
}
