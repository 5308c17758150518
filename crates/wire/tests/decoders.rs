//! Every message there is: its golden encoding, and what becomes of a million bad ones.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::fmt::Write;

use corncrake_wire::{
    AccessToken, AccountId, AccountReply, AccountRequest, Call, ClientFrame, DeviceId, EntryId,
    ErrorCode, Hello, InboxId, LOWEST_VERSION, Malformed, NoticeId, OpenReply, OpenRequest,
    PackageId, Refusal, ServerFrame, SessionToken, VERSION,
    account::*,
    decode, encode,
    frames::{About, Subscription},
    log::*,
    opaque,
    open::*,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

fn session() -> Session {
    Session { token: SessionToken::new([8; 32]), expires: 1_800_000_000 }
}

fn entry(position: u64) -> LogEntry {
    LogEntry {
        position,
        kind: EntryKind::Commit,
        bytes: vec![position as u8; 3],
        expired: (position == 2).then_some(EntryId([5; 32])),
        has_welcome: true,
        has_state: false,
    }
}

fn append() -> Append {
    Append {
        token: AccessToken::new([1; 32]),
        kind: EntryKind::Commit,
        after: Point { position: 300, id: EntryId([3; 32]) },
        entries: vec![NewEntry { bytes: vec![1, 2, 3], welcome: Some(vec![4]), state: None }],
        opening: Some(vec![5, 6]),
        admission: Vec::new(),
    }
}

fn open_requests() -> Vec<OpenRequest> {
    let token = AccessToken::new([1; 32]);
    let admission = Vec::new();
    let (account, part) = (AccountId([2; 32]), Part::Welcome);
    vec![
        append().into(),
        Read { token: token.clone(), after: 7, limit: 256, admission: admission.clone() }.into(),
        Beside { token: token.clone(), position: 9, part, admission: admission.clone() }.into(),
        States { token, at_most: u64::MAX, start: 4096, admission: admission.clone() }.into(),
        LookUp { by: By::Name("bob".to_owned()), admission: admission.clone() }.into(),
        LookUp { by: By::Id(account), admission: admission.clone() }.into(),
        Claim { account, suite: 3, admission: admission.clone() }.into(),
        Deposit {
            inbox: InboxId([3; 32]),
            package: PackageId([4; 32]),
            notice: vec![1; 5],
            admission,
        }
        .into(),
    ]
}

fn open_replies() -> Vec<OpenReply> {
    let record = SignedRecord { version: 2, bytes: vec![9; 4] };
    let package =
        ClaimedPackage { device: DeviceId([4; 32]), last_resort: true, bytes: vec![1, 2] };
    vec![
        Append::wrap(AppendReply::Stored { positions: vec![1, 2, 300], head: 301 }),
        Append::wrap(AppendReply::Conflict {
            newest_commit: Point { position: 3, id: EntryId([3; 32]) },
            head: 4,
            missing: vec![entry(4)],
        }),
        Read::wrap(ReadReply { entries: vec![entry(1), entry(2)], head: 2 }),
        Beside::wrap(Sealed { bytes: vec![7; 3] }),
        States::wrap(StatesReply {
            positions: vec![100, 50, 0],
            start: Some(Start {
                state: vec![6; 2],
                page: ReadReply { entries: vec![entry(100)], head: 100 },
                welcome: Some(vec![5; 3]),
            }),
        }),
        LookUp::wrap(Found { name: "bob".to_owned(), record }),
        Claim::wrap(Claimed { now: 5, packages: vec![package] }),
        Deposit::wrap(()),
    ]
}

fn account_requests() -> Vec<AccountRequest> {
    let (name, account) = ("bob".to_owned(), AccountId([2; 32]));
    let device = NewDevice { id: DeviceId([4; 32]), key: [5; 32], inbox: InboxId([3; 32]) };
    let record = SignedRecord { version: 1, bytes: vec![9; 4] };
    let packages = vec![NewPackage { suite: 3, last_resort: true, bytes: vec![1, 2] }];
    let add = AddDevice {
        record: record.clone(),
        vault: Vault { version: 2, bytes: vec![2; 4] },
        device: device.clone(),
        packages: packages.clone(),
        drop: Some(device.id),
        signature: vec![8; 64],
    };
    vec![
        SignUpStart { name: name.clone(), origin: "http://a".to_owned(), opaque: vec![1; 4] }
            .into(),
        SignUpFinish {
            name: name.clone(),
            account,
            identity_key: [5; 32],
            opaque: vec![1; 4],
            vault: vec![2; 4],
            record: record.clone(),
            device: device.clone(),
            packages: packages.clone(),
        }
        .into(),
        LogInStart { name, origin: "http://a".to_owned(), opaque: vec![1; 4] }.into(),
        LogInFinish { attempt: [6; 16], opaque: vec![1; 4] }.into(),
        add.clone().into(),
        RenewStart { account, device: device.id }.into(),
        Renew { account, device: device.id, nonce: [7; 32], signature: vec![8; 64] }.into(),
        LogOut.into(),
        GetVault.into(),
        ReplaceVault { vault: Vault { version: 2, bytes: vec![2; 4] }, signature: vec![8; 64] }
            .into(),
        ReplaceRecord { record, signature: vec![8; 64] }.into(),
        UploadPackages { packages, replace: true, claimed: vec![PackageId([4; 32])] }.into(),
        ListPackages { suite: 3 }.into(),
        ReadInbox { after: 1, limit: 2 }.into(),
        DeleteNotices { up_to: 1000, newest: NoticeId([6; 32]) }.into(),
        WhatYouHold.into(),
        RestoreDevice { account, add, least: 0 }.into(),
    ]
}

fn account_replies() -> Vec<AccountReply> {
    let vault = Vault { version: 2, bytes: vec![2; 4] };
    let record = SignedRecord { version: 1, bytes: vec![9; 4] };
    let device =
        DeviceHoldings { device: DeviceId([4; 32]), added_day: 20_000, packages: 50, notices: 3 };
    vec![
        SignUpStart::wrap(SignUpStarted { opaque: vec![1; 4] }),
        SignUpFinish::wrap(session()),
        LogInStart::wrap(LogInStarted { attempt: [6; 16], opaque: vec![1; 4] }),
        LogInFinish::wrap(LoggedIn {
            session: session(),
            account: AccountId([2; 32]),
            vault: vault.clone(),
            record,
        }),
        AddDevice::wrap(session()),
        RenewStart::wrap(RenewStarted { nonce: [7; 32] }),
        Renew::wrap(session()),
        LogOut::wrap(()),
        GetVault::wrap(vault),
        ReplaceVault::wrap(()),
        ReplaceRecord::wrap(()),
        UploadPackages::wrap(()),
        ListPackages::wrap(PackageList {
            now: 1_700_000_000,
            one_time: vec![PackageId([4; 32])],
            last_resort: Some(PackageId([5; 32])),
        }),
        ReadInbox::wrap(Inbox { notices: vec![Notice { position: 3, bytes: vec![1; 3] }] }),
        DeleteNotices::wrap(()),
        WhatYouHold::wrap(Holdings {
            name: "bob".to_owned(),
            signed_up_day: 20_000,
            record: (1, 4),
            vault: (2, 4),
            devices: vec![device],
            sessions: 2,
        }),
        RestoreDevice::wrap(()),
    ]
}

fn client_frames() -> Vec<ClientFrame> {
    vec![
        ClientFrame::Authenticate { session: SessionToken::new([8; 32]), after: 3 },
        ClientFrame::Subscribe {
            logs: vec![
                Subscription {
                    id: 5,
                    token: AccessToken::new([1; 32]),
                    after: 200,
                    running: Some([4; 32]),
                },
                Subscription { id: 6, token: AccessToken::new([2; 32]), after: 0, running: None },
            ],
        },
        ClientFrame::CheckHeads { digest: [6; 32] },
        ClientFrame::Unsubscribe { ids: vec![5, 6] },
        ClientFrame::Append { request: 6, append: append() },
        ClientFrame::Ping(1),
        ClientFrame::Pong(2),
    ]
}

fn server_frames() -> Vec<ServerFrame> {
    let refusal = Refusal { code: ErrorCode::RateLimited, retry_after: Some(9) };
    let stored = AppendReply::Stored { positions: vec![7], head: 7 };
    vec![
        ServerFrame::Hello(Hello::new([9; 16])),
        ServerFrame::Entries {
            id: 5,
            entries: vec![entry(1), entry(2)],
            head: 2,
            running: Some([6; 32]),
        },
        ServerFrame::Differs { id: 5, head: 2 },
        ServerFrame::Heads { heads: vec![(5, 2), (6, 0)] },
        ServerFrame::Notices { notices: vec![Notice { position: 3, bytes: vec![1; 3] }] },
        ServerFrame::AppendReply { request: 6, result: Ok(stored) },
        ServerFrame::AppendReply { request: 6, result: Err(refusal) },
        ServerFrame::Pong(1),
        ServerFrame::Ping(2),
        ServerFrame::Refused { about: About::Connection, refusal },
        ServerFrame::Refused { about: About::Subscription(5), refusal },
    ]
}

/// Decodes bytes as one kind of message and encodes what comes out.
type Decoder = Box<dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, Malformed>>;

/// Every message with its name, its encoding and its decoder.
fn samples() -> Vec<(String, Vec<u8>, Decoder)> {
    let mut samples: Vec<(String, Vec<u8>, Decoder)> = Vec::new();
    for request in open_requests() {
        let path = request.path();
        let decode: Decoder =
            Box::new(move |bytes| Ok(OpenRequest::decode(path, bytes)?.map(|got| got.encode())));
        samples.push((path.to_owned(), request.encode(), decode));
    }
    for request in account_requests() {
        let path = request.path();
        let decode: Decoder =
            Box::new(move |bytes| Ok(AccountRequest::decode(path, bytes)?.map(|got| got.encode())));
        samples.push((path.to_owned(), request.encode(), decode));
    }
    let name = |text: String| text.split(['(', ' ']).next().unwrap().to_owned();
    for reply in open_replies() {
        let label = format!("reply {}", name(format!("{reply:?}")));
        let request = open_requests()
            .into_iter()
            .find(|request| name(format!("{request:?}")) == name(format!("{reply:?}")))
            .unwrap();
        let decode: Decoder =
            Box::new(move |bytes| Ok(Some(request.decode_reply(bytes)?.encode())));
        samples.push((label, reply.encode(), decode));
    }
    for reply in account_replies() {
        let label = format!("reply {}", name(format!("{reply:?}")));
        let request = account_requests()
            .into_iter()
            .find(|request| name(format!("{request:?}")) == name(format!("{reply:?}")))
            .unwrap();
        let decode: Decoder =
            Box::new(move |bytes| Ok(Some(request.decode_reply(bytes)?.encode())));
        samples.push((label, reply.encode(), decode));
    }
    for frame in client_frames() {
        let label = format!("client {}", name(format!("{frame:?}")));
        let decode: Decoder = Box::new(|bytes| Ok(Some(encode(&decode::<ClientFrame>(bytes)?))));
        samples.push((label, encode(&frame), decode));
    }
    for frame in server_frames() {
        let label = format!("server {}", name(format!("{frame:?}")));
        let decode: Decoder = Box::new(|bytes| Ok(Some(encode(&decode::<ServerFrame>(bytes)?))));
        samples.push((label, encode(&frame), decode));
    }
    samples
}

#[test]
fn every_message_has_its_golden_encoding() {
    let mut lines = String::new();
    for (name, bytes, decode) in samples() {
        assert_eq!(decode(&bytes), Ok(Some(bytes.clone())), "{name}");
        writeln!(lines, "{name}: {}", hex::encode(&bytes)).unwrap();
    }
    for code in ErrorCode::ALL {
        writeln!(lines, "error {code}: {}", hex::encode(encode(code))).unwrap();
    }
    for path in OpenRequest::PATHS.iter().chain(AccountRequest::PATHS) {
        assert!(lines.contains(&format!("{path}: ")), "no sample of {path}");
    }
    if lines != include_str!("golden/1.txt") {
        panic!("encodings have changed; if they may, this is golden/1.txt now:\n{lines}");
    }
}

/// Nothing of a version is changed once it was released: what a later version adds comes at the
/// end. Each version has its file, and this crate reads them all.
#[test]
fn audit_srv_b11_the_frames_of_each_version_are_read_by_this_one() {
    let released = [include_str!("golden/1.txt")];
    assert_eq!(released.len(), usize::from(VERSION - LOWEST_VERSION + 1), "a file per version");
    let samples = samples();
    for line in released.iter().flat_map(|file| file.lines()) {
        let (name, bytes) = line.rsplit_once(": ").unwrap();
        let bytes = hex::decode(bytes).unwrap();
        if let Some(code) = name.strip_prefix("error ") {
            assert_eq!(decode(&bytes), Ok(ErrorCode::from_name(code).unwrap()), "{line}");
            continue;
        }
        let (_, _, decode) = samples.iter().find(|(known, _, _)| known == name).unwrap();
        assert_eq!(decode(&bytes), Ok(Some(bytes.clone())), "{line}");
    }
}

/// One of many small ways to spoil bytes.
fn spoil(bytes: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha20Rng) {
    let pick = rng.next_u32() as usize;
    let at = |length: usize| if length == 0 { 0 } else { pick % length };
    let byte = (rng.next_u32() >> 7) as u8;
    match rng.next_u32() % 7 {
        0 => bytes.truncate(at(bytes.len() + 1)),
        1 => bytes.insert(at(bytes.len() + 1), byte),
        2 if !bytes.is_empty() => drop(bytes.remove(at(bytes.len()))),
        3 if !bytes.is_empty() => {
            let at = at(bytes.len());
            bytes[at] = byte;
        }
        4 if !bytes.is_empty() => {
            let at = at(bytes.len());
            bytes[at] ^= 1 << (byte % 8);
        }
        5 => {
            // Lengths that promise more than there is.
            let at = at(bytes.len() + 1);
            bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, byte]);
        }
        _ => {
            let (at, from) = (at(bytes.len() + 1), at(other.len() + 1));
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn a_million_random_and_spoiled_inputs_for_each_message_are_refused_or_read_exactly() {
    let samples = samples();
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let mut read = 0;
    let rounds = 1_000_000 * samples.len();
    for (round, (_, good, decode)) in samples.iter().cycle().enumerate().take(rounds) {
        let mut bytes = if round.is_multiple_of(4) {
            let mut bytes = vec![0; rng.next_u32() as usize % 80];
            rng.fill_bytes(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            bytes
        } else {
            let (_, other, _) = &samples[rng.next_u32() as usize % samples.len()];
            let mut bytes = good.clone();
            for _ in 0..=rng.next_u32() % 3 {
                spoil(&mut bytes, other, &mut rng);
            }
            bytes
        };
        if let Ok(again) = decode(&bytes) {
            read += 1;
            assert_eq!(again, Some(std::mem::take(&mut bytes)));
        }
    }
    assert!(read > 1000, "the spoiling spoils too much: {read}");
}

#[test]
fn password_messages_survive_spoiling() {
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    let cheap = opaque::Stretch::with(|input, output| output.copy_from_slice(input));
    let server = opaque::ServerSecret::new(&mut rng);
    let (client, request) = opaque::register(b"pw", &mut rng).unwrap();
    let registered = server.registration_reply("bob", &request).unwrap();
    let (upload, _) = client.finish(&registered, cheap, &mut rng).unwrap();
    let (client, started) = opaque::log_in(b"pw", &mut rng).unwrap();
    let (reply, state) = server.log_in_reply("bob", Some(&upload), &started, &mut rng).unwrap();
    let (proof, _) = client.finish(&reply, cheap, &mut rng).unwrap();
    let secret = server.expose_bytes();
    let good = [&request, &registered, &upload, &started, &reply, &proof, secret.as_ref()];
    for _ in 0..3000 {
        let mut bytes = good[rng.next_u32() as usize % good.len()].clone();
        let other = good[rng.next_u32() as usize % good.len()];
        spoil(&mut bytes, other, &mut rng);
        drop(server.registration_reply("bob", &bytes));
        drop(server.log_in_reply("bob", Some(&upload), &bytes, &mut rng));
        assert!(
            bytes == upload || opaque::check_record(&bytes).is_err() || bytes.len() == upload.len()
        );
        drop(opaque::ServerSecret::from_bytes(&bytes));
        assert!(bytes == proof || opaque::check_log_in(&state, &bytes).is_err());
        let (client, _) = opaque::register(b"pw", &mut rng).unwrap();
        drop(client.finish(&bytes, cheap, &mut rng));
        let (client, _) = opaque::log_in(b"pw", &mut rng).unwrap();
        assert!(client.finish(&bytes, cheap, &mut rng).is_err());
    }
}
