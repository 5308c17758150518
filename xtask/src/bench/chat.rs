//! `cargo xtask bench chat`: what people wait for, with the real server and `corncrake session`
//! as each person's own process, beside the least that a hop through a server can cost.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use super::figures::{Times, Used, milliseconds};
use crate::{
    Result,
    command::cargo,
    programs::{Programs, Server},
    say,
    session::Session,
};

/// Long enough for anything that is not broken.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "corn-crake-rasps-at-night-77\n";

const HOPS: usize = 500;
const STRANGERS: usize = 10;
const TYPED: usize = 240;
const TYPING: Duration = Duration::from_millis(250);
const GROUP: usize = 30;
const REMOVALS: usize = 5;
const FEW_CHATS: usize = 100;
const MANY_CHATS: usize = 1_000;
const BACKLOG: usize = 10_000;

/// One thing that is measured.
type Flow = (&'static str, fn(&Bench) -> Result<String>);

const FLOWS: [Flow; 9] = [
    ("first message to somebody new", first_contact),
    ("ping-pong", ping_pong),
    ("four lines a second for a minute", typing),
    ("a group of 30, one after another", group_in_turn),
    ("first message after a removal", after_a_removal),
    ("log-in with 100 chats", log_in),
    ("catch-up of 10,000 messages in a chat", catch_up_in_one),
    ("catch-up of 100 messages in 100 chats", catch_up_in_many),
    ("start with 1,000 chats", start_with_many),
];

/// Measures what has `only` in its name, with release builds or with the programs in a folder.
///
/// # Errors
/// The programs can't be built or started. A flow that fails is told in its line.
pub fn run(programs: Option<&Path>, only: &str) -> Result<()> {
    let floor = floor()?;
    say(&format!("{:<40}{}", "floor: WebSocket echo, one fsync", floor.summary()));
    let programs = match programs {
        Some(folder) => Programs::in_folder(folder),
        None => Programs::build_release()?,
    };
    let bench = Bench::start(programs, floor)?;
    for (name, flow) in FLOWS.into_iter().filter(|(name, _)| name.contains(only)) {
        let line = flow(&bench).unwrap_or_else(|error| format!("failed: {error}"));
        say(&format!("{name:<40}{line}"));
    }
    say(&format!("{:<40}{}", "server, in all", Used::by(bench.server.process())?.summary()));
    bench.server.stop()
}

/// The hops of the floor's program.
fn floor() -> Result<Times> {
    let arguments = ["run", "--quiet", "--release", "-p", "corncrake-server", "--example", "floor"];
    let output = cargo(&arguments).stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the floor was not measured".into());
    }
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().flat_map(str::parse).map(Duration::from_micros).collect())
}

/// A server, and a folder for the homes of people.
struct Bench {
    programs: Programs,
    folder: TempDir,
    server: Server,
    floor: Times,
    people: Cell<usize>,
}

impl Bench {
    fn start(programs: Programs, floor: Times) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server =
            Server::start_quietly(&programs, &folder.path().join("server"), "127.0.0.1:0")?;
        Ok(Self { programs, folder, server, floor, people: Cell::new(0) })
    }

    /// Signs somebody up.
    fn newcomer(&self) -> Result<Person> {
        let number = self.people.get();
        self.people.set(number + 1);
        let name = format!("person-{number}");
        let home = self.folder.path().join(&name);
        self.programs.ask(&home, &self.server.url(), &["sign-up", &name], PASSWORD)?;
        Ok(Person { name, home })
    }

    /// Signs somebody up and opens a session.
    fn visitor(&self) -> Result<Session> {
        self.session(&self.newcomer()?)
    }

    fn session(&self, person: &Person) -> Result<Session> {
        let mut session =
            Session::start(&self.programs, &person.name, &person.home, &self.server.url())?;
        session.settle()?;
        Ok(session)
    }

    /// How a time compares with the floor's median.
    fn floors(&self, time: Duration) -> String {
        format!("{:.1} floors", time.as_secs_f64() / self.floor.within(0.5).as_secs_f64())
    }

    fn summary(&self, times: &Times) -> String {
        let [half, most] = [0.5, 0.99].map(|part| self.floors(times.within(part)));
        format!("{}; {half} and {most}", times.summary())
    }
}

/// Somebody with an account.
struct Person {
    name: String,
    home: PathBuf,
}

fn say_in(session: &mut Session, chat: &str, text: &str) -> Result<Instant> {
    let start = Instant::now();
    session.send(json!({"do": "send", "chat": chat, "text": text}))?;
    Ok(start)
}

fn first_contact(bench: &Bench) -> Result<String> {
    let mut ann = bench.visitor()?;
    let mut times = Times::default();
    for _ in 0..STRANGERS {
        let mut stranger = bench.visitor()?;
        let start = say_in(&mut ann, stranger.name(), "nice to meet you")?;
        times.add(stranger.hear("nice to meet you", PATIENCE)? - start);
    }
    Ok(bench.summary(&times))
}

/// Two people who know each other.
fn pair(bench: &Bench) -> Result<(Session, Session)> {
    let (mut ann, mut bob) = (bench.visitor()?, bench.visitor()?);
    let name = bob.name().to_owned();
    say_in(&mut ann, &name, "hello")?;
    bob.hear("hello", PATIENCE)?;
    ann.settle()?;
    bob.settle()?;
    Ok((ann, bob))
}

fn ping_pong(bench: &Bench) -> Result<String> {
    let (mut one, mut other) = pair(bench)?;
    let mut times = Times::default();
    for hop in 0..HOPS {
        let text = format!("hop {hop}");
        let start = say_in(&mut one, other.name(), &text)?;
        times.add(other.hear(&text, PATIENCE)? - start);
        std::mem::swap(&mut one, &mut other);
    }
    Ok(bench.summary(&times))
}

fn typing(bench: &Bench) -> Result<String> {
    let (mut ann, mut bob) = pair(bench)?;
    let name = bob.name().to_owned();
    let start = Instant::now();
    let mut said = Vec::new();
    for line in 0..TYPED {
        let turn = TYPING * u32::try_from(line)?;
        thread::sleep(turn.saturating_sub(start.elapsed()));
        said.push(say_in(&mut ann, &name, &format!("line {line}"))?);
    }
    let mut times = Times::default();
    for (line, said) in said.into_iter().enumerate() {
        times.add(bob.hear(&format!("line {line}"), PATIENCE)? - said);
    }
    Ok(bench.summary(&times))
}

/// A group of so many sessions, in which all have arrived.
fn group(bench: &Bench, title: &str, size: usize) -> Result<Vec<Session>> {
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(bench.visitor()?);
    }
    let names: Vec<String> = members.iter().skip(1).map(|it| it.name().to_owned()).collect();
    if let Some(founder) = members.first_mut() {
        founder.ask(json!({"do": "create_group", "title": title, "names": names}))?;
        say_in(founder, &format!("#{title}"), "welcome")?;
    }
    for member in members.iter_mut().skip(1) {
        member.hear("welcome", PATIENCE)?;
    }
    Ok(members)
}

/// Says something as one member, and waits until all others have heard it.
fn all_hear(members: &mut [Session], speaker: usize, title: &str, text: &str) -> Result<Duration> {
    let Some(session) = members.get_mut(speaker) else {
        return Err("no such member".into());
    };
    let start = say_in(session, &format!("#{title}"), text)?;
    let mut last = start;
    for (_, member) in members.iter_mut().enumerate().filter(|(at, _)| *at != speaker) {
        last = last.max(member.hear(text, PATIENCE)?);
    }
    Ok(last - start)
}

fn group_in_turn(bench: &Bench) -> Result<String> {
    let mut members = group(bench, "Meadow", GROUP)?;
    let mut times = Times::default();
    for speaker in 0..GROUP {
        times.add(all_hear(&mut members, speaker, "Meadow", &format!("number {speaker}"))?);
    }
    Ok(format!("{}, until the last has it", bench.summary(&times)))
}

fn after_a_removal(bench: &Bench) -> Result<String> {
    let mut times = Times::default();
    let mut members = group(bench, "Hedge", REMOVALS + 3)?;
    for round in 0..REMOVALS {
        let Some(removed) = members.pop() else { break };
        let name = removed.name().to_owned();
        if let Some(owner) = members.first_mut() {
            owner.ask(json!({"do": "remove", "chat": "#Hedge", "names": [name]}))?;
        }
        times.add(all_hear(&mut members, 1, "Hedge", &format!("without number {round}"))?);
    }
    Ok(bench.summary(&times))
}

/// Somebody in so many groups with somebody else.
fn member_of_many(bench: &Bench, chats: usize) -> Result<(Person, Session)> {
    let person = bench.newcomer()?;
    let mut session = bench.session(&person)?;
    let mut friend = bench.visitor()?;
    for chat in 0..chats {
        session.ask(json!({
            "do": "create_group", "title": format!("chat {chat}"), "names": [friend.name()],
        }))?;
    }
    settle_all(&mut session)?;
    settle_all(&mut friend)?;
    session.close()?;
    Ok((person, friend))
}

/// Settles, however long it takes within reason.
fn settle_all(session: &mut Session) -> Result<()> {
    let mut settled = Ok(());
    for _ in 0..5 {
        settled = session.settle();
        if settled.is_ok() {
            break;
        }
    }
    settled
}

fn log_in(bench: &Bench) -> Result<String> {
    let (person, _friend) = member_of_many(bench, FEW_CHATS)?;
    let home = bench.folder.path().join("new-device");
    let start = Instant::now();
    let url = bench.server.url();
    bench.programs.ask(&home, &url, &["log-in", &person.name], PASSWORD)?;
    let signed_in = start.elapsed();
    let mut session = Session::start(&bench.programs, &person.name, &home, &url)?;
    session.settle()?;
    let usable = start.elapsed();
    let used = Used::by(session.process())?;
    let chats = count_chats(&mut session)?;
    let [signed_in, usable] = [signed_in, usable].map(milliseconds);
    Ok(format!(
        "{chats} chats usable after {usable} ms, signed in after {signed_in}; {}",
        used.summary()
    ))
}

fn count_chats(session: &mut Session) -> Result<usize> {
    let answer = session.ask(json!({"do": "chats"}))?;
    Ok(answer.get("chats").and_then(|chats| chats.as_array()).map_or(0, Vec::len))
}

/// Opens somebody's store and waits until everything is read.
fn catch_up(bench: &Bench, person: &Person) -> Result<String> {
    let start = Instant::now();
    let mut session =
        Session::start(&bench.programs, &person.name, &person.home, &bench.server.url())?;
    session.settle()?;
    let time = milliseconds(start.elapsed());
    Ok(format!("{time} ms; {}", Used::by(session.process())?.summary()))
}

fn catch_up_in_one(bench: &Bench) -> Result<String> {
    let person = bench.newcomer()?;
    let mut friend = bench.visitor()?;
    let mut session = bench.session(&person)?;
    say_in(&mut friend, &person.name, "hello")?;
    session.hear("hello", PATIENCE)?;
    session.settle()?;
    session.close()?;
    let start = Instant::now();
    for number in 0..BACKLOG {
        say_in(&mut friend, &person.name, &format!("message {number}"))?;
    }
    settle_all(&mut friend)?;
    let sent = milliseconds(start.elapsed());
    Ok(format!("{}; sent within {sent} ms", catch_up(bench, &person)?))
}

fn catch_up_in_many(bench: &Bench) -> Result<String> {
    let (person, mut friend) = member_of_many(bench, FEW_CHATS)?;
    for number in 0..BACKLOG {
        let chat = format!("#chat {}", number % FEW_CHATS);
        say_in(&mut friend, &chat, &format!("message {number}"))?;
    }
    settle_all(&mut friend)?;
    catch_up(bench, &person)
}

fn start_with_many(bench: &Bench) -> Result<String> {
    let (person, _friend) = member_of_many(bench, MANY_CHATS)?;
    let start = Instant::now();
    let mut session =
        Session::start(&bench.programs, &person.name, &person.home, &bench.server.url())?;
    let chats = count_chats(&mut session)?;
    let listed = milliseconds(start.elapsed());
    session.settle()?;
    let settled = milliseconds(start.elapsed());
    let used = Used::by(session.process())?.summary();
    Ok(format!("{chats} listed after {listed} ms, all read after {settled} ms; {used}"))
}
