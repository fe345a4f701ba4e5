//! Why an upstream's answer cannot be passed on.

use std::{error::Error, fmt};

/// The most fields that an answer may have.
pub(crate) const MAX_FIELDS: usize = 100;
/// The most that the head of an answer may have, in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;

/// Why an upstream's answer cannot be passed on. Heads of it are 502; of a body the client gets what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BadAnswer {
    /// The connection ended, and there was none.
    Nothing,
    HeadCut,
    StatusLine,
    LineEnd,
    SpaceBeforeColon,
    /// RFC 9112, section 5.2: obs-fold.
    FoldedField,
    FieldName,
    FieldValue,
    TooManyFields,
    HeadTooLong,
    Length,
    Coding,
    /// Whoever speaks 1.0 knows no codings (RFC 9112, section 6.1).
    OldCoding,
    UnaskedSwitch,
    Chunk,
    BodyCut,
}

impl BadAnswer {
    /// Why a head is none, of whose bytes the parser says no more than `error`.
    pub(crate) fn of_head(error: httparse::Error, head: &[u8]) -> Self {
        use httparse::Error::{HeaderName, HeaderValue, NewLine, Status, Token, TooManyHeaders, Version};
        match error {
            Status | Token | Version => Self::StatusLine,
            NewLine => Self::LineEnd,
            HeaderValue => Self::FieldValue,
            TooManyHeaders => Self::TooManyFields,
            HeaderName => head
                .split(|byte| *byte == b'\n')
                .skip(1)
                .take_while(|line| !matches!(line, [] | [b'\r']))
                .find_map(Self::of_field_line)
                .unwrap_or(Self::FieldName),
        }
    }

    /// What became of the answer, for the log.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Nothing => "an answer did not come",
            Self::HeadCut | Self::BodyCut => "an answer was broken off",
            Self::StatusLine
            | Self::LineEnd
            | Self::SpaceBeforeColon
            | Self::FoldedField
            | Self::FieldName
            | Self::FieldValue
            | Self::TooManyFields
            | Self::HeadTooLong
            | Self::Length
            | Self::Coding
            | Self::OldCoding
            | Self::UnaskedSwitch
            | Self::Chunk => "an answer was refused",
        }
    }

    /// For whoever asked: what kind of mistake it is. Which field it was, and what stood in it, is the operator's
    /// business, whom the log tells.
    pub(crate) fn for_visitors(self) -> &'static str {
        match self {
            Self::Nothing => "this service did not answer",
            Self::HeadCut | Self::BodyCut => "what this service answered was refused: it was broken off",
            Self::TooManyFields | Self::HeadTooLong => {
                "what this service answered was refused: its head is too large"
            }
            Self::UnaskedSwitch => {
                "what this service answered was refused: it changes to a protocol that was not asked for"
            }
            Self::StatusLine
            | Self::LineEnd
            | Self::SpaceBeforeColon
            | Self::FoldedField
            | Self::FieldName
            | Self::FieldValue
            | Self::Length
            | Self::Coding
            | Self::OldCoding
            | Self::Chunk => "what this service answered was refused: it breaks the rules of HTTP",
        }
    }

    fn of_field_line(line: &[u8]) -> Option<Self> {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let name = line.split(|byte| *byte == b':').next().filter(|name| name.len() < line.len());
        if line.first().is_some_and(is_space) {
            Some(Self::FoldedField)
        } else {
            name.and_then(<[u8]>::last).filter(|last| is_space(last)).map(|_| Self::SpaceBeforeColon)
        }
    }
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "the connection ended before an answer",
            Self::HeadCut => "the connection ended within the head",
            Self::StatusLine => "it does not begin with a status line of HTTP/1.1 or HTTP/1.0",
            Self::LineEnd => "a line of the head ends in no CR LF",
            Self::SpaceBeforeColon => "a space stands before the colon of a field",
            Self::FoldedField => "a field goes on in another line, or begins with a space",
            Self::FieldName => "the name of a field has characters that none may have",
            Self::FieldValue => "the value of a field has characters that none may have",
            Self::TooManyFields => return write!(f, "the head has more than {MAX_FIELDS} fields"),
            Self::HeadTooLong => return write!(f, "the head has more than {} KiB", MAX_HEAD >> 10),
            Self::Length => "Content-Length is no number, or more than one",
            Self::Coding => "Transfer-Encoding is something else than chunked, once",
            Self::OldCoding => "Transfer-Encoding in an answer of HTTP/1.0",
            Self::UnaskedSwitch => "101 to a request that asked for no other protocol",
            Self::Chunk => "a chunk of the body is none",
            Self::BodyCut => "the connection ended within the body",
        })
    }
}

impl Error for BadAnswer {}

#[cfg(test)]
mod tests {
    use super::{MAX_FIELDS, MAX_HEAD};

    #[test]
    fn the_guide_says_how_long_an_answers_head_may_be() {
        let guide = include_str!("../../../docs/operations.md");
        let row = format!(
            "| the head of an answer of an app | {} KiB and {MAX_FIELDS} fields, then 502 |",
            MAX_HEAD >> 10
        );
        assert!(guide.contains(&row), "the guide lacks: {row}");
    }
}
