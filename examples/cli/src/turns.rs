//! The order in which commands begin.
//!
//! Commands of a session run beside each other, so that none holds up the rest; those about one
//! chat begin in the order in which they came, or messages would change places.

use std::collections::HashMap;

use tokio::sync::watch;

use crate::ask::Ask;

/// The last command of each chat that has not begun yet.
#[derive(Debug, Default)]
pub(crate) struct Turns(HashMap<String, watch::Receiver<()>>);

/// A command's place in the order; whoever comes after it goes on once this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Vec<watch::Receiver<()>>,
    _next: watch::Sender<()>,
}

impl Turns {
    /// The turn of a command, which comes after those before it in the same chat. To settle comes
    /// after all.
    pub(crate) fn next(&mut self, ask: &Ask) -> Turn {
        self.0.retain(|_, begun| begun.has_changed().is_ok());
        let (next, begun) = watch::channel(());
        let before = match (ask, ask.chat()) {
            (_, Some(chat)) => self.0.insert(chat, begun).into_iter().collect(),
            (Ask::Settle { .. }, None) => self.0.values().cloned().collect(),
            (_, None) => Vec::new(),
        };
        Turn { before, _next: next }
    }
}

impl Turn {
    /// Waits until it has come.
    pub(crate) async fn come(&mut self) {
        for mut begun in self.before.drain(..) {
            // Nothing is ever said over these channels; they end.
            while begun.changed().await.is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::Wait;

    fn send(chat: &str) -> Ask {
        Ask::Send { chat: chat.to_owned(), text: String::new(), wait: Wait::NONE }
    }

    async fn has_come(turn: &mut Turn) -> bool {
        tokio::select! {
            biased;
            () = turn.come() => true,
            () = tokio::task::yield_now() => false,
        }
    }

    #[tokio::test]
    async fn commands_of_one_chat_begin_in_order_and_others_beside_them() {
        let mut turns = Turns::default();
        let first = turns.next(&send("bob"));
        let mut second = turns.next(&send("bob"));
        let mut other = turns.next(&send("cem"));
        let mut settle = turns.next(&Ask::Settle { wait: Wait::Given(1) });
        assert!(!has_come(&mut second).await);
        assert!(has_come(&mut other).await);
        drop(first);
        assert!(has_come(&mut second).await);
        drop(second);
        assert!(!has_come(&mut settle).await, "the one of cem has not begun");
        drop(other);
        assert!(has_come(&mut settle).await);
    }
}
