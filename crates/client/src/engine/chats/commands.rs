//! What the app asks of a chat.

use corncrake_core::{
    content::{MAX_TEXT, Message, is_title},
    id::{AccountId, ConversationId, MessageId},
};

use super::{
    Chat,
    create::{Adder, GatherThen, Gathered, TITLE},
    rows::{Intent, Phase, Wish},
};
use crate::{
    command::ChatCommand,
    engine::{Reply, State, Step, state::NO_ACCOUNT, tables::Table},
    error::{Error, Refusal},
    event::{Adding, ChatKind, Delivery, EventKind},
};

/// Who waits for a change of a group.
#[derive(Debug)]
pub(crate) enum Waiter {
    Changed(Reply<()>),
    Added(Reply<Adding>),
    /// Who waits for the fate of a message.
    Sent(Reply<Delivery>),
}

impl Waiter {
    pub(super) fn answer(self, result: Result<(), Error>, step: &mut Step<'_>) {
        match self {
            Self::Changed(reply) => step.answer(reply, result),
            Self::Added(reply) => step.answer(reply, result.map(|()| Adding::Done)),
            Self::Sent(reply) => {
                let failed = |error: Error| Delivery::Failed(error.code().to_owned());
                step.answer(reply, Ok(result.map_or_else(failed, |()| Delivery::Sent)));
            }
        }
    }
}

impl From<Reply<()>> for Waiter {
    fn from(reply: Reply<()>) -> Self {
        Self::Changed(reply)
    }
}

impl State {
    pub(crate) fn chat_command(
        &mut self,
        id: ConversationId,
        command: ChatCommand,
        step: &mut Step<'_>,
    ) {
        let Some(chat) = self.chats.all.get(&id) else {
            return command.refuse(Refusal::UnknownChat, step);
        };
        if self.account.me().is_none() {
            return command.refuse(Refusal::NoAccount, step);
        }
        if let Some(refusal) = why_not(chat, &command) {
            return command.refuse(refusal, step);
        }
        if let (true, Err(refusal)) = (command.is_for_others(), self.still_acts()) {
            return command.refuse(refusal, step);
        }
        match command {
            ChatCommand::Info(reply) => {
                let info = self.chat_info(chat);
                step.answer(reply, Ok(info));
            }
            ChatCommand::History { reply, .. } => step.answer(reply, Ok(Vec::new())),
            ChatCommand::SendText { text, reply, fate } => {
                let id = self.direct_chat(chat.row.peer).unwrap_or(id);
                self.with_chat(id, step, |state, chat, step| {
                    state.send_text(chat, text, (reply, fate), step);
                });
            }
            ChatCommand::Add { names, patience, reply, fate } => {
                let adder = Adder { stored: reply, fate, until: step.moment.after(patience) };
                self.gather(names, GatherThen::Add { chat: id, adder }, step);
            }
            ChatCommand::Remove { names, reply } => {
                self.gather_members(id, names, GatherThen::Remove { chat: id, reply }, step);
            }
            ChatCommand::SetRole { name, role, reply } => {
                let then = GatherThen::Role { chat: id, role, reply };
                self.gather_members(id, vec![name], then, step);
            }
            ChatCommand::Leave(reply) => self.leave(id, reply, step),
            ChatCommand::Rename { title, reply } => self.wish(id, Wish::Title(title), reply, step),
            ChatCommand::RevokeDevice { device, reply } => {
                self.wish(id, Wish::Revoke(device), reply, step);
            }
            ChatCommand::Settled(reply) => self.chats.settling.push((id, reply)),
            ChatCommand::Hide(reply) => {
                self.with_chat(id, step, |state, chat, step| state.hide(chat, reply, step));
            }
        }
    }

    /// Answers those who wait for what is under way in one chat.
    pub(crate) fn answer_settled_chats(&mut self, step: &mut Step<'_>) {
        for (id, reply) in core::mem::take(&mut self.chats.settling) {
            match self.chats.all.get(&id) {
                None => step.answer(reply, Err(Refusal::UnknownChat.into())),
                Some(chat) if chat.is_out() => {
                    step.answer(reply, Err(Refusal::NotAMember.into()));
                }
                Some(chat) if chat.is_settled(step.clock()) => step.answer(reply, Ok(())),
                Some(_) => self.chats.settling.push((id, reply)),
            }
        }
    }

    fn send_text(
        &mut self,
        chat: &mut Chat,
        text: String,
        (reply, fate): (Reply<MessageId>, Reply<Delivery>),
        step: &mut Step<'_>,
    ) {
        let Some(me) = self.account.me().map(|me| me.account) else {
            return step.answer(reply, Err(NO_ACCOUNT));
        };
        let message = Message::text(text.as_str(), step.now.0 / 1000, step.rng);
        let Ok(content) = message.encode() else {
            return step.answer(reply, Err(Refusal::MessageTooLong.into()));
        };
        let (id, time) = (message.id, message.time);
        self.unhide(chat, step);
        let intent = Intent::Send { id, time, content: content.to_vec(), text, said_to: None };
        let number = chat.queue(intent, step);
        chat.session.replies.insert(number, Waiter::Sent(fate));
        chat.save(step);
        step.answer(reply, Ok(id));
        if let Some(item) = chat.queued_items(me).pop() {
            step.event(EventKind::Item { chat: chat.row.id, item });
        }
        self.advance(chat, step);
    }

    /// Names of members, and of those who are to come in, need no directory if they are known here.
    fn gather_members(
        &mut self,
        id: ConversationId,
        names: Vec<String>,
        then: GatherThen,
        step: &mut Step<'_>,
    ) {
        let Some(chat) = self.chats.all.get(&id) else {
            return;
        };
        let members = chat.group.iter().flat_map(|group| &group.members);
        let members = members.map(|(account, ..)| *account).chain(chat.adding());
        let members: Vec<_> = members.map(|account| (account, self.name_of(&account))).collect();
        let known: Option<Vec<AccountId>> = names
            .iter()
            .map(|name| {
                let (id, name) = (name.parse().ok(), name.to_lowercase());
                let mut members = members.iter();
                let named = members.find(|(account, called)| {
                    called.as_deref() == Some(name.as_str()) || Some(*account) == id
                });
                named.map(|(account, _)| *account)
            })
            .collect();
        match known {
            Some(accounts) => {
                let gathered = Gathered { accounts, left_out: Vec::new() };
                self.chats_gathered(then, Ok(gathered), step);
            }
            None => self.gather(names, then, step),
        }
    }

    /// Whoever is to be removed is not added any more by what was asked for before, unless that is
    /// with the server already: then the removal follows it.
    pub(super) fn take_back_adds(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let removes = chat.intents.iter().filter_map(|(number, intent)| match intent {
            Intent::Change(Wish::Remove(accounts)) => Some((*number, accounts.clone())),
            _ => None,
        });
        let Some(device) = self.account.me().map(|me| me.device) else {
            return;
        };
        for (until, gone) in removes.collect::<Vec<_>>() {
            let mut changes = false;
            for who in &gone {
                changes |= chat.row.owed_again.adds_no_more(who, device);
            }
            if changes {
                chat.save(step);
            }
            let in_flight = |number| {
                let mut entries = chat.flight.iter().flat_map(|flight| &flight.entries);
                entries.any(|entry| entry.intent == Some(number))
            };
            let (mut left, mut nobody) = (Vec::new(), Vec::new());
            for (number, intent) in &mut chat.intents {
                let Intent::Change(Wish::Add(packages)) = intent else {
                    continue;
                };
                let before = packages.len();
                if *number < until && !in_flight(*number) {
                    packages.retain(|(account, _)| !gone.contains(account));
                }
                if packages.is_empty() {
                    nobody.push(*number);
                } else if packages.len() < before {
                    left.push((*number, intent.clone()));
                }
            }
            if !left.is_empty() || !nobody.is_empty() {
                step.event(EventKind::ChatChanged(chat.row.id));
            }
            for (number, intent) in left {
                step.put(Table::Intents, chat.row.id.as_bytes(), number, &(chat.row.id, &intent));
            }
            for number in nobody {
                self.end_intent(chat, number, Err(Refusal::TakenBack), step);
            }
        }
    }

    fn leave(&mut self, id: ConversationId, reply: Reply<()>, step: &mut Step<'_>) {
        let alone =
            self.chats.all.get(&id).is_some_and(|chat| {
                chat.group.as_ref().is_some_and(|group| group.members.len() < 2)
            });
        if !alone {
            return self.wish(id, Wish::Leave, reply, step);
        }
        self.with_chat(id, step, |state, chat, step| {
            state.all_intents_failed(chat, step);
            // New devices of the account find the chat hidden.
            chat.row.hidden = true;
            chat.row.recorded = false;
            state.record(chat, step);
            chat.forget(Phase::Left, step);
        });
        step.answer(reply, Ok(()));
    }

    /// Brings a hidden chat back.
    pub(super) fn unhide(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        if core::mem::take(&mut chat.row.hidden) {
            self.record_again(chat, step);
        }
    }

    fn hide(&mut self, chat: &mut Chat, reply: Reply<()>, step: &mut Step<'_>) {
        chat.row.hidden = true;
        for table in [Table::Timeline, Table::Sent, Table::Audiences] {
            step.delete_all(table, chat.row.id.as_bytes());
        }
        chat.sent.clear();
        chat.audiences.clear();
        chat.nothing_is_sent(step);
        chat.row.first_item = chat.row.next_item;
        self.erase_events(chat.row.id, step);
        self.record_again(chat, step);
        step.answer(reply, Ok(()));
        self.advance(chat, step);
    }
}

impl Chat {
    /// Whether this account has left, or was taken out.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.row.phase, Phase::Removed | Phase::Left) || self.leaves_again()
    }
}

/// What a chat can't do as it stands.
fn why_not(chat: &Chat, command: &ChatCommand) -> Option<Refusal> {
    let out = chat.is_out();
    let direct = chat.row.kind == ChatKind::Direct;
    match command {
        ChatCommand::Info(_)
        | ChatCommand::History { .. }
        | ChatCommand::Settled(_)
        | ChatCommand::Hide(_) => None,
        _ if out => Some(Refusal::NotAMember),
        ChatCommand::SendText { text, .. } if text.is_empty() => Some(Refusal::MessageEmpty),
        ChatCommand::SendText { text, .. } if text.len() > MAX_TEXT => {
            Some(Refusal::MessageTooLong)
        }
        ChatCommand::SendText { .. } | ChatCommand::RevokeDevice { .. } => None,
        _ if direct => Some(Refusal::NotInDirectChat),
        ChatCommand::Rename { title, .. } if title.len() > TITLE => Some(Refusal::TitleTooLong),
        ChatCommand::Rename { title, .. } if !is_title(title) => Some(Refusal::BadTitle),
        ChatCommand::Add { names, .. } | ChatCommand::Remove { names, .. } if names.is_empty() => {
            Some(Refusal::UnknownMember)
        }
        _ => None,
    }
}

impl ChatCommand {
    /// Whether it asks for something that others would see.
    const fn is_for_others(&self) -> bool {
        match self {
            Self::Info(_) | Self::History { .. } | Self::Settled(_) | Self::Hide(_) => false,
            Self::SendText { .. }
            | Self::Add { .. }
            | Self::Remove { .. }
            | Self::Leave(_)
            | Self::Rename { .. }
            | Self::SetRole { .. }
            | Self::RevokeDevice { .. } => true,
        }
    }

    fn refuse(self, refusal: Refusal, step: &mut Step<'_>) {
        let error = refusal.into();
        match self {
            Self::Info(reply) => step.answer(reply, Err(error)),
            Self::SendText { reply, .. } => step.answer(reply, Err(error)),
            Self::History { reply, .. } => step.answer(reply, Err(error)),
            Self::Add { reply, .. } => step.answer(reply, Err(error)),
            Self::Remove { reply, .. }
            | Self::Rename { reply, .. }
            | Self::SetRole { reply, .. }
            | Self::RevokeDevice { reply, .. }
            | Self::Leave(reply)
            | Self::Settled(reply)
            | Self::Hide(reply) => step.answer(reply, Err(error)),
        }
    }
}
