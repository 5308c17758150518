//! Passwords, from the terminal or standard input, never from an argument.

use std::io::{IsTerminal, stdin};
#[cfg(unix)]
use std::{
    fs::OpenOptions,
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

#[cfg(unix)]
use rustix::termios::{LocalModes, tcgetattr};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Whether a password is new, and so is asked for twice at a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    New,
    Known,
}

/// Asks for a password at the terminal, or takes the first line of standard input.
pub(crate) fn ask(kind: Kind) -> Result<Zeroizing<String>, Failure> {
    if !stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        stdin().read_line(&mut line).map_err(|_| missing())?;
        let password = line.trim_end_matches(['\r', '\n']);
        return if password.is_empty() { Err(missing()) } else { Ok(password.to_owned().into()) };
    }
    let password = prompt("Password: ")?;
    if kind == Kind::New && *prompt("The same again: ")? != *password {
        return Err(Failure::refused("passwords_differ", "the two passwords differ: try again"));
    }
    Ok(password)
}

/// Asks at the terminal. The question appears once the terminal echoes nothing any more: an answer
/// that comes at once must not be seen.
#[cfg(unix)]
fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    let is_over = AtomicBool::new(false);
    let answer = thread::scope(|scope| {
        // A terminal that can't be written to can't be asked either.
        scope.spawn(|| show_without_echo(text, &is_over));
        let answer = rpassword::read_password();
        is_over.store(true, Ordering::Relaxed);
        answer
    });
    answer.map(Zeroizing::new).map_err(|_| missing())
}

/// Shows a text on the terminal when it echoes nothing, or when the answer is there already.
#[cfg(unix)]
fn show_without_echo(text: &str, is_over: &AtomicBool) -> std::io::Result<()> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    while !is_over.load(Ordering::Relaxed)
        && tcgetattr(&terminal)?.local_modes.contains(LocalModes::ECHO)
    {
        thread::sleep(Duration::from_millis(1));
    }
    terminal.write_all(text.as_bytes())
}

#[cfg(not(unix))]
fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|_| missing())
}

fn missing() -> Failure {
    Failure::refused("no_password", "type a password, or give it as standard input's first line")
}
