//! Pattern kinds: what the text of a route's pattern matches.

use regex::{Regex, RegexBuilder};

use crate::path::as_seen;

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
///
/// The path is seen percent-decoded once, slashes too, with repeated slashes merged and dot segments removed,
/// so that a rule holds for every spelling. `%`, control characters and what is no UTF-8 are seen encoded, in
/// upper case (`%25`).
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug)]
enum Alternative {
    Any,
    Exact(PatternPlace),
    Prefix(PatternPlace),
    Suffix(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
enum PatternPlace {
    Path(String),
    HostAndPath(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    /// starts with `/` and is spelled as patterns see it.
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

    /// The parts of this pattern that never match, because no path is seen in their spelling: with escapes of
    /// ordinary characters, repeated slashes or dot segments in them. With each comes the spelling that is
    /// seen, if there is one. Regular expressions are not looked into.
    ///
    /// ```
    /// use pmesh_proxy::Pattern;
    /// let pattern = Pattern::parse("/a%20b/, site.com//c, /d, /100%").unwrap();
    /// let unseen: Vec<_> = pattern.unseen_parts().collect();
    /// assert_eq!(unseen[0], ("/a%20b/", Some("/a b/".to_owned())));
    /// assert_eq!(unseen[1], ("site.com//c", Some("site.com/c".to_owned())));
    /// assert_eq!(unseen[2], ("/100%", Some("/100%25".to_owned())));
    /// ```
    pub fn unseen_parts(&self) -> impl Iterator<Item = (&str, Option<String>)> {
        self.text.split(", ").map(str::trim).filter_map(|part| {
            let seen = part_as_seen(part).or_else(|| part_as_seen(&part.replace('%', "%25")));
            (seen.as_deref() != Some(part)).then_some((part, seen))
        })
    }
}

/// A part of a pattern with its path in the spelling that is seen, if there is one.
fn part_as_seen(part: &str) -> Option<String> {
    if part.starts_with('~') {
        return Some(part.to_owned());
    }
    // The letter stands for the rest of the path: a segment that is cut in two is no dot segment.
    if let Some(suffix) = part.strip_prefix('+') {
        return Some(format!("+{}", as_seen(&format!("/x{suffix}")).ok()?.strip_prefix("/x")?));
    }
    let Some(slash) = part.find('/') else { return Some(part.to_owned()) };
    let (host, path) = part.split_at(slash);
    let path = match path.strip_suffix('+') {
        Some(prefix) => format!("{}+", as_seen(&format!("{prefix}x")).ok()?.strip_suffix('x')?),
        None => as_seen(path).ok()?,
    };
    Some(format!("{host}{path}"))
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
            Ok(Self::Prefix(PatternPlace::of(prefix)))
        } else if text.ends_with('/') {
            Ok(Self::Prefix(PatternPlace::of(text)))
        } else if text.contains('/') {
            Ok(Self::Exact(PatternPlace::of(text)))
        } else {
            Ok(Self::Prefix(PatternPlace::of(&format!("{text}/"))))
        }
    }

    fn matches(&self, host: &str, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(PatternPlace::Path(expected)) => path == expected,
            Self::Exact(PatternPlace::HostAndPath(expected)) => expected.strip_prefix(host) == Some(path),
            Self::Prefix(PatternPlace::Path(prefix)) => path.starts_with(prefix.as_str()),
            Self::Prefix(PatternPlace::HostAndPath(prefix)) => match prefix.strip_prefix(host) {
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
            Self::Exact(PatternPlace::HostAndPath(text)) | Self::Prefix(PatternPlace::HostAndPath(text)) => {
                text.split_once('/').map(|(host, _)| host)
            }
            Self::Exact(PatternPlace::Path(_))
            | Self::Prefix(PatternPlace::Path(_))
            | Self::Any
            | Self::Suffix(_)
            | Self::Regex(_) => None,
        }
    }
}

impl PatternPlace {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_pattern_matches_what_its_text_says() {
        for (pattern, matching, others) in [
            ("_", &["site.com/", "a.site.com/x"][..], &[][..]),
            (
                "site.com/foo/",
                &["site.com/foo/", "site.com/foo/bar"],
                &["site.com/foo", "site.com/", "a.site.com/foo/", "site.com/food/"],
            ),
            ("site.com/", &["site.com/", "site.com/foo"], &["a.site.com/"]),
            ("site.com", &["site.com/", "site.com/foo"], &["a.site.com/"]),
            ("Site.COM/Foo", &["site.com/Foo"], &["site.com/foo", "site.com/Foo/", "site.com/Foo/a"]),
            (
                "site.com/foo+",
                &["site.com/foo", "site.com/food", "site.com/foo/bar"],
                &["site.com/fo", "a.site.com/foo"],
            ),
            ("api.+", &["api.site.com/", "api.site.com/x"], &["site.com/api.", "www.api.site.com/"]),
            ("/foo/", &["site.com/foo/", "a.site.com/foo/bar"], &["site.com/foo", "site.com/a/foo/"]),
            ("/foo", &["site.com/foo", "a.site.com/foo"], &["site.com/foo/"]),
            ("/", &["site.com/", "a.site.com/x"], &[]),
            ("/foo+", &["site.com/foo", "a.site.com/food"], &["site.com/a/foo"]),
            ("+.map", &["site.com/a.map", "a.site.com/.map"], &["site.com/a.map/", "site.com/map"]),
            ("+.com/a", &["site.com/a", "x.site.com/a"], &["site.com/b/a"]),
            ("~^site\\.com/[0-9]{1,3}$", &["site.com/1", "site.com/123"], &["site.com/1234", "a.site.com/1"]),
            ("~/x", &["site.com/x", "a.site.com/y/x"], &["site.com/y"]),
            (
                "site.com/a, +.map,  /b/",
                &["site.com/a", "site.com/x.map", "a.site.com/b/"],
                &["site.com/b", "site.com/c"],
            ),
            ("/a,b", &["site.com/a,b"], &["site.com/a"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for (texts, expected) in [(matching, true), (others, false)] {
                for text in texts {
                    let slash = text.find('/').unwrap();
                    let (host, path) = text.split_at(slash);
                    assert_eq!(parsed.matches(host, path), expected, "{pattern} on {text}");
                }
            }
        }
    }

    #[test]
    fn two_patterns_are_equal_that_are_written_alike() {
        let parsed = |text| Pattern::parse(text).unwrap();
        assert_eq!(parsed("_"), Pattern::any());
        assert_ne!(parsed("/a/"), parsed("/b/"));
        assert_eq!(parsed("~a").as_str(), "~a");
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("/a, , /b"), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("+"), Err(PatternError::LonePlus));
        for broken in ["~(", "~a{1000}{1000}{1000}"] {
            let error = Pattern::parse(broken).unwrap_err();
            assert!(
                matches!(&error, PatternError::Regex { regex, .. } if broken.ends_with(regex.as_str())),
                "{error}"
            );
        }
    }

    #[test]
    fn spellings_that_no_path_is_seen_in_are_named_with_the_one_that_is() {
        for (pattern, unseen) in [
            ("/a/b, site.com/a.b/, /a+, +.map, _, site.com, ~/%2f//, api.+, /gr\u{f6}\u{df}e, /a b", &[][..]),
            ("/100%25, /%E9, +%0A.txt, /.well-known/, /..., /a/.+, /a/..+, +./a, +../a, +/", &[]),
            ("/a%20b/", &[("/a%20b/", Some("/a b/"))]),
            ("site.com//a//, /x", &[("site.com//a//", Some("site.com/a/"))]),
            ("/a/../b, /a/./b", &[("/a/../b", Some("/b")), ("/a/./b", Some("/a/b"))]),
            ("/a/.", &[("/a/.", Some("/a/"))]),
            ("/a%2fb", &[("/a%2fb", Some("/a/b"))]),
            ("/%e9", &[("/%e9", Some("/%E9"))]),
            ("/100%", &[("/100%", Some("/100%25"))]),
            ("//+", &[("//+", Some("/+"))]),
            ("+%2emap", &[("+%2emap", Some("+.map"))]),
            ("+//b", &[("+//b", Some("+/b"))]),
            ("/a\\b", &[("/a\\b", None)]),
            ("/../a", &[("/../a", None)]),
            ("/a%00", &[("/a%00", Some("/a%2500"))]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            let expected: Vec<_> =
                unseen.iter().map(|(part, seen)| (*part, seen.map(str::to_owned))).collect();
            assert_eq!(parsed.unseen_parts().collect::<Vec<_>>(), expected, "{pattern}");
        }
    }

    #[test]
    fn hosts_that_a_site_never_has_are_named() {
        for (pattern, foreign) in [
            ("site.com/", &[][..]),
            ("a.site.com/x", &[]),
            ("mysite.com/x", &["mysite.com"]),
            ("com/", &["com"]),
            ("sit.com, other.com/x+", &["sit.com", "other.com"]),
            ("/x, +.map, ~x, _, a+", &[]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.foreign_hosts("site.com").collect::<Vec<_>>(), foreign, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_sees_host_and_path_as_one_text(
            kind in 0..3,
            text in "[ab.]{0,3}(/[ab.]{0,2}){0,2}",
            host in "[ab]{1,2}(\\.[ab]{1,2}){0,2}",
            path in "(/[ab.]{0,2}){1,3}",
        ) {
            let whole = format!("{host}{path}");
            let seen = if text.starts_with('/') && kind != 1 { &path } else { &whole };
            let (pattern, expected) = match kind {
                0 => (format!("{text}+"), seen.starts_with(&text)),
                1 => (format!("+{text}"), seen.ends_with(&text)),
                _ if text.ends_with('/') => (text.clone(), seen.starts_with(&text)),
                _ if text.contains('/') => (text.clone(), *seen == text),
                _ => (text.clone(), seen.starts_with(&format!("{text}/"))),
            };
            prop_assume!(!text.is_empty() && pattern != "_");
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().matches(&host, &path), expected, "{} on {}", pattern, whole);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,30}", path in "/.{0,10}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(pattern.as_str(), text.as_str());
                pattern.matches("site.com", &path);
            }
        }
    }
}
