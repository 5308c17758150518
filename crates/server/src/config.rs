//! What an operator can choose, by flags or environment. Everything has a default.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, ValueEnum};

/// Stores ciphertext, orders it and hands it out; cannot read any of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "corncrake-server", version)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "CORNCRAKE_LISTEN", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Folder for the database and the password protocol's seed; made if missing.
    #[arg(long, env = "CORNCRAKE_DATA", default_value = "corncrake-data")]
    pub data: PathBuf,
    /// Origin under which clients reach this server, such as <https://chat.example>; may be given
    /// several times. Without it, the listening address and its loopback names.
    #[arg(long, env = "CORNCRAKE_ORIGIN", value_delimiter = ',')]
    pub origin: Vec<String>,
    /// Base URL of the open plane, if it is reached under another host than the account plane.
    #[arg(long, env = "CORNCRAKE_OPEN_URL")]
    pub open_url: Option<String>,
    /// Name that the server gives itself.
    #[arg(long, env = "CORNCRAKE_NAME", default_value = "corncrake")]
    pub name: String,
    /// Bytes free on the disk below which nothing is written any more, until there is space again;
    /// by default 256 MiB, or a hundredth of a smaller disk.
    #[arg(long, env = "CORNCRAKE_MIN_FREE")]
    pub min_free: Option<u64>,
    /// How the server's own log looks on standard error; RUST_LOG chooses what it tells.
    #[arg(long, env = "CORNCRAKE_LOG", value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// Limits on connections and rates.
    #[command(flatten)]
    pub limits: Limits,
}

/// How the server's own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Limits on connections and rates. Rates fill up over ten seconds: who was quiet may ask for
/// ten seconds' worth at once. 0 means no limit.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// Header in which a reverse proxy names the client's address, such as x-forwarded-for.
    #[arg(long, env = "CORNCRAKE_PROXY_HEADER")]
    pub proxy_header: Option<String>,
    /// Connections in all.
    #[arg(long, env = "CORNCRAKE_MAX_CONNECTIONS", default_value_t = 10_000)]
    pub max_connections: usize,
    /// Connections per address.
    #[arg(long, env = "CORNCRAKE_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 500)]
    pub max_connections_per_address: usize,
    /// Requests and frames per second and address.
    #[arg(long, env = "CORNCRAKE_REQUESTS_PER_SECOND", default_value_t = 200)]
    pub requests_per_second: u32,
    /// Appends per second and log.
    #[arg(long, env = "CORNCRAKE_APPENDS_PER_SECOND", default_value_t = 50)]
    pub appends_per_second: u32,
    /// Sign-ups, log-ins and renewals per minute and address.
    #[arg(long, env = "CORNCRAKE_ATTEMPTS_PER_MINUTE", default_value_t = 300)]
    pub attempts_per_minute: u32,
    /// Turns all limits on rates and connections off, for tests and measurements.
    #[arg(long, env = "CORNCRAKE_NO_RATE_LIMITS")]
    pub no_rate_limits: bool,
}

impl Config {
    /// The defaults, listening on a free loopback port, with the database in this folder and
    /// without limits on rates.
    #[must_use]
    pub fn for_tests(data: PathBuf) -> Self {
        let mut config = Self::parse_from(["corncrake-server", "--no-rate-limits"]);
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.data = data;
        config
    }
}
