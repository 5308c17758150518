//! What goes wrong, with a stable code, and the exit code that goes with it.

use std::process::ExitCode;

use corncrake::{Error, store::StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::view;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The stable code.
    pub(crate) code: String,
    /// What is wrong and what to do about it.
    pub(crate) message: String,
    /// Who has to act.
    pub(crate) exit: Exit,
    /// The devices of an account that has as many as it may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<Value>,
    /// The accounts of a name that has changed hands: the one that it means here, and the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accounts: Option<Box<(String, String)>>,
}

/// How the program ends; see `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    Done = 0,
    Refused = 1,
    Offline = 3,
    Files = 4,
    Server = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Refused => Self::from(1),
            Exit::Offline => Self::from(3),
            Exit::Files => Self::from(4),
            Exit::Server => Self::from(5),
        }
    }
}

impl Failure {
    /// The person has to ask for something else.
    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            exit: Exit::Refused,
            devices: Vec::new(),
            accounts: None,
        }
    }

    /// The home folder or something in it cannot be used.
    pub(crate) fn home(message: impl Into<String>) -> Self {
        Self {
            code: "home_unusable".to_owned(),
            message: message.into(),
            exit: Exit::Files,
            devices: Vec::new(),
            accounts: None,
        }
    }

    /// Nobody can read what is written.
    pub(crate) fn no_output(what: &str, error: &std::io::Error) -> Self {
        Self {
            code: "no_output".to_owned(),
            message: format!("{what} can't be written: {error}"),
            exit: Exit::Files,
            devices: Vec::new(),
            accounts: None,
        }
    }

    /// The server no longer knows this device.
    pub(crate) fn signed_out() -> Self {
        Self::refused(
            "signed_out",
            "this device was removed from its account: its chats can be read here; to go on, log \
             in with a new home folder",
        )
    }

    /// The server lost the account, and somebody else has its name.
    pub(crate) fn name_taken() -> Self {
        Self::refused(
            "name_taken",
            "the server has lost this account, and somebody else has signed up with its name: its \
             chats can be read here; to go on, sign up under another name with a new home folder",
        )
    }

    /// The program that had the store ended in the middle.
    pub(crate) fn interrupted() -> Self {
        Self::refused(
            "interrupted",
            "this was begun and cut short: the history shows whether it was done or is queued",
        )
    }

    /// Whether the disk is full.
    pub(crate) fn is_store_full(&self) -> bool {
        self.code == StoreError::Full.code()
    }

    /// Whether the reason may be that the server no longer knows this device.
    pub(crate) fn may_be_signed_out(&self) -> bool {
        matches!(self.exit, Exit::Offline | Exit::Server)
            || matches!(self.code.as_str(), "unknown_account" | "not_a_member")
    }

    /// What programs get to read.
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({"code": self.code, "message": self.message});
        if let (false, Some(json)) = (self.devices.is_empty(), json.as_object_mut()) {
            json.insert("devices".to_owned(), json!(self.devices));
        }
        if let (Some(accounts), Some(json)) = (&self.accounts, json.as_object_mut()) {
            let (before, now) = &**accounts;
            json.insert("before".to_owned(), json!(before));
            json.insert("now".to_owned(), json!(now));
        }
        json
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Offline => Exit::Offline,
            Error::Store(_) | Error::Closed => Exit::Files,
            Error::Server(..) | Error::Untrue(_) => Exit::Server,
            _ => Exit::Refused,
        };
        let mut message = error.to_string();
        let mut devices = Vec::new();
        if let Error::TooManyDevices(list) = &error {
            message.push_str(", with --drop and its id or the first digits of it; these are they, the oldest first");
            devices = list.iter().map(view::device).collect();
        }
        let accounts = view::accounts(&error).map(Box::new);
        Self { code: error.code().to_owned(), message, exit, devices, accounts }
    }
}
