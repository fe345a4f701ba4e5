//! Which output something was written to.

/// Which output of a service's processes something was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogStream {
    /// The standard output of an instance.
    Stdout,
    /// The standard error of an instance.
    Stderr,
    /// The output of a build.
    Build,
    /// The output of a `shutdown` command.
    Shutdown,
    /// The output of a `release` command.
    Release,
    /// What pmesh itself has to say.
    Note,
}

impl LogStream {
    const ALL: [Self; 6] =
        [Self::Stdout, Self::Stderr, Self::Build, Self::Shutdown, Self::Release, Self::Note];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Build => "build",
            Self::Shutdown => "shutdown",
            Self::Release => "release",
            Self::Note => "pmesh",
        }
    }

    /// Its number in an index.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
            Self::Build => 2,
            Self::Shutdown => 3,
            Self::Release => 4,
            Self::Note => 5,
        }
    }

    /// The stream of a number in an index; none if a newer server has written it.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::LogStream;

    #[test]
    fn each_stream_has_the_number_of_the_format() {
        let words = ["stdout", "stderr", "build", "shutdown", "release", "pmesh"];
        for (number, word) in (0..).zip(words) {
            let stream = LogStream::numbered(number).unwrap();
            assert_eq!((stream.as_str(), stream.number()), (word, number));
        }
        assert_eq!(LogStream::numbered(6), None);
    }
}
