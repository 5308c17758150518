use corncrake_wire::account::{LogInStart, LogOut, Notice};
use corncrake_wire::frames::{About, Hello, Subscription, heads_digest};
use corncrake_wire::log::{EntryKind, LogEntry, NewEntry, Point, Read, ReadReply};
use corncrake_wire::{ClientFrame, ServerFrame, VERSION};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::transport::Plane;

mod silence;

const INSTANCE: [u8; 16] = [7; 16];

/// A server of which the test plays every part but the directions to the open plane.
struct Script {
    url: String,
    requests: mpsc::UnboundedReceiver<Request>,
    sockets: mpsc::UnboundedReceiver<Socket>,
    _accepting: JoinSet<()>,
}

/// A request and the place for its answer.
struct Request {
    head: String,
    body: Vec<u8>,
    answer: oneshot::Sender<(&'static str, Vec<u8>)>,
}

/// A socket of the plane whose path it has.
struct Socket {
    path: &'static str,
    stream: WebSocketStream<TcpStream>,
}

impl Script {
    async fn start() -> Self {
        Self::with_info("{}".to_owned()).await
    }

    async fn with_info(info: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (request, requests) = mpsc::unbounded_channel();
        let (socket, sockets) = mpsc::unbounded_channel();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serve(stream, info.clone(), request.clone(), socket.clone());
                connections.spawn(serving);
            }
        });
        Self { url, requests, sockets, _accepting: accepting }
    }

    /// A transport that loses patience and hope quickly.
    fn transport(&self) -> HttpTransport {
        self.transport_with(|_| ())
    }

    fn transport_with(&self, change: impl FnOnce(&mut Pace)) -> HttpTransport {
        let mut pace = Pace {
            connect: Duration::from_secs(5),
            silence_before_ping: Duration::from_millis(300),
            late: Duration::from_millis(100),
            patience: Duration::from_millis(300),
            silence_before_end: Duration::from_millis(600),
            first_retry: Duration::from_millis(10),
            soon_retry: Duration::from_millis(40),
            short_outage: Duration::from_mins(10),
            last_retry: Duration::from_millis(40),
            turn: Duration::from_millis(20),
        };
        change(&mut pace);
        HttpTransport::with_pace(&self.url, pace).unwrap()
    }

    /// The next socket, greeted.
    async fn socket(&mut self, path: &str) -> Socket {
        let mut socket = self.sockets.recv().await.unwrap();
        assert_eq!(socket.path, path);
        let hello = Hello::new(INSTANCE);
        socket.send(ServerFrame::Hello(hello)).await;
        socket
    }

    async fn answer(&mut self, status: &'static str, body: Vec<u8>) -> (String, Vec<u8>) {
        let request = self.requests.recv().await.unwrap();
        request.answer.send((status, body)).unwrap();
        (request.head, request.body)
    }
}

impl Socket {
    async fn send(&mut self, frame: ServerFrame) {
        let bytes = corncrake_wire::encode(&frame);
        self.stream.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// The next frame; none when the client hangs up.
    async fn next(&mut self) -> Option<ClientFrame> {
        match self.stream.next().await {
            Some(Ok(Message::Binary(bytes))) => Some(corncrake_wire::decode(&bytes).unwrap()),
            _ => None,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    info: String,
    requests: mpsc::UnboundedSender<Request>,
    sockets: mpsc::UnboundedSender<Socket>,
) {
    let mut start = [0; 64];
    let length = stream.peek(&mut start).await.unwrap();
    let start = String::from_utf8_lossy(&start[..length]).into_owned();
    for path in [ACCOUNT_SOCKET, OPEN_SOCKET] {
        if start.starts_with(&format!("GET {path} ")) {
            let Ok(stream) = tokio_tungstenite::accept_async(stream).await else {
                return;
            };
            // The test may be over.
            let _ = sockets.send(Socket { path, stream });
            return;
        }
    }
    let (head, body) = read_request(&mut stream).await;
    let (status, body) = if start.starts_with(&format!("GET {INFO_PATH} ")) {
        ("200 OK", info.into_bytes())
    } else {
        let (answer, answered) = oneshot::channel();
        let _ = requests.send(Request { head, body, answer });
        let Ok(answer) = answered.await else { return };
        answer
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
}

async fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.unwrap() > 0);
    }
    (head, body)
}

fn token(byte: u8) -> AccessToken {
    AccessToken::new([byte; 32])
}

fn session(byte: u8) -> SessionToken {
    SessionToken::new([byte; 32])
}

fn read() -> OpenRequest {
    Read { token: token(1), after: 3, limit: 9, admission: Vec::new() }.into()
}

fn subscribe(id: u32, byte: u8, after: u64) -> ClientFrame {
    let logs = vec![Subscription { id, token: token(byte), after, running: None }];
    ClientFrame::Subscribe { logs }
}

fn entries(id: u32, positions: core::ops::RangeInclusive<u64>) -> ServerFrame {
    let head = *positions.end();
    let entry = |position| LogEntry {
        position,
        kind: EntryKind::Message,
        bytes: vec![1],
        expired: None,
        has_welcome: false,
        has_state: false,
    };
    ServerFrame::Entries { id, entries: positions.map(entry).collect(), head, running: None }
}

fn notices(positions: core::ops::RangeInclusive<u64>) -> ServerFrame {
    let notice = |position| Notice { position, bytes: vec![2] };
    ServerFrame::Notices { notices: positions.map(notice).collect() }
}

/// A push in one line; attempts that failed are passed over.
async fn pushed(transport: &HttpTransport) -> String {
    let push = loop {
        match transport.next().await {
            Push::Unreachable(_) => {}
            push => break push,
        }
    };
    match push {
        Push::Connected { plane, instance } => {
            assert_eq!(instance, INSTANCE);
            format!("{plane:?} up")
        }
        Push::Disconnected(plane) => format!("{plane:?} down"),
        Push::Entries { log, entries, head } => {
            let log = [1, 2].into_iter().find(|byte| token(*byte).log_id() == log).unwrap();
            let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
            format!("log {log}: {positions:?} of {head}")
        }
        Push::Notices(notices) => {
            format!("{:?}", notices.iter().map(|notice| notice.position).collect::<Vec<_>>())
        }
        Push::Running { position, .. } => format!("running hash at {position}"),
        Push::Differs { head, .. } => format!("another log, up to {head}"),
        Push::TakesTurns(_) => "takes turns".to_owned(),
        Push::SessionRefused => "session refused".to_owned(),
        Push::Unreachable(plane) => format!("{plane:?} unreachable"),
        Push::Alive(plane) => format!("{plane:?} alive"),
    }
}

#[tokio::test]
async fn open_requests_carry_no_session_and_account_requests_do() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let reply = ReadReply { entries: Vec::new(), head: 5 };
    let (answer, (head, body)) = tokio::join!(
        transport.open(read()),
        script.answer("200 OK", OpenReply::Read(reply.clone()).encode()),
    );
    assert_eq!(answer, Ok(OpenReply::Read(reply)));
    assert!(head.starts_with("post /v1/open/read http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/vnd.corncrake\r\n"), "{head}");
    for forbidden in ["corncrake-session", "authorization", "cookie", "user-agent", "referer"] {
        assert!(!head.contains(forbidden), "{head}");
    }
    assert_eq!(body, read().encode());

    let request = AccountRequest::from(LogOut {});
    let (answer, (head, _)) = tokio::join!(
        transport.account(Some(session(0xAB)), request.clone()),
        script.answer("200 OK", corncrake_wire::encode(&())),
    );
    assert!(answer.is_ok(), "{answer:?}");
    assert!(head.contains(&format!("\r\ncorncrake-session: {}\r\n", "ab".repeat(32))), "{head}");
    assert!(!head.split("\r\n").next().unwrap().contains("abab"), "no token in the URL");
}

fn append(length: usize) -> OpenRequest {
    let entries = vec![NewEntry::new(vec![7; length])];
    let kind = EntryKind::Message;
    Append {
        token: token(1),
        kind,
        after: Point::START,
        entries,
        opening: None,
        admission: Vec::new(),
    }
    .into()
}

#[tokio::test]
async fn appends_travel_over_the_socket_that_follows_logs_and_answers_keep_their_order() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 0)));
    let stored = AppendReply::Stored { positions: vec![1], head: 1 };
    let serve = async {
        let Some(ClientFrame::Append { request, append }) = socket.next().await else {
            panic!("an append over the socket");
        };
        assert_eq!(append.entries[0].bytes, [7; 100]);
        socket.send(entries(0, 1..=1)).await;
        socket
            .send(ServerFrame::AppendReply { request: request + 1, result: Ok(stored.clone()) })
            .await;
        socket.send(ServerFrame::AppendReply { request, result: Ok(stored.clone()) }).await;
    };
    let (answer, ()) = tokio::join!(transport.open(append(100)), serve);
    assert_eq!(answer, Ok(OpenReply::Append(stored.clone())));
    assert_eq!(pushed(&transport).await, "log 1: [1] of 1");

    for (code, expected) in [
        (ErrorCode::BadBatch, TransportError::Refused(ErrorCode::BadBatch.into())),
        (ErrorCode::Internal, TransportError::Unreachable),
    ] {
        let serve = async {
            let Some(ClientFrame::Append { request, .. }) = socket.next().await else { panic!() };
            socket.send(ServerFrame::AppendReply { request, result: Err(code.into()) }).await;
        };
        let (answer, ()) = tokio::join!(transport.open(append(100)), serve);
        assert_eq!(answer, Err(expected));
    }

    // What would hold the socket up goes as a request.
    let large = append(SOCKET_APPEND);
    let answered = script.answer("200 OK", OpenReply::Append(stored.clone()).encode());
    let (answer, (head, _)) = tokio::join!(transport.open(large), answered);
    assert!(head.starts_with("post /v1/open/append "), "{head}");
    assert_eq!(answer, Ok(OpenReply::Append(stored)));
}

#[tokio::test]
async fn when_the_socket_is_lost_nobody_knows_what_became_of_an_append() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    let serve = async {
        assert!(matches!(socket.next().await, Some(ClientFrame::Append { .. })));
        drop(socket);
    };
    let (answer, ()) = tokio::join!(transport.open(append(100)), serve);
    assert_eq!(answer, Err(TransportError::Unreachable));
    assert_eq!(pushed(&transport).await, "Open down");
    // Until the socket is up again appends go as requests.
    let reply = OpenReply::Append(AppendReply::Stored { positions: vec![1], head: 1 });
    let answered = script.answer("200 OK", reply.encode());
    let (answer, _) = tokio::join!(transport.open(append(100)), answered);
    assert_eq!(answer, Ok(reply));
}

#[tokio::test]
async fn refusals_are_passed_on_and_everything_else_is_told_apart() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let refused = |code, retry_after| TransportError::Refused(Refusal { code, retry_after });
    let (unreachable, malformed) = (TransportError::Unreachable, TransportError::Malformed);
    for (status, body, expected) in [
        ("404 Not Found", r#"{"code":"log_not_found"}"#, refused(ErrorCode::LogNotFound, None)),
        (
            "429 Too Many Requests",
            r#"{"code":"rate_limited","retry_after":7}"#,
            refused(ErrorCode::RateLimited, Some(7)),
        ),
        ("500 Internal Server Error", r#"{"code":"internal"}"#, unreachable.clone()),
        ("502 Bad Gateway", "<html>", unreachable),
        ("404 Not Found", r#"{"code":"of_a_later_version"}"#, malformed.clone()),
        ("403 Forbidden", "<html>", malformed.clone()),
        ("302 Found", "", malformed.clone()),
        ("200 OK", "no reply", malformed),
    ] {
        let answered = script.answer(status, body.as_bytes().to_vec());
        let (answer, _) = tokio::join!(transport.open(read()), answered);
        assert_eq!(answer, Err(expected), "{status} {body}");
    }
}

/// Who logs in hears that the server failed, and not that there is none.
#[tokio::test]
async fn audit_issue_7_if2_a_server_that_fails_is_there() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let log_in = LogInStart { name: "ann".into(), origin: "here".into(), opaque: Vec::new() };
    let failed = TransportError::Refused(ErrorCode::Internal.into());
    for (request, expected) in
        [(log_in.into(), failed), (LogOut.into(), TransportError::Unreachable)]
    {
        let answered =
            script.answer("500 Internal Server Error", br#"{"code":"internal"}"#.to_vec());
        let (answer, _) = tokio::join!(transport.account(None, request), answered);
        assert_eq!(answer, Err(expected));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let transport = HttpTransport::new(&url).unwrap();
    assert_eq!(transport.open(read()).await, Err(TransportError::Unreachable));
    let request = AccountRequest::from(LogOut {});
    assert_eq!(transport.account(None, request).await, Err(TransportError::Unreachable));
}

#[tokio::test]
async fn audit_issue_7_bf3_an_attempt_that_failed_is_told_and_one_under_way_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let transport = HttpTransport::new(&url).unwrap();
    // It takes the connection and says nothing.
    let (stream, _) = listener.accept().await.unwrap();
    let told = timeout(Duration::from_millis(500), transport.next()).await;
    assert!(told.is_err(), "{told:?}");
    drop((stream, listener));
    let told = timeout(Duration::from_secs(5), transport.next()).await;
    assert!(matches!(told, Ok(Push::Unreachable(Plane::Open))), "{told:?}");
    transport.watch_inbox(session(1), 0);
    let of_account =
        async { while !matches!(transport.next().await, Push::Unreachable(Plane::Account)) {} };
    timeout(Duration::from_secs(5), of_account).await.unwrap();
}

#[tokio::test]
async fn the_open_plane_may_be_elsewhere() {
    let mut elsewhere = Script::start().await;
    let script = Script::with_info(format!(r#"{{"open_url":"{}"}}"#, elsewhere.url)).await;
    let transport = script.transport();
    let reply = ReadReply { entries: Vec::new(), head: 5 };
    let answered = elsewhere.answer("200 OK", OpenReply::Read(reply).encode());
    let (answer, (head, _)) = tokio::join!(transport.open(read()), answered);
    assert!(answer.is_ok());
    assert!(head.starts_with("post /v1/open/read "), "{head}");
}

#[test]
fn urls_are_checked() {
    for bad in ["", "chat.example", "ftp://chat.example", "data:text/plain,x"] {
        assert_eq!(base_url(bad), Err(TransportError::Malformed), "{bad}");
    }
    let base = base_url("https://chat.example/x/?a=b#c").unwrap();
    assert_eq!(join(&base, "/v1/info").as_str(), "https://chat.example/x/v1/info");
    assert_eq!(open_base(&base, None), Ok(base.clone()));
    let other = open_base(&base, Some("https://other.example")).unwrap();
    assert_eq!(other.as_str(), "https://other.example/");
    assert_eq!(open_base(&base, Some("http://chat.example")), Err(TransportError::Malformed));
}

#[tokio::test]
async fn logs_are_followed_and_resumed_by_position() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 3, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 3)));
    socket.send(entries(0, 4..=5)).await;
    assert_eq!(pushed(&transport).await, "log 1: [4, 5] of 5");

    drop(socket);
    assert_eq!(pushed(&transport).await, "Open down");
    transport.watch(token(2), 0, None);
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 5, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 5)), "what was ordered before is void");
    socket.send(entries(0, 6..=6)).await;
    assert_eq!(pushed(&transport).await, "log 1: [6] of 6");
}

#[tokio::test]
async fn a_second_watch_replaces_the_first() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 0)));
    transport.watch(token(2), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(1, 2, 0)));
    transport.watch(token(1), 9, None);
    assert_eq!(socket.next().await, Some(ClientFrame::Unsubscribe { ids: vec![0] }));
    assert_eq!(socket.next().await, Some(subscribe(2, 1, 9)));
    transport.unwatch(token(2).log_id());
    transport.unwatch(token(2).log_id());
    assert_eq!(socket.next().await, Some(ClientFrame::Unsubscribe { ids: vec![1] }));
    for id in 0..3 {
        socket.send(entries(id, 10..=10)).await;
    }
    assert_eq!(pushed(&transport).await, "log 1: [10] of 10");
    socket.send(entries(2, 11..=11)).await;
    assert_eq!(pushed(&transport).await, "log 1: [11] of 11", "frames of old ids are dropped");
}

#[tokio::test]
async fn audit_srv_a5_a_refused_subscription_waits_alone_and_keeps_the_connection() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 0, None);
    socket.next().await.unwrap();
    let refused = |id, code, retry_after| ServerFrame::Refused {
        about: About::Subscription(id),
        refusal: Refusal { code, retry_after },
    };
    socket.send(refused(9, ErrorCode::RateLimited, Some(1))).await;
    socket.send(refused(0, ErrorCode::RateLimited, Some(0))).await;
    assert_eq!(socket.next().await, Some(subscribe(1, 1, 0)), "the connection stays");
    socket.send(entries(1, 1..=1)).await;
    assert_eq!(pushed(&transport).await, "log 1: [1] of 1");
    transport.watch(token(2), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(2, 2, 0)));
    socket.send(refused(2, ErrorCode::TooManySubscriptions, None)).await;
    assert_eq!(pushed(&transport).await, "takes turns");
    let frames = [socket.next().await.unwrap(), socket.next().await.unwrap()];
    assert_eq!(frames, [ClientFrame::Unsubscribe { ids: vec![1] }, subscribe(3, 2, 0)]);
}

#[tokio::test]
async fn audit_srv_b3_a_silent_server_is_asked_for_what_is_missing_and_given_up() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    socket.send(ServerFrame::Ping(5)).await;
    assert_eq!(socket.next().await, Some(ClientFrame::Pong(5)));
    let check = |heads: &[(u8, u64)]| {
        let heads = heads.iter().map(|(byte, head)| (token(*byte).log_id(), *head));
        Some(ClientFrame::CheckHeads { digest: heads_digest(heads) })
    };
    transport.watch(token(1), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 0)));
    socket.send(entries(0, 1..=3)).await;
    assert_eq!(pushed(&transport).await, "log 1: [1, 2, 3] of 3");
    for _ in 0..3 {
        // The server's own heartbeat says nothing about the logs.
        socket.send(ServerFrame::Ping(6)).await;
        assert_eq!(socket.next().await, Some(ClientFrame::Pong(6)));
        assert_eq!(socket.next().await, check(&[(1, 3)]));
        socket.send(ServerFrame::Heads { heads: Vec::new() }).await;
    }
    assert_eq!(socket.next().await, check(&[(1, 3)]));
    socket.send(ServerFrame::Heads { heads: vec![(0, 4)] }).await;
    assert_eq!(socket.next().await, Some(ClientFrame::Unsubscribe { ids: vec![0] }));
    assert_eq!(socket.next().await, Some(subscribe(1, 1, 3)), "the next entry was lost");
    socket.send(entries(1, 4..=4)).await;
    assert_eq!(pushed(&transport).await, "log 1: [4] of 4");
    assert_eq!(socket.next().await, check(&[(1, 4)]));
    assert_eq!(pushed(&transport).await, "Open down");
    script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
}

#[tokio::test]
async fn nonsense_and_other_versions_end_a_connection() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut hello = Hello::new(INSTANCE);
    hello.versions = Versions { lowest: VERSION + 1, highest: VERSION + 2 };
    for first in [ServerFrame::Hello(hello), ServerFrame::Pong(1), notices(1..=1)] {
        let mut socket = script.sockets.recv().await.unwrap();
        socket.send(first).await;
    }
    for nonsense in [Message::Binary(vec![0xFF].into()), Message::Text("hi".into())] {
        let mut socket = script.socket(OPEN_SOCKET).await;
        assert_eq!(pushed(&transport).await, "Open up");
        socket.stream.send(nonsense).await.unwrap();
        assert_eq!(pushed(&transport).await, "Open down");
    }
}

#[tokio::test]
async fn audit_srv_b11_a_later_server_that_speaks_our_version_too_is_spoken_to() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut later = Hello::new(INSTANCE);
    later.versions.highest = VERSION + 7;
    later.extension = b"something new".to_vec();
    for _ in 0..2 {
        let mut socket = script.sockets.recv().await.unwrap();
        socket.send(ServerFrame::Hello(later.clone())).await;
        if socket.path == OPEN_SOCKET {
            assert_eq!(pushed(&transport).await, "Open up");
            return;
        }
    }
    panic!("no open socket");
}

#[tokio::test]
async fn audit_srv_b11_a_server_that_speaks_no_version_of_ours_is_named_as_that() {
    let info = format!(r#"{{"versions":{{"lowest":{},"highest":99}}}}"#, VERSION + 1);
    let script = Script::with_info(info).await;
    let transport = script.transport();
    let refused = Err(TransportError::Refused(ErrorCode::UnsupportedVersion.into()));
    let read = Read { token: AccessToken::new([1; 32]), after: 0, limit: 1, admission: vec![] };
    assert_eq!(transport.open(read.into()).await.map(|_| ()), refused);
    assert_eq!(transport.account(None, LogOut.into()).await.map(|_| ()), refused);
}

/// The next socket of the account plane; those of the open plane are let go.
async fn account_socket(script: &mut Script) -> Socket {
    loop {
        let mut socket = script.sockets.recv().await.unwrap();
        if socket.path == ACCOUNT_SOCKET {
            let hello = Hello::new(INSTANCE);
            socket.send(ServerFrame::Hello(hello)).await;
            return socket;
        }
    }
}

#[tokio::test]
async fn the_inbox_is_followed_and_resumed_by_position() {
    let mut script = Script::start().await;
    let transport = script.transport();
    transport.watch_inbox(session(1), 4);
    let authenticate = |byte, after| {
        let session = session(byte);
        Some(ClientFrame::Authenticate { session, after })
    };
    let mut socket = account_socket(&mut script).await;
    assert_eq!(socket.next().await, authenticate(1, 4));
    socket.send(ServerFrame::Notices { notices: Vec::new() }).await;
    assert_eq!(pushed(&transport).await, "Account up");
    transport.watch_inbox(session(1), 4);
    socket.send(notices(5..=6)).await;
    assert_eq!(pushed(&transport).await, "[5, 6]");

    drop(socket);
    assert_eq!(pushed(&transport).await, "Account down");
    let mut socket = account_socket(&mut script).await;
    assert_eq!(socket.next().await, authenticate(1, 6));
    socket.send(notices(8..=8)).await;
    assert_eq!(pushed(&transport).await, "Account up");
    assert_eq!(pushed(&transport).await, "[8]");

    transport.watch_inbox(session(2), 8);
    assert_eq!(pushed(&transport).await, "Account down");
    let mut socket = account_socket(&mut script).await;
    assert_eq!(socket.next().await, authenticate(2, 8));
}

#[tokio::test]
async fn audit_srv_a10_the_inbox_of_a_restored_server_is_followed_from_where_its_count_is_again() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let authenticate = |after| Some(ClientFrame::Authenticate { session: session(1), after });

    transport.watch_inbox(session(1), 3);
    let mut socket = account_socket(&mut script).await;
    assert_eq!(socket.next().await, authenticate(3));
    socket.send(ServerFrame::Notices { notices: Vec::new() }).await;
    assert_eq!(pushed(&transport).await, "Account up");
    transport.watch_inbox(session(1), 0);

    let mut socket = account_socket(&mut script).await;
    assert_eq!(socket.next().await, authenticate(0), "its notices begin at 1 again");
    assert_eq!(pushed(&transport).await, "Account down");
    socket.send(notices(1..=2)).await;
    assert_eq!(pushed(&transport).await, "Account up");
    assert_eq!(pushed(&transport).await, "[1, 2]");
    // What the engine knew when it was told of the plane comes on this connection.
    transport.watch_inbox(session(1), 1);
    socket.send(notices(3..=3)).await;
    assert_eq!(pushed(&transport).await, "[3]");
}

#[tokio::test]
async fn a_refused_session_waits_for_a_new_one() {
    let mut script = Script::start().await;
    let transport = script.transport();
    transport.watch_inbox(session(1), 0);
    let mut socket = account_socket(&mut script).await;
    socket.next().await.unwrap();
    let refusal = ErrorCode::SessionExpired.into();
    socket.send(ServerFrame::Refused { about: About::Connection, refusal }).await;
    assert_eq!(pushed(&transport).await, "session refused");
    transport.watch_inbox(session(2), 0);
    let mut socket = account_socket(&mut script).await;
    let renewed = ClientFrame::Authenticate { session: session(2), after: 0 };
    assert_eq!(socket.next().await, Some(renewed));
}

#[tokio::test]
async fn dropping_the_transport_hangs_up() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    drop(transport);
    assert_eq!(socket.next().await, None);
}
