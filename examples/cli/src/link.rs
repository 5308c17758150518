//! The way of a command to the program that has the store: this one, if it is the first, or the one
//! that came before it. Either way the same lines are said, and if that program ends, another takes
//! over and is asked again what was not answered.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use corncrake::Client;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, ReadHalf, duplex, split},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{
    ask::Ask,
    failure::{Exit, Failure},
    home::Home,
    protocol::{self, Line},
    service::Service,
    socket::{self, Stream},
};

/// How long another program may keep the store without serving it.
const IN_USE: Duration = Duration::from_secs(20);
/// How long another program may say nothing at all while something is waited for from it.
const STANDING: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(10);
/// How much may lie between the two parts of one program.
const BETWEEN: usize = 64 * 1024;

/// A way to an open account.
#[derive(Debug)]
pub(crate) struct Link {
    home: Home,
    server: Option<String>,
    service: Option<Service>,
    ends: Option<Ends>,
    /// What was asked and not answered.
    waiting: BTreeMap<u64, Ask>,
    next: u64,
    /// What can't be asked again, although the program that began it is gone.
    lost: VecDeque<u64>,
    listens: bool,
    /// The last event that was heard.
    heard: Option<u64>,
}

/// The two ends of a connection.
#[derive(Debug)]
struct Ends {
    lines: Lines<BufReader<ReadHalf<Box<dyn Stream>>>>,
    out: mpsc::UnboundedSender<String>,
}

/// What comes over a link.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The answer to a command.
    Answer(u64, Result<Value, Failure>),
    /// Something happened.
    Event(Value),
}

impl Link {
    /// A link that begins when something is awaited from it.
    pub(crate) const fn new(home: Home, server: Option<String>) -> Self {
        Self {
            home,
            server,
            service: None,
            ends: None,
            waiting: BTreeMap::new(),
            next: 0,
            lost: VecDeque::new(),
            listens: false,
            heard: None,
        }
    }

    /// Asks; the answer bears the number.
    pub(crate) fn ask(&mut self, ask: Ask) -> u64 {
        let number = self.next;
        self.next += 1;
        self.say(protocol::ask(number, &ask));
        self.waiting.insert(number, ask);
        number
    }

    /// Asks for events.
    pub(crate) fn listen(&mut self) {
        self.listens = true;
        self.say(protocol::listen(self.heard));
    }

    /// Tells that an event has been shown.
    pub(crate) fn shown(&self, event: &Value) {
        if let Some(sequence) = event.get("sequence").and_then(Value::as_u64) {
            self.say(protocol::shown(sequence));
        }
    }

    /// Says a line if there is somebody to hear it; else it is said on the way in.
    fn say(&self, line: String) {
        if let Some(ends) = &self.ends {
            // One that is gone is noticed by reading.
            let _ = ends.out.send(line);
        }
    }

    /// Waits for what comes next. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            if let Some(number) = self.lost.pop_front() {
                self.waiting.remove(&number);
                return Ok(Heard::Answer(number, Err(Failure::interrupted())));
            }
            let Some(ends) = &mut self.ends else {
                self.connect().await?;
                continue;
            };
            let line = match timeout(STANDING, ends.lines.next_line()).await {
                Ok(line) => line,
                // It is suspended: what it has begun may yet happen. If this one was, both were.
                Err(_) if self.service.is_none() => {
                    self.lost.extend(self.waiting.keys());
                    continue;
                }
                Err(_) => continue,
            };
            let line = match line {
                Ok(Some(line)) => protocol::line(&line),
                _ => {
                    self.ends = None;
                    if self.service.is_some() {
                        return Err(corncrake::Error::Closed.into());
                    }
                    // It was killed: what it had begun may have happened.
                    let begun = self.waiting.iter().filter(|(_, ask)| !ask.is_repeatable());
                    self.lost.extend(begun.map(|(number, _)| *number));
                    continue;
                }
            };
            match line {
                Some(Line::Answer(number, answer)) if self.waiting.remove(&number).is_some() => {
                    return Ok(Heard::Answer(number, answer));
                }
                Some(Line::Event(event)) => {
                    let sequence = event.get("sequence").and_then(Value::as_u64);
                    if sequence.is_none() || sequence > self.heard {
                        self.heard = sequence.or(self.heard);
                        return Ok(Heard::Event(event));
                    }
                    // The one before has shown it already.
                    self.shown(&event);
                }
                Some(Line::End(failure)) if self.service.is_some() => return Err(failure),
                Some(Line::Bye | Line::End(_)) => self.ends = None,
                _ => {}
            }
        }
    }

    /// Waits for one answer.
    pub(crate) async fn answer(&mut self, number: u64) -> Result<Value, Failure> {
        loop {
            match self.next().await? {
                Heard::Answer(answered, answer) if answered == number => return answer,
                _ => {}
            }
        }
    }

    /// Lets go: what other programs had asked of this one is finished, and another takes over.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        drop(self.ends);
        match self.service {
            Some(service) => service.stop().await,
            None => Ok(()),
        }
    }

    /// Finds the program that has the store, or becomes it.
    async fn connect(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + IN_USE;
        loop {
            if let Some(stream) = socket::connect(self.home.folder()).await
                && let Some((ends, server)) = greet(Box::new(stream)).await?
            {
                if self.server.as_ref().is_some_and(|given| *given != server) {
                    return Err(other_server(&server));
                }
                self.begin(ends);
                return Ok(());
            }
            match self.home.open().await {
                Ok(store) => {
                    let server = self.home.server(self.server.clone())?;
                    let client = Client::open(&server, store).await?;
                    let (service, attach) = Service::start(client, self.home.folder(), server);
                    let (near, far) = duplex(BETWEEN);
                    attach.serve(far);
                    self.service = Some(service);
                    self.begin(Ends::of(Box::new(near)));
                    return Ok(());
                }
                Err(failure) if failure.code == "store_in_use" && Instant::now() < end => {
                    sleep(GLANCE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Says what has not been answered by anybody.
    fn begin(&mut self, ends: Ends) {
        self.ends = Some(ends);
        if self.listens {
            self.say(protocol::listen(self.heard));
        }
        for (number, ask) in &self.waiting {
            self.say(protocol::ask(*number, ask));
        }
    }
}

impl Ends {
    fn of(stream: Box<dyn Stream>) -> Self {
        let (read, mut write) = split(stream);
        let (out, mut outgoing) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(mut line) = outgoing.recv().await {
                line.push('\n');
                if write.write_all(line.as_bytes()).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        Self { lines: BufReader::new(read).lines(), out }
    }
}

/// Waits until the other side says that it serves, and for which server; nothing if it ends.
async fn greet(stream: Box<dyn Stream>) -> Result<Option<(Ends, String)>, Failure> {
    let mut ends = Ends::of(stream);
    let line = timeout(STANDING, ends.lines.next_line()).await.map_err(|_| stands_still())?;
    let line = line.ok().flatten().and_then(|line| protocol::line(&line));
    Ok(match line {
        Some(Line::Hello(server)) => Some((ends, server)),
        _ => None,
    })
}

fn stands_still() -> Failure {
    let message = "another program uses this home folder and says nothing: it may be suspended; \
                   nothing was asked of it";
    in_use(message.to_owned())
}

fn other_server(server: &str) -> Failure {
    in_use(format!("another program uses this account on {server}: end it first"))
}

fn in_use(message: String) -> Failure {
    Failure { exit: Exit::Files, ..Failure::refused("store_in_use", message) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_what_is_asked_of_a_suspended_program_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        // It has the store, says so, and then nothing.
        let accepting = socket::listen(folder.path(), |mut stream| {
            tokio::spawn(async move {
                let hello = format!("{}\n", protocol::hello("http://127.0.0.1:1"));
                stream.write_all(hello.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            });
        });
        let home = Home::locate(Some(folder.path().to_owned())).unwrap();
        let mut link = Link::new(home, None);
        let number = link.ask(Ask::Account {});
        let failure = link.answer(number).await.unwrap_err();
        assert_eq!(failure.code, "interrupted");
        accepting.unwrap().abort();
    }

    #[tokio::test(start_paused = true)]
    async fn audit_issue_7_g4_who_comes_to_a_suspended_program_is_told_so_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let accepting = socket::listen(folder.path(), |stream| {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(stream);
            });
        });
        let home = Home::locate(Some(folder.path().to_owned())).unwrap();
        let mut link = Link::new(home, None);
        let number = link.ask(Ask::Account {});
        let began = Instant::now();
        let failure = link.answer(number).await.unwrap_err();
        assert_eq!(failure.code, "store_in_use");
        assert!(failure.message.contains("suspended"), "{}", failure.message);
        assert!(began.elapsed() <= STANDING + Duration::from_secs(1));
        accepting.unwrap().abort();
    }
}
