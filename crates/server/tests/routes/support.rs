//! A server for each test, people who use it, and a socket that speaks frames.

use std::{net::SocketAddr, path::Path, time::Duration};

use corncrake_server::{Config, Server};
use corncrake_wire::{
    AccessToken, AccountId, CONTENT_TYPE, Call, ClientFrame, DeviceId, EntryId, EntryKind,
    ErrorCode, InboxId, PROBLEM_TYPE, PackageId, SESSION_HEADER, ServerFrame, SessionToken,
    account::{
        AddDevice, LogInFinish, LogInStart, LogInStarted, LoggedIn, NewDevice, NewPackage, Session,
        SignUpFinish, SignUpStart, Vault,
    },
    decode, encode,
    frames::Subscription,
    log::{Append, AppendReply, NewEntry, Point, Read, ReadReply},
    opaque::{self, Stretch},
    open::{By, Claim, Deposit, Found, LookUp, SignedRecord},
    session::Replacement,
};
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

pub(crate) const CHEAP: Stretch = Stretch::with(|input, output| output.copy_from_slice(input));
pub(crate) const SUITE: u16 = 3;

/// A refused request as a client sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: ErrorCode,
    pub(crate) retry_after: Option<u64>,
}

/// A running server and a client.
pub(crate) struct Api {
    server: Option<Server>,
    address: SocketAddr,
    origin: String,
    pub(crate) folder: TempDir,
    pub(crate) http: reqwest::Client,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::for_tests(folder.path().into());
        change(&mut config);
        let named = config.origin.first().map(|it| it.trim_end_matches('/').to_owned());
        let server = Server::start(config).await.unwrap();
        let api = Self::at(server.address(), folder);
        Self { server: Some(server), origin: named.unwrap_or(api.origin), ..api }
    }

    /// A client of a server that somebody else runs.
    pub(crate) fn at(address: SocketAddr, folder: TempDir) -> Self {
        let origin = format!("http://{address}");
        Self { server: None, address, origin, folder, http: http() }
    }

    /// Stops the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.server.unwrap().stop().await;
        let server = Server::start(Config::for_tests(self.folder.path().into())).await.unwrap();
        let address = server.address();
        Self { server: Some(server), ..Self::at(address, self.folder) }
    }

    /// The origin that the server knows itself by.
    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn call<C: Call>(&self, request: &C) -> Result<C::Reply, Problem> {
        self.call_as(None, request).await
    }

    pub(crate) async fn call_as<C: Call>(
        &self,
        session: Option<&SessionToken>,
        request: &C,
    ) -> Result<C::Reply, Problem> {
        let header = session.map(|token| (SESSION_HEADER, token.to_header()));
        let mut headers = vec![("content-type", CONTENT_TYPE.to_owned())];
        headers.extend(header);
        let body = self.raw(C::PATH, &headers, encode(request)).await?;
        Ok(decode(&body).expect("a reply in the one encoding"))
    }

    /// Posts anything.
    pub(crate) async fn raw(
        &self,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Problem> {
        let mut request = self.http.post(format!("http://{}{path}", self.address())).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn append(&self, append: &Append) -> Result<AppendReply, Problem> {
        self.call(append).await
    }

    pub(crate) async fn read(&self, token: &AccessToken, after: u64) -> Result<ReadReply, Problem> {
        let read = Read { token: token.clone(), after, limit: 1000, admission: Vec::new() };
        self.call(&read).await
    }

    /// All rows of all tables, to show that nothing was stored.
    pub(crate) async fn rows(&self) -> u64 {
        let mut rows = 0;
        for plane in [ACCOUNTS, LOGS] {
            let mut database = database(self.folder.path(), plane).await;
            let tables: Vec<String> =
                sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
                    .fetch_all(&mut database)
                    .await
                    .unwrap();
            for table in tables {
                let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM \"{table}\""));
                let row = sqlx::query(sql).fetch_one(&mut database).await.unwrap();
                rows += row.get::<i64, _>(0) as u64;
            }
        }
        rows
    }

    pub(crate) async fn socket(&self, path: &str) -> Socket {
        Socket::connect(self.address(), path).await
    }
}

pub(crate) fn http() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

pub(crate) async fn answer(response: reqwest::Response) -> Result<Vec<u8>, Problem> {
    let status = response.status();
    let header =
        |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (content_type, retry) = (header("content-type"), header("retry-after"));
    let body = response.bytes().await.unwrap().to_vec();
    if status.is_success() {
        return Ok(body);
    }
    assert_eq!(content_type.as_deref(), Some(PROBLEM_TYPE));
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status.as_u16());
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["retry_after"].as_u64(), retry.map(|seconds| seconds.parse().unwrap()));
    let code = ErrorCode::from_name(problem["code"].as_str().unwrap()).unwrap();
    assert_eq!(code.status(), status.as_u16());
    Err(Problem { status: status.as_u16(), code, retry_after: problem["retry_after"].as_u64() })
}

/// The databases of the two planes.
pub(crate) const ACCOUNTS: &str = "accounts.db";
pub(crate) const LOGS: &str = "logs.db";

pub(crate) async fn database(folder: &Path, plane: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join(plane));
    SqliteConnection::connect_with(&options.read_only(true)).await.unwrap()
}

/// A refusal with this code and its status.
pub(crate) fn problem(code: ErrorCode) -> Problem {
    Problem { status: code.status(), code, retry_after: None }
}

/// A WebSocket that speaks frames.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> Self {
        let url = format!("ws://{address}{path}");
        let (stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut socket = Self(stream);
        assert!(matches!(socket.hear().await, Some(ServerFrame::Hello(_))));
        socket
    }

    pub(crate) async fn say(&mut self, frame: &ClientFrame) {
        self.0.send(Message::Binary(encode(frame).into())).await.unwrap();
    }

    /// The next frame; nothing when the server has hung up.
    pub(crate) async fn hear(&mut self) -> Option<ServerFrame> {
        loop {
            let next = timeout(Duration::from_secs(20), self.0.next()).await;
            match next.expect("a frame in time")? {
                Ok(Message::Binary(bytes)) => return Some(decode(&bytes).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(150), self.0.next()).await.is_err()
    }
}

/// Somebody with an account.
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) session: Session,
    pub(crate) device: NewDevice,
    pub(crate) key: SigningKey,
}

pub(crate) fn rng() -> ChaCha20Rng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    ChaCha20Rng::from_seed(seed)
}

pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rng().fill_bytes(&mut bytes);
    bytes
}

pub(crate) fn new_device() -> (NewDevice, SigningKey) {
    let key = SigningKey::from_bytes(&random());
    let device = NewDevice {
        id: DeviceId(random()),
        key: key.verifying_key().to_bytes(),
        inbox: InboxId(random()),
    };
    (device, key)
}

pub(crate) fn one_time(bytes: &[u8]) -> NewPackage {
    NewPackage { suite: SUITE, last_resort: false, bytes: bytes.to_vec() }
}

pub(crate) fn last_resort(bytes: &[u8]) -> NewPackage {
    NewPackage { suite: SUITE, last_resort: true, bytes: bytes.to_vec() }
}

pub(crate) fn record(version: u64) -> SignedRecord {
    SignedRecord { version, bytes: format!("record {version}").into_bytes() }
}

/// Everything up to the last step of a sign-up.
pub(crate) async fn prepare_sign_up(
    api: &Api,
    name: &str,
    password: &[u8],
) -> (SignUpFinish, SigningKey) {
    let mut rng = rng();
    let (client, request) = opaque::register(password, &mut rng).unwrap();
    let start = SignUpStart { name: name.to_owned(), origin: api.origin(), opaque: request };
    let started = api.call(&start).await.unwrap();
    let (upload, _) = client.finish(&started.opaque, CHEAP, &mut rng).unwrap();
    let (device, key) = new_device();
    let account = AccountId(random());
    let finish = SignUpFinish {
        name: name.to_owned(),
        account,
        identity_key: identity_of(&account).verifying_key().to_bytes(),
        opaque: upload,
        vault: b"vault 1".to_vec(),
        record: record(1),
        device,
        packages: vec![one_time(b"package 1"), last_resort(b"last resort")],
    };
    (finish, key)
}

pub(crate) async fn sign_up(api: &Api, name: &str, password: &[u8]) -> Person {
    let (finish, key) = prepare_sign_up(api, name, password).await;
    let session = api.call(&finish).await.unwrap();
    let (account, device) = (finish.account, finish.device);
    Person { account, session, device, key }
}

pub(crate) fn token(number: u8) -> AccessToken {
    AccessToken::new([number; 32])
}

/// The place of an entry with these bytes.
pub(crate) fn at(position: u64, bytes: &[u8]) -> Point {
    Point { position, id: EntryId::of(bytes) }
}

/// Messages with these bytes; with an opening state, so that they may begin a log.
pub(crate) fn messages(token: &AccessToken, after: Point, bytes: &[&[u8]]) -> Append {
    Append {
        token: token.clone(),
        kind: EntryKind::Message,
        after,
        entries: bytes.iter().map(|bytes| NewEntry::new(bytes.to_vec())).collect(),
        opening: Some(b"opening".to_vec()),
        admission: Vec::new(),
    }
}

pub(crate) fn commit(token: &AccessToken, after: Point, bytes: &[u8]) -> Append {
    Append { kind: EntryKind::Commit, ..messages(token, after, &[bytes]) }
}

/// Follows a log from its beginning.
pub(crate) fn subscribe(token: AccessToken) -> ClientFrame {
    ClientFrame::Subscribe { logs: vec![Subscription { id: 1, token, after: 0, running: None }] }
}

pub(crate) fn stored(positions: &[u64], head: u64) -> AppendReply {
    AppendReply::Stored { positions: positions.to_vec(), head }
}

/// Logs in up to the proof of the password.
pub(crate) async fn prepare_log_in(api: &Api, name: &str, password: &[u8]) -> Option<LogInFinish> {
    let mut rng = rng();
    let (client, request) = opaque::log_in(password, &mut rng).unwrap();
    let start = LogInStart { name: name.to_owned(), origin: api.origin(), opaque: request };
    let LogInStarted { attempt, opaque } = api.call(&start).await.unwrap();
    let (opaque, _) = client.finish(&opaque, CHEAP, &mut rng).ok()?;
    Some(LogInFinish { attempt, opaque })
}

pub(crate) async fn log_in(api: &Api, name: &str, password: &[u8]) -> LoggedIn {
    let finish = prepare_log_in(api, name, password).await.expect("the right password");
    api.call(&finish).await.unwrap()
}

/// The identity key of an account of these tests.
fn identity_of(account: &AccountId) -> SigningKey {
    SigningKey::from_bytes(&account.0)
}

/// The signature of an account's identity key.
pub(crate) fn sign(account: &AccountId, replacement: &Replacement<'_>) -> Vec<u8> {
    identity_of(account).sign(&replacement.signed()).to_bytes().to_vec()
}

pub(crate) fn add_device(account: &AccountId, version: u64, device: &NewDevice) -> AddDevice {
    let add = AddDevice {
        record: record(version),
        vault: Vault { version: 1, bytes: b"vault 1".to_vec() },
        device: device.clone(),
        packages: vec![one_time(device.id.as_bytes())],
        drop: None,
        signature: Vec::new(),
    };
    signed(account, add)
}

/// The call with the account's signature.
pub(crate) fn signed(account: &AccountId, add: AddDevice) -> AddDevice {
    let replacement = Replacement {
        record: Some(&add.record),
        vault: Some(&add.vault),
        add: Some(&add.device),
        drop: add.drop.as_ref(),
        ..Replacement::of(account)
    };
    AddDevice { signature: sign(account, &replacement), ..add }
}

/// A notice for the package of last resort that everybody signs up with.
pub(crate) fn deposit(inbox: InboxId, notice: &[u8]) -> Deposit {
    deposit_for(PackageId::of(b"last resort"), inbox, notice)
}

pub(crate) fn deposit_for(package: PackageId, inbox: InboxId, notice: &[u8]) -> Deposit {
    Deposit { inbox, package, notice: notice.to_vec(), admission: Vec::new() }
}

/// What the directory says of an account in this version.
pub(crate) fn found(name: &str, version: u64) -> Found {
    Found { name: name.to_owned(), record: record(version) }
}

pub(crate) fn look_up(by: By) -> LookUp {
    LookUp { by, admission: Vec::new() }
}

pub(crate) fn claim(account: AccountId) -> Claim {
    Claim { account, suite: SUITE, admission: Vec::new() }
}
