//! What is printed cannot be forged by what others say.

#[cfg(target_os = "linux")]
use std::{
    io::{Read, Write},
    process::{Command, Stdio},
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

/// An answer that comes as soon as the question is seen, from a program or out of a buffer.
#[test]
#[cfg(target_os = "linux")]
fn audit_issue_7_g2_a_password_typed_at_once_is_not_echoed() {
    let (place, server) = Place::new();
    let program = place.programs.corncrake(&place.home("ann"), &place.url);
    let asks = format!("'{}' sign-up ann", program.get_program().display());
    for _ in 0..20 {
        let mut terminal = Command::new("script");
        terminal.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.args(["--quiet", "--flush", "--command", &asks, "/dev/null"]);
        terminal.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = terminal.spawn().unwrap();
        let (mut keyboard, mut screen) =
            (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let mut shown = Vec::new();
        for (question, answer) in [("Password: ", "marble fjord\n"), ("again: ", "lantern fjord\n")]
        {
            while !String::from_utf8_lossy(&shown).contains(question) {
                let mut byte = [0];
                screen.read_exact(&mut byte).unwrap();
                shown.push(byte[0]);
            }
            keyboard.write_all(answer.as_bytes()).unwrap();
        }
        screen.read_to_end(&mut shown).unwrap();
        terminal.wait().unwrap();
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains("passwords_differ") && !shown.contains("fjord"), "{shown}");
    }
    server.stop().unwrap();
}
