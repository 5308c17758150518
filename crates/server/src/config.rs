//! What an operator can choose, by flags or environment. Everything has a default.

use std::{net::SocketAddr, path::PathBuf};

use axum::http::HeaderName;
use clap::{Args, Parser, ValueEnum};

use crate::budget::Budget;

const MIB: usize = 1024 * 1024;

/// Stores ciphertext, orders it and hands it out; cannot read any of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "corncrake-server", version)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "CORNCRAKE_LISTEN", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Folder for the database and the password protocol's seed; made if missing.
    #[arg(long, env = "CORNCRAKE_DATA", default_value = "corncrake-data", global = true)]
    pub data: PathBuf,
    /// Origin under which clients reach this server, such as <https://chat.example>; may be given
    /// several times. Without it, the listening address and its loopback names.
    #[arg(long, env = "CORNCRAKE_ORIGIN", value_delimiter = ',', value_parser = origin)]
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

/// An origin as a browser writes it, or with one slash too many.
fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
            Ok(text.to_owned())
        }
        _ => {
            Err("an origin is a scheme, a host and perhaps a port: https://chat.example".to_owned())
        }
    }
}

/// The name of a header, as it can be in a request.
fn header(text: &str) -> Result<String, String> {
    match HeaderName::try_from(text) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("a header has a name such as x-forwarded-for".to_owned()),
    }
}

/// How the server's own log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Limits on connections, rates, bytes and memory. Rates fill up over ten seconds: whoever was
/// quiet may ask for ten seconds' worth at once. Bytes fill up over a minute. IPv6 addresses
/// count by /64; a /56 has twice the limit of an address, a /48 four times. 0 means no limit.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// Header in which a reverse proxy names the client's address, such as x-forwarded-for.
    #[arg(long, env = "CORNCRAKE_PROXY_HEADER", value_parser = header)]
    pub proxy_header: Option<String>,
    /// Connections in all. No address gets more of them than are left for others.
    #[arg(long, env = "CORNCRAKE_MAX_CONNECTIONS", default_value_t = 10_000)]
    pub max_connections: usize,
    /// Connections per address.
    #[arg(long, env = "CORNCRAKE_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 500)]
    pub max_connections_per_address: usize,
    /// Requests and frames per second and address.
    #[arg(long, env = "CORNCRAKE_REQUESTS_PER_SECOND", default_value_t = 200)]
    pub requests_per_second: u32,
    /// Appends per second and log.
    #[arg(long, env = "CORNCRAKE_APPENDS_PER_SECOND", default_value_t = 200)]
    pub appends_per_second: u32,
    /// Sign-ups, log-ins and renewals per minute and address; ten steps of them at once in any case.
    #[arg(long, env = "CORNCRAKE_ATTEMPTS_PER_MINUTE", default_value_t = 300)]
    pub attempts_per_minute: u32,
    /// MiB that one address may send per minute, whatever for.
    #[arg(long, env = "CORNCRAKE_MIB_PER_MINUTE", default_value_t = 64)]
    pub mib_per_minute: u32,
    /// MiB that all addresses may append to one log per minute.
    #[arg(long, env = "CORNCRAKE_LOG_MIB_PER_MINUTE", default_value_t = 64)]
    pub log_mib_per_minute: u32,
    /// MiB that all addresses together may send per minute.
    #[arg(long, env = "CORNCRAKE_ALL_MIB_PER_MINUTE", default_value_t = 4096)]
    pub all_mib_per_minute: u32,
    /// MiB that all connections have in memory under way at once; one address has at most a
    /// quarter. Below 96, the largest commits don't fit.
    #[arg(long, env = "CORNCRAKE_MEMORY_MIB", default_value_t = 96,
          value_parser = clap::value_parser!(u32).range(16..))]
    pub memory_mib: u32,
    /// GiB that one log may hold; messages that expire make room again.
    #[arg(long, env = "CORNCRAKE_LOG_GIB", default_value_t = 4)]
    pub log_gib: u32,
    /// GiB that the data folder may hold; by default only the disk's free space counts.
    #[arg(long, env = "CORNCRAKE_STORED_GIB", default_value_t = 0)]
    pub stored_gib: u32,
    /// Turns all limits on rates and connections off, for tests and measurements.
    #[arg(long, env = "CORNCRAKE_NO_RATE_LIMITS")]
    pub no_rate_limits: bool,
}

impl Limits {
    /// Bytes under way. This bounds memory, so it holds even without limits on rates; then one
    /// address may have them all.
    pub(crate) fn memory(&self) -> Budget {
        let most = (self.memory_mib as usize).saturating_mul(MIB);
        Budget::new(most, if self.no_rate_limits { most } else { most / 4 })
    }

    /// Bytes that one log may hold.
    pub(crate) fn log_bytes(&self) -> u64 {
        gibibytes(self.log_gib)
    }

    /// Bytes that the data folder may hold.
    pub(crate) fn stored_bytes(&self) -> u64 {
        gibibytes(self.stored_gib)
    }

    /// Places for connections: no more than the system lets the process have open, or who comes
    /// next would get no answer at all.
    pub(crate) fn places(&self) -> Budget {
        let most = |limit| {
            if self.no_rate_limits || limit == 0 { usize::MAX } else { limit }
        };
        let status = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let system = open_files(&status).map_or(usize::MAX, |files| {
            files.saturating_sub((files / 3).clamp(OWN_FILES.0, OWN_FILES.1))
        });
        let in_all = most(self.max_connections).min(system.max(1));
        Budget::new(in_all, most(self.max_connections_per_address))
    }
}

/// How many files are left for the server itself, at least and at most: databases, the folder's
/// lock, and connections that are told that they are too many.
const OWN_FILES: (usize, usize) = (64, 320);

/// How many files a process may have open, as Linux tells it; `None` if there is no limit, or it is
/// unknown.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// 0 means no limit.
fn gibibytes(gib: u32) -> u64 {
    if gib == 0 { u64::MAX } else { u64::from(gib) << 30 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_no_client_could_see_is_refused() {
        for good in ["https://chat.example", "http://127.0.0.1:8787", "http://[::1]:1"] {
            for good in [good.to_owned(), format!("{good}/")] {
                assert_eq!(origin(&good), Ok(good));
            }
        }
        for bad in ["", "chat.example", "https://", "ws://chat.example", "https://chat.example/app"]
        {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_that_no_proxy_can_write_is_refused() {
        assert_eq!(header("X-Forwarded-For"), Ok("x-forwarded-for".to_owned()));
        for bad in ["", "x forwarded for", "x-forwarded-for\n", "x-forwarded-for:"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_systems_limit_of_open_files_is_read() {
        let limits = |files: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files   {files}  4096  files\n")
        };
        assert_eq!(open_files(&limits("1024")), Some(1024));
        assert_eq!(open_files(&limits("unlimited")), None);
        assert_eq!(open_files(""), None);
    }
}
