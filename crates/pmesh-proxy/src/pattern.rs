//! Which requests a route is for.

/// Being built.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(String);

/// Being built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern")]
pub struct PatternError(pub String);

impl Pattern {
    /// Being built.
    ///
    /// # Errors
    ///
    /// Being built.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Ok(Self(text.to_owned()))
    }

    /// Being built.
    pub fn any() -> Self {
        Self(String::new())
    }
}
