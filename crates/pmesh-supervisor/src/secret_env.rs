//! Variables whose values nobody may see but the processes that get them.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// Variables whose values are for processes alone: they are in no `Debug` output, and in nothing that is written down.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretEnv(Arc<BTreeMap<String, String>>);

impl SecretEnv {
    /// These variables.
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self(Arc::new(variables))
    }

    /// Names and values, for the environment of a process.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl fmt::Debug for SecretEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretEnv({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::SecretEnv;

    #[test]
    fn what_is_in_it_is_not_shown() {
        let secret = SecretEnv::new([("TOKEN".to_owned(), "hunter2".to_owned())].into());
        assert_eq!(format!("{secret:?}"), "SecretEnv(1 variables)");
    }
}
