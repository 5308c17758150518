use core::fmt;

use super::IdentityError;

use crate::error::ensure;

/// A username: 3 to 32 of a–z, 0–9, `_`, `.` and `-`, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

impl Username {
    /// Folds the case of `text` and checks it.
    ///
    /// # Errors
    /// [`IdentityError::BadUsername`].
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let folded = text.to_ascii_lowercase();
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
        ensure((3..=32).contains(&folded.len()), IdentityError::BadUsername)?;
        ensure(folded.chars().all(allowed), IdentityError::BadUsername)?;
        Ok(Self(folded))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(_) = self;
        f.write_str("Username(..)")
    }
}
