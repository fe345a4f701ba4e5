//! The bearer token that the API asks for when it is given one (RFC 6750).

use std::{
    fmt,
    fs::File,
    hint::black_box,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// A secret that callers over TCP show in `Authorization: Bearer …`.
///
/// Its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(Box<str>);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It could not be read.
    #[error("cannot read the token file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is a pipe, a device or a folder, which may never give anything.
    #[error("the token file {} is no regular file; write the token into one with mode 600", .path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error(
        "the token file {} has mode {mode:03o}, so others can read or change it; `chmod 600` it and make a new token",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, who can read it.
    #[error("the token file {} belongs to user {owner}; `chown` it to the user of the server", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The id of its owner.
        owner: u32,
    },
    /// The token is too short to keep anybody out.
    #[error(
        "the token in {} has {length} characters; take at least {} (`openssl rand -hex 32` makes one)",
        .path.display(), Token::MIN_LEN
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// How many characters it has.
        length: usize,
    },
    /// It is longer than any token.
    #[error("the token in {} has more than {} bytes", .path.display(), Token::MAX_LEN)]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// It has characters that no header can carry.
    #[error(
        "the token in {} must be one line of letters, digits and - . _ ~ + / =", .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// The shortest token that is taken, in characters.
    pub const MIN_LEN: usize = 16;

    /// The longest token that is taken, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Reads the token from a file that holds nothing else; a newline at its end does not count.
    ///
    /// # Errors
    ///
    /// It must be a regular file that belongs to the user of this process or to root, with no permission for
    /// anybody else, and hold from [`MIN_LEN`](Self::MIN_LEN) characters to [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        // Without waiting for the other end of a pipe, and without getting a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| unreadable(error.into()))?);
        // Asked of the open file, so that what is checked is what is read.
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(TokenError::NotAFile { path: path.to_owned() });
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(TokenError::Foreign { path: path.to_owned(), owner });
        }
        let mut text = String::new();
        // With a line end of two bytes, and one byte more, to see that there is more.
        file.take(Self::MAX_LEN as u64 + 3).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(text.trim_end_matches(['\r', '\n']), path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, TokenError> {
        // RFC 6750, 2.1 (b64token); the padding may stand anywhere, it does no harm.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let path = path.to_owned();
        match text.len() {
            length if length > Self::MAX_LEN => Err(TokenError::Long { path }),
            _ if !text.bytes().all(allowed) => Err(TokenError::Malformed { path }),
            length if length < Self::MIN_LEN => Err(TokenError::Short { path, length }),
            _ => Ok(Self(text.into())),
        }
    }

    /// The token itself, for the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is this token. How long that takes depends on the length of `shown` alone.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = own.len() ^ shown.len();
        for (own, shown) in own.iter().cycle().zip(shown) {
            // The barrier keeps the compiler from leaving the loop at the first difference.
            difference = black_box(difference | usize::from(own ^ shown));
        }
        difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::{Token, TokenError};

    const SECRET: &str = "0123456789abcdef";

    fn file(folder: &tempfile::TempDir, content: &str, mode: u32) -> PathBuf {
        let path = folder.path().join(format!("token-{mode:o}"));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_token_file_that_only_its_owner_can_read_holds_a_token() {
        let folder = tempfile::tempdir().unwrap();
        for content in [SECRET.to_owned(), format!("{SECRET}\n"), format!("{SECRET}\r\n")] {
            let token = Token::read(&file(&folder, &content, 0o600)).unwrap();
            assert!(token.is(SECRET.as_bytes()), "{content:?}");
        }
        assert!(Token::read(&file(&folder, SECRET, 0o400)).is_ok());
    }

    #[test]
    fn a_token_file_that_others_may_read_or_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
            let refused = Token::read(&file(&folder, SECRET, mode)).unwrap_err();
            assert!(matches!(refused, TokenError::Exposed { mode: found, .. } if found == mode), "{refused}");
        }
    }

    #[test]
    fn a_token_file_that_is_none_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&*pipe, folder.path(), "/dev/zero".as_ref()] {
            let refused = Token::read(path).unwrap_err();
            assert!(matches!(refused, TokenError::NotAFile { .. }), "{refused}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |content: &str| Token::read(&file(&folder, content, 0o600)).unwrap_err();
        assert!(matches!(refused(""), TokenError::Short { length: 0, .. }));
        assert!(matches!(refused("short"), TokenError::Short { length: 5, .. }));
        assert!(matches!(refused("two lines\nof characters"), TokenError::Malformed { .. }));
        assert!(matches!(refused(&"x".repeat(Token::MAX_LEN + 1)), TokenError::Long { .. }));
        let missing = Token::read(&folder.path().join("missing")).unwrap_err();
        assert!(matches!(missing, TokenError::Unreadable { .. }));
        assert!(!missing.to_string().contains(SECRET));
    }

    #[test]
    fn only_the_same_token_is_the_token() {
        let token = Token(SECRET.into());
        assert!(token.is(SECRET.as_bytes()));
        let twice = SECRET.repeat(2);
        for other in ["", "0", "0123456789abcdeF", "0123456789abcde", "0123456789abcdef0", &twice] {
            assert!(!token.is(other.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
