//! The program that has the store, as it serves itself and the others on the same home folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use corncrake::Client;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, WriteHalf, split},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    failure::Failure,
    hub::Hub,
    protocol::{self, Request},
    queue::{Waiting, queue},
    socket::{self, Stream},
    turns::Turns,
    view::{Event, Known},
};

/// How long what was begun for other programs may still take when this one ends.
const ENDING: Duration = Duration::from_secs(5);
/// How long a program may take to read its last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// An account that is open here, and whoever uses it.
#[derive(Debug)]
pub(crate) struct Service {
    shared: Arc<Shared>,
    folder: PathBuf,
    accepting: Option<JoinHandle<()>>,
    telling: JoinHandle<()>,
    /// Ends when no connection is left.
    last: mpsc::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    server: String,
    hub: Hub,
    stop: watch::Sender<bool>,
    /// Why the engine ended by itself.
    end: OnceLock<Failure>,
}

impl Service {
    /// Begins to serve other programs on the same folder.
    pub(crate) fn start(client: Client, folder: &Path, server: String) -> (Self, Attach) {
        let shared = Arc::new(Shared {
            client,
            server,
            hub: Hub::default(),
            stop: watch::Sender::new(false),
            end: OnceLock::new(),
        });
        let (alive, last) = mpsc::channel(1);
        let attach = Attach { shared: Arc::clone(&shared), alive };
        let accepting = socket::listen(folder, {
            let attach = attach.clone();
            move |stream| attach.serve(stream)
        });
        let telling = tokio::spawn(tell_events(Arc::clone(&shared)));
        let folder = folder.to_owned();
        (Self { shared, folder, accepting, telling, last }, attach)
    }

    /// Finishes what was begun, lets the others take over, and closes the account.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(accepting) = self.accepting {
            socket::remove(&self.folder);
            accepting.abort();
            let _ = accepting.await;
        }
        self.telling.abort();
        self.shared.stop.send_replace(true);
        let _ = timeout(ENDING + FAREWELL, self.last.recv()).await;
        match self.shared.end.get() {
            Some(_) => Ok(()),
            None => Ok(self.shared.client.clone().close().await?),
        }
    }
}

/// Serves connections for as long as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Attach {
    shared: Arc<Shared>,
    alive: mpsc::Sender<()>,
}

impl Attach {
    /// Serves one connection.
    pub(crate) fn serve(&self, stream: impl Stream) {
        let (shared, alive) = (Arc::clone(&self.shared), self.alive.clone());
        tokio::spawn(async move {
            serve(&shared, stream).await;
            drop(alive);
        });
    }
}

/// Hands the SDK's events to those who listen.
async fn tell_events(shared: Arc<Shared>) {
    let (mut events, mut known) = (shared.client.events(), Known::default());
    loop {
        shared.hub.somebody().await;
        let Some(event) = events.next().await else { break };
        let event = Event::of(&shared.client, &mut known, &event).await;
        shared.hub.tell(&event).await;
    }
    // Every call now answers with the reason.
    let reason = shared.client.connection().await.err().unwrap_or(corncrake::Error::Closed);
    shared.end.get_or_init(|| reason.into());
    shared.stop.send_replace(true);
}

/// A command that was begun: the id of its answer, and whether it may be asked again.
type Begun = (Value, bool);

async fn serve(shared: &Arc<Shared>, stream: impl Stream) {
    let (read, write) = split(stream);
    let mut lines = BufReader::new(read).lines();
    let (out, outgoing) = queue();
    let writer = tokio::spawn(write_lines(Arc::clone(shared), outgoing, write));
    let mut stop = shared.stop.subscribe();
    let mut turns = Turns::default();
    let mut answers = JoinSet::new();
    let mut begun: BTreeMap<u64, Begun> = BTreeMap::new();
    let mut number = 0;
    let mut listener = None;
    out.put(protocol::hello(&shared.server)).await;
    let stopped = loop {
        let line = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break true,
            Some(done) = answers.join_next() => {
                begun.remove(&done.unwrap_or(u64::MAX));
                continue;
            }
            line = lines.next_line() => line,
        };
        let Ok(Some(line)) = line else { break false };
        match protocol::request(&line) {
            Request::Listen(after) if listener.is_none() => {
                let seen = shared.hub.connections();
                let connection = shared.client.connection().await;
                let connection = connection.map_or("offline", corncrake::Connection::as_str);
                listener = Some(shared.hub.add(out.clone(), (connection, seen), after));
            }
            Request::Listen(_) => {}
            Request::Shown(sequence) => {
                if let Some(listener) = listener {
                    shared.hub.shown(listener, sequence);
                }
            }
            Request::Ask(id, Err(failure)) => {
                out.put(protocol::answer(&id, &Err(failure))).await;
            }
            Request::Ask(id, Ok(ask)) => {
                number += 1;
                begun.insert(number, (id.clone(), ask.is_repeatable()));
                let (turn, out, client) = (turns.next(&ask), out.clone(), shared.client.clone());
                let number = number;
                answers.spawn(async move {
                    let answer = ask.carry_out(&client, turn).await;
                    out.put(protocol::answer(&id, &answer)).await;
                    number
                });
            }
        }
    };
    if let Some(listener) = listener {
        shared.hub.remove(listener);
    }
    if stopped {
        finish(&mut answers, &mut begun).await;
        for (id, _) in begun.values().filter(|(_, repeatable)| !repeatable) {
            out.put(protocol::answer(id, &Err(Failure::interrupted()))).await;
        }
        let last = shared.end.get().map_or_else(protocol::bye, protocol::end);
        let _ = timeout(FAREWELL, out.put(last)).await;
    }
    answers.shutdown().await;
    drop(out);
    let _ = timeout(FAREWELL, writer).await;
}

/// Waits for the answers that can't be asked for again elsewhere.
async fn finish(answers: &mut JoinSet<u64>, begun: &mut BTreeMap<u64, Begun>) {
    let end = Instant::now() + ENDING;
    while begun.values().any(|(_, repeatable)| !repeatable) {
        match timeout_at(end, answers.join_next()).await {
            Ok(Some(done)) => begun.remove(&done.unwrap_or(u64::MAX)),
            Ok(None) | Err(_) => return,
        };
    }
}

async fn write_lines<S: Stream>(shared: Arc<Shared>, mut lines: Waiting, mut write: WriteHalf<S>) {
    loop {
        // An empty line now and then says that this program goes on.
        let mut line = match timeout(socket::ALIVE, lines.take()).await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(_) => String::new(),
        };
        line.push('\n');
        if write.write_all(line.as_bytes()).await.is_err() || write.flush().await.is_err() {
            return;
        }
        if lines.is_empty() {
            shared.hub.read();
        }
    }
    let _ = write.shutdown().await;
}
