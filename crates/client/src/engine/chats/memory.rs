//! Which chats' groups are in memory, and which lie in the store alone.
//!
//! A chat in which nothing is to be done rests: what lists show of it, its outbox and where it
//! follows its log are known, and that is enough until something comes. What an input needs beyond
//! that is loaded before the step; a chat that gets something to do meanwhile is loaded by the next.

use corncrake_core::id::ConversationId;

use super::{
    Chat, Chats, Place,
    rows::{Opening, Phase},
};
use crate::{
    command::{ChatCommand, Command},
    engine::{Input, State, Then},
    host::Moment,
    transport::Push,
};

/// How many chats one tick takes up: people's calls come between two ticks, however many chats have
/// something to do at once.
pub(super) const AT_ONCE: usize = 16;

impl Chat {
    /// Whether nothing is to be done here before somebody says something.
    pub(crate) fn rests(&self) -> bool {
        let quiet = self.intents.is_empty()
            && self.flight.is_none()
            && self.session.duties.is_empty()
            && self.session.invitation.is_none()
            && self.session.search.is_none()
            && !self.session.looks_at_members
            && !self.session.is_awaited;
        match self.row.phase {
            Phase::Inside => {
                quiet
                    && self.is_member()
                    && self.row.is_calm
                    && self.row.opening == Opening::True
                    && self.row.recorded
                    && !self.row.sent_in_doubt
                    && self.row.say_from.is_none()
                    && self.row.running.is_some()
                    && self.row.owed_again.is_nothing()
                    && self.row.begin.is_nothing()
            }
            Phase::Removed | Phase::Left => quiet,
            Phase::Entering(_) | Phase::Waiting => false,
        }
    }
}

impl State {
    /// The chats that have to be loaded before this input is taken.
    pub(crate) fn chats_to_load(&mut self, input: &Input, now: Moment) -> Vec<ConversationId> {
        let one = match input {
            Input::Command(Command::Chat(_, ChatCommand::Info(_))) => None,
            Input::Command(Command::Chat(id, _)) => Some(*id),
            Input::Push(Push::Entries { log, entries, .. }) if !entries.is_empty() => {
                let of_log = self.chats.of_log(log);
                of_log.filter(|(_, place)| *place == Place::Current).map(|(id, _)| id)
            }
            Input::Push(Push::Differs { log, .. } | Push::Running { log, .. }) => {
                self.chats.of_log(log).map(|(id, _)| id)
            }
            Input::Open(request, _) => match self.requests.get(request) {
                Some(Then::Chat(id, _)) => Some(*id),
                Some(Then::Enter(number, _)) => self.chats.entering.get(number).and_then(|e| e.id),
                _ => None,
            },
            Input::Tick => {
                let due = self.chats.due(now).take(AT_ONCE);
                let due = due.filter_map(|id| self.chats.all.get(&id));
                let due = due.filter(|chat| !chat.is_loaded && !chat.rests());
                return due.map(|chat| chat.row.id).collect();
            }
            _ => None,
        };
        self.chats.inputs += 1;
        let used = self.chats.inputs;
        let Some(chat) = one.and_then(|id| self.chats.all.get_mut(&id)) else {
            return Vec::new();
        };
        chat.session.used = used;
        if chat.is_loaded { Vec::new() } else { vec![chat.row.id] }
    }
}

impl Chats {
    /// Leaves to the store what is beyond `most` chats and rests, longest unused first.
    pub(crate) fn let_rest(&mut self, most: usize) {
        let surplus = self.loaded.len().saturating_sub(most);
        if surplus == 0 {
            return;
        }
        let resting = self.loaded.iter().filter_map(|id| self.all.get(id)).filter(|c| c.rests());
        let mut resting: Vec<_> = resting.map(|chat| (chat.session.used, chat.row.id)).collect();
        resting.sort_unstable();
        for (_, id) in resting.into_iter().take(surplus) {
            let Some(mut chat) = self.take(id) else { continue };
            chat.unload();
            chat.recent.clear();
            chat.read.clear();
            chat.kept.clear();
            chat.sent.clear();
            chat.audiences.clear();
            chat.absent.clear();
            chat.is_loaded = false;
            self.put(chat);
        }
    }
}

#[cfg(test)]
mod tests {
    use corncrake_core::{derive::Key32, seal::envelope::Seed};

    use super::*;
    use crate::{
        engine::{
            account::AccountState,
            chats::{all::looks, rows::ChatRow},
        },
        event::ChatKind,
        host::Settings,
    };

    fn chat(number: u8, phase: Phase) -> Chat {
        let id = ConversationId::from_bytes([number; 32]);
        let seed = Seed::from_key(Key32::from_bytes([number; 32]));
        Chat::new(ChatRow { phase, ..ChatRow::new(id, ChatKind::Group, seed) })
    }

    #[test]
    fn audit_issue_7_a_turn_looks_only_at_chats_whose_groups_are_in_memory() {
        let mut chats = Chats::default();
        for number in 0..100 {
            chats.put(Chat { is_loaded: number < 5, ..chat(number, Phase::Removed) });
        }
        looks::take();
        chats.let_rest(5);
        assert_eq!(looks::take(), 0);
        chats.let_rest(2);
        let looked = looks::take();
        assert!((3..=10).contains(&looked), "looked {looked} times");
        assert_eq!(chats.all.values().filter(|chat| chat.is_loaded).count(), 2);
    }

    #[test]
    fn audit_issue_7_a_tick_takes_up_no_more_chats_than_people_can_wait_for() {
        let mut chats = Chats::default();
        for number in 0..100 {
            let mut chat = Chat { is_loaded: false, ..chat(number, Phase::Waiting) };
            chat.session.wake = Some(Moment(1));
            chats.put(chat);
        }
        let mut state =
            State::new(Settings::default(), String::new(), AccountState::default(), chats);
        assert_eq!(state.chats_to_load(&Input::Tick, Moment(2)).len(), AT_ONCE);
    }

    #[test]
    fn audit_srv_b8_chats_that_wake_are_found_without_a_look_at_the_others() {
        let mut chats = Chats::default();
        for number in 0..100_u8 {
            let mut chat = chat(number, Phase::Inside);
            chat.session.wake = (number % 10 == 0).then_some(Moment(200 - u64::from(number)));
            chats.put(chat);
        }
        let due = |chats: &Chats, now| {
            chats.due(Moment(now)).map(|id| id.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(due(&chats, 100), Vec::<u8>::new());
        assert_eq!(due(&chats, 120), [90, 80]);
        let mut chat = chats.take(ConversationId::from_bytes([90; 32])).unwrap();
        assert_eq!(due(&chats, 120), [80]);
        chat.session.wake = Some(Moment(115));
        chats.put(chat);
        assert_eq!(due(&chats, 120), [90, 80]);
    }
}
