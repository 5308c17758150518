//! The real programs: building them, starting a server, running `corncrake` once.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Result, command::cargo};

/// How long a server may take to answer or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the programs lie.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    client: PathBuf,
    embed: PathBuf,
}

impl Programs {
    /// Builds `corncrake-server`, `corncrake` and the embedding example.
    ///
    /// # Errors
    /// They do not compile.
    pub fn build() -> Result<Self> {
        Self::build_with(&[])
    }

    /// Builds them as they are released.
    ///
    /// # Errors
    /// They do not compile.
    pub fn build_release() -> Result<Self> {
        Self::build_with(&["--release"])
    }

    /// The programs that lie in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let [server, client, embed] =
            ["corncrake-server", "corncrake", "corncrake-embed"].map(|name| folder.join(name));
        Self { server, client, embed }
    }

    fn build_with(arguments: &[&str]) -> Result<Self> {
        let mut command = build_command(&["--message-format=json-render-diagnostics"]);
        let output = command.args(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("the programs do not compile".into());
        }
        let text = String::from_utf8(output.stdout)?;
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let paths: Vec<PathBuf> = messages
            .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
            .collect();
        let find = |name: &str| {
            let found = paths.iter().find(|path| path.file_stem().is_some_and(|it| it == name));
            found.cloned().ok_or_else(|| format!("cargo built no {name}"))
        };
        Ok(Self {
            server: find("corncrake-server")?,
            client: find("corncrake")?,
            embed: find("corncrake-embed")?,
        })
    }

    /// A command that runs the embedding example.
    #[must_use]
    pub fn embed(&self) -> Command {
        Command::new(&self.embed)
    }

    /// A command that runs `corncrake` with a home folder, talking to `server`.
    #[must_use]
    pub fn corncrake(&self, home: &Path, server: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.env("CORNCRAKE_HOME", home).env("CORNCRAKE_SERVER", server);
        command
    }

    /// Runs `corncrake --json` once, with `input` as its standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(
        &self,
        home: &Path,
        server: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<Output> {
        let mut command = self.corncrake(home, server);
        command
            .arg("--json")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading its input is judged by how it ends.
            drop(stdin.write_all(input.as_bytes()));
        }
        Ok(child.wait_with_output()?)
    }

    /// Runs `corncrake` once, which has to end well, and takes its answer.
    ///
    /// # Errors
    /// It did not end well; what it said.
    pub fn ask(&self, home: &Path, server: &str, arguments: &[&str], input: &str) -> Result<Value> {
        let output = self.run(home, server, arguments, input)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(
                format!("corncrake {}: {} {said}", arguments.join(" "), output.status).into()
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// What builds `corncrake-server`, `corncrake` and the embedding example.
#[must_use]
pub fn build_command(arguments: &[&str]) -> Command {
    let mut command = cargo(&["build", "--bins"]);
    for package in ["corncrake-server", "corncrake-cli", "corncrake-embed"] {
        command.args(["-p", package]);
    }
    command.args(arguments);
    command
}

/// A running `corncrake-server`; it is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts a server in `folder`, on `listen` (port 0 takes a free one), for clients that know it
    /// under `origin` too. Its own log is appended to the file `log` beside the folder's database.
    ///
    /// # Errors
    /// It does not begin to listen.
    pub fn start(
        programs: &Programs,
        folder: &Path,
        listen: &str,
        origin: Option<&str>,
    ) -> Result<Self> {
        let limits = ["--no-rate-limits"];
        Self::start_with(programs, folder, (listen, origin), ("debug", &limits))
    }

    /// Starts a server with the limits on rates that it has by itself.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_limited(programs: &Programs, folder: &Path, listen: &str) -> Result<Self> {
        Self::start_with(programs, folder, (listen, None), ("debug", &[]))
    }

    /// Starts a server as an operator would, whose log tells little.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_quietly(programs: &Programs, folder: &Path, listen: &str) -> Result<Self> {
        Self::start_with(programs, folder, (listen, None), ("warn", &["--no-rate-limits"]))
    }

    fn start_with(
        programs: &Programs,
        folder: &Path,
        (listen, origin): (&str, Option<&str>),
        (level, limits): (&str, &[&str]),
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = File::options().create(true).append(true).open(Self::log_of(folder))?;
        let mut command = Command::new(&programs.server);
        command
            .args(limits)
            .args(["--listen", listen, "--data"])
            .arg(folder)
            .env("RUST_LOG", level)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(origin) = origin {
            command.args(["--origin", origin]);
        }
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().strip_prefix("listening on http://") {
            Some(address) => Ok(Self { child, address: address.to_owned() }),
            None => {
                child.kill()?;
                child.wait()?;
                let said = std::fs::read_to_string(Self::log_of(folder))?;
                Err(format!("the server does not begin to listen: {said}").into())
            }
        }
    }

    /// The server's own log, for a server in `folder`.
    #[must_use]
    pub fn log_of(folder: &Path) -> PathBuf {
        folder.join("server.log")
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address as clients name it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it without a warning, as a power cut would.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// It does not stop in time, or not well.
    pub fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let message = || format!("the server ended with {status}").into();
                return if status.success() { Ok(()) } else { Err(message()) };
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("the server does not stop".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
