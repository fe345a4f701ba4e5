//! The configuration as git itself sees it: of the system, its user, the repository, the environment, with all includes.

use gix::bstr::{BStr, BString, ByteSlice};

/// What `git config --list -z` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Key and value, in the order in which git reads them. Of a key, section and name are in lower case, and what
    /// stands between is as it is written.
    entries: Vec<(BString, BString)>,
}

impl Configuration {
    pub(super) fn parse(listed: &[u8]) -> Self {
        let entries = listed.split(|&b| b == 0).filter(|entry| !entry.is_empty());
        // A key alone stands for `true` (git-config(1), "Syntax").
        let entries = entries.map(|entry| match entry.split_once_str("\n") {
            Some((key, value)) => (key.into(), value.into()),
            None => (entry.into(), "true".into()),
        });
        Self { entries: entries.collect() }
    }

    /// The value of `key`: of several the last.
    pub(super) fn value(&self, key: impl AsRef<[u8]>) -> Option<&BStr> {
        let key = key.as_ref();
        self.entries.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_bstr())
    }

    /// The value of `section.subsection.name`.
    pub(super) fn value_of(&self, section: &str, subsection: &BStr, name: &str) -> Option<&BStr> {
        self.value([section.as_bytes(), b".", subsection, b".", name.as_bytes()].concat())
    }

    /// The values of `section.name` and of `section.<any subsection>.name`, each with its subsection, in order.
    pub(super) fn all<'a>(
        &'a self,
        section: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = (Option<&'a BStr>, &'a BStr)> {
        self.entries.iter().filter_map(move |(key, value)| {
            let inside = key.strip_prefix(section.as_bytes())?.strip_suffix(name.as_bytes())?;
            let subsection = match inside {
                b"." => None,
                _ => Some(inside.strip_prefix(b".")?.strip_suffix(b".")?.as_bstr()),
            };
            Some((subsection, value.as_bstr()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_section_subsection_and_name() {
        let listed =
            b"core.bare\0http.extraheader\nX: 1\n2\0http.https://a.b/.extraheader\nY\0http.proxy\np\0\
                       remote.origin.url\nu\0remote.origin.url\nv\0remote.my.own.url\nw\0";
        let configuration = Configuration::parse(listed);
        assert_eq!(configuration.value("core.bare"), Some("true".into()));
        assert_eq!(configuration.value("remote.origin.url"), Some("v".into()), "the last");
        assert_eq!(configuration.value("no.such"), None);
        let headers: Vec<_> = configuration.all("http", "extraheader").collect();
        assert_eq!(headers, [(None, "X: 1\n2".into()), (Some("https://a.b/".into()), "Y".into())]);
        assert_eq!(configuration.value_of("remote", "my.own".into(), "url"), Some("w".into()));
        assert_eq!(configuration.value_of("remote", "own".into(), "url"), None);
    }
}
