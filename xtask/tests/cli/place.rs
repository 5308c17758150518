//! A server and people who use it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use xtask::programs::{Programs, Server};

/// A server and people who use it.
pub(crate) struct Place {
    pub(crate) programs: Programs,
    pub(crate) folder: TempDir,
    pub(crate) url: String,
}

impl Place {
    pub(crate) fn new() -> (Self, Server) {
        Self::with(|programs, data| Server::start(programs, data, "127.0.0.1:0", None))
    }

    /// One whose server has the limits on rates that it has by itself.
    pub(crate) fn limited() -> (Self, Server) {
        Self::with(|programs, data| Server::start_limited(programs, data, "127.0.0.1:0"))
    }

    fn with(start: impl FnOnce(&Programs, &Path) -> xtask::Result<Server>) -> (Self, Server) {
        let programs = Programs::build().unwrap();
        let folder = TempDir::new().unwrap();
        let server = start(&programs, &folder.path().join("server")).unwrap();
        let url = server.url();
        (Self { programs, folder, url }, server)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn sign_up(&self, names: &[&str]) {
        for name in names {
            let answer = self.ask(name, &["sign-up", name], &password(name));
            assert_eq!(answer["name"], *name);
            assert_eq!(answer["settled"], true);
        }
    }

    pub(crate) fn ask(&self, who: &str, arguments: &[&str], input: &str) -> Value {
        self.programs.ask(&self.home(who), &self.url, arguments, input).unwrap()
    }

    pub(crate) fn run(&self, who: &str, arguments: &[&str], input: &str) -> Output {
        self.programs.run(&self.home(who), &self.url, arguments, input).unwrap()
    }

    /// What a person sees who does without `--json`.
    pub(crate) fn see(&self, who: &str, arguments: &[&str]) -> String {
        let mut command = self.programs.corncrake(&self.home(who), &self.url);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and the stable code of something that does not go well.
    pub(crate) fn refused(&self, who: &str, arguments: &[&str], input: &str) -> (i32, String) {
        refusal(&self.run(who, arguments, input))
    }
}

pub(crate) fn password(name: &str) -> String {
    format!("seven herons of {name} over the wet meadow\n")
}

pub(crate) fn refusal(output: &Output) -> (i32, String) {
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let code = error["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    (output.status.code().unwrap(), code)
}

pub(crate) fn code(exit: i32, code: &str) -> (i32, String) {
    (exit, code.to_owned())
}

pub(crate) fn wait_for(mut holds: impl FnMut() -> bool) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(100));
        holds()
    })
}
