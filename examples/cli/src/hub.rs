//! Events for everybody who listens.
//!
//! The SDK hands out each event once. Here all that listen get it, and the next one is taken from
//! the SDK when one of them has said that it has shown it; so what a killed program had not shown
//! comes again, unless another one has. One that reads slowly is waited for a second in all; from
//! then on it holds up nobody: what finds no room among the lines that wait for it is left out,
//! and it is told so when it has read those. The newest events are kept for those who come from a
//! program that had the store before: others may have shown them meanwhile.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    protocol,
    queue::{self, Queue},
    view::{Event, Happened},
};

/// How long one that has no room for an event is waited for, until it has read all that waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many events are kept, and how many bytes of them.
const KEPT: usize = 64;
const KEPT_BYTES: usize = queue::BYTES;

/// Who listens.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    listeners: Mutex<Listeners>,
    /// Told when somebody comes, goes, has shown an event or read all that waited for it.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    all: Vec<Listener>,
    next: u64,
    /// The newest events, oldest first, and how long they are.
    kept: VecDeque<(u64, String)>,
    kept_bytes: usize,
    /// The newest event that is kept no more.
    forgotten: Option<u64>,
    /// The newest event that somebody has shown.
    shown: Option<u64>,
    /// The event that nobody has shown yet.
    pending: Option<(u64, String)>,
    /// How the connection is, and how often an event has told so.
    connection: Option<String>,
    connections: u64,
}

impl Listeners {
    fn keep(&mut self, sequence: u64, line: &str) {
        self.kept_bytes += line.len();
        self.kept.push_back((sequence, line.to_owned()));
        while self.kept.len() > KEPT || self.kept_bytes > KEPT_BYTES {
            let Some((sequence, line)) = self.kept.pop_front() else { return };
            self.kept_bytes -= line.len();
            self.forgotten = Some(sequence);
        }
    }

    /// Tells one that has heard events up to this one what came then.
    fn tell_later(&self, one: &mut Listener, after: u64) {
        one.lagged = self.forgotten > Some(after);
        if one.lagged {
            one.catch_up(self.connection.as_deref());
        }
        for (sequence, line) in self.kept.iter().filter(|(sequence, _)| *sequence > after) {
            one.lagged |= !one.tell(*sequence, line);
        }
    }

    /// Tells the event that nobody has shown to those who have not heard of it; says until when
    /// those are waited for who have no room for it, and whether it is shown.
    fn tell_pending(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let Some((sequence, line)) = &self.pending else { return (None, true) };
        let mut wait_until = None;
        for one in self.all.iter_mut().filter(|one| !one.lagged && one.told < Some(*sequence)) {
            if !one.tell(*sequence, line) {
                let until = *one.full_until.get_or_insert(now + PATIENCE);
                if until <= now {
                    one.lagged = true;
                } else {
                    wait_until = wait_until.max(Some(until));
                }
            }
        }
        (wait_until, self.shown >= Some(*sequence))
    }

    fn tell_connection(&mut self) {
        for one in self.all.iter_mut().filter(|one| !one.lagged) {
            one.tell_connection(self.connection.as_deref());
        }
    }
}

#[derive(Debug)]
struct Listener {
    number: u64,
    queue: Queue,
    /// The last event that it was told.
    told: Option<u64>,
    /// The connection as it was told to it last.
    connection: String,
    /// Until when it is waited for: set when it has no room for an event, until it has read all.
    full_until: Option<Instant>,
    /// Whether it missed something and has not been told so yet.
    lagged: bool,
}

impl Listener {
    /// Tells it an event, if there is room.
    fn tell(&mut self, sequence: u64, line: &str) -> bool {
        let told = !self.lagged && self.queue.try_put(line);
        if told {
            self.told = Some(sequence);
        }
        told
    }

    /// Tells it how the connection is now, if it has heard otherwise and there is room: what it was
    /// in between is of no use later.
    fn tell_connection(&mut self, now: Option<&str>) {
        let Some(now) = now.filter(|now| *now != self.connection) else { return };
        let connection = now.to_owned();
        let event = Event { sequence: None, what: Happened::Connection { connection } };
        if self.queue.try_put(&protocol::event(&event)) {
            now.clone_into(&mut self.connection);
        }
    }

    /// It has read all that waited: it is told whether it missed something, and goes on.
    fn catch_up(&mut self, connection: Option<&str>) {
        self.full_until = None;
        if self.lagged {
            let lagged = protocol::event(&Event { sequence: None, what: Happened::Lagged });
            self.lagged = !self.queue.try_put(&lagged);
        }
        self.tell_connection(connection);
    }
}

impl Hub {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often an event has told how the connection is.
    pub(crate) fn connections(&self) -> u64 {
        self.listeners().connections
    }

    /// One more listens, who heard events up to `after` from another program. It is told how the
    /// connection is: as in `connection`, if no event has told of another since there were `seen`.
    pub(crate) fn add(
        &self,
        queue: Queue,
        (connection, seen): (&str, u64),
        after: Option<u64>,
    ) -> u64 {
        let mut listeners = self.listeners();
        if listeners.connections == seen {
            listeners.connection = Some(connection.to_owned());
        }
        let number = listeners.next;
        listeners.next += 1;
        let mut one = Listener {
            number,
            queue,
            told: None,
            connection: String::new(),
            full_until: None,
            lagged: false,
        };
        one.tell_connection(listeners.connection.as_deref());
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
        let mut listeners = self.listeners();
        let one = listeners.all.iter().find(|one| one.number == number);
        if one.is_some_and(|one| one.told >= Some(sequence)) {
            listeners.shown = listeners.shown.max(Some(sequence));
        }
        self.changed.notify_one();
    }

    /// Somebody has read all that waited for it.
    pub(crate) fn read(&self) {
        let mut listeners = self.listeners();
        let listeners = &mut *listeners;
        for one in listeners.all.iter_mut().filter(|one| one.queue.is_empty()) {
            one.catch_up(listeners.connection.as_deref());
        }
        self.changed.notify_one();
    }

    /// Waits until somebody listens.
    pub(crate) async fn somebody(&self) {
        while self.listeners().all.is_empty() {
            self.changed.notified().await;
        }
    }

    /// Tells an event to all, and to those who come while nobody has shown it; waits until somebody
    /// has.
    pub(crate) async fn tell(&self, event: &Event) {
        if let Happened::Connection { connection } = &event.what {
            let mut listeners = self.listeners();
            listeners.connection = Some(connection.clone());
            listeners.connections += 1;
            listeners.tell_connection();
        }
        let Some(sequence) = event.sequence else { return };
        {
            let line = protocol::event(event);
            let mut listeners = self.listeners();
            listeners.keep(sequence, &line);
            listeners.pending = Some((sequence, line));
        }
        loop {
            let (wait_until, is_shown) = self.listeners().tell_pending(Instant::now());
            match wait_until {
                // At its end they are looked at again.
                Some(until) => drop(timeout_at(until, self.changed.notified()).await),
                None if is_shown => break,
                None => self.changed.notified().await,
            }
        }
        self.listeners().pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Waiting, queue};

    fn event(sequence: u64) -> Event {
        Event { sequence: Some(sequence), what: Happened::Ready }
    }

    /// One that listens: its number and what waits for it.
    async fn listener(hub: &Hub, after: Option<u64>) -> (u64, Waiting) {
        let (queue, mut waiting) = queue();
        let number = hub.add(queue, ("offline", hub.connections()), after);
        assert!(waiting.take().await.unwrap().contains("offline"));
        (number, waiting)
    }

    /// Tells an event that this one shows.
    async fn tell(hub: &Hub, sequence: u64, (number, waiting): (u64, &mut Waiting)) {
        let event = event(sequence);
        tokio::join!(hub.tell(&event), async {
            assert_eq!(waiting.take().await, Some(protocol::event(&event)));
            hub.shown(number, sequence);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_told_until_somebody_has_shown_it() {
        let hub = Hub::default();
        let (number, mut first) = listener(&hub, None).await;
        let event = event(1);
        tokio::join!(hub.tell(&event), async {
            assert!(first.take().await.is_some());
            hub.remove(number);
            let (number, mut second) = listener(&hub, None).await;
            assert!(second.take().await.is_some(), "the first one went without showing it");
            hub.shown(number, 2);
            assert!(hub.listeners().pending.is_some(), "it has not been told of that one");
            hub.shown(number, 1);
        });
        // Whoever has shown it may go at once.
        let (number, mut third) = listener(&hub, None).await;
        let event = self::event(2);
        tokio::join!(hub.tell(&event), async {
            assert!(third.take().await.is_some());
            hub.shown(number, 2);
            hub.remove(number);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_bf2_one_that_stands_still_holds_up_nobody_and_is_told() {
        let hub = Hub::default();
        let (still, mut stuck) = listener(&hub, None).await;
        let (number, mut quick) = listener(&hub, None).await;
        let begun = Instant::now();
        for sequence in 1..=100 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "there is room for that many");
        for sequence in 101..=1_000 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        assert!(begun.elapsed() <= PATIENCE, "{:?}", begun.elapsed());
        hub.remove(number);
        let mut told = 0;
        while !stuck.is_empty() {
            told += 1;
            assert_eq!(stuck.take().await, Some(protocol::event(&event(told))));
        }
        assert!((100..1_000).contains(&told), "{told}");
        // It is told as soon as it has read all that waited, not with the next event.
        hub.read();
        assert!(stuck.take().await.unwrap().contains("lagged"));
        tell(&hub, 1_001, (still, &mut stuck)).await;
        assert!(stuck.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_bf2_one_that_stands_still_alone_holds_up_nobody_who_comes() {
        let hub = Hub::default();
        let (_, stuck) = listener(&hub, None).await;
        let first = event(1);
        tokio::join!(hub.tell(&first), async {
            while stuck.is_empty() {
                tokio::task::yield_now().await;
            }
            let (number, mut quick) = listener(&hub, None).await;
            assert_eq!(quick.take().await, Some(protocol::event(&first)));
            hub.shown(number, 1);
        });
        // What only one that missed it could show is told to it again once it reads.
        let (number, mut quick) = listener(&hub, None).await;
        for sequence in 2..=1_000 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        hub.remove(number);
        let (last, mut stuck) = (event(1_001), stuck);
        tokio::join!(hub.tell(&last), async {
            tokio::time::sleep(2 * PATIENCE).await;
            while !stuck.is_empty() {
                stuck.take().await;
            }
            hub.read();
            assert!(stuck.take().await.unwrap().contains("lagged"));
            assert_eq!(stuck.take().await, Some(protocol::event(&last)));
            hub.shown(0, 1_001);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_bf2_one_that_is_slow_misses_nothing_for_a_second() {
        let hub = Hub::default();
        let (number, mut quick) = listener(&hub, None).await;
        let (_, mut slow) = listener(&hub, None).await;
        let mut told = 0;
        let reading = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let line = slow.take().await.unwrap();
                told += 1;
                assert_eq!(line, protocol::event(&event(told)));
                if slow.is_empty() {
                    hub.read();
                }
                if told == 1_000 {
                    break;
                }
            }
        };
        let telling = async {
            for sequence in 1..=1_000 {
                tell(&hub, sequence, (number, &mut quick)).await;
            }
        };
        tokio::join!(reading, telling);
    }

    #[tokio::test(start_paused = true)]
    async fn how_the_connection_is_now_is_told_once_there_is_room() {
        let hub = Hub::default();
        let (_, mut stuck) = listener(&hub, None).await;
        let (number, mut quick) = listener(&hub, None).await;
        for sequence in 1..=1_000 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        for connection in ["connecting", "online", "offline", "connecting"] {
            let what = Happened::Connection { connection: connection.to_owned() };
            hub.tell(&Event { sequence: None, what }).await;
            assert!(quick.take().await.unwrap().contains(connection));
        }
        while !stuck.is_empty() {
            assert!(stuck.take().await.unwrap().contains("ready"));
        }
        hub.read();
        assert!(stuck.take().await.unwrap().contains("lagged"));
        assert!(stuck.take().await.unwrap().contains("connecting"));
        assert!(stuck.is_empty());
        // What somebody asked before an event told otherwise is not true any more.
        let (queue, mut late) = queue();
        hub.add(queue, ("online", hub.connections() - 1), None);
        assert!(late.take().await.unwrap().contains("connecting"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_from_another_program_hears_what_others_have_shown_meanwhile() {
        let hub = Hub::default();
        let (number, mut quick) = listener(&hub, None).await;
        for sequence in 1..=3 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        let (late, mut waiting) = listener(&hub, Some(1)).await;
        for sequence in ["2", "3"] {
            assert!(waiting.take().await.unwrap().contains(sequence));
        }
        hub.remove(late);
        for sequence in 4..=4 + KEPT as u64 {
            tell(&hub, sequence, (number, &mut quick)).await;
        }
        let (_, mut later) = listener(&hub, Some(1)).await;
        assert!(later.take().await.unwrap().contains("lagged"));
    }

    #[test]
    fn audit_issue_7_bf2_what_is_kept_is_short() {
        let mut listeners = Listeners::default();
        let line = "x".repeat(KEPT_BYTES / 4);
        (0..10).for_each(|sequence| listeners.keep(sequence, &line));
        assert_eq!((listeners.kept.len(), listeners.forgotten), (4, Some(5)));
        assert_eq!(listeners.kept_bytes, KEPT_BYTES);
    }
}
