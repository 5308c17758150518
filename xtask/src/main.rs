//! `cargo xtask`: every automation of the project, in Rust, without other tools.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use xtask::{Result, bench, check, demo, tidy, world};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Every automation of Corncrake")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Plays the whole product: real server, real clients, and what the server stored beside it.
    Demo {
        /// Ends when all is shown; the exit code tells whether every step held.
        #[arg(long)]
        check: bool,
    },
    /// Runs everything that has to hold before a change lands; ends with `N passed, N failed`.
    Test,
    /// Prints medians as a table.
    Bench {
        /// What to measure.
        what: What,
        /// For `chat`: a folder with other programs to be measured, such as those of an earlier
        /// version.
        #[arg(long)]
        programs: Option<PathBuf>,
        /// For `chat`: measures only what has this in its name.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Walks the client's World with mixed faults and crashes, seed by seed.
    World {
        /// How many seeds.
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        start: u64,
    },
    /// Looks at the tree: file lengths, words that must not stay, links between documents.
    Tidy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Group operations at 2, 10, 100 and 1,000 members.
    Core,
    /// Appends per second and catch-up of the real server.
    Server,
    /// How long appends take with a database of 50 MiB and with one of 10 GiB.
    Grown,
    /// Two minutes of everything that one address can do to a server, and what another feels.
    Flood,
    /// What people wait for, with the real server and clients, beside the least that a hop costs.
    Chat,
}

fn run(task: &Task) -> Result<()> {
    match task {
        Task::Demo { check } => demo::run(*check),
        Task::Test => check::run(),
        Task::Bench { what: What::Core, .. } => bench::core(),
        Task::Bench { what: What::Server, .. } => bench::server(),
        Task::Bench { what: What::Grown, .. } => bench::grown(),
        Task::Bench { what: What::Flood, .. } => bench::flood(),
        Task::Bench { what: What::Chat, programs, only } => bench::chat(programs.as_deref(), only),
        Task::World { seeds, start } => world::run(*seeds, *start),
        Task::Tidy => tidy::run(),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
