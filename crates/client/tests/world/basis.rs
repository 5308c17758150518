//! The world's own parts, without any engine: what they promise to scenarios holds.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use corncrake::transport::{Plane, Push, Transport, TransportError};
use corncrake_core::{
    conversation::{Outcome, Reading},
    seal::envelope::Seed,
};
use corncrake_wire::{
    AccessToken, AccountReply, AccountRequest, ErrorCode, LogId, OpenReply, OpenRequest,
    account::{LogInFinish, LogInStart, NewDevice, SignUpFinish, SignUpStart},
    log::{Append, AppendReply, EntryKind, LogEntry, NewEntry, Point},
    opaque::{self, Stretch},
    open::{By, Found, LookUp, SignedRecord},
};

use crate::{
    chance::Chance,
    craft::{Craft, Spoil, craft},
    crash::Crasher,
    executor::Executor,
    link::Link,
    mal::{Mal, Seat},
    network::{Faults, Network},
    server::{ORIGIN, Server},
    trace::Trace,
    world::World,
};

fn parts(seed: u64) -> (Executor, Network, Rc<RefCell<Server>>) {
    let executor = Executor::new(seed);
    let trace = Trace::new(executor.clone());
    let network = Network::new(seed, executor.clone(), trace);
    (executor, network, Rc::new(RefCell::new(Server::new(seed))))
}

fn line(name: &str, network: &Network, server: &Rc<RefCell<Server>>) -> Link {
    let crasher = Crasher::new(name, network);
    Link::new(name, network, server.clone(), Rc::new(crasher))
}

/// What a reader of a log has put together from pushes.
#[derive(Default)]
struct Reader {
    entries: Vec<LogEntry>,
    head: u64,
}

impl Reader {
    fn take(&mut self, entries: Vec<LogEntry>, head: u64) {
        self.head = self.head.max(head);
        for entry in entries {
            if entry.position == self.entries.len() as u64 + 1 {
                self.entries.push(entry);
            }
        }
    }
}

fn message(token: &AccessToken, after: Point, text: Vec<u8>) -> OpenRequest {
    OpenRequest::Append(Append {
        token: token.clone(),
        kind: if text[0].is_multiple_of(7) { EntryKind::Commit } else { EntryKind::Message },
        after,
        entries: vec![NewEntry::new(text)],
        opening: Some(b"opening".to_vec()),
        admission: Vec::new(),
    })
}

#[test]
fn whatever_the_network_does_each_entry_stands_once_and_all_watchers_see_one_log() {
    let mut failures = 0;
    for seed in 0..40 {
        let (executor, network, server) = parts(seed);
        network.set_faults(Faults::MIXED);
        let token = AccessToken::new([7; 32]);
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for number in 0..3u8 {
            let link = line(&format!("reader {number}"), &network, &server);
            let reader = Rc::new(RefCell::new(Reader::default()));
            let (watched, token_too, link_too) = (reader.clone(), token.clone(), link.clone());
            executor.spawn(async move {
                loop {
                    let push = link_too.next().await;
                    let after = watched.borrow().entries.len() as u64;
                    match push {
                        Push::Connected { plane: Plane::Open, .. } => {
                            link_too.watch(token_too.clone(), after, None);
                        }
                        Push::Entries { entries, head, .. } => {
                            watched.borrow_mut().take(entries, head);
                        }
                        _ => {}
                    }
                }
            });
            readers.push(reader);
            let (token, failed) = (token.clone(), executor.clone());
            writers.push(executor.spawn(async move {
                let (mut after, mut lost) = (Point::START, 0);
                for text in 0..20u8 {
                    loop {
                        let request = message(&token, after, vec![text + 20 * number, 1, 2, 3]);
                        match link.open(request).await {
                            Ok(OpenReply::Append(AppendReply::Stored { .. })) => break,
                            Ok(OpenReply::Append(AppendReply::Conflict {
                                newest_commit, ..
                            })) => after = newest_commit,
                            _ => lost += 1,
                        }
                        failed.sleep(50).await;
                    }
                }
                lost
            }));
        }
        let limit = executor.now() + 3_600_000;
        assert!(executor.run_until(limit, || writers.iter().all(|writer| writer.is_done())));
        failures += writers.iter().map(|writer| writer.take().unwrap()).sum::<u32>();
        network.heal();
        executor.run_until(executor.now() + 60_000, || false);
        let server = server.borrow();
        let log = &server.logs[&token.log_id()];
        assert_eq!(log.head(), 60, "seed {seed}");
        let whole = log.page(0, 100);
        let mut once = BTreeMap::new();
        whole.iter().for_each(|entry| *once.entry(entry.bytes[0]).or_insert(0) += 1);
        assert!(once.len() == 60 && once.values().all(|&times| times == 1));
        for reader in &readers {
            assert!(reader.borrow().entries == whole, "seed {seed}");
        }
        executor.clear();
        network.close();
    }
    assert!(failures > 100, "the network loses too little: {failures}");
}

#[test]
fn a_network_that_behaves_loses_nothing_and_a_cut_one_reaches_nobody() {
    let (executor, network, server) = parts(3);
    let link = line("ann.1", &network, &server);
    let token = AccessToken::new([9; 32]);
    let send = |text| {
        let (link, token) = (link.clone(), token.clone());
        let task = executor
            .spawn(async move { link.open(message(&token, Point::START, vec![text, 0])).await });
        executor.run_until(executor.now() + 60_000, || task.is_done());
        task.take().unwrap()
    };
    assert!(matches!(send(1), Ok(OpenReply::Append(AppendReply::Stored { head: 1, .. }))));
    link.set_cut(true);
    assert_eq!(send(2), Err(TransportError::Unreachable));
    link.set_cut(false);
    assert!(matches!(send(2), Ok(OpenReply::Append(AppendReply::Stored { head: 2, .. }))));
    assert_eq!(server.borrow().logs[&LogId(token.digest())].head(), 2);
}

fn ask(server: &mut Server, request: AccountRequest) -> Result<AccountReply, ErrorCode> {
    server.handle_account(1, None, request).map_err(|refusal| refusal.code)
}

fn log_in(server: &mut Server, name: &str, password: &[u8]) -> Result<(), ErrorCode> {
    let mut chance = Chance::new(5, "log in");
    let (state, request) = opaque::log_in(password, chance.rng()).unwrap();
    let start = LogInStart { name: name.to_owned(), origin: ORIGIN.to_owned(), opaque: request };
    let AccountReply::LogInStart(started) = ask(server, start.into())? else { panic!() };
    let stretch = Stretch::with(|_, output| output.fill(1));
    let (proof, _) =
        state.finish(&started.opaque, stretch, chance.rng()).map_err(|_| ErrorCode::LogInFailed)?;
    let finish = LogInFinish { attempt: started.attempt, opaque: proof };
    ask(server, finish.into()).map(|_| ())
}

#[test]
fn the_memory_server_signs_up_once_and_lets_in_who_knows_the_password() {
    let mut server = Server::new(1);
    let mut chance = Chance::new(4, "sign up");
    let (state, request) = opaque::register(b"password", chance.rng()).unwrap();
    let start = SignUpStart { name: "ann".to_owned(), origin: ORIGIN.to_owned(), opaque: request };
    let Ok(AccountReply::SignUpStart(started)) = ask(&mut server, start.into()) else { panic!() };
    let stretch = Stretch::with(|_, output| output.fill(1));
    let (upload, _) = state.finish(&started.opaque, stretch, chance.rng()).unwrap();
    let finish = SignUpFinish {
        name: "ann".to_owned(),
        account: [1; 32].into(),
        identity_key: [7; 32],
        opaque: upload,
        vault: vec![1],
        record: SignedRecord { version: 1, bytes: vec![2] },
        device: NewDevice { id: [2; 32].into(), key: [3; 32], inbox: [4; 32].into() },
        packages: Vec::new(),
    };
    assert!(ask(&mut server, finish.clone().into()).is_ok());
    let other = SignUpFinish { account: [5; 32].into(), ..finish.clone() };
    assert_eq!(ask(&mut server, other.into()).unwrap_err(), ErrorCode::UsernameTaken);
    assert_eq!(ask(&mut server, finish.into()).unwrap_err(), ErrorCode::IdTaken);
    assert_eq!(log_in(&mut server, "ann", b"password"), Ok(()));
    assert_eq!(log_in(&mut server, "ann", b"pa55word"), Err(ErrorCode::LogInFailed));
    assert_eq!(log_in(&mut server, "bob", b"password"), Err(ErrorCode::LogInFailed));
    let look_up = LookUp { by: By::Name("ann".to_owned()), admission: Vec::new() };
    let found = server.handle_open(look_up.into());
    let record = SignedRecord { version: 1, bytes: vec![2] };
    assert_eq!(found, Ok(OpenReply::LookUp(Found { name: "ann".to_owned(), record })));
}

/// Three members without engines in one group.
fn three_seats(world: &World) -> [(Mal, Seat); 3] {
    let [mut ann, mut bob, mut mal] = ["ann", "bob", "mal"].map(|name| Mal::sign_up(world, name));
    let seed = Seed::random(ann.chance.rng());
    let ann_seat = Seat::found(&mut ann, seed, "meadow", &["bob", "mal"]);
    let (bob_seat, mal_seat) = (bob.sit(), mal.sit());
    [(ann, ann_seat), (bob, bob_seat), (mal, mal_seat)]
}

#[test]
fn members_without_engines_talk_and_rejoin_after_garbage() {
    let world = World::new(1);
    let [(mut ann, mut at_ann), (mut bob, mut at_bob), (mut mal, mut at_mal)] = three_seats(&world);
    at_mal.say(&mut mal, "hello");
    at_bob.read(&bob);
    assert_eq!(at_bob.heard, ["hello"]);
    let garbage = Craft { spoil: Spoil::All, ..Craft::default() };
    let crafted = craft(&mut mal, &mut at_mal, garbage);
    at_mal.strike(&mut mal, &crafted);
    assert!(at_mal.conversation.is_member());
    for (who, seat) in [(&ann, &mut at_ann), (&bob, &mut at_bob)] {
        seat.read(who);
        let (_, Reading::Commit(report)) = seat.readings.last().unwrap() else { panic!() };
        assert!(matches!(report.outcome, Outcome::LockedOut(_)), "{:?}", report.outcome);
    }
    at_ann.rejoin(&mut ann);
    at_bob.rejoin(&mut bob);
    at_ann.say(&mut ann, "back");
    at_bob.read(&bob);
    assert_eq!(at_bob.heard, ["hello", "back"]);
    let one = Craft { spoil: Spoil::Node(0), ..Craft::default() };
    at_mal.read(&mal);
    let crafted = craft(&mut bob, &mut at_bob, one);
    at_bob.strike(&mut bob, &crafted);
    at_ann.read(&ann);
    at_mal.read(&mal);
    assert!(!at_ann.conversation.is_member() && at_mal.conversation.is_member());
}

#[test]
fn crafted_commits_are_what_they_say() {
    let finished = |tail_true| Some(Outcome::Finished { tail_true });
    let cases = [
        (Craft::default(), finished(true)),
        (Craft { false_external_pub: true, ..Craft::default() }, finished(false)),
        (Craft { false_next: true, ..Craft::default() }, finished(false)),
        (Craft { bad_confirmation_tag: true, ..Craft::default() }, None),
        (Craft { bad_membership_tag: true, ..Craft::default() }, None),
    ];
    for (bad, expected) in cases {
        let world = World::new(2);
        let [(ann, mut at_ann), _, (mut mal, mut at_mal)] = three_seats(&world);
        let crafted = craft(&mut mal, &mut at_mal, bad.clone());
        at_mal.append(&mut mal, &crafted.inner);
        at_ann.read(&ann);
        let (_, Reading::Commit(report)) = at_ann.readings.last().unwrap() else { panic!() };
        match expected {
            Some(expected) => assert_eq!(report.outcome, expected, "{bad:?}"),
            None => assert!(matches!(report.outcome, Outcome::LockedOut(_)), "{bad:?}"),
        }
    }
}
