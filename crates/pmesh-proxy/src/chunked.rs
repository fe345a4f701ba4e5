//! The chunked transfer coding (RFC 9112, section 7.1): taken apart as it comes in, put on as it goes out.

use bytes::{Buf as _, Bytes, BytesMut};

/// What extensions, and trailer fields, of one body may have, in bytes: both are read and dropped.
const MAX_DROPPED: usize = 16 << 10;

/// What ends a body without trailer fields.
pub(crate) const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");
/// What ends the data of a chunk.
pub(crate) const CHUNK_END: Bytes = Bytes::from_static(b"\r\n");

/// What stands before the data of a chunk of this size.
pub(crate) fn chunk_begin(size: usize) -> Bytes {
    Bytes::from(format!("{size:x}\r\n"))
}

/// How far the reading of a chunked body has come. Line ends are CRLF and nothing else: who takes a bare
/// LF for one sees other chunks than who does not.
#[derive(Debug)]
pub(crate) struct Chunked {
    next: NextPart,
    /// Bytes of extensions and trailer fields so far.
    dropped: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextPart {
    /// The size of a chunk, of which this much was read.
    Size {
        size: u64,
        has_digits: bool,
    },
    /// White space behind the size; anything but an extension may not follow it.
    SizeSpace {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataLineFeed,
    /// The first byte of a trailer field, or the end.
    TrailerBegin,
    Trailer,
    TrailerLineFeed,
    EndLineFeed,
    Nothing,
}

/// What [`Chunked::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyPiece {
    /// A piece of the body.
    Data(Bytes),
    /// The buffer is used up.
    NeedsMore,
    /// The body has ended; what is left in the buffer is not of it.
    End,
}

/// This is no chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotChunked;

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { next: NextPart::Size { size: 0, has_digits: false }, dropped: 0 }
    }

    /// Takes what is next out of the buffer.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<BodyPiece, NotChunked> {
        loop {
            match self.next {
                NextPart::Data { left } => {
                    if buffer.is_empty() {
                        return Ok(BodyPiece::NeedsMore);
                    }
                    let size = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    let left = left - size as u64;
                    self.next = if left == 0 { NextPart::DataReturn } else { NextPart::Data { left } };
                    return Ok(BodyPiece::Data(buffer.split_to(size).freeze()));
                }
                NextPart::Nothing => return Ok(BodyPiece::End),
                next => {
                    let Some(byte) = buffer.first().copied() else { return Ok(BodyPiece::NeedsMore) };
                    buffer.advance(1);
                    self.next = self.after(next, byte)?;
                }
            }
        }
    }

    /// Whether the end was read.
    pub(crate) fn is_over(&self) -> bool {
        self.next == NextPart::Nothing
    }

    fn after(&mut self, next: NextPart, byte: u8) -> Result<NextPart, NotChunked> {
        Ok(match (next, byte) {
            (NextPart::Size { size, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(NotChunked)?;
                let size = size.checked_mul(16).ok_or(NotChunked)? + u64::from(digit);
                NextPart::Size { size, has_digits: true }
            }
            (NextPart::Size { has_digits: false, .. }, _) => return Err(NotChunked),
            (NextPart::Size { size, .. } | NextPart::SizeSpace { size }, b' ' | b'\t') => {
                self.drop_one()?;
                NextPart::SizeSpace { size }
            }
            (NextPart::Size { size, .. } | NextPart::SizeSpace { size }, b';') => {
                NextPart::Extension { size }
            }
            (
                NextPart::Size { size, .. } | NextPart::SizeSpace { size } | NextPart::Extension { size },
                b'\r',
            ) => NextPart::SizeLineFeed { size },
            (NextPart::Extension { size }, byte) if byte != b'\n' => {
                self.drop_one()?;
                NextPart::Extension { size }
            }
            (NextPart::SizeLineFeed { size: 0 } | NextPart::TrailerLineFeed, b'\n') => NextPart::TrailerBegin,
            (NextPart::SizeLineFeed { size }, b'\n') => NextPart::Data { left: size },
            (NextPart::DataReturn, b'\r') => NextPart::DataLineFeed,
            (NextPart::DataLineFeed, b'\n') => NextPart::Size { size: 0, has_digits: false },
            (NextPart::TrailerBegin, b'\r') => NextPart::EndLineFeed,
            (NextPart::Trailer, b'\r') => NextPart::TrailerLineFeed,
            (NextPart::TrailerBegin | NextPart::Trailer, byte) if byte != b'\n' => {
                self.drop_one()?;
                NextPart::Trailer
            }
            (NextPart::EndLineFeed, b'\n') => NextPart::Nothing,
            _ => return Err(NotChunked),
        })
    }

    fn drop_one(&mut self) -> Result<(), NotChunked> {
        self.dropped += 1;
        if self.dropped > MAX_DROPPED { Err(NotChunked) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body and what follows it.
    type Whole = (Vec<u8>, Vec<u8>);

    /// What these pieces, one after the other, are, if that is whole.
    fn read(pieces: &[&[u8]]) -> Result<Option<Whole>, NotChunked> {
        let (mut chunked, mut buffer, mut body) = (Chunked::new(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let BodyPiece::Data(data) = chunked.take(&mut buffer)? {
                body.extend_from_slice(&data);
            }
        }
        Ok(chunked.is_over().then(|| (body, buffer.to_vec())))
    }

    #[test]
    fn chunks_come_out_without_sizes_extensions_and_trailer_fields() {
        let all = b"5;name=\"v\"\r\nhello\r\n1 ;x\r\n,\r\n00A\r\n0123456789\r\n0\r\nA: b\r\nC: d\r\n\r\nnext";
        assert_eq!(read(&[all]), Ok(Some((b"hello,0123456789".to_vec(), b"next".to_vec()))));
        assert_eq!(read(&[b"0\r\n\r\n"]), Ok(Some((Vec::new(), Vec::new()))));
        assert_eq!(read(&[b"5\r\nhel"]), Ok(None));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for wrong in [
            "\r\n",
            ";x\r\n",
            "g\r\n",
            "-1\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5\n",
            "5\r5",
            "5 5\r\n",
            "5;x\nhello",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\nA: b\n",
            "0\r\n\n",
            "0\r\n\rx",
            "10000000000000000\r\n",
        ] {
            assert_eq!(read(&[wrong.as_bytes()]), Err(NotChunked), "{wrong:?}");
        }
    }

    #[test]
    fn extensions_and_trailer_fields_are_bounded() {
        let long = "x".repeat(MAX_DROPPED + 1);
        assert_eq!(read(&[format!("1;{long}").as_bytes()]), Err(NotChunked));
        assert_eq!(read(&[format!("0\r\n{long}").as_bytes()]), Err(NotChunked));
    }

    proptest! {
        #[test]
        fn what_was_put_on_is_taken_off_wherever_the_reads_fall(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            read_size in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                for part in [chunk_begin(chunk.len()), Bytes::copy_from_slice(chunk), CHUNK_END] {
                    wire.extend_from_slice(&part);
                }
            }
            wire.extend_from_slice(&LAST_CHUNK);
            let pieces: Vec<&[u8]> = wire.chunks(read_size).collect();
            prop_assert_eq!(read(&pieces), Ok(Some((chunks.concat(), Vec::new()))));
        }
    }
}
