//! The HTTP transport against the real server, over a cable that the tests cut.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corncrake::transport::http::HttpTransport;
use corncrake::transport::{Plane, Push, Transport, TransportError};
use corncrake_server::{Config, Server};
use corncrake_wire::account::{NewDevice, NewPackage, SignUpFinish, SignUpStart};
use corncrake_wire::log::{Append, AppendReply, EntryKind, LogEntry, NewEntry, Point};
use corncrake_wire::opaque::{self, Stretch};
use corncrake_wire::open::{Deposit, SignedRecord};
use corncrake_wire::{
    AccessToken, AccountId, AccountReply, Call, DeviceId, ErrorCode, InboxId, OpenReply, PackageId,
    SessionToken, limits,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

const INBOX: InboxId = InboxId([5; 32]);
const PACKAGE: &[u8] = b"package";

fn token() -> AccessToken {
    AccessToken::new([1; 32])
}

async fn start_server(folder: &TempDir, listen: Option<SocketAddr>) -> Server {
    let mut config = Config::for_tests(folder.path().into());
    config.listen = listen.unwrap_or(config.listen);
    Server::start(config).await.unwrap()
}

/// What lies between a client and a server.
struct Cable {
    url: String,
    /// How many connections there have been.
    connections: Arc<AtomicUsize>,
    cut: broadcast::Sender<()>,
    forgotten: watch::Sender<u32>,
    _forwarding: JoinSet<()>,
}

impl Cable {
    async fn to(server: &Server) -> Self {
        let target = server.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (cut, _) = broadcast::channel(1);
        let forgotten = watch::Sender::new(0);
        let forgets = forgotten.clone();
        let mut forwarding = JoinSet::new();
        let cuts = cut.clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut cut = cuts.subscribe();
                let mut forgotten = forgets.subscribe();
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.recv() => {}
                        // Both ends stay open, and nothing passes.
                        _ = forgotten.changed() => core::future::pending().await,
                    }
                });
            }
        });
        Self { url, connections, cut, forgotten, _forwarding: forwarding }
    }

    /// Ends all connections that there are; new ones are forwarded.
    fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Lets all connections that there are die without a word, as a router does that forgets them;
    /// new ones are forwarded.
    fn forget(&self) {
        self.forgotten.send_modify(|times| *times += 1);
    }
}

async fn open<C>(transport: &HttpTransport, call: C) -> Result<C::Reply, TransportError>
where
    C: Call<Requests = corncrake_wire::OpenRequest, Replies = OpenReply>,
{
    transport.open(call.into()).await.map(|reply| C::unwrap(reply).unwrap())
}

async fn account<C>(transport: &HttpTransport, call: C) -> C::Reply
where
    C: Call<Requests = corncrake_wire::AccountRequest, Replies = AccountReply>,
{
    C::unwrap(transport.account(None, call.into()).await.unwrap()).unwrap()
}

fn entry(kind: EntryKind, after: Point, bytes: Vec<u8>) -> Append {
    Append {
        token: token(),
        kind,
        after,
        entries: vec![NewEntry::new(bytes)],
        opening: Some(vec![0]),
        admission: Vec::new(),
    }
}

async fn append_message(transport: &HttpTransport, number: u64) {
    let append = entry(EntryKind::Message, Point::START, number.to_be_bytes().to_vec());
    let reply = open(transport, append).await.unwrap();
    let stored = AppendReply::Stored { positions: vec![number], head: number };
    assert_eq!(reply, stored);
}

async fn next(transport: &HttpTransport) -> Push {
    let next = async {
        loop {
            // Attempts that failed while the server was away.
            match transport.next().await {
                Push::Unreachable(_) => {}
                push => break push,
            }
        }
    };
    timeout(Duration::from_secs(30), next).await.unwrap()
}

/// Reads a log as an engine does: from where it stands, again after each new connection.
struct Reader {
    position: u64,
    connections: u32,
}

impl Reader {
    async fn read_to(&mut self, transport: &HttpTransport, end: u64) -> Vec<LogEntry> {
        let mut read = Vec::new();
        while self.position < end {
            match next(transport).await {
                Push::Connected { plane: Plane::Open, .. } => {
                    self.connections += 1;
                    transport.watch(token(), self.position, None);
                }
                Push::Entries { log, entries, head } => {
                    assert_eq!(log, token().log_id());
                    assert!(entries.last().is_none_or(|last| last.position <= head));
                    for entry in entries {
                        assert_eq!(entry.position, self.position + 1, "no gap, nothing twice");
                        self.position = entry.position;
                        read.push(entry);
                    }
                }
                Push::Disconnected(Plane::Open) | Push::Running { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        read
    }
}

#[tokio::test]
async fn a_log_is_read_without_gap_over_a_cable_that_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let cable = Cable::to(&server).await;
    let writer = HttpTransport::new(&format!("http://{}", server.address())).unwrap();
    let reading = HttpTransport::new(&cable.url).unwrap();
    let mut reader = Reader { position: 0, connections: 0 };
    for round in 0..4 {
        for number in round * 25 + 1..=round * 25 + 25 {
            append_message(&writer, number).await;
            if number % 25 == 12 {
                cable.cut();
            }
        }
        let entries = reader.read_to(&reading, round * 25 + 25).await;
        let expected = round * 25 + 1..=round * 25 + 25;
        assert!(
            entries
                .iter()
                .map(|entry| entry.bytes.clone())
                .eq(expected.map(|number| { number.to_be_bytes().to_vec() }))
        );
    }
    assert!(reader.connections >= 4, "{} connections", reader.connections);
    server.stop().await;
}

#[tokio::test]
async fn appends_travel_over_the_socket_that_follows_logs() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let cable = Cable::to(&server).await;
    let transport = HttpTransport::new(&cable.url).unwrap();
    let Push::Connected { plane: Plane::Open, .. } = next(&transport).await else { panic!() };
    transport.watch(token(), 0, None);
    let connections = cable.connections.load(Ordering::Relaxed);
    for number in 1..=20 {
        append_message(&transport, number).await;
    }
    let mut reader = Reader { position: 0, connections: 0 };
    assert_eq!(reader.read_to(&transport, 20).await.len(), 20);
    let refused = open(
        &transport,
        Append { entries: Vec::new(), ..entry(EntryKind::Message, Point::START, vec![]) },
    );
    assert_eq!(refused.await, Err(TransportError::Refused(ErrorCode::BadBatch.into())));
    assert_eq!(cable.connections.load(Ordering::Relaxed), connections);
    server.stop().await;
}

#[tokio::test]
async fn audit_issue_7_bf4_a_path_that_dies_without_a_word_costs_a_few_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let cable = Cable::to(&server).await;
    let transport = HttpTransport::new(&cable.url).unwrap();
    let Push::Connected { plane: Plane::Open, .. } = next(&transport).await else { panic!() };
    append_message(&transport, 1).await;
    cable.forget();
    let begun = Instant::now();
    let append = entry(EntryKind::Message, Point::START, 2_u64.to_be_bytes().to_vec());
    assert_eq!(open(&transport, append).await, Err(TransportError::Unreachable));
    append_message(&transport, 2).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    // Somebody who only reads.
    let reading = HttpTransport::new(&cable.url).unwrap();
    let mut reader = Reader { position: 0, connections: 0 };
    reader.read_to(&reading, 2).await;
    cable.forget();
    let other = HttpTransport::new(&format!("http://{}", server.address())).unwrap();
    append_message(&other, 3).await;
    let begun = Instant::now();
    reader.read_to(&reading, 3).await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let address = server.address();
    let transport = HttpTransport::new(&format!("http://{address}")).unwrap();
    let Push::Connected { plane: Plane::Open, instance } = next(&transport).await else { panic!() };
    append_message(&transport, 1).await;
    server.stop().await;
    let push = next(&transport).await;
    assert!(matches!(push, Push::Disconnected(Plane::Open)), "{push:?}");
    let read = entry(EntryKind::Message, Point::START, vec![2]);
    assert_eq!(open(&transport, read).await, Err(TransportError::Unreachable));
    let server = start_server(&folder, Some(address)).await;
    let push = next(&transport).await;
    let Push::Connected { plane: Plane::Open, instance: again } = push else { panic!("{push:?}") };
    assert_eq!(again, instance);
    transport.watch(token(), 0, None);
    let running = next(&transport).await;
    assert!(matches!(running, Push::Running { position: 0, .. }), "{running:?}");
    let push = next(&transport).await;
    let Push::Entries { entries, .. } = push else { panic!("{push:?}") };
    assert_eq!(entries.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_largest_commit_fits_through_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let transport = HttpTransport::new(&format!("http://{}", server.address())).unwrap();
    let largest = vec![7; limits::COMMIT];
    let stored =
        open(&transport, entry(EntryKind::Commit, Point::START, largest.clone())).await.unwrap();
    assert_eq!(stored, AppendReply::Stored { positions: vec![1], head: 1 });
    let mut reader = Reader { position: 0, connections: 0 };
    let entries = reader.read_to(&transport, 1).await;
    assert!(entries[0].bytes == largest);
    let late = open(&transport, entry(EntryKind::Message, Point::START, vec![1])).await.unwrap();
    let AppendReply::Conflict { newest_commit: Point { position: 1, .. }, head: 1, missing } = late
    else {
        panic!()
    };
    assert!(missing[0].bytes == largest);
    server.stop().await;
}

#[tokio::test]
async fn refusals_of_the_real_server_keep_their_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let transport = HttpTransport::new(&format!("http://{}", server.address())).unwrap();
    let read =
        corncrake_wire::log::Read { token: token(), after: 0, limit: 1, admission: Vec::new() };
    let refused = TransportError::Refused(ErrorCode::LogNotFound.into());
    assert_eq!(open(&transport, read).await, Err(refused));
    transport.watch_inbox(SessionToken::new([9; 32]), 0);
    loop {
        match next(&transport).await {
            Push::SessionRefused => break,
            Push::Connected { plane: Plane::Open, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    server.stop().await;
}

/// Signs up with an account of meaningless bytes; the server looks into none of them.
async fn sign_up(transport: &HttpTransport, server: &Server) -> SessionToken {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let cheap = Stretch::with(|input, output| output.copy_from_slice(input));
    let name = "ann".to_owned();
    let (registration, request) = opaque::register(b"password", &mut rng).unwrap();
    let start = SignUpStart {
        name: name.clone(),
        origin: format!("http://{}", server.address()),
        opaque: request,
    };
    let started = account(transport, start).await;
    let (upload, _) = registration.finish(&started.opaque, cheap, &mut rng).unwrap();
    let finish = SignUpFinish {
        name,
        account: AccountId([3; 32]),
        identity_key: [5; 32],
        opaque: upload,
        vault: vec![1],
        record: SignedRecord { version: 1, bytes: vec![2] },
        device: NewDevice { id: DeviceId([4; 32]), key: [1; 32], inbox: INBOX },
        packages: vec![NewPackage { suite: 3, last_resort: true, bytes: PACKAGE.to_vec() }],
    };
    account(transport, finish).await.token
}

#[tokio::test]
async fn the_inbox_is_followed_over_a_cable_that_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_server(&folder, None).await;
    let cable = Cable::to(&server).await;
    let sender = HttpTransport::new(&format!("http://{}", server.address())).unwrap();
    let transport = HttpTransport::new(&cable.url).unwrap();
    let session = sign_up(&transport, &server).await;
    transport.watch_inbox(session, 0);
    let mut received = Vec::new();
    let mut connections = 0;
    for number in 1..=20u8 {
        let (package, notice) = (PackageId::of(PACKAGE), vec![number]);
        let deposit = Deposit { inbox: INBOX, package, notice, admission: Vec::new() };
        open(&sender, deposit).await.unwrap();
        if number % 5 == 3 {
            cable.cut();
        }
        while received.len() < usize::from(number) {
            match next(&transport).await {
                Push::Notices(notices) => {
                    received.extend(notices.into_iter().flat_map(|notice| notice.bytes));
                }
                Push::Connected { plane: Plane::Account, .. } => connections += 1,
                _ => {}
            }
        }
    }
    assert_eq!(received, (1..=20).collect::<Vec<u8>>(), "no gap, nothing twice");
    assert!(connections >= 4, "{connections} connections");
    server.stop().await;
}

#[tokio::test]
async fn audit_srv_a5_four_devices_with_800_logs_each_come_online_behind_one_rate_limit() {
    const LOGS: u32 = 800;
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path().into());
    config.limits.no_rate_limits = false;
    config.limits.requests_per_second = 12;
    let server = Server::start(config).await.unwrap();
    let mut devices = JoinSet::new();
    for device in 0..4u32 {
        let url = format!("http://{}", server.address());
        devices.spawn(async move {
            let transport = HttpTransport::new(&url).unwrap();
            let mut followed = std::collections::BTreeSet::new();
            while followed.len() < LOGS as usize {
                match next(&transport).await {
                    Push::Connected { .. } => {
                        for log in 0..LOGS {
                            let mut bytes = [7; 32];
                            bytes[..4].copy_from_slice(&(device * LOGS + log).to_be_bytes());
                            let start = Some(corncrake_wire::log::RUNNING_START);
                            transport.watch(AccessToken::new(bytes), 0, start);
                        }
                    }
                    Push::Entries { log, .. } => {
                        followed.insert(log);
                    }
                    other => panic!("{other:?}: a refusal costs one log a wait, and nothing else"),
                }
            }
        });
    }
    while let Some(done) = devices.join_next().await {
        done.unwrap();
    }
    server.stop().await;
}
