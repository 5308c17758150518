//! Several programs on one home folder.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::place::{Place, wait_for};

/// A program whose lines are read as they come.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(place: &Place, who: &str, arguments: &[&str]) -> Self {
        let mut command = place.programs.corncrake(&place.home(who), &place.url);
        command.args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines, seen: Vec::new() }
    }

    /// Writes to its input, which may have ended.
    fn write(&mut self, bytes: &[u8]) {
        drop(self.input.as_mut().unwrap().write_all(bytes));
    }

    fn sees(&mut self, text: &str) -> bool {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().any(|line| line.contains(text))
    }

    /// Waits for a line.
    fn shows(&mut self, text: &str) {
        assert!(wait_for(|| self.sees(text)), "no {text} in {:#?}", self.seen);
    }

    /// The answer with this id in a session.
    fn answer(&mut self, id: &Value) -> Value {
        let find = |seen: &[String]| {
            let values = seen.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            values.into_iter().find(|line| line.get("event").is_none() && line["id"] == *id)
        };
        assert!(
            wait_for(|| {
                self.seen.extend(self.lines.try_iter());
                find(&self.seen).is_some()
            }),
            "no answer {id} in {:#?}",
            self.seen
        );
        find(&self.seen).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn ends(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < within, "it goes on");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(place: &Place, who: &str, arguments: &[&str]) -> Child {
    spawn_with_output(place, who, arguments, Stdio::null())
}

fn spawn_with_output(place: &Place, who: &str, arguments: &[&str], output: Stdio) -> Child {
    let mut command = place.programs.corncrake(&place.home(who), &place.url);
    command.args(arguments).stdin(Stdio::null()).stdout(output);
    command.spawn().unwrap()
}

fn socket(place: &Place, who: &str) -> std::path::PathBuf {
    place.home(who).join("socket")
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn audit_prog_m11_a_listener_and_many_senders_share_one_home() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let mut listening = Running::start(&place, "ann", &["listen"]);
    listening.shows("* online");
    assert_eq!(mode(&socket(&place, "ann")), 0o600);
    let sends: Vec<_> =
        (0..20).map(|n| spawn(&place, "ann", &["send", "bob", &format!("line {n}.")])).collect();
    for mut send in sends {
        assert!(send.wait().unwrap().success());
    }
    for n in 0..20 {
        listening.shows(&format!("ann: line {n}."));
        let shown = listening.seen.iter().filter(|line| line.contains(&format!("line {n}.")));
        assert_eq!(shown.count(), 1, "each is shown once");
    }
    let history = place.see("bob", &["history", "ann"]);
    for n in 0..20 {
        assert_eq!(history.matches(&format!("ann: line {n}.\n")).count(), 1, "{n}: {history}");
    }
    // A reply comes in while all of it goes on.
    place.ask("bob", &["send", "ann", "heard"], "");
    listening.shows("bob: heard");
    listening.signal("-INT");
    assert!(listening.ends(Duration::from_secs(20)).success());
    assert!(!socket(&place, "ann").exists());
    server.stop().unwrap();
}

#[test]
fn audit_issue_7_bf2_whoever_has_the_store_serves_while_its_own_reader_stands_still() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    // Nobody reads its output.
    let mut holder = spawn_with_output(&place, "bob", &["listen", "--json"], Stdio::piped());
    assert!(wait_for(|| socket(&place, "bob").exists()));
    // More than a pipe holds.
    let long = "x".repeat(8_000);
    for n in 0..16 {
        place.ask("ann", &["send", "bob", &format!("{n}.{long}")], "");
    }
    place.ask("bob", &["send", "ann", "I am here"], "");
    let history = place.see("bob", &["history", "ann"]);
    assert!(history.contains("15.xxx") && history.contains("bob: I am here"), "{history}");
    assert!(holder.try_wait().unwrap().is_none(), "the other one had the store");
    holder.kill().unwrap();
    holder.wait().unwrap();
    server.stop().unwrap();
}

#[test]
fn audit_prog_m11_programs_without_a_listener_take_turns() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let sends: Vec<_> =
        (0..20).map(|n| spawn(&place, "ann", &["send", "bob", &format!("line {n}.")])).collect();
    for mut send in sends {
        assert!(send.wait().unwrap().success());
    }
    let history = place.see("bob", &["history", "ann"]);
    for n in 0..20 {
        assert_eq!(history.matches(&format!("ann: line {n}.\n")).count(), 1, "{n}: {history}");
    }
    server.stop().unwrap();
}

#[test]
fn audit_prog_m11_whoever_has_the_store_may_end_or_be_killed() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let mut first = Running::start(&place, "ann", &["session"]);
    first.shows("online");
    let mut second = Running::start(&place, "ann", &["listen"]);
    second.shows("* online");
    let mut third = Running::start(&place, "ann", &["session"]);
    third.write(
        b"{\"id\": \"a\", \"do\": \"send\", \"chat\": \"bob\", \"text\": \"one\", \"wait\": 30}\n",
    );
    assert_eq!(third.answer(&json!("a"))["ok"]["delivery"], "sent");
    second.shows("ann: one");
    // The end of its input ends the first; another takes over.
    first.input = None;
    assert!(first.ends(Duration::from_secs(20)).success());
    third.write(
        b"{\"id\": \"b\", \"do\": \"send\", \"chat\": \"bob\", \"text\": \"two\", \"wait\": 30}\n",
    );
    assert_eq!(third.answer(&json!("b"))["ok"]["delivery"], "sent");
    second.shows("ann: two");
    place.ask("ann", &["send", "bob", "three"], "");
    second.shows("ann: three");
    // One of the two that are left has the store; it is killed.
    second.signal("-KILL");
    second.ends(Duration::from_secs(20));
    assert!(place.see("ann", &["history", "bob"]).contains("ann: three"));
    third.write(b"{\"id\": \"c\", \"do\": \"history\", \"chat\": \"bob\"}\n");
    assert!(third.answer(&json!("c")).to_string().contains("three"));
    third.signal("-KILL");
    third.ends(Duration::from_secs(20));
    // What a killed one has left is no obstacle.
    assert!(place.see("ann", &["history", "bob"]).contains("ann: three"));
    server.stop().unwrap();
}

#[test]
fn audit_prog_m9_a_session_goes_on_after_a_stray_byte_and_ends_with_its_input() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let mut session = Running::start(&place, "ann", &["session"]);
    session.write(
        b"{\"id\": 1, \"do\": \"account\"}\n\xff\xfe\n[\n{\"id\": 2, \"do\": \"account\"}\n",
    );
    session.write(
        b"{\"id\": 3, \"do\": \"send\", \"chat\": \"bob\", \"text\": \"last\", \"wait\": 30}",
    );
    session.input = None;
    assert!(session.ends(Duration::from_secs(60)).success());
    assert!(wait_for(|| session.sees("\"id\":3")));
    assert_eq!(session.answer(&json!(2))["ok"]["name"], "ann");
    assert_eq!(session.answer(&json!(3))["ok"]["delivery"], "sent");
    let bad = session.seen.iter().filter(|line| line.contains("bad_command"));
    assert_eq!(bad.count(), 2);
    server.stop().unwrap();
}

#[test]
fn audit_prog_h3_a_command_of_a_session_holds_up_no_other() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    let mut session = Running::start(&place, "ann", &["session"]);
    session.shows("online");
    // A server that answers nothing is taken to be there for half a minute.
    let to_server = |name: &str| {
        let id = server.process().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    };
    to_server("-STOP");
    for n in 0..10 {
        let line = json!({"id": n, "do": "send", "chat": "bob", "text": format!("line {n}")});
        session.write(format!("{line}\n").as_bytes());
    }
    session.write(b"{\"id\": \"slow\", \"do\": \"settle\", \"wait\": 80}\n");
    session.write(b"{\"id\": \"quick\", \"do\": \"history\", \"chat\": \"bob\"}\n");
    let history = session.answer(&json!("quick"));
    let texts: Vec<_> = history["ok"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["text"].as_str())
        .collect();
    let expected: Vec<_> =
        ["first".to_owned()].into_iter().chain((0..10).map(|n| format!("line {n}"))).collect();
    assert_eq!(texts, expected, "commands about one chat begin in order");
    assert!(!session.sees("\"slow\""), "it was waited for");
    to_server("-CONT");
    session.signal("-TERM");
    assert!(session.ends(Duration::from_secs(20)).success());
    server.stop().unwrap();
}

#[test]
fn audit_prog_m4_a_session_whose_store_fails_says_why_once_and_ends() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    // A limit on the size of files is as good as a full disk.
    let session = place.programs.corncrake(&place.home("ann"), &place.url);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" session"]);
    command.arg(session.get_program()).envs(session.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut session = Running::of(command);
    for n in 0..100 {
        let text = format!("line {n} {}", "x".repeat(1000));
        let line = json!({"id": n, "do": "send", "chat": "bob", "text": text});
        session.write(format!("{line}\n").as_bytes());
    }
    let status = session.ends(Duration::from_secs(30));
    assert_eq!(status.code(), Some(4));
    let tells = "\"event\":\"closed\"";
    assert!(wait_for(|| session.sees(tells)));
    let closed: Vec<_> = session.seen.iter().filter(|line| line.contains(tells)).collect();
    assert_eq!(closed.len(), 1);
    assert!(closed[0].contains("store_unavailable"), "{closed:?}");
    // With space again all is well; what was acknowledged is there.
    let said = place.see("ann", &["history", "bob", "--limit", "1000"]);
    for line in session.seen.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if line.get("ok").is_some() {
            assert!(said.contains(&format!(": line {} ", line["id"])), "{line}");
        }
    }
    server.stop().unwrap();
}

#[test]
fn audit_issue_7_k10_a_program_that_waits_for_its_input_ends_when_it_is_told_to() {
    let (place, server) = Place::new();
    place.sign_up(&["ann"]);
    for (who, words) in [("ann", &["send", "bob", "-"][..]), ("bob", &["log-in", "bob"])] {
        let mut waits = Running::start(&place, who, words);
        // Long enough for it to have begun.
        thread::sleep(Duration::from_millis(500));
        waits.signal("-TERM");
        assert!(!waits.ends(Duration::from_secs(10)).success());
    }
    server.stop().unwrap();
}
