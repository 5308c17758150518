//! Whom a name means, and by what name an account is shown.
//!
//! A name means the account that this device has known by it first, for ever: a server that has lost
//! that account lets somebody else sign up under its name, and a lying one may say that the name is
//! somebody else's. The later account is known by its id, and shown by a name under which nobody can
//! sign up.

use corncrake_core::id::AccountId;

use super::By;
use crate::engine::State;

/// What divides the name of an account from the beginning of its id where another one was known by
/// that name before; no username has it.
const MARK: char = '~';
/// How many digits of its id are shown at least.
const DIGITS: usize = 8;

impl State {
    /// Whom a name means: the account that was known by it first, or this one.
    pub(super) fn named(&self, name: &str) -> Option<AccountId> {
        let own = self.account.me.as_ref().filter(|me| me.username == name);
        let first = || self.account.directory.namesakes(name).first().copied();
        own.map(|me| me.account).or_else(first)
    }

    /// The account that an account's name means, if that is another one.
    pub(crate) fn namesake(&self, account: &AccountId) -> Option<AccountId> {
        let contact = self.account.contact(account)?;
        self.named(&contact.username).filter(|first| first != account)
    }

    /// The name by which an account is shown: its username, or, if that means another account here,
    /// the username and the beginning of its id.
    pub(crate) fn name_of(&self, account: &AccountId) -> Option<String> {
        if let Some(me) = self.account.me().filter(|me| me.account == *account) {
            return Some(me.username.clone());
        }
        let contact = self.account.contact(account)?;
        let name = &contact.username;
        if self.namesake(account).is_none() {
            return Some(name.clone());
        }
        let namesakes = self.account.directory.namesakes(name).iter();
        let before: Vec<_> =
            namesakes.take_while(|other| *other != account).map(ToString::to_string).collect();
        Some(told_apart(name, &account.to_string(), &before))
    }

    /// Whom a text means: an account by its id, written out, or by the name that is shown of it where
    /// its username means another one; else a username.
    pub(crate) fn by_text(&self, text: String) -> By {
        let by = By::text(text);
        let By::Name(shown) = &by else { return by };
        let shown = shown.to_ascii_lowercase();
        let Some((name, _)) = shown.split_once(MARK) else { return by };
        let mut namesakes = self.account.directory.namesakes(name).iter();
        let is_shown = |account: &&AccountId| self.name_of(account).as_ref() == Some(&shown);
        namesakes.find(is_shown).map_or(by, |account| By::Id(*account))
    }
}

/// A name with as much of the id as tells the account from those that were known `before`: ids can
/// be searched for that begin alike.
fn told_apart(name: &str, id: &str, before: &[String]) -> String {
    let mut beginnings = (DIGITS..id.len()).step_by(DIGITS).filter_map(|digits| id.get(..digits));
    let tells = |digits: &&str| before.iter().all(|other| !other.starts_with(*digits));
    let digits = beginnings.find(tells).unwrap_or(id);
    format!("{name}{MARK}{digits}")
}

#[cfg(test)]
mod tests {
    use corncrake_core::identity::Username;

    use super::*;

    #[test]
    fn audit_issue_7_f6_as_much_of_an_id_is_shown_as_tells_it_from_those_known_before() {
        let id = |digits: &str| format!("{digits:0<64}");
        let known = [id("1f3a9c2e"), id("1f3a9c2e5")];
        let shown = |digits: &str| told_apart("bob", &id(digits), &known);
        assert_eq!(shown("2f3a9c2e"), "bob~2f3a9c2e");
        assert_eq!(shown("1f3a9c2e7"), "bob~1f3a9c2e70000000");
        assert_eq!(shown("1f3a9c2e500000001"), "bob~1f3a9c2e5000000010000000");
        assert!(Username::parse(&shown("2f3a9c2e")).is_err());
    }
}
