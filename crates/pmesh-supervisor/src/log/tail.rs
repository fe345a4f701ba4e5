//! The last lines of an output, for error texts.

use std::sync::Arc;

use parking_lot::Mutex;

/// The most that is kept, in bytes.
const BYTES: usize = 4096;
/// The most that is shown, in lines.
const LINES: usize = 20;
/// The most that is shown of one line, in characters.
const LINE: usize = 300;

/// The end of an instance's output: 4 KiB of it in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Whether the kept bytes begin in the middle of a line.
    cut: bool,
}

impl Tail {
    /// A tail without output.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends output.
    pub(crate) fn push(&self, output: &[u8]) {
        let mut kept = self.0.lock();
        let output = &output[output.len().saturating_sub(BYTES + 1)..];
        kept.bytes.extend_from_slice(output);
        let excess = kept.bytes.len().saturating_sub(BYTES);
        if excess > 0 {
            kept.cut = kept.bytes[excess - 1] != b'\n';
            kept.bytes.drain(..excess);
        }
    }

    /// The last lines, at most 20, oldest first, as text for a person: no control characters, no
    /// terminal colours, no empty lines, what is no UTF-8 replaced, and of long lines the first 300 characters.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kept = self.0.lock();
        let text = String::from_utf8_lossy(&kept.bytes);
        let all: Vec<&str> = text.lines().collect();
        let whole = if kept.cut && all.len() > 1 { &all[1..] } else { &all[..] };
        let mut lines: Vec<String> = whole.iter().map(|line| plain(line)).collect();
        lines.retain(|line| !line.trim().is_empty());
        lines.split_off(lines.len().saturating_sub(LINES)).into_iter().map(short).collect()
    }
}

/// The beginning of a line that is too long.
fn short(line: String) -> String {
    match line.char_indices().nth(LINE) {
        Some(_) => line.chars().take(LINE - 1).chain(['…']).collect(),
        None => line,
    }
}

/// A line without control characters and the control sequences of terminals (ECMA-48, 5.4).
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|char| !('\u{40}'..='\u{7e}').contains(char)).is_some() {}
            chars.next();
        } else if char == '\t' {
            plain.push(' ');
        } else if !char.is_control() {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_lines_are_kept() {
        let tail = Tail::new();
        for number in 0..30 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let lines = tail.lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 10", "line 29"));
    }

    #[test]
    fn no_more_than_4_kib_are_kept_and_a_cut_line_is_left_out() {
        let tail = Tail::new();
        tail.push(&b"x".repeat(10_000));
        tail.push(b"\nlast\n");
        assert_eq!(tail.lines(), ["last"]);
        assert!(tail.0.lock().bytes.len() <= BYTES);
        tail.push(&b"y".repeat(10_000));
        assert_eq!(tail.lines(), ["y".repeat(LINE - 1) + "…"], "but one line is better than none");
    }

    #[test]
    fn a_long_line_is_cut_at_its_end() {
        let tail = Tail::new();
        tail.push(format!("{}\n{}é\n", "é".repeat(LINE), "é".repeat(LINE)).as_bytes());
        assert_eq!(tail.lines(), ["é".repeat(LINE), "é".repeat(LINE - 1) + "…"]);
    }

    #[test]
    fn a_line_is_text_for_a_person() {
        let tail = Tail::new();
        tail.push(b"\x1b[31mred\x1b[0m\tb\x00\x07\xffell\r\n\n  \nopen");
        assert_eq!(tail.lines(), ["red b\u{fffd}ell", "open"]);
    }
}
