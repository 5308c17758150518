//! What happened, line by line, for whoever has to understand a failing seed.

use std::{cell::RefCell, fmt, rc::Rc};

use corncrake_wire::{
    AccountReply, AccountRequest, OpenReply, OpenRequest, Refusal,
    log::{AppendReply, EntryKind},
    open::By,
};

use crate::executor::Executor;

/// Lines that are kept; the oldest go first.
const KEPT: usize = 6000;

/// The lines of one world; clones write into the same.
#[derive(Clone)]
pub(crate) struct Trace {
    executor: Executor,
    start: u64,
    lines: Rc<RefCell<std::collections::VecDeque<String>>>,
    live: bool,
}

impl Trace {
    pub(crate) fn new(executor: Executor) -> Self {
        let start = executor.now();
        let live = std::env::var_os("WORLD_TRACE").is_some();
        Self { executor, start, lines: Rc::default(), live }
    }

    /// Notes that `who` did `what` now.
    pub(crate) fn note(&self, who: &str, what: impl fmt::Display) {
        let line = format!("{:>9} ms  {who:<8} {what}", self.executor.now() - self.start);
        if self.live {
            eprintln!("{line}");
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All lines.
    pub(crate) fn text(&self) -> String {
        self.lines.borrow().iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The first bytes of an id.
pub(crate) fn short(id: &[u8]) -> String {
    hex::encode(&id[..3])
}

/// A request of the open plane in a few words.
pub(crate) fn open(request: &OpenRequest) -> String {
    match request {
        OpenRequest::Append(append) => {
            let beside = append.entries.iter().map(|entry| match (&entry.welcome, &entry.state) {
                (None, None) => "",
                (Some(_), None) => "+welcome",
                (None, Some(_)) => "+state",
                (Some(_), Some(_)) => "+welcome+state",
            });
            let kind = match append.kind {
                EntryKind::Commit => "commit",
                EntryKind::Message => "message",
            };
            let ids = append.entries.iter().map(|entry| short(entry.id().as_bytes()));
            format!(
                "append {kind}{} {} to {} after {}{}",
                beside.collect::<String>(),
                ids.collect::<Vec<_>>().join(","),
                short(append.token.log_id().as_bytes()),
                append.after.position,
                if append.opening.is_some() { " (opening)" } else { "" },
            )
        }
        OpenRequest::Read(read) => {
            format!("read {} after {}", short(read.token.log_id().as_bytes()), read.after)
        }
        OpenRequest::Beside(beside) => format!(
            "fetch {:?} beside {} of {}",
            beside.part,
            beside.position,
            short(beside.token.log_id().as_bytes())
        ),
        OpenRequest::States(states) => format!(
            "list states up to {} of {}",
            states.at_most,
            short(states.token.log_id().as_bytes())
        ),
        OpenRequest::LookUp(look_up) => match &look_up.by {
            By::Name(name) => format!("look up {name}"),
            By::Id(id) => format!("look up account {}", short(id.as_bytes())),
        },
        OpenRequest::Claim(claim) => format!("claim from {}", short(claim.account.as_bytes())),
        OpenRequest::Deposit(deposit) => {
            format!("deposit at {}", short(deposit.inbox.as_bytes()))
        }
    }
}

/// A request of the account plane in a few words.
pub(crate) fn account(request: &AccountRequest) -> String {
    request.path().trim_start_matches("/v1/account/").to_owned()
}

/// What the server did with a request of the open plane.
pub(crate) fn open_reply(reply: &Result<OpenReply, Refusal>) -> String {
    match reply {
        Ok(OpenReply::Append(AppendReply::Stored { positions, .. })) => {
            format!("stored at {positions:?}")
        }
        Ok(OpenReply::Append(AppendReply::Conflict { newest_commit, head, missing })) => {
            format!(
                "conflict: newest commit {}, head {head}, {} missing",
                newest_commit.position,
                missing.len()
            )
        }
        Ok(OpenReply::Read(read)) => {
            format!("{} entries, head {}", read.entries.len(), read.head)
        }
        Ok(OpenReply::States(states)) => format!("{:?}", states.positions),
        Ok(OpenReply::Claim(claimed)) => format!("{} packages", claimed.packages.len()),
        Ok(_) => "done".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

/// What the server did with a request of the account plane.
pub(crate) fn account_reply(reply: &Result<AccountReply, Refusal>) -> String {
    match reply {
        Ok(AccountReply::ReadInbox(inbox)) => format!("{} notices", inbox.notices.len()),
        Ok(_) => "done".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}
