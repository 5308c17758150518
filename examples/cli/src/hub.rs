//! Events for everybody who listens.
//!
//! The SDK hands out each event once. Here all that listen get it, and the next one is taken from
//! the SDK when they have said that they have shown it; so what a killed program had not shown
//! comes again. One that does not keep up holds up nobody: after a second the others go on, and
//! if it stays away it is told later that it missed some. The newest events are kept for those who
//! come from a program that had the store before: others may have shown them meanwhile.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout_at},
};

use crate::{
    protocol,
    view::{Event, Happened},
};

/// How long those who have shown an event wait for the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many events are kept.
const KEPT: usize = 64;

/// Who listens.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    listeners: Mutex<Listeners>,
    /// Told when somebody comes, goes, or has shown an event.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    all: Vec<Listener>,
    next: u64,
    /// The newest events, oldest first.
    kept: VecDeque<(u64, String)>,
    /// The newest event that is kept no more.
    forgotten: Option<u64>,
}

impl Listeners {
    fn keep(&mut self, event: &Event, line: &str) {
        if let Some(sequence) = event.sequence {
            self.kept.push_back((sequence, line.to_owned()));
            if self.kept.len() > KEPT {
                self.forgotten = self.kept.pop_front().map(|(sequence, _)| sequence);
            }
        }
    }

    /// Tells one that has heard events up to this one what came then.
    fn tell_later(&self, one: &mut Listener, after: u64) {
        one.lagged = self.forgotten > Some(after);
        for (sequence, line) in self.kept.iter().filter(|(sequence, _)| *sequence > after) {
            one.say(line);
            one.told = Some(*sequence);
        }
    }
}

#[derive(Debug)]
struct Listener {
    number: u64,
    out: mpsc::Sender<String>,
    /// The last event that it was told.
    told: Option<u64>,
    /// The last event that it has shown.
    shown: Option<u64>,
    /// The connection as it was told to it last.
    connection: String,
    /// Whether it missed something and has not been told so yet.
    lagged: bool,
}

impl Listener {
    fn tell(&mut self, event: &Event, line: &str) {
        self.told = event.sequence.or(self.told);
        if let Happened::Connection { connection } = &event.what {
            if *connection == self.connection {
                return;
            }
            connection.clone_into(&mut self.connection);
        }
        self.say(line);
    }

    fn say(&mut self, line: &str) {
        if self.lagged {
            let lagged = protocol::event(&Event { sequence: None, what: Happened::Lagged });
            self.lagged = self.out.try_send(lagged).is_err();
        }
        self.lagged = self.lagged || self.out.try_send(line.to_owned()).is_err();
    }

    fn has_shown(&self, sequence: u64) -> bool {
        self.shown >= Some(sequence)
    }
}

impl Hub {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more listens, who knows how the connection is now, and heard events up to `after` from
    /// another program.
    pub(crate) fn add(
        &self,
        out: mpsc::Sender<String>,
        connection: &str,
        after: Option<u64>,
    ) -> u64 {
        let mut listeners = self.listeners();
        let number = listeners.next;
        listeners.next += 1;
        let connection = connection.to_owned();
        let mut one = Listener { number, out, told: None, shown: None, connection, lagged: false };
        if let Some(after) = after {
            listeners.tell_later(&mut one, after);
        }
        listeners.all.push(one);
        self.changed.notify_one();
        number
    }

    /// One listens no more.
    pub(crate) fn remove(&self, number: u64) {
        self.listeners().all.retain(|one| one.number != number);
        self.changed.notify_one();
    }

    /// One has shown the events up to this one.
    pub(crate) fn shown(&self, number: u64, sequence: u64) {
        if let Some(one) = self.listeners().all.iter_mut().find(|one| one.number == number) {
            one.shown = Some(sequence);
        }
        self.changed.notify_one();
    }

    /// Waits until somebody listens.
    pub(crate) async fn somebody(&self) {
        while self.listeners().all.is_empty() {
            self.changed.notified().await;
        }
    }

    /// Tells an event to all, and again to those who come if nobody is left to show it.
    pub(crate) async fn tell(&self, event: &Event) {
        let line = protocol::event(event);
        self.listeners().keep(event, &line);
        loop {
            self.somebody().await;
            self.listeners().all.iter_mut().for_each(|one| one.tell(event, &line));
            match event.sequence {
                Some(sequence) if !self.is_shown(sequence).await => {}
                _ => return,
            }
        }
    }

    /// Waits until an event is shown; false if all who were told have gone before.
    async fn is_shown(&self, sequence: u64) -> bool {
        let patience = Instant::now() + PATIENCE;
        loop {
            let (told, shown) = {
                let listeners = self.listeners();
                let told = listeners.all.iter().filter(|one| one.told >= Some(sequence));
                (told.clone().count(), told.filter(|one| one.has_shown(sequence)).count())
            };
            if told == 0 {
                return false;
            }
            let late = Instant::now() >= patience;
            if shown == told || shown > 0 && late {
                return true;
            }
            if late {
                self.changed.notified().await;
            } else {
                // At the end of patience the numbers are looked at again.
                let _ = timeout_at(patience, self.changed.notified()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64) -> Event {
        Event { sequence: Some(sequence), what: Happened::Ready }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_told_until_somebody_has_shown_it() {
        let hub = Hub::default();
        let (out, mut first) = mpsc::channel(4);
        let number = hub.add(out, "offline", None);
        let (out, mut second) = mpsc::channel(4);
        let event = event(1);
        tokio::join!(hub.tell(&event), async {
            assert!(first.recv().await.is_some());
            hub.remove(number);
            let number = hub.add(out, "offline", None);
            assert!(second.recv().await.is_some(), "the first one went without showing it");
            hub.shown(number, 1);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stands_still_holds_up_nobody_and_is_told() {
        let hub = Hub::default();
        let (out, mut stuck) = mpsc::channel(2);
        let still = hub.add(out, "offline", None);
        let (out, mut quick) = mpsc::channel(2);
        let number = hub.add(out, "offline", None);
        for sequence in 1..=4 {
            let event = event(sequence);
            tokio::join!(hub.tell(&event), async {
                assert!(quick.recv().await.is_some());
                hub.shown(number, sequence);
            });
        }
        hub.remove(number);
        for _ in 0..2 {
            assert!(stuck.recv().await.unwrap().contains("ready"));
        }
        let event = event(5);
        tokio::join!(hub.tell(&event), async {
            assert!(stuck.recv().await.unwrap().contains("lagged"));
            assert!(stuck.recv().await.unwrap().contains('5'));
            hub.shown(still, 5);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_from_another_program_hears_what_others_have_shown_meanwhile() {
        let hub = Hub::default();
        let (out, mut quick) = mpsc::channel(2);
        let number = hub.add(out, "offline", None);
        let tell = async |sequence, quick: &mut mpsc::Receiver<String>| {
            let event = event(sequence);
            tokio::join!(hub.tell(&event), async {
                assert!(quick.recv().await.is_some());
                hub.shown(number, sequence);
            });
        };
        for sequence in 1..=3 {
            tell(sequence, &mut quick).await;
        }
        let (out, mut late) = mpsc::channel(8);
        hub.add(out.clone(), "offline", Some(1));
        for sequence in ["2", "3"] {
            assert!(late.recv().await.unwrap().contains(sequence));
        }
        for sequence in 4..=4 + KEPT as u64 {
            tell(sequence, &mut quick).await;
        }
        let (out, mut later) = mpsc::channel(2 * KEPT);
        hub.add(out, "offline", Some(1));
        assert!(later.recv().await.unwrap().contains("lagged"));
    }
}
