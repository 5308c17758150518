//! Building core, wire and client for browsers, so that nothing native creeps in.

use std::process::{Command, Stdio};

use crate::{
    Result,
    command::{cargo, watch},
    root, say,
};

const TARGET: &str = "wasm32-unknown-unknown";
const CRATES: [&str; 6] = ["-p", "corncrake-core", "-p", "corncrake-wire", "-p", "corncrake"];
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

/// The command that builds the three crates, after installing what it needs: rustup's target, or
/// else Debian's Rust with the sources of its standard library.
///
/// # Errors
/// Neither way works on this machine.
pub fn build() -> Result<Command> {
    if succeeds(Command::new("rustup").args(["target", "add", TARGET])) {
        let mut command = cargo(&["build", "--target", TARGET]);
        command.args(CRATES);
        return Ok(command);
    }
    say("rustup has no wasm32 target here: trying Debian's packages");
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES);
    if !watch(install, core::time::Duration::from_secs(600))?.success {
        return Err(format!("install the target with `rustup target add {TARGET}`").into());
    }
    let mut command = Command::new("/usr/bin/cargo");
    command
        .args(["build", "--target", TARGET, "-Z", "build-std=std,panic_abort"])
        .args(CRATES)
        .current_dir(root())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19")
        .env("CARGO_TARGET_DIR", root().join("target/wasm"))
        .env_remove("RUSTUP_TOOLCHAIN");
    Ok(command)
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
