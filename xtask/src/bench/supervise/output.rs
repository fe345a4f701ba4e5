//! What the service with much output writes: bytes of which each loss, doubling and change shows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The word by which this program starts itself as that service.
pub(crate) const WRITER: &str = "write-output";

/// What it writes at once, which is what C programs buffer for a pipe.
pub(super) const BLOCK: usize = 4096;
/// Less than what a supervisor keeps with 16 MB a file and four old ones: all of it can be read again.
pub(super) const BURST: usize = 48 << 20;

const LINE: usize = 128;
const DIGITS: usize = 12;

/// Writes a burst for each byte that comes from `pipe`, until it ends.
pub(super) fn serve(pipe: &Path, mut output: impl Write) -> Result<()> {
    let mut pipe = File::open(pipe).with_context(|| format!("cannot read {}", pipe.display()))?;
    let mut burst = 0;
    while pipe.read(&mut [0])? == 1 {
        let mut block = block(burst);
        for _ in 0..BURST / BLOCK {
            output.write_all(&block)?;
            count(&mut block);
        }
        burst += 1;
    }
    Ok(())
}

/// The first block of a burst: lines, in the first of them the numbers of burst and block.
fn block(burst: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    for line in 0..BLOCK / LINE {
        let head = if line == 0 { format!("{:0DIGITS$} {burst:04} ", 0) } else { format!("{line:04} ") };
        block.extend_from_slice(head.as_bytes());
        block.resize(LINE * (line + 1) - 1, b'a');
        block.push(b'\n');
    }
    block
}

/// The next block. Only what differs is written, as a program that writes fast would.
fn count(block: &mut [u8]) {
    for digit in block[..DIGITS].iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// The last block of a burst, by which its end is known.
pub(super) fn last_block(burst: usize) -> Vec<u8> {
    let mut block = block(burst);
    block[..DIGITS].copy_from_slice(format!("{:0DIGITS$}", BURST / BLOCK - 1).as_bytes());
    block
}

/// The first byte at which these are not a whole burst.
pub(super) fn difference(bytes: &[u8], burst: usize) -> Option<usize> {
    let mut expected = block(burst);
    for (number, found) in bytes.chunks(BLOCK).enumerate() {
        if found != expected {
            let same = found.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
            return Some(number * BLOCK + same);
        }
        count(&mut expected);
    }
    (bytes.len() != BURST).then_some(bytes.len())
}

/// The last bytes of a log that was rotated, of which the newest file comes first. Fewer if there are not as many.
pub(super) fn end_of(files: &[PathBuf], length: usize) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut missing = length;
    for path in files {
        // One that is not there was moved meanwhile, and whoever waits looks again.
        let Ok(file) = File::open(path) else { break };
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut part = vec![0; missing.min(usize::try_from(size).unwrap_or(usize::MAX))];
        let begin = size - part.len() as u64;
        if file.read_exact_at(&mut part, begin).is_err() {
            break;
        }
        missing -= part.len();
        parts.push(part);
        if missing == 0 {
            break;
        }
    }
    parts.reverse();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(number: usize) -> Vec<u8> {
        let mut block = block(number);
        let mut bytes = Vec::with_capacity(BURST);
        while bytes.len() < BURST {
            bytes.extend_from_slice(&block);
            count(&mut block);
        }
        bytes
    }

    #[test]
    fn a_byte_that_is_lost_doubled_or_changed_is_found() {
        let whole = burst(3);
        assert_eq!(difference(&whole, 3), None);
        assert_eq!(whole[BURST - BLOCK..], last_block(3)[..]);
        assert_eq!(difference(&whole, 4), Some(DIGITS + 4));
        let place = BURST / 2 + 5;
        let mut changed = whole.clone();
        changed[place] = b'?';
        assert_eq!(difference(&changed, 3), Some(place));
        // Within the digits of a block a byte can be missed for a few, but not longer.
        let lost = [&whole[..place], &whole[place + 1..]].concat();
        assert!(difference(&lost, 3).is_some_and(|found| (place..place + LINE).contains(&found)));
        let doubled = [&whole[..place], &whole[place..=place], &whole[place..]].concat();
        assert!(difference(&doubled, 3).is_some_and(|found| (place..place + LINE).contains(&found)));
        let block_lost = [&whole[..BLOCK], &whole[2 * BLOCK..]].concat();
        assert_eq!(difference(&block_lost, 3), Some(BLOCK + DIGITS - 1));
        assert_eq!(difference(&whole[..BURST - BLOCK], 3), Some(BURST - BLOCK));
    }

    #[test]
    fn every_block_is_lines() {
        let lines: Vec<_> = block(0).split_inclusive(|&byte| byte == b'\n').map(<[u8]>::len).collect();
        assert_eq!(lines, [LINE; BLOCK / LINE]);
    }

    #[test]
    fn the_end_of_a_log_goes_over_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old, older] = ["log", "log.1", "log.2"].map(|name| folder.path().join(name));
        std::fs::write(&new, "fg").unwrap();
        std::fs::write(&old, "cde").unwrap();
        let files = [new, old, older.clone()];
        assert_eq!(end_of(&files, 1), b"g");
        assert_eq!(end_of(&files, 4), b"defg");
        assert_eq!(end_of(&files, 9), b"cdefg");
        std::fs::write(older, "ab").unwrap();
        assert_eq!(end_of(&files, 6), b"bcdefg");
    }
}
