//! Letters: notices that this device owes to the inboxes of others.

use std::collections::BTreeMap;

use core::time::Duration;

use corncrake_core::id::{AccountId, ConversationId, DeviceId};
use corncrake_wire::{ErrorCode, OpenReply, PackageId, Refusal, open::Deposit};
use serde::{Deserialize, Serialize};

use super::{AccountThen, Retry, claims::ClaimedPackage, session};
use crate::{
    engine::{ClaimThen, State, Step, Then, tables::Table},
    error::Error,
    host::{Clock, Moment, Timestamp},
    transport::TransportError,
};

/// A letter that could not be delivered for so long would find its package expired, by twice its
/// lifetime: a clock that is set ahead by months must not cost anybody an invitation.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(180 * 24);
/// How long a letter is kept for an inbox that the server doesn't know: a server that lost an
/// account gets it again as soon as one of its devices comes online.
const INBOX_LOST: Duration = Duration::from_hours(7 * 24);
/// The longest that a letter waits before it is owed.
const LONGEST_WAIT: Duration = Duration::from_hours(90 * 24);
/// At most so many deposits are under way at once.
const AT_ONCE: usize = 8;
/// How often a letter's package may be unknown until another is claimed: its device comes online and
/// tells a restored server of it.
const UNKNOWN: u32 = 2;
/// How many packages are claimed at most for a letter whose package is unknown or used up.
const MOST_CLAIMED: u8 = 3;

/// The device that a letter is for.
pub(crate) type Addressee = (AccountId, DeviceId);

/// A letter as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LetterRow {
    pub(super) number: u64,
    letter: Deposit,
    /// Whose it is, if that is known.
    to: Option<Addressee>,
    /// How many packages were claimed for it.
    claimed: u8,
    /// From when on it is owed.
    since: Timestamp,
    /// The device in a chat that makes it needless by showing itself there before.
    unless: Option<(ConversationId, DeviceId)>,
}

/// A letter that is owed.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(super) row: LetterRow,
    pub(super) retry: Retry,
    /// When it begins to be owed.
    due: Moment,
    /// The server takes it later: when the inbox's owner has made room, or the package is known or
    /// has room again.
    refused: bool,
    /// Whether another package is being claimed for it.
    claims: bool,
}

/// The letters that are owed, by number.
#[derive(Debug, Default)]
pub(crate) struct Letters(BTreeMap<u64, Letter>);

impl Letters {
    pub(super) fn insert(&mut self, row: LetterRow, clock: Clock) {
        let due = clock.until(row.since, LONGEST_WAIT).unwrap_or_default();
        let letter = Letter { row, retry: Retry::default(), due, refused: false, claims: false };
        self.0.insert(letter.row.number, letter);
    }

    /// Whether one is on its way and not just waiting for its reader, or to be needed.
    pub(super) fn is_owed(&self) -> bool {
        self.0.values().any(|letter| !letter.refused && letter.row.unless.is_none())
    }

    pub(super) fn hurry(&mut self) {
        self.0.values_mut().for_each(|letter| letter.retry.hurry());
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        if self.under_way() >= AT_ONCE {
            return None;
        }
        let wake_at = |letter: &Letter| Some(letter.retry.wake_at()?.max(letter.due));
        self.0.values().filter_map(wake_at).min()
    }

    fn under_way(&self) -> usize {
        self.0.values().filter(|letter| letter.retry.is_busy()).count()
    }

    fn remove(&mut self, number: u64, step: &mut Step<'_>) {
        self.0.remove(&number);
        step.delete(Table::Letters, &[], number);
    }
}

impl State {
    /// Owes a sealed notice to an inbox until it lies there; stored with this step.
    pub(crate) fn owe_letter(
        &mut self,
        letter: Deposit,
        to: Option<Addressee>,
        step: &mut Step<'_>,
    ) {
        self.keep_letter((letter, to), (step.now, None), step);
        self.deposit_letters(step);
    }

    /// Keeps a sealed notice that is owed from `since` on, unless a device shows itself in a chat
    /// before.
    pub(crate) fn keep_letter(
        &mut self,
        (letter, to): (Deposit, Option<Addressee>),
        (since, unless): (Timestamp, Option<(ConversationId, DeviceId)>),
        step: &mut Step<'_>,
    ) {
        let letters = &mut self.account.letters;
        let number = letters.0.last_key_value().map_or(0, |(last, _)| last + 1);
        let row = LetterRow { number, letter, to, claimed: 0, since, unless };
        step.put(Table::Letters, &[], number, &row);
        letters.insert(row, step.clock());
    }

    /// A device has shown itself in a chat, or is gone from it: what should bring it there is not
    /// needed any more.
    pub(crate) fn forget_letters(
        &mut self,
        chat: ConversationId,
        device: DeviceId,
        step: &mut Step<'_>,
    ) {
        self.account.letters.0.retain(|&number, letter| {
            let keep = letter.row.unless != Some((chat, device)) || letter.retry.is_busy();
            if !keep {
                step.delete(Table::Letters, &[], number);
            }
            keep
        });
    }

    /// Deposits what is due.
    pub(super) fn deposit_letters(&mut self, step: &mut Step<'_>) {
        let letters = &mut self.account.letters;
        let room = AT_ONCE.saturating_sub(letters.under_way());
        let is_due =
            |letter: &&mut Letter| letter.due <= step.moment && letter.retry.is_due(step.moment);
        let due = letters.0.values_mut().filter(is_due);
        let mut requests = Vec::new();
        for letter in due.take(room) {
            letter.retry.begin();
            requests.push((letter.row.number, letter.row.letter.clone()));
        }
        for (number, request) in requests {
            self.ask_open(Then::Account(AccountThen::Deposited(number)), request, step);
        }
    }

    pub(super) fn deposited(
        &mut self,
        number: u64,
        result: Result<OpenReply, TransportError>,
        step: &mut Step<'_>,
    ) {
        let letters = &mut self.account.letters;
        let Some(letter) = letters.0.get_mut(&number) else {
            return;
        };
        match session::reply_of::<Deposit>(result) {
            Ok(()) => letters.remove(number, step),
            Err(error) => {
                let code = match &error {
                    TransportError::Refused(refusal) => Some(refusal.code),
                    _ => None,
                };
                // The day's notices for a package of last resort are used up. When there may be more
                // of them doesn't matter: its device may make others as soon as it comes online.
                let is_crowded = matches!(
                    &error,
                    TransportError::Refused(Refusal {
                        code: ErrorCode::TooManyNotices,
                        retry_after: Some(_),
                    })
                );
                letter.refused = matches!(
                    code,
                    Some(
                        ErrorCode::InboxFull
                            | ErrorCode::UnknownInbox
                            | ErrorCode::UnknownPackage
                            | ErrorCode::TooManyNotices
                    )
                );
                let error = if is_crowded {
                    TransportError::Refused(ErrorCode::TooManyNotices.into())
                } else {
                    error
                };
                letter.retry.failed(&error, step.moment, step.rng);
                let old = step.now.since(letter.row.since);
                let row = &mut letter.row;
                let needs_other = match code {
                    Some(ErrorCode::TooManyNotices) => true,
                    Some(ErrorCode::UnknownPackage) => letter.retry.tries() >= UNKNOWN,
                    _ => false,
                };
                let may_claim = row.to.is_some() && (is_crowded || row.claimed < MOST_CLAIMED);
                let hopeless = match code {
                    Some(ErrorCode::Malformed | ErrorCode::TooLarge) => true,
                    Some(ErrorCode::TooManyNotices) if !may_claim => true,
                    // The inbox went with its device, or the server lost the account.
                    Some(ErrorCode::UnknownInbox) => old > INBOX_LOST,
                    _ => old > GIVEN_UP_AFTER,
                };
                if hopeless {
                    letters.remove(number, step);
                } else if let Some((account, _)) = row.to
                    && needs_other
                    && may_claim
                    && !core::mem::replace(&mut letter.claims, true)
                {
                    if !is_crowded {
                        row.claimed += 1;
                        step.put(Table::Letters, &[], number, row);
                    }
                    self.claim(vec![account], ClaimThen::Letter(number), step);
                }
            }
        }
        self.deposit_letters(step);
    }

    /// A restored server forgets the packages that were handed out since the backup, and takes no
    /// letter for one; of others it has taken as many as it does. The letter goes there under another package of its device, which still has
    /// the key that opens it.
    pub(crate) fn letter_claimed(
        &mut self,
        number: u64,
        claimed: Result<Vec<ClaimedPackage>, Error>,
        step: &mut Step<'_>,
    ) {
        let Some(letter) = self.account.letters.0.get_mut(&number) else {
            return;
        };
        letter.claims = false;
        let Ok(packages) = claimed else {
            return;
        };
        let is_its = |package: &&ClaimedPackage| {
            letter.row.to.is_some_and(|(_, device)| package.device == device)
        };
        let found = packages.iter().find(is_its).map(|package| PackageId::of(&package.bytes));
        if let Some(package) = found
            && package != letter.row.letter.package
        {
            letter.row.letter.package = package;
            step.put(Table::Letters, &[], number, &letter.row);
            letter.retry.hurry();
            self.deposit_letters(step);
        }
    }
}
