//! Passwords, from the terminal or standard input, never from an argument.

use std::io::{self, IsTerminal, stdin};
#[cfg(unix)]
use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

#[cfg(unix)]
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::{failure::Failure, input};

/// Whether a password is new, and so is asked for twice at a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    New,
    Known,
}

/// Asks for a password at the terminal, or takes the first line of standard input. Dropped, it leaves
/// the terminal as it was.
pub(crate) async fn ask(kind: Kind) -> Result<Zeroizing<String>, Failure> {
    if !stdin().is_terminal() {
        return input::line().await.ok_or_else(missing);
    }
    let password = prompt("Password: ").await?;
    if kind == Kind::New && *prompt("The same again: ").await? != *password {
        return Err(Failure::refused("passwords_differ", "the two passwords differ: try again"));
    }
    Ok(password)
}

/// Asks at the terminal. The question appears once the terminal echoes nothing any more: an answer
/// that comes at once must not be seen.
#[cfg(unix)]
async fn prompt(question: &'static str) -> Result<Zeroizing<String>, Failure> {
    let terminal = Terminal::open().map_err(|_| missing())?;
    let asking = terminal.file.try_clone().map_err(|_| missing())?;
    let is_over = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&is_over);
    // A terminal that can't be written to can't be asked either.
    thread::spawn(move || show_without_echo(asking, question, &watched));
    let answer = read(rpassword::read_password).await;
    is_over.store(true, Ordering::Relaxed);
    answer
}

#[cfg(not(unix))]
async fn prompt(question: &'static str) -> Result<Zeroizing<String>, Failure> {
    read(move || rpassword::prompt_password(question)).await
}

async fn read(
    ask: impl FnOnce() -> io::Result<String> + Send + 'static,
) -> Result<Zeroizing<String>, Failure> {
    match input::apart(|| ask().map(Zeroizing::new)).await {
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Failure::interrupted())
        }
        answer => answer.and_then(Result::ok).ok_or_else(missing),
    }
}

/// The terminal, which is put back as it was.
#[cfg(unix)]
struct Terminal {
    file: File,
    was: Termios,
}

#[cfg(unix)]
impl Terminal {
    fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let was = tcgetattr(&file)?;
        Ok(Self { file, was })
    }
}

#[cfg(unix)]
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.was);
    }
}

/// Shows a question on the terminal when it echoes nothing, or when the answer is there already.
#[cfg(unix)]
fn show_without_echo(mut terminal: File, question: &str, is_over: &AtomicBool) -> io::Result<()> {
    while !is_over.load(Ordering::Relaxed)
        && tcgetattr(&terminal)?.local_modes.contains(LocalModes::ECHO)
    {
        thread::sleep(Duration::from_millis(1));
    }
    terminal.write_all(question.as_bytes())
}

fn missing() -> Failure {
    Failure::refused("no_password", "type a password, or give it as standard input's first line")
}
