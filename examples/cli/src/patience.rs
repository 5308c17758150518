//! How long a command may take. What is left of its time is computed here and nowhere else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long a command waits that doesn't say how long it may.
pub(crate) const USUAL: Duration = Duration::from_secs(20);
/// How long something is waited for by a command whose time is over.
pub(crate) const MOMENT: Duration = Duration::from_secs(1);
/// How long people are looked for who are to be added, however little a command may wait: who is not
/// known by then is left out.
const LOOKING: Duration = Duration::from_secs(5);
/// How long a command waits until those who are new in a chat have been told.
const TELLING: Duration = Duration::from_secs(6);
/// How long the removal of a device may take at least: its password is stretched first.
const STRETCHING: Duration = Duration::from_secs(10);
/// The longest wait that anybody may ask for.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// How many seconds a command may wait for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a wait is a number of seconds")]
pub(crate) enum Wait {
    /// As many as somebody has asked for.
    Given(u64),
    /// As many as are usual where nobody asks: fewer, where nothing is to be hoped for.
    Usual {
        /// The seconds.
        usual: u64,
    },
}

impl Wait {
    /// No wait at all.
    pub(crate) const NONE: Self = Self::Given(0);

    /// The wait that somebody has asked for, or the usual one.
    pub(crate) const fn or_usual(given: Option<u64>, usual: u64) -> Self {
        match given {
            Some(seconds) => Self::Given(seconds),
            None => Self::Usual { usual },
        }
    }

    /// Whether it is none.
    pub(crate) const fn is_none(self) -> bool {
        matches!(self, Self::Given(0) | Self::Usual { usual: 0 })
    }
}

impl Default for Wait {
    fn default() -> Self {
        Self::NONE
    }
}

/// Until when a command is to be answered, counted from when it was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    begun: Instant,
    end: Instant,
    /// Whether somebody has asked for this wait: then it is waited for whatever the network is like.
    is_given: bool,
}

impl Patience {
    /// That of a command that begins now.
    pub(crate) fn of(wait: Option<Wait>) -> Self {
        let begun = Instant::now();
        let (wait, is_given) = match wait {
            Some(Wait::Given(seconds)) => (within_a_year(seconds), true),
            Some(Wait::Usual { usual }) => (within_a_year(usual), false),
            None => (USUAL, false),
        };
        Self { begun, end: begun + wait, is_given }
    }

    /// When its time is over.
    pub(crate) const fn end(self) -> Instant {
        self.end
    }

    /// What is left of its time.
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(crate) const fn is_given(self) -> bool {
        self.is_given
    }

    /// For a part of the command that need not take all its time.
    pub(crate) fn at_most(self, most: Duration) -> Self {
        Self { end: self.end.min(Instant::now() + most), ..self }
    }

    /// For a part that the command goes on without where nothing is to be hoped for.
    pub(crate) const fn hasty(self) -> Self {
        Self { is_given: false, ..self }
    }

    /// For something that the command needs first: a command that waits for nothing gets as long for
    /// it as a person would wait, and one whose time is over a moment.
    pub(crate) fn to_look(self) -> Self {
        if self.end == self.begun {
            return Self { end: self.begun + USUAL, ..self.hasty() };
        }
        let last = self.end + MOMENT;
        let looking = Self { end: self.end.max(last.min(Instant::now() + MOMENT)), ..self };
        if self.is_given { looking } else { looking.at_most(USUAL) }
    }

    /// What people may take who are to be added, of which they are looked up in one half.
    pub(crate) fn for_people(self) -> Duration {
        let least = (self.begun + LOOKING).saturating_duration_since(Instant::now());
        self.left().max(least * 2)
    }

    /// For telling those who are new in a chat, as this program may be about to end.
    pub(crate) fn for_telling(self) -> Self {
        Self { end: self.end + MOMENT, ..self.hasty() }.at_most(TELLING)
    }

    /// For the removal of a device.
    pub(crate) fn for_removal(self) -> Self {
        Self { end: self.end.max(self.begun + STRETCHING), ..self }
    }
}

/// A wait of so many seconds; whoever wishes for more waits for a year.
fn within_a_year(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn audit_issue_7_a_wait_of_any_length_has_an_end() {
        assert_eq!(within_a_year(20), Duration::from_secs(20));
        assert!(Instant::now().checked_add(within_a_year(u64::MAX)).is_some());
    }

    #[test]
    fn audit_issue_7_bf3_a_wait_says_whether_somebody_asked_for_it() {
        for wait in [Wait::Given(7), Wait::Usual { usual: 15 }] {
            assert_eq!(serde_json::from_value::<Wait>(json!(wait)).unwrap(), wait);
        }
        assert_eq!(json!(Wait::Given(7)), json!(7));
        for no_wait in [json!("7"), json!(-1), json!(1.5), json!({})] {
            let refused = serde_json::from_value::<Wait>(no_wait).unwrap_err();
            assert!(refused.to_string().contains("a number of seconds"), "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_bf7_no_part_of_a_command_goes_beyond_its_end() {
        let second = Duration::from_secs(1);
        let patience = Patience::of(Some(Wait::Given(3)));
        assert_eq!(patience.to_look().left(), 3 * second);
        assert_eq!(patience.for_people(), 10 * second, "half of it to look them up");
        assert_eq!(patience.for_removal().left(), 10 * second);
        assert_eq!(patience.for_telling().left(), 4 * second);
        tokio::time::advance(3 * second).await;
        assert_eq!((patience.left(), patience.to_look().left()), (Duration::ZERO, second));
        assert_eq!(patience.for_people(), 4 * second, "up to five seconds after the beginning");
        tokio::time::advance(second).await;
        assert_eq!(patience.to_look().left(), Duration::ZERO);
        assert_eq!(patience.for_telling().left(), Duration::ZERO);
        let none = Patience::of(Some(Wait::NONE));
        assert_eq!((none.left(), none.to_look().left()), (Duration::ZERO, USUAL));
        assert!(!none.to_look().is_given());
        let usual = Patience::of(Some(Wait::Usual { usual: 60 }));
        assert_eq!((usual.left(), usual.to_look().left()), (60 * second, USUAL));
    }
}
