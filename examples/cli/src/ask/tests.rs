//! Commands over a path to a real server that can be slow, silent or away, held to a clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use corncrake::{SqliteStore, StoreKey};
use corncrake_server::{Config, Server};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::*;
use crate::turns::Turns;

const PASSWORD: &str = "quokka marble thirteen lantern fjord";

/// What lies between a client and a server.
#[derive(Debug)]
struct Way {
    url: String,
    state: Arc<State>,
    _forwarding: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    /// How long each direction takes, in milliseconds.
    delay: AtomicU64,
    /// Whether nothing comes back.
    silent: AtomicBool,
    /// Whether connections end as soon as they are made.
    away: AtomicBool,
}

impl Way {
    async fn to(target: std::net::SocketAddr, listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        let mut forwarding = JoinSet::new();
        let shared = Arc::clone(&state);
        forwarding.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                if shared.away.load(Ordering::Relaxed) {
                    continue;
                }
                let (near, far) = (near, TcpStream::connect(target).await.unwrap());
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                connections.spawn(carry(near_read, far_write, Arc::clone(&shared), false));
                connections.spawn(carry(far_read, near_write, Arc::clone(&shared), true));
            }
        });
        Self { url, state, _forwarding: forwarding }
    }
}

/// Carries bytes one way: each arrives so much later as the way is long.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
    comes_back: bool,
) {
    let (late, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let arriving = async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let leaving = async move {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            if comes_back && state.silent.load(Ordering::Relaxed) {
                continue;
            }
            let delay = Duration::from_millis(state.delay.load(Ordering::Relaxed));
            let _ = late.send((Instant::now() + delay, bytes[..read].to_vec()));
        }
    };
    tokio::join!(arriving, leaving);
}

/// A server, the way to it, and people who have signed up there.
struct Place {
    folder: TempDir,
    way: Way,
    server: Server,
}

impl Place {
    async fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_tests(folder.path().join("server"));
        config.origin = vec![format!("http://{}", listener.local_addr().unwrap())];
        let server = Server::start(config).await.unwrap();
        let way = Way::to(server.address(), listener).await;
        let place = Self { folder, way, server };
        for name in names {
            let store = place.store(name).await;
            let client = Client::sign_up(&place.way.url, store, name, PASSWORD).await.unwrap();
            client.settle().await.unwrap();
            client.close().await.unwrap();
        }
        place
    }

    async fn store(&self, name: &str) -> SqliteStore {
        let path = self.folder.path().join(name);
        SqliteStore::open(&path, StoreKey::from_bytes([7; 32])).await.unwrap()
    }

    async fn open(&self, name: &str) -> Client {
        Client::open(&self.way.url, self.store(name).await).await.unwrap()
    }

    /// What one program is asked that does nothing else: the answer, and how long it took.
    async fn ask(&self, name: &str, ask: Ask) -> (Result<Value, Failure>, Duration) {
        let client = self.open(name).await;
        let answered = asked(&client, ask).await;
        client.close().await.unwrap();
        answered
    }
}

async fn asked(client: &Client, ask: Ask) -> (Result<Value, Failure>, Duration) {
    let begun = Instant::now();
    let turn = Turns::default().next(&ask);
    let answer = ask.carry_out(client, turn).await;
    (answer, begun.elapsed())
}

fn send(chat: &str, wait: Wait) -> Ask {
    Ask::Send { chat: chat.to_owned(), text: "hi".to_owned(), wait }
}

fn delivery(answer: Result<Value, Failure>) -> String {
    answer.unwrap()["delivery"].as_str().unwrap().to_owned()
}

const USUAL: Wait = Wait::Usual { usual: 15 };

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn audit_issue_7_bf3_a_message_goes_out_over_a_slow_path() {
    let place = Place::new(&["ann", "bob", "cem", "dan"]).await;
    assert_eq!(delivery(place.ask("ann", send("bob", USUAL)).await.0), "sent");
    place.way.state.delay.store(800, Ordering::Relaxed);
    for (to, wait) in [("bob", USUAL), ("cem", USUAL), ("dan", Wait::Given(60))] {
        let (answer, took) = place.ask("ann", send(to, wait)).await;
        assert_eq!(delivery(answer), "sent", "to {to}, after {took:?}");
    }
    place.server.stop().await;
}

/// What came of a message is told however much has come behind it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn audit_issue_7_if1_a_message_that_much_came_behind_is_said_to_be_sent() {
    let place = Place::new(&["ann", "bob"]).await;
    assert_eq!(delivery(place.ask("ann", send("bob", USUAL)).await.0), "sent");
    let client = place.open("ann").await;
    place.way.state.delay.store(500, Ordering::Relaxed);
    let first = tokio::spawn({
        let client = client.clone();
        async move { asked(&client, send("bob", Wait::Given(60))).await.0 }
    });
    sleep(Duration::from_millis(100)).await;
    for _ in 0..120 {
        asked(&client, send("bob", Wait::NONE)).await.0.unwrap();
    }
    assert_eq!(delivery(first.await.unwrap()), "sent");
    client.close().await.unwrap();
    place.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn audit_issue_7_bf3_a_wait_that_somebody_gave_is_waited_for() {
    let place = Place::new(&["ann", "bob", "cem"]).await;
    assert_eq!(delivery(place.ask("ann", send("bob", USUAL)).await.0), "sent");
    place.way.state.away.store(true, Ordering::Relaxed);
    let (answer, took) = place.ask("ann", send("bob", USUAL)).await;
    assert_eq!(delivery(answer), "queued");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let client = place.open("ann").await;
    let given = Wait::Given(30);
    let group =
        Ask::CreateGroup { title: "meadow".to_owned(), names: vec!["bob".to_owned()], wait: given };
    let asks = [send("bob", given), send("cem", given), group, Ask::Settle { wait: given }];
    let back = async {
        sleep(Duration::from_secs(6)).await;
        place.way.state.away.store(false, Ordering::Relaxed);
    };
    let mut answers = JoinSet::new();
    for ask in asks {
        let client = client.clone();
        answers.spawn(async move { asked(&client, ask).await });
    }
    back.await;
    while let Some(answered) = answers.join_next().await {
        let (answer, took) = answered.unwrap();
        let answer = answer.unwrap();
        assert!(answer.get("delivery").is_none_or(|it| it == "sent"), "{answer} after {took:?}");
        assert!((5..20).contains(&took.as_secs()), "{took:?}");
    }
    client.close().await.unwrap();
    place.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn audit_issue_7_bf7_no_command_takes_longer_than_it_may() {
    let place = Place::new(&["ann", "bob", "cem"]).await;
    assert_eq!(delivery(place.ask("ann", send("bob", USUAL)).await.0), "sent");
    let group = |names: Vec<String>| Ask::CreateGroup {
        title: "meadow".to_owned(),
        names,
        wait: Wait::Given(10),
    };
    place.ask("ann", group(vec!["bob".to_owned()])).await.0.unwrap();
    place.way.state.silent.store(true, Ordering::Relaxed);
    let (client, wait) = (place.open("ann").await, Wait::Given(3));
    let names = vec!["cem".to_owned()];
    let password = Secret::from(Zeroizing::new(PASSWORD.to_owned()));
    let asks = [
        (4, send("bob", wait)),
        (4, send("cem", wait)),
        (6, Ask::CreateGroup { title: "wood".to_owned(), names: names.clone(), wait }),
        (6, Ask::Add { chat: "#meadow".to_owned(), names, wait }),
        (4, Ask::Rename { chat: "#meadow".to_owned(), title: "field".to_owned(), wait }),
        (4, Ask::Rename { chat: "#nothing".to_owned(), title: "field".to_owned(), wait }),
        (4, Ask::History { chat: "bob".to_owned(), before: None, limit: 1, wait }),
        (4, Ask::Settle { wait }),
        (11, Ask::RemoveDevice { device: "00".to_owned(), password, wait }),
        (21, Ask::Devices {}),
        (21, Ask::Verify { name: "cem".to_owned() }),
    ];
    let mut answers = JoinSet::new();
    for (most, ask) in asks {
        let client = client.clone();
        answers.spawn(async move {
            let what = format!("{ask:?}");
            let (answer, took) = asked(&client, ask).await;
            (what, most, took, answer)
        });
    }
    while let Some(done) = answers.join_next().await {
        let (what, most, took, answer) = done.unwrap();
        let most = Duration::from_secs(most) + Duration::from_millis(500);
        assert!(took < most, "{what} took {took:?}: {answer:?}");
    }
    client.close().await.unwrap();
    place.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn audit_issue_7_bf7_to_settle_takes_no_longer_when_it_comes_after_others() {
    let place = Place::new(&["ann", "bob"]).await;
    place.way.state.away.store(true, Ordering::Relaxed);
    let client = place.open("ann").await;
    let mut turns = Turns::default();
    let _before = turns.next(&send("bob", USUAL));
    let settle = Ask::Settle { wait: Wait::Given(1) };
    let (turn, begun) = (turns.next(&settle), Instant::now());
    let refused = settle.carry_out(&client, turn).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(refused.code, "offline");
    client.close().await.unwrap();
    place.server.stop().await;
}
