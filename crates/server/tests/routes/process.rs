//! The real binary.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

/// A running `corncrake-server`, killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_telling(data, more, None, Stdio::inherit())
    }

    /// Starts one that tells `what` in its log; see `RUST_LOG`.
    pub(crate) fn start_telling(
        data: &Path,
        more: &[&str],
        what: Option<&str>,
        log: Stdio,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corncrake-server"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        match what {
            Some(what) => command.env("RUST_LOG", what),
            None => command.env_remove("RUST_LOG"),
        };
        Self::of(command, log)
    }

    /// Starts one that may have so many files open.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_with_files(data: &Path, files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_corncrake-server"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data).env("RUST_LOG", "off");
        Self::of(command, Stdio::inherit())
    }

    fn of(mut command: Command, log: Stdio) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().trim_end();
        Self { child, address: address.parse().unwrap() }
    }

    /// Memory in use, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self) -> usize {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn ask_to_stop(&self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
