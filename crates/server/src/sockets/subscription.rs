//! One subscription of the open plane's socket: which entries go out, and when a page is read.
//!
//! A page is a picture of the log at some moment between its begin and its arrival. What is
//! pushed in between may not be in it, so a subscription remembers how far it has heard since
//! the page was begun, and reads again if the page falls short of that.

use corncrake_wire::{
    LogId,
    log::{LogEntry, ReadReply},
};

/// A log that a connection follows.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Tells subscriptions of one name apart.
    pub(super) serial: u64,
    pub(super) log: LogId,
    /// What to do about the running hash up to `sent` before the first page.
    pub(super) running: Running,
    /// The newest position that was sent.
    sent: u64,
    /// The log's head, as far as it was heard of.
    pub(super) head: u64,
    /// Whether a page is wanted or being read.
    reading: bool,
    /// The newest head that was pushed since the page was begun.
    heard: u64,
    /// Whether a push was lost since the page was begun.
    missed: bool,
    /// Whether anything was sent.
    greeted: bool,
}

/// What is to be done about the running hash before a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Running {
    /// It is told to the other side.
    Tell,
    /// It has to be this one.
    Check([u8; 32]),
    /// Nothing: a page has been read.
    Done,
}

/// What follows from a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing, or it is seen to once the page under way has come.
    Nothing,
    /// The entries go out.
    Entries(Vec<LogEntry>),
    /// A page has to be read.
    Page,
}

impl Subscription {
    /// A subscription to everything after a position; it wants a page first.
    pub(super) const fn new(serial: u64, log: LogId, after: u64) -> Self {
        Self {
            serial,
            log,
            running: Running::Tell,
            sent: after,
            head: 0,
            reading: true,
            heard: 0,
            missed: false,
            greeted: false,
        }
    }

    /// Begins the page that is wanted; gives the position after which to read.
    pub(super) const fn begin_page(&mut self) -> u64 {
        self.heard = 0;
        self.missed = false;
        self.sent
    }

    /// Takes the page that was begun. Gives what goes out, and tells whether another page is
    /// wanted.
    pub(super) fn page_came(&mut self, page: Option<ReadReply>) -> (Option<ReadReply>, bool) {
        let page = page.unwrap_or(ReadReply { entries: Vec::new(), head: 0 });
        self.head = self.head.max(page.head);
        let mut known = self.heard;
        if let Some(newest) = page.entries.last() {
            self.sent = newest.position;
            // An empty page ends the reading whatever head it names: a subscription may be past
            // the head, when the log is shorter than its owner thinks.
            known = known.max(page.head);
        }
        self.reading = known > self.sent || self.missed;
        let says_something = !page.entries.is_empty() || !self.greeted;
        self.greeted = true;
        (says_something.then_some(page), self.reading)
    }

    /// Takes entries that were just committed, and the head after them.
    pub(super) fn push_came(&mut self, entries: &[LogEntry], head: u64) -> Pushed {
        self.head = self.head.max(head);
        self.heard = self.heard.max(head);
        if self.reading || head <= self.sent {
            return Pushed::Nothing;
        }
        let fresh: Vec<LogEntry> =
            entries.iter().filter(|entry| entry.position > self.sent).cloned().collect();
        match (fresh.first(), fresh.last()) {
            (Some(first), Some(last)) if first.position == self.sent + 1 => {
                self.sent = last.position;
                Pushed::Entries(fresh)
            }
            _ => {
                self.reading = true;
                Pushed::Page
            }
        }
    }

    /// Whether there is more than was sent, if the log's head is this.
    pub(super) const fn is_behind(&self, head: u64) -> bool {
        self.sent < head
    }

    /// Learns that a push was lost; tells whether a page is wanted that was not wanted before.
    pub(super) const fn push_was_lost(&mut self) -> bool {
        self.missed = true;
        !core::mem::replace(&mut self.reading, true)
    }
}

#[cfg(test)]
mod tests {
    use corncrake_wire::log::EntryKind;

    use super::*;

    /// What may happen next between a log, its writer and a subscription.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// An append is committed; its push is under way.
        Append,
        /// Likewise, but the log was not followed when the append was planned.
        AppendUnseen,
        /// Likewise, but there is no room for the push.
        AppendLost,
        /// The oldest push under way arrives.
        Push,
        /// The page that is wanted is begun.
        Begin,
        /// The page under way looks at the log.
        Look,
        /// The page under way arrives.
        Page,
    }

    const EVENTS: [Event; 7] = [
        Event::Append,
        Event::AppendUnseen,
        Event::AppendLost,
        Event::Push,
        Event::Begin,
        Event::Look,
        Event::Page,
    ];

    enum PageState {
        None,
        Wanted,
        Begun(u64),
        Read(Option<ReadReply>),
    }

    struct Rig {
        subscription: Subscription,
        head: u64,
        pushes: std::collections::VecDeque<(Vec<LogEntry>, u64)>,
        page: PageState,
        pages: u64,
        came: Vec<u64>,
    }

    fn entries(positions: impl Iterator<Item = u64>) -> Vec<LogEntry> {
        let entry = |position| LogEntry {
            position,
            kind: EntryKind::Message,
            bytes: Vec::new(),
            expired: None,
            has_welcome: false,
            has_state: false,
        };
        positions.map(entry).collect()
    }

    impl Rig {
        fn new(head: u64, after: u64) -> Self {
            Self {
                subscription: Subscription::new(1, LogId([1; 32]), after),
                head,
                pushes: std::collections::VecDeque::new(),
                page: PageState::Wanted,
                pages: 0,
                came: Vec::new(),
            }
        }

        fn want(&mut self) {
            assert!(matches!(self.page, PageState::None), "one page at a time");
            self.page = PageState::Wanted;
        }

        /// Whether the event could happen.
        fn happens(&mut self, event: Event) -> bool {
            match (event, core::mem::replace(&mut self.page, PageState::None)) {
                (Event::Append | Event::AppendUnseen | Event::AppendLost, page) => {
                    self.page = page;
                    self.head += 1;
                    match event {
                        Event::Append => {
                            self.pushes.push_back((entries(self.head..=self.head), self.head));
                        }
                        Event::AppendUnseen => self.pushes.push_back((Vec::new(), self.head)),
                        _ => {
                            if self.subscription.push_was_lost() {
                                self.want();
                            }
                        }
                    }
                }
                (Event::Push, page) => {
                    self.page = page;
                    let Some((entries, head)) = self.pushes.pop_front() else {
                        return false;
                    };
                    match self.subscription.push_came(&entries, head) {
                        Pushed::Nothing => {}
                        Pushed::Entries(entries) => {
                            self.came.extend(entries.iter().map(|entry| entry.position));
                        }
                        Pushed::Page => self.want(),
                    }
                }
                (Event::Begin, PageState::Wanted) => {
                    self.page = PageState::Begun(self.subscription.begin_page());
                    self.pages += 1;
                }
                (Event::Look, PageState::Begun(after)) => {
                    // Two entries a page, so that a long log needs several.
                    let found = entries((after + 1..=self.head).take(2));
                    let page = ReadReply { entries: found, head: self.head };
                    self.page = PageState::Read((self.head > 0).then_some(page));
                }
                (Event::Page, PageState::Read(page)) => {
                    let (out, again) = self.subscription.page_came(page);
                    let out = out.map(|page| page.entries).unwrap_or_default();
                    self.came.extend(out.iter().map(|entry| entry.position));
                    if again {
                        self.want();
                    }
                }
                (_, page) => {
                    self.page = page;
                    return false;
                }
            }
            true
        }

        /// Lets everything that is under way arrive.
        fn come_to_rest(&mut self) {
            for _ in 0..1000 {
                let steps = [Event::Begin, Event::Look, Event::Page, Event::Push];
                if !steps.into_iter().any(|event| self.happens(event)) {
                    return;
                }
            }
            panic!("the subscription reads for ever");
        }
    }

    #[test]
    fn audit_srv_a0_whatever_comes_between_a_page_and_a_push_nothing_is_lost_or_comes_twice() {
        const DEPTH: u32 = 7;
        for (head, after) in [(0, 0), (3, 0), (3, 3), (2, 4)] {
            for walk in 0..EVENTS.len().pow(DEPTH) {
                let mut rig = Rig::new(head, after);
                let events = (0..DEPTH).map(|n| EVENTS[walk / EVENTS.len().pow(n) % EVENTS.len()]);
                if !events.into_iter().all(|event| rig.happens(event)) {
                    continue;
                }
                rig.come_to_rest();
                let expected: Vec<u64> = (after + 1..=rig.head).collect();
                assert_eq!(rig.came, expected, "walk {walk} from {head} after {after}");
                assert!(rig.pages <= 2 * u64::from(DEPTH) + 4, "walk {walk} reads {}", rig.pages);
            }
        }
    }

    #[test]
    fn a_position_past_the_head_is_read_once() {
        let mut rig = Rig::new(2, 40);
        rig.come_to_rest();
        assert_eq!(rig.pages, 1);
        assert!(rig.happens(Event::Append));
        rig.come_to_rest();
        assert_eq!((rig.pages, rig.came), (1, Vec::new()));
    }
}
