//! Pattern kinds: what the text of a route's pattern matches.

use regex::{Regex, RegexBuilder};

/// Compiled size up to which a regular expression is accepted, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Which requests a route is for, by host and path.
///
/// Host and path are seen as one text, such as `site.com/foo/bar`:
///
/// | text | matches |
/// | --- | --- |
/// | `site.com/foo/` | everything that starts so (`/foo` itself does not) |
/// | `site.com/foo+` | everything that starts with what stands before the `+` |
/// | `+.map` | everything that ends with what stands behind the `+` |
/// | `~regex` | where the regular expression is found |
/// | `site.com/foo` | exactly that |
/// | `site.com` | the whole host: the same as `site.com/` |
/// | `a, b` | either (a comma without a space behind it is part of a pattern) |
/// | `_` | everything |
///
/// What starts with `/` looks at the path alone, on every host of its site. The part up to the first
/// `/` is compared without regard to case.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug)]
enum Alternative {
    Any,
    Exact(Place),
    Prefix(Place),
    Suffix(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
enum Place {
    Path(String),
    HostAndPath(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is there, or nothing between two commas.
    #[error("a pattern is empty; write `_` for every request")]
    Empty,
    /// A `+` alone, which would be everything.
    #[error("`+` alone says nothing; write `_` for every request")]
    LonePlus,
    /// A regular expression that cannot be compiled.
    #[error("`~{regex}` is no regular expression: {reason}")]
    Regex {
        /// The text behind `~`.
        regex: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// The pattern of this text.
    ///
    /// ```
    /// use pmesh_proxy::Pattern;
    /// let pattern = Pattern::parse("site.com/api/, +.map").unwrap();
    /// assert!(pattern.matches("site.com", "/api/users"));
    /// assert!(pattern.matches("www.site.com", "/app.js.map"));
    /// assert!(!pattern.matches("www.site.com", "/api/users"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`PatternError`] if a part of it is empty or a regular expression is broken or too large.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut alternatives = Vec::new();
        let mut rest = text;
        loop {
            let (one, behind) = match rest.find(", ") {
                Some(comma) => (&rest[..comma], Some(&rest[comma + 2..])),
                None => (rest, None),
            };
            alternatives.push(Alternative::parse(one.trim())?);
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// The pattern that every request matches: `_`.
    pub fn any() -> Self {
        Self { text: "_".to_owned(), alternatives: vec![Alternative::Any] }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a request is one of this pattern's.
    ///
    /// `host` is in lower case, without port, and the site's first name instead of an alias; `path`
    /// starts with `/`, has no dot segments and is percent-decoded once.
    pub fn matches(&self, host: &str, path: &str) -> bool {
        self.alternatives.iter().any(|alternative| alternative.matches(host, path))
    }

    /// The hosts in this pattern that no request of a site with that first name has: neither it nor a
    /// subdomain of it. A pattern's part with such a host never matches.
    ///
    /// ```
    /// use pmesh_proxy::Pattern;
    /// let pattern = Pattern::parse("sight.com/, api.site.com/, /static/, _").unwrap();
    /// assert_eq!(pattern.foreign_hosts("site.com").collect::<Vec<_>>(), ["sight.com"]);
    /// ```
    pub fn foreign_hosts<'a>(&'a self, first_name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_foreign = move |host: &str| {
            host.strip_suffix(first_name).is_none_or(|sub| !sub.is_empty() && !sub.ends_with('.'))
        };
        self.alternatives.iter().filter_map(Alternative::host).filter(move |host| is_foreign(host))
    }
}

impl Alternative {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            Err(PatternError::Empty)
        } else if text == "_" {
            Ok(Self::Any)
        } else if let Some(regex) = text.strip_prefix('~') {
            RegexBuilder::new(regex)
                .size_limit(MAX_REGEX_BYTES)
                .build()
                .map(Self::Regex)
                .map_err(|error| PatternError::Regex { regex: regex.to_owned(), reason: error.to_string() })
        } else if let Some(suffix) = text.strip_prefix('+') {
            if suffix.is_empty() { Err(PatternError::LonePlus) } else { Ok(Self::Suffix(suffix.to_owned())) }
        } else if let Some(prefix) = text.strip_suffix('+') {
            Ok(Self::Prefix(Place::of(prefix)))
        } else if text.ends_with('/') {
            Ok(Self::Prefix(Place::of(text)))
        } else if text.contains('/') {
            Ok(Self::Exact(Place::of(text)))
        } else {
            Ok(Self::Prefix(Place::of(&format!("{text}/"))))
        }
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(Place::Path(expected)) => path == expected,
            Self::Exact(Place::HostAndPath(expected)) => expected.strip_prefix(host) == Some(path),
            Self::Prefix(Place::Path(prefix)) => path.starts_with(prefix.as_str()),
            Self::Prefix(Place::HostAndPath(prefix)) => match prefix.strip_prefix(host) {
                Some(rest) => path.starts_with(rest),
                None => host.starts_with(prefix.as_str()),
            },
            Self::Suffix(suffix) => match suffix.strip_suffix(path) {
                Some(rest) => host.ends_with(rest),
                None => path.ends_with(suffix.as_str()),
            },
            Self::Regex(regex) => regex.is_match(&format!("{host}{path}")),
        }
    }

    /// The host that this names, if it names a whole one.
    fn host(&self) -> Option<&str> {
        match self {
            Self::Exact(Place::HostAndPath(text)) | Self::Prefix(Place::HostAndPath(text)) => {
                text.split_once('/').map(|(host, _)| host)
            }
            Self::Exact(Place::Path(_)) | Self::Prefix(Place::Path(_)) => None,
            Self::Any | Self::Suffix(_) | Self::Regex(_) => None,
        }
    }
}

impl Place {
    fn of(text: &str) -> Self {
        match text.find('/') {
            Some(0) => Self::Path(text.to_owned()),
            Some(slash) => {
                Self::HostAndPath(format!("{}{}", text[..slash].to_ascii_lowercase(), &text[slash..]))
            }
            None => Self::HostAndPath(text.to_ascii_lowercase()),
        }
    }
}
