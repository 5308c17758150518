use core::time::Duration;
use std::{cell::RefCell, rc::Rc};

use corncrake_core::{
    derive::Key32,
    id::{AccountId, ConversationId, EntryId, InboxId},
    mls::{codec::Decode, key_package::KeyPackage},
    seal::{
        envelope::Seed,
        notice::Notice,
        record::{AccountLogRecord, Anchor, ConversationRecord},
    },
};
use corncrake_wire::{ErrorCode, account::NewPackage, open::Deposit};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use self::{
    rig::{Device, Fault},
    server::Server,
};
use super::{By, wire_device, wire_inbox};
use crate::{
    command::Command,
    engine::{Adder, ClaimThen, GatherThen, Input},
    error::{Error, Refusal},
    event::{Connection, EventKind},
    transport::{Plane, Push},
};

mod clocks;
mod full;
mod lying;
mod names;
mod rig;
mod server;

const PASSWORD: &str = "seven corncrakes in tall wet grass";

fn server() -> Rc<RefCell<Server>> {
    Rc::new(RefCell::new(Server::new()))
}

fn letter(inbox: InboxId, notice: Vec<u8>) -> Deposit {
    let (inbox, package) = (wire_inbox(inbox), corncrake_wire::PackageId([4; 32]));
    Deposit { inbox, package, notice, admission: Vec::new() }
}

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn signed_up(seed: u8, name: &str, server: &Rc<RefCell<Server>>) -> Device {
    let mut device = Device::new(seed, server);
    assert_eq!(device.sign_up(name, PASSWORD), Some(Ok(())));
    device
}

/// What has to hold for each device once nothing moves.
fn assert_sound(device: &Device) {
    let me = device.state.account.me().expect("an account");
    let server = device.server.borrow();
    let row = &server.devices[&wire_device(me.device)];
    assert!(!device.state.account_owes());
    let one_time = row.packages.iter().filter(|package| !package.last_resort).count();
    assert_eq!((one_time, row.packages.len()), (3, 4));
    for package in &row.packages {
        let reference = KeyPackage::decode_exact(&package.bytes).unwrap().reference();
        assert!(device.state.account.package(reference.as_bytes()).is_some(), "keys are here");
    }
    let record = device.state.account.log.records().filter(
        |record| matches!(record, AccountLogRecord::DeviceName(name) if name.device == me.device),
    );
    assert_eq!(record.count(), 1);
}

fn fault_at(kind: usize, number: usize) -> Fault {
    [Fault::CrashBefore, Fault::CrashAfter, Fault::LoseRequest, Fault::LoseAnswer][kind](number)
}

#[test]
fn a_new_account_is_usable_and_opens_again() {
    let server = server();
    let device = signed_up(1, "ann", &server);
    assert_sound(&device);
    let log = server.borrow().logs.values().next().unwrap().len();
    assert_eq!(log, 1);
    let mut device = device.reopen(2);
    assert_sound(&device);
    let account = device.ask(Command::Account).unwrap().unwrap().unwrap();
    assert_eq!(account.username, "ann");
    let devices = device.ask(Command::Devices).unwrap().unwrap();
    assert_eq!(devices.iter().map(|device| device.this_device).collect::<Vec<_>>(), [true]);
    let refused = device.sign_up("ann", PASSWORD);
    assert_eq!(refused, Some(Err(Refusal::AlreadyHasAccount.into())));
}

#[test]
fn sign_up_survives_a_fault_at_each_request() {
    let requests = signed_up(1, "ann", &server()).requests;
    assert!(requests >= 3);
    for (kind, number) in (0..4).flat_map(|kind| (0..requests).map(move |number| (kind, number))) {
        let server = server();
        let mut device = Device::new(1, &server);
        device.fault = fault_at(kind, number);
        let answer = device.sign_up("ann", PASSWORD);
        if device.is_dead {
            device = device.reopen(9);
            if device.state.account.me().is_none() {
                assert_eq!(device.sign_up("ann", PASSWORD), Some(Ok(())), "{kind} {number}");
            }
        } else {
            assert_eq!(answer, Some(Ok(())), "{kind} {number}");
        }
        assert_sound(&device);
        assert_eq!(server.borrow().accounts.len(), 1);
        assert_eq!(server.borrow().devices.len(), 1);
    }
}

#[test]
fn log_in_survives_a_fault_at_each_request() {
    let prepared = || {
        let server = server();
        let first = signed_up(1, "ann", &server);
        (server, first)
    };
    let requests = {
        let (server, _) = prepared();
        let mut device = Device::new(2, &server);
        assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())));
        assert_sound(&device);
        device.requests
    };
    for (kind, number) in (0..4).flat_map(|kind| (0..requests).map(move |number| (kind, number))) {
        let (server, first) = prepared();
        let mut device = Device::new(2, &server);
        device.fault = fault_at(kind, number);
        let answer = device.log_in("ann", PASSWORD);
        if device.is_dead {
            device = device.reopen(9);
            if device.state.account.me().is_none() {
                assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())), "{kind} {number}");
            }
        } else {
            assert_eq!(answer, Some(Ok(())), "{kind} {number}");
        }
        assert_sound(&device);
        assert_eq!(server.borrow().devices.len(), 2);
        let me = device.state.account.me().unwrap();
        assert_eq!(me.account, first.state.account.me().unwrap().account);
        assert_eq!(device.ask(Command::Devices).unwrap().unwrap().len(), 2);
    }
}

#[test]
fn a_sign_up_whose_answer_was_lost_is_found_by_log_in_too() {
    let server = server();
    let mut device = Device::new(1, &server);
    device.fault = Fault::CrashAfter(1);
    assert_eq!(device.sign_up("ann", PASSWORD), None);
    let mut device = device.reopen(2);
    assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())));
    assert_sound(&device);
    assert_eq!(server.borrow().devices.len(), 1);
}

#[test]
fn a_wrong_password_lets_nobody_in() {
    let server = server();
    let _ann = signed_up(1, "ann", &server);
    let mut device = Device::new(2, &server);
    let refused = Some(Err(Refusal::WrongPassword.into()));
    assert_eq!(device.log_in("ann", "another long unguessable one"), refused);
    assert_eq!(device.log_in("nobody", PASSWORD), refused);
    assert_eq!(device.log_in("no name!", PASSWORD), refused);
    assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())));
}

#[test]
fn audit_prog_h1_the_eleventh_device_takes_the_place_of_the_one_that_is_named() {
    let server = server();
    let first = signed_up(1, "ann", &server);
    for seed in 2..=10 {
        let mut device = Device::new(seed, &server);
        assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())), "{seed}");
    }
    let mut newest = Device::new(11, &server);
    let Some(Err(Error::TooManyDevices(list))) = newest.log_in("ann", PASSWORD) else {
        panic!("it asks which one goes");
    };
    assert_eq!(list.len(), 10);
    assert_eq!(list[0].id, first.state.account.me().unwrap().device);
    let mut log_in_for = |drop| {
        let (name, password) = ("ann".to_owned(), PASSWORD.to_owned().into());
        let drop = Some(drop);
        newest.ask(|reply| Command::LogIn { name, password, drop, reply }).unwrap()
    };
    let nobody = corncrake_core::id::DeviceId::from_bytes([7; 32]);
    assert_eq!(log_in_for(nobody.to_string()), Err(Refusal::UnknownDevice.into()));
    // As much of the id as tells it from the others.
    assert_eq!(log_in_for(list[4].id.to_string()[..12].to_owned()), Ok(()));
    let left = newest.ask(Command::Devices).unwrap().unwrap();
    assert_eq!(left.len(), 10);
    assert!(left.iter().all(|device| device.id != list[4].id));
}

#[test]
fn a_lost_session_is_renewed_by_the_devices_key() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    server.borrow_mut().end_sessions();
    device.connect(Plane::Account);
    assert_sound(&device);
    let before = device.requests;
    device.advance(24 * 24 * 3_600_000);
    assert!(device.requests > before, "renewed before its end");
    assert_sound(&device);
}

/// The next event, as who has heard this of the connection gets it; nothing if there is none.
fn next_event(
    device: &mut Device,
    taken: Option<u64>,
    heard: Option<Connection>,
) -> Option<(Option<u64>, EventKind)> {
    let event = device.ask(|reply| Command::NextEvent { taken, heard, reply });
    event.map(|event| event.unwrap()).map(|event| (event.sequence, event.what))
}

#[test]
fn how_the_connection_stood_is_not_told_after_a_restart() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    device.connect(Plane::Account);
    device.connect(Plane::Open);
    let (online, offline) = (Connection::Online, Connection::Offline);
    let told = |connection| Some((None, EventKind::Connection(connection)));
    assert_eq!(next_event(&mut device, None, None), told(online));
    device.take(Input::Push(Push::Disconnected(Plane::Open)));
    device.take(Input::Push(Push::Disconnected(Plane::Account)));
    assert_eq!(next_event(&mut device, None, Some(online)), told(offline));
    let mut device = device.reopen(2);
    assert_eq!(next_event(&mut device, None, None), told(offline));
    let ready = Some((Some(0), EventKind::Ready));
    assert_eq!(next_event(&mut device, None, Some(offline)), ready);
    assert_eq!(next_event(&mut device, Some(0), Some(offline)), None);
    device.advance(1_000);
    let mut device = device.reopen(3);
    assert_eq!(next_event(&mut device, None, Some(offline)), None, "it was taken");
    device.connect(Plane::Open);
    assert_eq!(next_event(&mut device, None, Some(offline)), told(Connection::Connecting));
}

#[test]
fn a_device_that_was_removed_is_told_so_and_stops_asking() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    device.connect(Plane::Open);
    let signed_out = Some((None, EventKind::Connection(Connection::SignedOut)));
    let connecting = Some(Connection::Connecting);
    assert_eq!(next_event(&mut device, Some(0), connecting), None);
    server.borrow_mut().devices.clear();
    server.borrow_mut().end_sessions();
    device.connect(Plane::Account);
    let requests = device.requests;
    assert_eq!(next_event(&mut device, None, connecting), signed_out);
    device.connect(Plane::Account);
    device.advance(90 * 24 * 3_600_000);
    assert_eq!(next_event(&mut device, None, Some(Connection::SignedOut)), None);
    assert_eq!(device.requests, requests);
    assert!(!device.state.account_owes());
    // The next start asks once more: the server may have been wrong.
    let mut device = device.reopen(2);
    assert_eq!(next_event(&mut device, None, connecting), signed_out);
    assert_eq!(device.requests, 2);
}

#[test]
fn a_device_that_is_cut_off_asks_more_and_more_rarely() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    server.borrow_mut().end_sessions();
    device.fault = Fault::Cut;
    device.connect(Plane::Account);
    let (requests, hour) = (device.requests, 3_600_000);
    device.run_for(24 * hour);
    let asked = device.requests - requests;
    assert!((24..=24 * 4 + 12).contains(&asked), "{asked} requests in a day without a network");
    // Its first try with a network is at once; so is the next one if that fails.
    device.fault = Fault::LoseRequest(device.requests);
    device.take(Input::Push(Push::Connected { plane: Plane::Open, instance: [0; 16] }));
    device.run_for(5000);
    assert_sound(&device);
}

/// Claims for a chat that nobody knows: what went wrong, or that nothing did.
fn claim(device: &mut Device, accounts: &[AccountId]) -> Error {
    let chat = ConversationId::from_bytes([1; 32]);
    let claimed = device.ask_with(|state, reply, step| {
        let until = step.moment.after(Duration::from_mins(1));
        let adder = Adder { stored: reply, fate: tokio::sync::oneshot::channel().0, until };
        let left_out = Vec::new();
        let then = ClaimThen::Add { chat, accounts: Vec::new(), left_out, adder };
        state.claim(accounts.to_vec(), then, step);
    });
    claimed.unwrap().unwrap_err()
}

#[test]
fn packages_that_were_used_are_replaced() {
    let server = server();
    let mut ann = signed_up(1, "ann", &server);
    let bob = signed_up(2, "bob", &server);
    let bobs = bob.state.account.me().unwrap().account;
    ann.with(|state, step| {
        let then = GatherThen::Names(ConversationId::from_bytes([1; 32]));
        state.look_up(vec![By::Name("bob".into()), By::Id(bobs)], then, step);
    });
    ann.run();
    assert_eq!(ann.state.account.contact(&bobs).unwrap().username, "bob");
    assert_eq!(claim(&mut ann, &[bobs]), Refusal::UnknownChat.into());
    let mut bob = bob.reopen(3);
    assert_sound(&bob);
    let (inbox, package) = {
        let server = server.borrow();
        let device = wire_device(bob.state.account.me().unwrap().device);
        let device = &server.devices[&device];
        let package = KeyPackage::decode_exact(&device.packages[0].bytes).unwrap();
        (InboxId::from_bytes(*device.inbox.as_bytes()), package)
    };

    let seed = Seed::from_key(Key32::from_bytes([5; 32]));
    let entry = EntryId::from_bytes([8; 32]);
    let notice = Notice { seed, position: 7, entry, running: None };
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let me = ann.state.account.me().unwrap();
    let to = (&package.reference(), &package.init_key);
    let sealed = notice.seal(to, (&me.device_key, &me.certificate), &mut rng).unwrap();
    ann.with(|state, step| {
        state.owe_letter(letter(inbox, sealed.clone()), None, step);
        state.owe_letter(letter(inbox, sealed), None, step);
        state.owe_letter(letter(inbox, b"garbage".to_vec()), None, step);
        state.owe_letter(letter(InboxId::from_bytes([0; 32]), b"garbage".to_vec()), None, step);
    });
    ann.run();
    assert!(!ann.state.account_owes(), "delivered or given up");

    bob.run();
    let kept: Vec<_> = bob.state.account.inbox.kept.values().cloned().collect();
    assert_eq!(kept.len(), 1);
    let invitation = &kept[0].invitation;
    assert_eq!(invitation.position, 7);
    assert_eq!(invitation.package, package.reference().as_bytes());
    // Kept over a restart until its work is done, though the server has forgotten it.
    let mut bob = bob.reopen(5);
    let device = wire_device(bob.state.account.me().unwrap().device);
    assert!(server.borrow().devices[&device].notices.is_empty());
    assert_eq!(bob.state.account.inbox.kept.len(), 1);
    server.borrow_mut().devices.get_mut(&device).unwrap().packages.remove(0);
    bob.with(|state, step| {
        state.package_done(&invitation.package, step);
        state.notice_done(invitation.row, step);
    });
    let bob = bob.reopen(6);
    assert!(bob.state.account.inbox.kept.is_empty());
    assert!(bob.state.account.package(&invitation.package).is_none());
    assert_sound(&bob);
}

#[test]
fn letters_survive_a_fault_at_each_request() {
    for (kind, number) in (0..4).flat_map(|kind| (0..2).map(move |number| (kind, number))) {
        let server = server();
        let bob = signed_up(2, "bob", &server);
        let inbox = bob.state.account.me().unwrap().inbox;
        let mut ann = signed_up(1, "ann", &server);
        ann.fault = fault_at(kind, ann.requests + number);
        ann.with(|state, step| {
            state.owe_letter(letter(inbox, b"one".to_vec()), None, step);
            state.owe_letter(letter(inbox, b"two".to_vec()), None, step);
        });
        ann.run();
        if ann.is_dead {
            ann = ann.reopen(3);
        }
        assert_sound(&ann);
        let device = wire_device(bob.state.account.me().unwrap().device);
        assert_eq!(server.borrow().devices[&device].notices.len(), 2, "{kind} {number}");
    }
}

#[test]
fn audit_prog_h5_keys_go_a_week_after_the_server_has_their_package_no_more() {
    const DAY: u64 = 24 * 3_600_000;
    let server = server();
    let mut bob = signed_up(2, "bob", &server);
    bob.run();
    let id = wire_device(bob.state.account.me().unwrap().device);
    let held = || server.borrow().devices[&id].packages.clone();
    let (kept, claimed) = (held()[1].clone(), held()[0].clone());
    server.borrow_mut().devices.get_mut(&id).unwrap().packages.remove(0);
    let has_keys = |bob: &Device, package: &NewPackage| {
        let reference = KeyPackage::decode_exact(&package.bytes).unwrap().reference();
        bob.state.account.package(reference.as_bytes()).is_some()
    };
    bob.run_for(DAY + DAY / 2);
    assert_eq!(held().len(), 4, "another took its place");
    let mut bob = bob.reopen(3);
    bob.run_for(6 * DAY);
    assert!(has_keys(&bob, &claimed), "its Welcome may be on the way");
    bob.run_for(3 * DAY);
    assert!(!has_keys(&bob, &claimed));
    let bob = bob.reopen(4);
    assert!(!has_keys(&bob, &claimed));
    assert!(held().contains(&kept) && has_keys(&bob, &kept));
}

#[test]
fn a_password_is_the_same_from_every_keyboard() {
    let server = server();
    let mut first = Device::new(1, &server);
    let typed = "sept r\u{e2}les des gen\u{ea}ts \u{ff17}";
    assert_eq!(first.sign_up("ann", typed), Some(Ok(())));
    let mut second = Device::new(2, &server);
    let decomposed = "sept ra\u{302}les des gene\u{302}ts 7";
    assert_eq!(
        second.log_in("ann", "sept rales des genets 7"),
        Some(Err(Refusal::WrongPassword.into()))
    );
    assert_eq!(second.log_in("ann", decomposed), Some(Ok(())));
}

#[test]
fn only_packages_that_may_be_added_count() {
    let server = server();
    let mut one = signed_up(1, "ann", &server);
    let bob = signed_up(2, "bob", &server);
    let account = one.state.account.me().unwrap().account;
    // The own account needs no other device, others need one.
    assert_eq!(
        claim(&mut one, &[account, bob.state.account.me().unwrap().account]),
        Refusal::UnknownChat.into()
    );
    assert_sound(&one);
    let none = Error::from(Refusal::NoKeyPackage);
    assert_eq!(claim(&mut one, &[AccountId::from_bytes([9; 32])]), none);
    let bobs = bob.state.account.me().unwrap();
    let device = wire_device(bobs.device);
    let replace = |with: &str| {
        let mut server = server.borrow_mut();
        let own = wire_device(one.state.account.me().unwrap().device);
        let bytes = match with {
            "another's" => server.devices[&own].packages[0].bytes.clone(),
            _ => vec![1, 2, 3],
        };
        for package in &mut server.devices.get_mut(&device).unwrap().packages {
            package.bytes.clone_from(&bytes);
        }
    };
    replace("another's");
    let bobs = bobs.account;
    let mut two = signed_up(3, "cat", &server);
    assert_eq!(claim(&mut two, &[bobs]), none);
    replace("garbage");
    assert_eq!(claim(&mut two, &[bobs]), none);
}

#[test]
fn a_record_never_goes_back() {
    let server = server();
    let mut ann = signed_up(1, "ann", &server);
    let mut bob = signed_up(2, "bob", &server);
    let first = server.borrow().accounts["ann"].clone();
    let mut second = Device::new(3, &server);
    assert_eq!(second.log_in("ann", PASSWORD), Some(Ok(())));
    let number = |device: &mut Device, name: &str| {
        let name = name.to_owned();
        device.ask(|reply| Command::SafetyNumber { name, reply }).unwrap()
    };
    let seen = number(&mut bob, "ann").unwrap();
    assert_eq!(seen, number(&mut ann, "bob").unwrap());
    server.borrow_mut().accounts.insert("ann".to_owned(), first);
    assert!(matches!(number(&mut bob, "Ann"), Err(Error::Untrue(_))));
    // Another account under a known name, and a record of another name.
    let bobs = server.borrow().accounts["bob"].clone();
    server.borrow_mut().accounts.insert("ann".to_owned(), bobs);
    assert!(matches!(number(&mut bob, "ann"), Err(Error::Untrue(_))));
    assert_eq!(number(&mut bob, "nobody"), Err(Refusal::UnknownAccount.into()));
    assert_eq!(number(&mut bob, "x"), Err(Refusal::UnknownAccount.into()));
}

#[test]
fn a_server_that_asks_for_minutes_is_not_waited_for() {
    let server = server();
    let _ann = signed_up(1, "ann", &server);
    let mut bob = signed_up(2, "bob", &server);
    server.borrow_mut().busy_for = Some(120);
    let before = bob.now;
    let number = bob.ask(|reply| Command::SafetyNumber { name: "ann".to_owned(), reply });
    assert_eq!(number, Some(Err(Error::Server(ErrorCode::RateLimited, Some(120)))));
    assert!(bob.now.0 < before.0 + 10_000);
}

fn conversation(id: u8, epoch: u64) -> AccountLogRecord {
    AccountLogRecord::Conversation(ConversationRecord {
        id: ConversationId::from_bytes([id; 32]),
        seed: Seed::from_key(Key32::from_bytes([id; 32])),
        anchor: Anchor { epoch, interim: [id; 32] },
        read: (1, [id; 32]),
        hidden: false,
        may_yield: false,
        losses: 0,
        begins_with: 0,
        is_alone: false,
        is_out: false,
    })
}

fn knows(device: &Device, record: &AccountLogRecord) -> bool {
    device.state.account.log.records().any(|known| known == record)
}

#[test]
fn own_devices_tell_each_other_of_conversations() {
    let server = server();
    let length = || server.borrow().logs.values().next().unwrap().len();
    let mut one = signed_up(1, "ann", &server);
    one.with(|state, step| {
        state.put_record(conversation(1, 3), step);
        state.put_record(conversation(2, 3), step);
    });
    one.run();
    let mut two = Device::new(2, &server);
    assert_eq!(two.log_in("ann", PASSWORD), Some(Ok(())));
    for device in [&mut one, &mut two] {
        device.state.online.open = true;
    }
    assert!(knows(&two, &conversation(1, 3)) && knows(&two, &conversation(2, 3)));
    // Both write at once: one finds a conflict, reads on and appends again.
    one.with(|state, step| state.put_record(conversation(3, 1), step));
    two.with(|state, step| state.put_record(conversation(4, 1), step));
    for device in [&mut one, &mut two] {
        device.run();
        assert!(!device.state.account_owes());
    }
    one.run();
    assert!(knows(&one, &conversation(4, 1)) && knows(&two, &conversation(3, 1)));
    assert_eq!(length(), 6);
    // What is known is not written again.
    one.with(|state, step| state.put_record(conversation(4, 1), step));
    one.run();
    assert_eq!(length(), 6);
}

#[test]
fn a_later_epoch_outlives_what_a_device_that_was_behind_wrote() {
    let server = server();
    let mut one = signed_up(1, "ann", &server);
    let mut two = Device::new(2, &server);
    assert_eq!(two.log_in("ann", PASSWORD), Some(Ok(())));
    for device in [&mut one, &mut two] {
        device.state.online.open = true;
    }
    one.run();
    // The later epoch is read first: the earlier one is never written.
    two.with(|state, step| state.put_record(conversation(1, 5), step));
    two.run();
    one.with(|state, step| state.put_record(conversation(1, 4), step));
    one.run();
    assert!(knows(&one, &conversation(1, 5)));
    // The earlier one is written behind the later one: whoever sees that mends it.
    one.with(|state, step| state.put_record(conversation(1, 3), step));
    one.run();
    two.run();
    one.run();
    assert!(knows(&one, &conversation(1, 5)) && knows(&two, &conversation(1, 5)));
    assert!(!one.state.account_owes() && !two.state.account_owes());
}

#[test]
fn the_account_log_survives_a_fault_at_each_request() {
    for (kind, number) in (0..4).flat_map(|kind| (0..3).map(move |number| (kind, number))) {
        let server = server();
        let mut device = signed_up(1, "ann", &server);
        device.fault = fault_at(kind, device.requests + number);
        device.with(|state, step| {
            state.put_record(conversation(1, 1), step);
            state.put_record(conversation(2, 1), step);
            state.put_record(conversation(2, 2), step);
        });
        device.run();
        if device.is_dead {
            device = device.reopen(3);
        }
        assert_sound(&device);
        let records: Vec<_> = device.state.account.log.records().cloned().collect();
        assert!(records.contains(&conversation(1, 1)));
        assert!(records.contains(&conversation(2, 2)));
        let device = device.reopen(4);
        assert_eq!(records.len(), device.state.account.log.records().count());
    }
}

#[test]
fn a_state_lies_beside_every_hundredth_record_and_newcomers_begin_there() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    for epoch in 0..120 {
        device.with(|state, step| state.put_record(conversation(1, epoch), step));
        device.run();
    }
    let states: Vec<u64> = server.borrow().states.keys().map(|(_, at)| *at).collect();
    assert_eq!(states, [100]);
    let mut newcomer = Device::new(2, &server);
    assert_eq!(newcomer.log_in("ann", PASSWORD), Some(Ok(())));
    assert_eq!(newcomer.watched_from.first(), Some(&100));
    assert!(knows(&newcomer, &conversation(1, 119)));
    assert_sound(&newcomer);
    // A state that does not open only costs the way.
    for state in server.borrow_mut().states.values_mut() {
        state.reverse();
    }
    let mut newcomer = Device::new(3, &server);
    assert_eq!(newcomer.log_in("ann", PASSWORD), Some(Ok(())));
    assert_eq!(newcomer.watched_from.first(), Some(&0));
    assert!(knows(&newcomer, &conversation(1, 119)));
    assert_sound(&newcomer);
}

#[test]
fn what_a_restored_server_lost_is_written_again() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    let (name, before) = {
        let server = server.borrow();
        let (name, log) = server.logs.iter().next().unwrap();
        (*name, log.clone())
    };
    device.with(|state, step| state.put_record(conversation(1, 1), step));
    device.run();
    server.borrow_mut().logs.insert(name, before);
    device.with(|state, step| state.put_record(conversation(2, 1), step));
    device.run();
    assert_eq!(server.borrow().logs[&name].len(), 3);
    assert_sound(&device);
    let mut newcomer = Device::new(2, &server);
    assert_eq!(newcomer.log_in("ann", PASSWORD), Some(Ok(())));
    assert!(knows(&newcomer, &conversation(1, 1)) && knows(&newcomer, &conversation(2, 1)));
}

#[test]
fn a_server_that_never_shows_what_it_stored_is_not_asked_without_end() {
    let server = server();
    let mut device = signed_up(1, "ann", &server);
    server.borrow_mut().forgets = true;
    let before = device.requests;
    device.with(|state, step| state.put_record(conversation(1, 1), step));
    device.run_for(60_000);
    assert!(device.requests - before < 10, "{}", device.requests - before);
    server.borrow_mut().forgets = false;
    device.run();
    assert!(knows(&device, &conversation(1, 1)));
    assert_sound(&device);
}

#[test]
fn audit_srv_b4_a_store_opens_for_no_other_server_than_its_own() {
    let ann = signed_up(1, "ann", &server());
    assert_eq!(ann.opens_at("http://test.example"), Ok(()));
    for other in ["http://other.example", "https://test.example"] {
        assert_eq!(ann.opens_at(other), Err(crate::store::StoreError::WrongServer));
    }
}
