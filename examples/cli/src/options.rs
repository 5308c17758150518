//! What can be typed after `corncrake`.

use std::{env, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused: the message says what to do, the code in brackets is stable
  2  not understood: see --help
  3  not in time, or the server was not reached; what was to be sent is queued
  4  the files in the home folder cannot be used
  5  the server refused or answered something that does not hold

CHAT is a username or an account's id (the chat of two), #title of a group, or a chat's id or its
first digits. An account whose username meant another one before is shown, and named, as the username,
'~' and the beginning of its id.
Passwords are asked for at the terminal, or read as the first line of standard input.";

const SESSION: &str = "\
{\"id\": 1, \"do\": \"send\", \"chat\": \"bob\", \"text\": \"hi\"} is answered by {\"id\": 1, \"ok\": ...}
or {\"id\": 1, \"error\": {\"code\": ..., \"message\": ...}}, as soon as the answer is known. Lines with the
field event tell what happens; each comes once, or again after a crash, with the same sequence number.
The end of standard input ends the session when all is answered. docs/session.md lists commands and events.";

/// End-to-end encrypted chats from a terminal.
#[derive(Debug, Parser)]
#[command(name = "corncrake", version, after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// Folder for this device's store and its key [default: .corncrake in your home folder].
    ///
    /// Without it: the environment's CORNCRAKE_HOME.
    #[arg(long, global = true)]
    pub(crate) home: Option<PathBuf>,
    /// The server, such as <https://chat.example>; needed at first, then remembered.
    ///
    /// Without it: the environment's CORNCRAKE_SERVER.
    #[arg(long, global = true)]
    pub(crate) server: Option<String>,
    /// Answers as JSON on standard output, errors as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a new account; this is its first device.
    SignUp {
        /// 3 to 32 of a-z, 0-9, '_', '.' and '-'.
        name: String,
        /// Seconds to wait for the server; the same command later goes on where this one ended.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Makes this one more device of an existing account.
    LogIn {
        /// The account's username.
        name: String,
        /// The id of a device that gives way, or the first digits of it, where the account has as
        /// many as it may have.
        #[arg(long)]
        drop: Option<String>,
        /// Seconds to wait for the server; the same command later goes on where this one ended.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Lists the chats.
    Chats,
    /// Sends a message and waits until it is in the chat's log.
    Send {
        /// Username or account id, #title, or the id of a chat.
        chat: String,
        /// What to say; '-' reads it from standard input.
        text: String,
        /// Seconds to wait before leaving the message queued [default: 15, or fewer while the server
        /// can't be reached].
        #[arg(long)]
        wait: Option<u64>,
    },
    /// Shows what happens, as it happens, until interrupted.
    Listen,
    /// Shows the newest part of a chat.
    History {
        /// Username or account id, #title, or the id of a chat.
        chat: String,
        /// How many lines.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Only lines before this number.
        #[arg(long)]
        before: Option<u64>,
    },
    /// Makes and changes groups.
    Group(GroupOptions),
    /// Hides a chat and erases its history on this device.
    Hide {
        /// Username or account id, #title, or the id of a chat.
        chat: String,
    },
    /// Lists the devices of the account, or removes one.
    Devices {
        #[command(subcommand)]
        what: Option<Devices>,
    },
    /// Shows the safety number of you and somebody: equal on both sides if nobody stands between.
    Verify {
        /// Whom you compare with: a username or account id.
        name: String,
    },
    /// Takes commands from standard input, one JSON object a line, and writes answers and events.
    #[command(after_help = SESSION)]
    Session,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Devices {
    /// Takes a device out of the account and all its chats; asks for the password.
    Remove {
        /// Its id, or the first digits of it.
        device: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GroupOptions {
    #[command(subcommand)]
    pub(crate) what: Group,
    /// Seconds to wait until the change is in the group's log, before leaving it queued [default: 15,
    /// or fewer while the server can't be reached].
    #[arg(long, global = true)]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Founds a group; you are its owner.
    Create {
        /// At most 128 bytes.
        title: String,
        /// Usernames or account ids.
        names: Vec<String>,
    },
    /// Adds people.
    Add {
        /// #title or id.
        chat: String,
        /// Usernames or account ids.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Removes people.
    Remove {
        /// #title or id.
        chat: String,
        /// Usernames or account ids.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Leaves a group with all your devices.
    Leave {
        /// #title or id.
        chat: String,
    },
    /// Gives a group another title.
    Rename {
        /// #title or id.
        chat: String,
        /// At most 128 bytes.
        title: String,
    },
    /// Gives a member another role.
    Role {
        /// #title or id.
        chat: String,
        /// A username or account id.
        name: String,
        /// What the member may do from now on.
        role: RoleName,
    },
}

/// The roles of a group.
#[derive(Clone, Copy, Debug, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    /// May do everything.
    Owner,
    /// May add, remove and change where the group lets admins.
    Admin,
    /// Speaks and leaves.
    Member,
}

/// The server that was named with `--server`, else that of the environment.
pub(crate) fn server(given: Option<String>) -> Option<String> {
    given.or_else(|| env::var("CORNCRAKE_SERVER").ok().filter(|server| !server.is_empty()))
}
