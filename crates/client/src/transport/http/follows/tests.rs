use super::*;

fn token(number: u64) -> AccessToken {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    AccessToken::new(bytes)
}

fn watch_all(follows: &mut Follows, logs: u64) {
    for number in 0..logs {
        follows.watch(token(number), 7, None);
    }
}

/// A server that follows as many logs as it may and as its rate allows.
#[derive(Default)]
struct Server {
    most: usize,
    /// Logs that may still be subscribed to before the next wait.
    rate: usize,
    followed: HashMap<u32, LogId>,
    pushed: BTreeSet<LogId>,
    frames: usize,
}

impl Server {
    /// Takes what is said, and pushes an entry to each new subscription.
    fn take(&mut self, follows: &mut Follows, now: Instant) {
        let (frames, _) = follows.speak();
        for frame in frames {
            self.frames += 1;
            match frame {
                ClientFrame::Unsubscribe { ids } => {
                    assert!(ids.len() <= limits::SUBSCRIBE);
                    for id in ids {
                        self.followed.remove(&id);
                    }
                }
                ClientFrame::Subscribe { logs } => {
                    assert!(logs.len() <= limits::SUBSCRIBE);
                    for asked in logs {
                        self.subscribe(follows, &asked, now);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn subscribe(&mut self, follows: &mut Follows, asked: &Subscription, now: Instant) {
        if self.followed.len() >= self.most {
            let refusal = ErrorCode::TooManySubscriptions.into();
            follows.refused(asked.id, refusal, now);
        } else if self.rate == 0 {
            let refusal = Refusal { code: ErrorCode::RateLimited, retry_after: Some(3) };
            assert_eq!(follows.refused(asked.id, refusal, now), None);
        } else {
            self.rate -= 1;
            self.followed.insert(asked.id, asked.token.log_id());
            let pushes = follows.entries_came(asked.id, Vec::new(), 7, Some([1; 32]));
            assert!(matches!(pushes.last(), Some(Push::Entries { .. })));
            self.pushed.insert(asked.token.log_id());
        }
    }
}

#[test]
fn audit_srv_a5_2600_logs_behind_a_rate_limit_are_followed_without_a_new_connection() {
    let mut follows = Follows::new(4096);
    watch_all(&mut follows, 2600);
    let mut server = Server { most: 4096, rate: 250, ..Server::default() };
    let mut now = Instant::now();
    server.take(&mut follows, now);
    assert_eq!((server.frames, server.followed.len()), (3, 250));
    for _ in 0..20 {
        // Nothing is said before the server has allowed it.
        let due = follows.due_at();
        assert_eq!(due.is_some(), server.followed.len() < 2600);
        follows.come_back(now);
        assert_eq!(follows.speak().0, []);
        now = due.unwrap_or(now);
        follows.come_back(now);
        server.rate = 250;
        server.take(&mut follows, now);
    }
    assert_eq!(server.followed.len(), 2600);
    assert!(server.frames < 40, "{}", server.frames);
}

#[test]
fn audit_srv_a13_4200_logs_all_get_their_pushes_where_4096_are_followed() {
    for (told, most) in [(4096, 4096), (4096, 4000)] {
        // The server's limit is known, or learned from its refusals.
        let mut follows = Follows::new(told);
        watch_all(&mut follows, 4200);
        let mut server = Server { most, rate: usize::MAX, ..Server::default() };
        let now = Instant::now();
        server.take(&mut follows, now);
        assert!(follows.takes_turns());
        let first: Vec<LogId> = (0..64).map(|number| token(number).log_id()).collect();
        for _ in 0..2 {
            server.pushed.clear();
            for _ in 0..4 {
                follows.turn();
                server.take(&mut follows, now);
            }
            assert!(server.pushed.len() >= 104 * 2, "{}", server.pushed.len());
        }
        // Those that were watched first stay.
        assert!(first.iter().all(|log| server.followed.values().any(|other| other == log)));
        // What the engine needs now is followed now.
        let waits = *follows.turns.back().unwrap();
        let number = (0..4200).find(|number| token(*number).log_id() == waits).unwrap();
        follows.watch(token(number), 7, None);
        server.take(&mut follows, now);
        assert!(server.followed.values().any(|log| *log == waits));
        assert_eq!(server.followed.len(), most);
    }
}

#[test]
fn a_check_that_fails_follows_anew_what_is_wrong_and_nothing_else() {
    let mut follows = Follows::new(10);
    watch_all(&mut follows, 3);
    let mut server = Server { most: 10, rate: 10, ..Server::default() };
    let now = Instant::now();
    server.take(&mut follows, now);
    let heads = (0..3).map(|number| (token(number).log_id(), 7));
    assert_eq!(follows.check(), ClientFrame::CheckHeads { digest: heads_digest(heads) });
    follows.checked(&[]);
    follows.checked(&[(0, 7), (1, 7), (2, 7)]);
    assert_eq!(follows.speak().0, []);
    follows.checked(&[(0, 7), (1, 9)]);
    let (frames, _) = follows.speak();
    let [ClientFrame::Unsubscribe { ids }, ClientFrame::Subscribe { logs }] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(ids.iter().sum::<u32>(), 3);
    assert!(logs.iter().all(|log| log.after == 7 && log.running == Some([1; 32])));
}
