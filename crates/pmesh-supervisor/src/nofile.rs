//! The limit of open descriptors that a service gets, and the warning if it gets less than it wants. A plain
//! type.

/// What the last warning about a service's limit said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NofileWarning {
    said: Option<(u64, u64)>,
}

impl NofileWarning {
    /// Whether to warn that a service which wants `wanted` descriptors gets at most `limit`: once, until one
    /// of the two numbers changes.
    pub(crate) fn is_due(&mut self, wanted: u64, limit: Option<u64>) -> bool {
        let cut = limit.filter(|&limit| limit < wanted).map(|limit| (wanted, limit));
        let is_due = cut.is_some() && cut != self.said;
        self.said = cut;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::NofileWarning;

    #[test]
    fn that_a_limit_is_cut_is_said_once_until_something_of_it_changes() {
        let mut warning = NofileWarning::default();
        assert!(warning.is_due(65_536, Some(4096)));
        assert!(!warning.is_due(65_536, Some(4096)));
        assert!(warning.is_due(8192, Some(4096)));
        assert!(!warning.is_due(4096, Some(4096)));
        assert!(warning.is_due(8192, Some(4096)));
    }

    #[test]
    fn where_nothing_is_cut_nothing_is_said() {
        let mut warning = NofileWarning::default();
        assert!(!warning.is_due(65_536, Some(1_048_576)));
        assert!(!warning.is_due(65_536, None));
    }
}
