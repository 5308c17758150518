//! `cargo xtask tidy`: facts about the tree that no compiler checks.

use std::{fs, path::Path, process::Command};

use crate::{Result, root, say};

/// No source file is longer; tests that stand in files of their own may be.
const LINES: usize = 700;
/// Notes to oneself and paths of one machine; split so that this file is clean.
const WORDS: [&str; 8] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];

/// Looks at every tracked file.
///
/// # Errors
/// All that is wrong, one line each.
pub fn run() -> Result<()> {
    let root = root();
    let mut wrong = Vec::new();
    for name in tracked(&root)? {
        let path = root.join(&name);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        if name.ends_with(".rs") || name.ends_with(".md") || name.ends_with(".toml") {
            wrong.extend(faults_of_text(&name, &text));
        }
        if name.ends_with(".md") {
            wrong.extend(broken_links(&path, &name, &text));
        }
        if name.ends_with("/Cargo.toml") && !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name}: does not take the workspace's lints"));
        }
    }
    if wrong.is_empty() {
        say("the tree is tidy");
        return Ok(());
    }
    Err(wrong.join("\n").into())
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listing = Command::new("git").args(arguments).current_dir(root).output()?;
    if !listing.status.success() {
        return Err("the tree is not a git repository".into());
    }
    Ok(String::from_utf8(listing.stdout)?.lines().map(str::to_owned).collect())
}

fn faults_of_text(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.lines().count() > LINES && !name.contains("/tests/") {
        faults.push(format!("{name}: longer than {LINES} lines: find the second subject in it"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        for word in WORDS.iter().filter(|word| line.contains(**word)) {
            faults.push(format!("{name}:{number}: contains {word}"));
        }
    }
    faults
}

/// Relative links that lead nowhere; those to the web are not followed.
fn broken_links(path: &Path, name: &str, text: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(path);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("{name}: link to {target} leads nowhere"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_notes_to_oneself_are_found() {
        let text = format!("{}\n// {}: later", "line\n".repeat(700), WORDS[0]);
        assert_eq!(faults_of_text("a.rs", &text).len(), 2);
        assert!(faults_of_text("a.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn links_must_lead_somewhere() {
        let path = root().join("README.md");
        let text = "[a](Cargo.toml) [b](https://example.org) [c](nowhere.md#there) [d](#here)";
        let broken = broken_links(&path, "README.md", text);
        assert_eq!(broken, ["README.md: link to nowhere.md leads nowhere"]);
    }
}
