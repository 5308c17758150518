//! What is printed cannot be forged by what others say.

#[cfg(target_os = "linux")]
use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::place::Place;

/// Lines as a person sees them, and how many of them the program made itself.
fn own_lines(shown: &str) -> Vec<&str> {
    shown.lines().filter(|line| !line.starts_with("      | ")).collect()
}

#[test]
fn audit_prog_h7_a_message_cannot_forge_lines_of_the_history() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let forged = [
        "hi\n    2  2026-11-26 20:51  bob: I owe you 100 euro",
        "hi\r\n    3  2026-11-26 20:51  bob: and 100 more",
        "hi\r    4  2026-11-26 20:51  bob: and 100 more",
        "hi\u{2028}    5  2026-11-26 20:51  bob: and 100 more",
        "hi\u{1b}[1A\u{9b}2K\u{202e}\u{e0041}",
    ];
    for text in forged {
        place.ask("ann", &["send", "bob", text], "");
    }
    let history = place.see("bob", &["history", "ann"]);
    let lines = own_lines(&history);
    // After the number and the time.
    let said = |line: &&str| line.chars().skip(25).collect::<String>();
    assert!(
        lines.iter().map(said).all(|said| said.starts_with("ann: hi") || said.starts_with("* ")),
        "{history}"
    );
    assert_eq!(lines.iter().filter(|line| line.contains("  ann: hi")).count(), forged.len());
    let wild =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}' | '\u{202e}' | '\u{e0041}');
    assert!(!history.contains(wild), "{history:?}");
    // For programs everything is there, and escaped.
    let output = place.run("bob", &["history", "ann"], "");
    let json = String::from_utf8(output.stdout).unwrap();
    assert!(!json.contains(wild), "{json:?}");
    let items: serde_json::Value = serde_json::from_str(&json).unwrap();
    let texts: Vec<_> = items["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["text"].as_str())
        .collect();
    assert_eq!(texts, forged);
    server.stop().unwrap();
}

/// A device that takes nothing, as a full disk.
#[cfg(target_os = "linux")]
#[test]
fn audit_issue_7_g3_what_cannot_be_written_is_no_success() {
    let (place, server) = Place::new();
    place.sign_up(&["ann"]);
    for arguments in [["chats"].as_slice(), &["--json", "devices"], &["listen"]] {
        let mut command = place.programs.corncrake(&place.home("ann"), &place.url);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("no_output"), "{output:?}");
    }
    server.stop().unwrap();
}

/// Whoever drives a session must not take for done what it was asked when nobody could read it.
#[cfg(target_os = "linux")]
#[test]
fn audit_issue_7_qm1_a_session_that_cannot_answer_says_that_it_may_have_done_nothing() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for output in [full(), closed()] {
        let mut command = place.programs.corncrake(&place.home("ann"), &place.url);
        command.arg("session").stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
        let mut session = command.spawn().unwrap();
        let mut input = session.stdin.take().unwrap();
        let asked = b"{\"id\":1,\"do\":\"send\",\"chat\":\"bob\",\"text\":\"x\"}\n";
        // It may have ended before it is asked.
        let _ = input.write_all(asked);
        let output = session.wait_with_output().unwrap();
        drop(input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{error}");
        assert!(error.contains("no_output") && error.contains("may not be done"), "{error}");
    }
    server.stop().unwrap();
}

/// A terminal of its own in which a shell runs something, with what it has shown.
#[cfg(target_os = "linux")]
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    shown: Vec<u8>,
}

#[cfg(target_os = "linux")]
impl Terminal {
    /// Runs `corncrake`, for which `$corncrake` stands.
    fn run(place: &Place, words: &str) -> Self {
        let program = place.programs.corncrake(&place.home("ann"), &place.url);
        let mut script = Command::new("script");
        script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("corncrake", program.get_program());
        script.args(["--quiet", "--flush", "--command", words, "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let keyboard = child.stdin.take().unwrap();
        let screen = child.stdout.take().unwrap();
        Self { child, keyboard, screen, shown: Vec::new() }
    }

    /// Types as soon as it is asked.
    fn answer(&mut self, question: &str, answer: &str) {
        while !String::from_utf8_lossy(&self.shown).contains(question) {
            let mut byte = [0];
            self.screen.read_exact(&mut byte).unwrap();
            self.shown.push(byte[0]);
        }
        self.keyboard.write_all(answer.as_bytes()).unwrap();
    }

    fn end(mut self) -> String {
        self.screen.read_to_end(&mut self.shown).unwrap();
        self.child.wait().unwrap();
        String::from_utf8(self.shown).unwrap()
    }
}

/// An answer that comes as soon as the question is seen, from a program or out of a buffer.
#[test]
#[cfg(target_os = "linux")]
fn audit_issue_7_g2_a_password_typed_at_once_is_not_echoed() {
    let (place, server) = Place::new();
    for _ in 0..20 {
        let mut terminal = Terminal::run(&place, r#""$corncrake" sign-up ann"#);
        terminal.answer("Password: ", "marble fjord\n");
        terminal.answer("again: ", "lantern fjord\n");
        let shown = terminal.end();
        assert!(shown.contains("passwords_differ") && !shown.contains("fjord"), "{shown}");
    }
    server.stop().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn audit_issue_7_k1_who_interrupts_the_question_for_a_password_has_the_terminal_as_before() {
    let (place, server) = Place::new();
    for is_typed in [true, false] {
        let words = r#"sh -c 'echo process $$; exec "$corncrake" log-in ann'; stty -a"#;
        let mut terminal = Terminal::run(&place, words);
        terminal.answer("Password: ", if is_typed { "\u{3}" } else { "" });
        if !is_typed {
            let shown = String::from_utf8_lossy(&terminal.shown).into_owned();
            let mut words = shown.split_whitespace().skip_while(|word| *word != "process");
            let end = format!("kill -TERM {}", words.nth(1).unwrap());
            assert!(Command::new("sh").args(["-c", &end]).status().unwrap().success());
        }
        let shown = terminal.end();
        let words: Vec<_> = shown.split([' ', ';', '\r', '\n']).collect();
        let is_as_before = ["echo", "icanon", "isig"].iter().all(|mode| words.contains(mode));
        assert!(shown.contains("[interrupted]") && is_as_before, "{shown}");
    }
    server.stop().unwrap();
}
