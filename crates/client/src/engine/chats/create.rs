//! New chats, and people for chats that exist.

use core::time::Duration;
use std::collections::BTreeSet;

use corncrake_core::{
    content::is_title,
    conversation::{Change, ContextExtension, Conversation, MAX_ADDS, OwnCommit},
    id::{AccountId, ConversationId, DeviceId, EntryId},
    seal::envelope::{Seed, entry_id},
};
use corncrake_wire::log::LogEntry;

use super::{
    Chat,
    commands::Waiter,
    lost::again::Done,
    read::kind_of,
    rows::{ChatRow, Flight, Goal, Intent, Opening, Phase, Purpose, Wish},
    write::{claimed, refusal_of},
};
use crate::{
    engine::{
        Reply, State, Step,
        account::{By, ClaimedPackage},
        state::NO_ACCOUNT,
        tables::Table,
    },
    error::{Error, Refusal},
    event::{Adding, ChatKind, EventKind, LeftOut, Role},
    host::{Clock, Moment},
};

/// Who waits in `start_chat` or `create_group`.
#[derive(Debug)]
pub(crate) enum Starter {
    Chat(Reply<ConversationId>),
    /// With those who were left out.
    Group(Reply<(ConversationId, Vec<LeftOut>)>, Vec<LeftOut>),
}

/// Who waits in `add`.
#[derive(Debug)]
pub(crate) struct Adder {
    /// Until it is stored, with those who are left out.
    pub(crate) stored: Reply<Vec<LeftOut>>,
    /// Until it is done.
    pub(crate) fate: Reply<Adding>,
    /// Whoever isn't found by then is left out.
    pub(crate) until: Moment,
}

/// People who were looked up.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) accounts: Vec<AccountId>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The last place in which two people look for their chat; the first is 0.
pub(super) const LAST_DIRECT: u64 = 8;

/// The longest title, in bytes.
pub(super) const TITLE: usize = 128;

/// A conversation that was made and is nobody's yet.
pub(super) struct Founding {
    conversation: Conversation,
    commit: OwnCommit,
}

/// What looked-up people are for.
#[derive(Debug)]
pub(crate) enum GatherThen {
    /// Whoever isn't found by then isn't looked for any more.
    Direct(Starter, Option<Moment>),
    Group {
        title: String,
        starter: Starter,
        /// Whoever isn't found by then is left out.
        until: Option<Moment>,
    },
    Add {
        chat: ConversationId,
        adder: Adder,
    },
    Remove {
        chat: ConversationId,
        reply: Reply<()>,
    },
    Role {
        chat: ConversationId,
        role: Role,
        reply: Reply<()>,
    },
    /// To add them again, because the server lost that.
    AddAgain(ConversationId),
    /// To see which of their devices are missing in a group that they were added to.
    Newcomers(ConversationId),
    /// Only to know their names.
    Names(ConversationId),
    /// To know which devices this account has.
    OwnRecord,
}

/// Key packages that were claimed, and whose are left out and why.
type Claims = (Vec<ClaimedPackage>, Vec<(AccountId, Error)>);

/// Key packages for a 1:1 chat that may have to be founded.
#[derive(Debug, Default)]
pub(crate) enum Packages {
    /// Nobody has asked for them.
    #[default]
    None,
    Asked,
    Here(Vec<ClaimedPackage>),
}

/// What claimed key packages are for.
#[derive(Debug)]
pub(crate) enum ClaimThen {
    Direct(ConversationId),
    Group {
        title: String,
        accounts: Vec<AccountId>,
        starter: Starter,
        until: Option<Moment>,
    },
    Add {
        chat: ConversationId,
        accounts: Vec<AccountId>,
        left_out: Vec<LeftOut>,
        adder: Adder,
    },
    AddAgain(ConversationId),
    /// For these devices of people who were added.
    Newcomers(ConversationId, BTreeSet<DeviceId>),
    /// To send the account's fresh keys to its other devices.
    Keys,
    /// For the device to which this letter is owed.
    Letter(u64),
}

impl State {
    pub(crate) fn start_chat(
        &mut self,
        (names, patience): (Vec<String>, Option<Duration>),
        reply: Starter,
        step: &mut Step<'_>,
    ) {
        let until = patience.map(|patience| step.moment.after(patience));
        if names.len() == 1 {
            self.gather(names, GatherThen::Direct(reply, until), step);
        } else {
            let then = GatherThen::Group { title: String::new(), starter: reply, until };
            self.gather(names, then, step);
        }
    }

    pub(crate) fn create_group(
        &mut self,
        title: String,
        (names, patience): (Vec<String>, Duration),
        starter: Starter,
        step: &mut Step<'_>,
    ) {
        if title.len() > TITLE {
            return starter.answer(Err(Refusal::TitleTooLong.into()), step);
        }
        if !is_title(&title) {
            return starter.answer(Err(Refusal::BadTitle.into()), step);
        }
        let until = Some(step.moment.after(patience));
        self.gather(names, GatherThen::Group { title, starter, until }, step);
    }

    /// Looks people up by name.
    pub(super) fn gather(&mut self, mut names: Vec<String>, then: GatherThen, step: &mut Step<'_>) {
        if self.account.me().is_none() {
            return then.fail(NO_ACCOUNT, step);
        }
        if let Err(refusal) = self.still_acts() {
            return then.fail(refusal.into(), step);
        }
        let mut named = BTreeSet::new();
        names.retain(|name| named.insert(name.to_lowercase()));
        self.look_up(names.into_iter().map(|name| self.by_text(name)).collect(), then, step);
    }

    /// The people who were looked up.
    pub(crate) fn chats_gathered(
        &mut self,
        then: GatherThen,
        result: Result<Gathered, Error>,
        step: &mut Step<'_>,
    ) {
        let Some(me) = self.account.me().map(|me| me.account) else {
            return then.fail(NO_ACCOUNT, step);
        };
        if matches!(then, GatherThen::OwnRecord) {
            return self.own_record_came(result.map(drop), step);
        }
        let Gathered { mut accounts, left_out } = match result {
            Ok(gathered) => gathered,
            Err(error) => return then.fail(error, step),
        };
        if let (true, Some(first)) = (accounts.is_empty(), left_out.first()) {
            return then.fail(first.why.clone(), step);
        }
        accounts.sort_unstable();
        accounts.dedup();
        let others: Vec<AccountId> = accounts.iter().copied().filter(|a| *a != me).collect();
        match then {
            GatherThen::Direct(starter, _) => match others.first() {
                Some(peer) => self.start_direct(*peer, starter, step),
                None => starter.answer(Err(Refusal::ChatWithOneself.into()), step),
            },
            GatherThen::Group { title, mut starter, until } => {
                starter.leave_out(left_out);
                let claim = [&[me], others.as_slice()].concat();
                if self.too_many(&claim) {
                    return starter.answer(Err(Refusal::TooManyMembers.into()), step);
                }
                let then = ClaimThen::Group { title, accounts: others, starter, until };
                self.claim(claim, then, step);
            }
            GatherThen::Add { chat, adder } => {
                self.add_gathered(chat, (others, left_out), adder, step);
            }
            GatherThen::Remove { chat, reply } => match self.are_members(chat, &accounts) {
                true => self.wish(chat, Wish::Remove(accounts), reply, step),
                false => step.answer(reply, Err(Refusal::UnknownMember.into())),
            },
            GatherThen::Role { chat, role, reply } => match accounts.first() {
                Some(account) if self.are_members(chat, &accounts) => {
                    self.wish(chat, Wish::Role(*account, role), reply, step);
                }
                _ => step.answer(reply, Err(Refusal::UnknownMember.into())),
            },
            GatherThen::AddAgain(chat) => self.claim(others, ClaimThen::AddAgain(chat), step),
            GatherThen::Newcomers(chat) => self.newcomers_looked_up(chat, others, step),
            GatherThen::Names(chat) => self.names_came(chat, &accounts, step),
            GatherThen::OwnRecord => {}
        }
    }

    /// Somebody's record came, for one chat or for all that show the name.
    fn names_came(&mut self, asker: ConversationId, accounts: &[AccountId], step: &mut Step<'_>) {
        let shows = |chat: &&Chat| {
            let members = chat.group.iter().flat_map(|group| &group.members);
            chat.row.id == asker || members.into_iter().any(|(it, ..)| accounts.contains(it))
        };
        let shown: Vec<_> = self.chats.all.values().filter(shows).map(|chat| chat.row.id).collect();
        for id in shown {
            step.event(EventKind::ChatChanged(id));
            self.with_chat(id, step, |state, chat, step| state.tell_namesake(chat, step));
        }
    }

    /// Looks up members whose names are not known here, once for all chats.
    pub(super) fn learn(
        &mut self,
        chat: ConversationId,
        accounts: &[AccountId],
        step: &mut Step<'_>,
    ) {
        let me = self.account.me().map(|me| me.account);
        let unknown: Vec<By> = accounts
            .iter()
            .filter(|account| {
                Some(**account) != me
                    && self.account.contact(account).is_none()
                    && !self.is_learning(account)
            })
            .map(|account| By::Id(*account))
            .collect();
        if !unknown.is_empty() {
            self.look_up(unknown, GatherThen::Names(chat), step);
        }
    }

    /// Looks up the members of all chats whose names were not found before.
    pub(super) fn learn_missing(&mut self, step: &mut Step<'_>) {
        let unknown = |account: &AccountId| self.account.contact(account).is_none();
        let missing = |chat: &Chat| {
            let members = chat.group.iter().flat_map(|group| &group.members);
            let accounts = members.map(|(account, ..)| *account).filter(&unknown);
            (chat.row.id, accounts.collect::<Vec<_>>())
        };
        let missing: Vec<_> = self.chats.all.values().map(missing).collect();
        for (id, accounts) in missing {
            self.learn(id, &accounts, step);
        }
    }

    fn add_gathered(
        &mut self,
        id: ConversationId,
        (accounts, left_out): (Vec<AccountId>, Vec<LeftOut>),
        adder: Adder,
        step: &mut Step<'_>,
    ) {
        let Some(chat) = self.chats.all.get(&id) else {
            return step.answer(adder.stored, Err(Refusal::UnknownChat.into()));
        };
        let members = chat.group.iter().flat_map(|group| &group.members);
        let members: Vec<AccountId> = members.map(|(account, ..)| *account).collect();
        let new: Vec<AccountId> =
            accounts.into_iter().filter(|account| !members.contains(account)).collect();
        if new.is_empty() {
            return step.answer(adder.stored, Err(Refusal::AlreadySo.into()));
        }
        if self.too_many(&new) {
            return step.answer(adder.stored, Err(Refusal::TooManyMembers.into()));
        }
        let then = ClaimThen::Add { chat: id, accounts: new.clone(), left_out, adder };
        self.claim(new, then, step);
    }

    /// Whether the devices that these accounts' records name are more than one commit may add. A
    /// claim uses packages up, so this is known before.
    fn too_many(&self, accounts: &[AccountId]) -> bool {
        let me = self.account.me().map(|me| me.account);
        let devices = |account: &AccountId| {
            let devices = self.account.contact(account).map_or(1, |contact| contact.devices.len());
            devices - usize::from(Some(*account) == me && devices > 0)
        };
        accounts.iter().map(devices).sum::<usize>() > MAX_ADDS
    }

    /// The key packages that were claimed.
    pub(crate) fn chats_claimed(
        &mut self,
        mut then: ClaimThen,
        result: Result<Claims, Error>,
        step: &mut Step<'_>,
    ) {
        if matches!(then, ClaimThen::Keys) {
            return self.keys_claimed(result.map(|(packages, _)| packages), step);
        }
        if let ClaimThen::Letter(number) = then {
            return self.letter_claimed(number, result.map(|(packages, _)| packages), step);
        }
        let (packages, left_out) = match result {
            Ok(claimed) => claimed,
            Err(error) => return self.claim_failed(then, error, step),
        };
        if let Some(error) = self.leave_out(&mut then, left_out) {
            return self.claim_failed(then, error, step);
        }
        let without = |accounts: &[AccountId]| {
            let missing = |account: &&AccountId| packages.iter().all(|p| p.account != **account);
            accounts.iter().any(|account| missing(&account))
        };
        let unclaimed = match &then {
            ClaimThen::Direct(id) => {
                let peer = self.chats.all.get(id).and_then(|chat| chat.row.peer);
                without(peer.as_slice())
            }
            ClaimThen::Group { accounts, .. } | ClaimThen::Add { accounts, .. } => {
                without(accounts)
            }
            ClaimThen::AddAgain(_)
            | ClaimThen::Newcomers(..)
            | ClaimThen::Keys
            | ClaimThen::Letter(_) => false,
        };
        if unclaimed {
            return self.claim_failed(then, Refusal::NoKeyPackage.into(), step);
        }
        match then {
            ClaimThen::Direct(id) => match self.chats.all.get_mut(&id) {
                Some(chat) if !chat.session.is_missing => {
                    chat.session.packages = Packages::Here(packages);
                }
                _ => self.found_direct(id, &packages, step),
            },
            ClaimThen::Group { title, starter, .. } => {
                match self.make_group(title, &packages, step) {
                    Ok((mut chat, founding)) => {
                        chat.session.starter = Some(starter);
                        self.found(&mut chat, founding, step);
                        self.chats.put(chat);
                    }
                    Err(refusal) => starter.answer(Err(refusal.into()), step),
                }
            }
            ClaimThen::Add { chat, adder, left_out, .. } => {
                let wish = Wish::Add(packages.into_iter().map(|p| (p.account, p.bytes)).collect());
                let refusal = self.may_wish(chat).map_err(Error::from);
                step.answer(adder.stored, refusal.map(|()| left_out));
                self.wish(chat, wish, Waiter::Added(adder.fate), step);
            }
            ClaimThen::AddAgain(chat) => self.add_claimed_again(chat, packages, step),
            ClaimThen::Newcomers(chat, devices) => {
                self.newcomers_claimed((chat, &devices), packages, step);
            }
            ClaimThen::Keys | ClaimThen::Letter(_) => {}
        }
    }

    /// Notes who has nothing to be added by; why nothing is done at all if nobody is left.
    fn leave_out(&self, then: &mut ClaimThen, more: Vec<(AccountId, Error)>) -> Option<Error> {
        let (ClaimThen::Group { accounts, .. } | ClaimThen::Add { accounts, .. }) = then else {
            return None;
        };
        accounts.retain(|account| more.iter().all(|(other, _)| other != account));
        let nobody = accounts.is_empty();
        let why = more.first().map(|(_, why)| why.clone()).filter(|_| nobody);
        let more = more.into_iter().map(|(account, why)| {
            let known = self.name_of(&account);
            LeftOut { who: known.unwrap_or_else(|| account.to_string()), why }
        });
        let more = more.collect();
        match then {
            ClaimThen::Group { starter, .. } => starter.leave_out(more),
            ClaimThen::Add { left_out, .. } => left_out.extend(more),
            ClaimThen::Direct(_)
            | ClaimThen::AddAgain(_)
            | ClaimThen::Newcomers(..)
            | ClaimThen::Keys
            | ClaimThen::Letter(_) => {}
        }
        why
    }

    /// Whether all of these are in the group, or will be when what was asked for is done.
    fn are_members(&self, id: ConversationId, accounts: &[AccountId]) -> bool {
        let Some(chat) = self.chats.all.get(&id) else {
            // The wish tells.
            return true;
        };
        let members = chat.group.iter().flat_map(|group| &group.members);
        let members = members.map(|(account, ..)| *account);
        let adding = chat.adding().into_iter().chain(chat.row.owed_again.adds());
        let all: Vec<AccountId> = members.chain(adding).collect();
        accounts.iter().all(|account| all.contains(account))
    }

    fn make_group(
        &self,
        title: String,
        packages: &[ClaimedPackage],
        step: &mut Step<'_>,
    ) -> Result<(Chat, Founding), Refusal> {
        let me = self.account.me().ok_or(Refusal::NoAccount)?.account;
        let seed = Seed::random(step.rng);
        let id = seed.conversation_id();
        let chat = Chat::new(ChatRow::new(id, ChatKind::Group, seed));
        let context = ContextExtension::group(me, title);
        let founding = self.make_founding(&chat, context, packages, step)?;
        Ok((chat, founding))
    }

    pub(super) fn claim_failed(&mut self, then: ClaimThen, error: Error, step: &mut Step<'_>) {
        match then {
            ClaimThen::Direct(id) => {
                let is_entering = |chat: &Chat| matches!(chat.row.phase, Phase::Entering(_));
                if !self.chats.all.get(&id).is_some_and(is_entering) {
                    // An invitation was quicker.
                    return;
                }
                let Some(mut chat) = self.chats.take(id) else {
                    return;
                };
                chat.session.packages = Packages::None;
                if !core::mem::take(&mut chat.session.is_missing) {
                    // They may not be needed.
                    self.chats.put(chat);
                    return;
                }
                let starter = chat.session.starter.take();
                if starter.is_none() || !chat.intents.is_empty() {
                    // Something waits to be said there: this chat is owed, and tried again.
                    let goal = Goal::Direct { n: chat.row.n };
                    let seed = chat.row.seed.clone();
                    self.chats.put(chat);
                    self.enter_later(id, seed, goal, step);
                } else {
                    step.delete(Table::Chats, id.as_bytes(), 0);
                }
                fail(starter, error, step);
            }
            ClaimThen::Group { starter, .. } => starter.answer(Err(error), step),
            ClaimThen::Add { adder, .. } => step.answer(adder.stored, Err(error)),
            // It is tried again after a while.
            ClaimThen::AddAgain(_)
            | ClaimThen::Newcomers(..)
            | ClaimThen::Keys
            | ClaimThen::Letter(_) => {}
        }
    }

    /// Makes epoch 0 of a conversation and the commit that adds everybody. Nothing of it is kept
    /// yet, so that a refusal leaves no chat behind.
    pub(super) fn make_founding(
        &self,
        chat: &Chat,
        context: ContextExtension,
        packages: &[ClaimedPackage],
        step: &mut Step<'_>,
    ) -> Result<Founding, Refusal> {
        self.still_acts()?;
        let me = self.account.me().ok_or(Refusal::NoAccount)?.seat();
        let packages: Vec<_> = packages.iter().map(|p| (p.account, p.bytes.clone())).collect();
        let add = claimed(&packages, self.account.times(step.clock()))?;
        let (conversation, _) =
            Conversation::found(&me, chat.row.id, context, chat.keys.log, step.rng)
                .map_err(refusal_of)?;
        let change = Change { add, fresh_path: true, ..Change::default() };
        let commit = conversation.commit(change, &me, step.rng).map_err(refusal_of);
        // A founder may do everything, so it is somebody's key package that is not allowed.
        let commit = commit.map_err(|refusal| match refusal {
            Refusal::TooManyMembers => refusal,
            _ => Refusal::NoKeyPackage,
        })?;
        Ok(Founding { conversation, commit })
    }

    /// Founds a conversation: the founding becomes the chat's, and its commit takes off.
    pub(super) fn found(&mut self, chat: &mut Chat, founding: Founding, step: &mut Step<'_>) {
        chat.conversation = Some(founding.conversation);
        chat.keep_place(Done::default(), step);
        chat.row.phase = Phase::Inside;
        chat.row.opening = Opening::True;
        chat.session.head = Some(0);
        chat.take_off_commit(Purpose::Found, founding.commit, None, step);
        self.watch(chat, step);
        chat.save(step);
        let peer: Vec<AccountId> = chat.row.peer.into_iter().collect();
        self.learn(chat.row.id, &peer, step);
        step.event(EventKind::ChatAdded(chat.row.id));
        self.started(chat, step);
        self.advance(chat, step);
    }

    /// Tells who waits in `start_chat` that the chat is there, and first of all who it is with.
    pub(super) fn started(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        self.tell_namesake(chat, step);
        if let Some(starter) = chat.session.starter.take() {
            starter.answer(Ok(chat.row.id), step);
        }
    }

    /// Whether this account is still in a chat: it may have left, or been removed, while somebody was
    /// looked up for a change of it.
    fn may_wish(&self, id: ConversationId) -> Result<(), Refusal> {
        match self.chats.all.get(&id) {
            None => Err(Refusal::UnknownChat),
            Some(chat) if chat.is_out() => Err(Refusal::NotAMember),
            Some(_) => Ok(()),
        }
    }

    /// Queues a change that the app wished for.
    pub(super) fn wish(
        &mut self,
        id: ConversationId,
        wish: Wish,
        reply: impl Into<Waiter>,
        step: &mut Step<'_>,
    ) {
        let reply = reply.into();
        if let Err(refusal) = self.may_wish(id) {
            return reply.answer(Err(refusal.into()), step);
        }
        self.with_chat(id, step, |state, chat, step| {
            let number = chat.queue(Intent::Change(wish), step);
            chat.session.replies.insert(number, reply);
            state.take_back_adds(chat, step);
            chat.save(step);
            state.advance(chat, step);
        });
    }
}

impl Chat {
    /// Whether the commit that founds the chat is still on its way.
    pub(super) fn is_founding(&self) -> bool {
        let founds = |flight: &Flight| flight.purpose == Purpose::Found;
        self.row.cursor == 0 && self.flight.as_ref().is_some_and(founds)
    }

    /// Whether the chat is in its log, and nothing that was asked for in it is on its way.
    pub(super) fn is_settled(&self, clock: Clock) -> bool {
        self.next_to_do(clock).is_none()
            && !self.is_founding()
            && !matches!(self.row.phase, Phase::Entering(_))
    }

    /// Stores an intent at the end of the outbox.
    pub(super) fn queue(&mut self, intent: Intent, step: &mut Step<'_>) -> u64 {
        let number = self.row.next_intent;
        self.row.next_intent += 1;
        step.put(Table::Intents, self.row.id.as_bytes(), number, &(self.row.id, &intent));
        self.intents.push_back((number, intent));
        number
    }

    pub(super) fn inner_hash(&self, entry: &LogEntry) -> Option<EntryId> {
        let opened = self.keys.envelope.open(self.keys.log, kind_of(entry.kind), &entry.bytes);
        opened.ok().map(|inner| entry_id(&inner))
    }
}

impl Starter {
    pub(super) fn answer(self, result: Result<ConversationId, Error>, step: &mut Step<'_>) {
        match self {
            Self::Chat(reply) => step.answer(reply, result),
            Self::Group(reply, left_out) => step.answer(reply, result.map(|id| (id, left_out))),
        }
    }

    fn leave_out(&mut self, more: Vec<LeftOut>) {
        if let Self::Group(_, left_out) = self {
            left_out.extend(more);
        }
    }
}

impl ClaimThen {
    /// Whether those who can be added come in although others can't.
    pub(crate) const fn leaves_out(&self) -> bool {
        matches!(
            self,
            Self::Group { starter: Starter::Group(..), .. }
                | Self::Add { .. }
                | Self::AddAgain(_)
                | Self::Newcomers(..)
        )
    }

    /// When whoever waits is to have an answer.
    pub(crate) const fn until(&self) -> Option<Moment> {
        match self {
            Self::Group { until, .. } => *until,
            Self::Add { adder, .. } => Some(adder.until),
            Self::Direct(_)
            | Self::AddAgain(_)
            | Self::Newcomers(..)
            | Self::Keys
            | Self::Letter(_) => None,
        }
    }
}

impl GatherThen {
    /// Whether those who can be added come in although others can't.
    pub(crate) const fn leaves_out(&self) -> bool {
        matches!(
            self,
            Self::Group { starter: Starter::Group(..), .. }
                | Self::Add { .. }
                | Self::AddAgain(_)
                | Self::Newcomers(_)
                | Self::Names(_)
        )
    }

    /// When whoever waits is to have an answer.
    pub(crate) const fn until(&self) -> Option<Moment> {
        match self {
            Self::Direct(_, until) | Self::Group { until, .. } => *until,
            Self::Add { adder, .. } => Some(adder.until),
            _ => None,
        }
    }

    pub(super) fn fail(self, error: Error, step: &mut Step<'_>) {
        match self {
            Self::Direct(starter, _) | Self::Group { starter, .. } => {
                starter.answer(Err(error), step);
            }
            Self::Add { adder, .. } => step.answer(adder.stored, Err(error)),
            Self::Remove { reply, .. } | Self::Role { reply, .. } => {
                step.answer(reply, Err(error));
            }
            // It is tried again after a while; who has no name now may have one at the next start.
            Self::AddAgain(_) | Self::Newcomers(_) | Self::Names(_) | Self::OwnRecord => {}
        }
    }
}

pub(super) fn fail(starter: Option<Starter>, error: Error, step: &mut Step<'_>) {
    if let Some(starter) = starter {
        starter.answer(Err(error), step);
    }
}
