//! Passwords, from the terminal or standard input, never from an argument.

use std::io::{IsTerminal, stdin};

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

fn prompt(text: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|_| missing())
}

fn missing() -> Failure {
    Failure::refused("no_password", "type a password, or give it as standard input's first line")
}
