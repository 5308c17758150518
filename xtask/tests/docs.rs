//! The documents say what the code does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use xtask::root;

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Every Rust source below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn is_code(word: &str) -> bool {
    !word.is_empty()
        && !word.ends_with('_')
        && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// Words in double quotes that look like codes.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('"').skip(1).step_by(2).filter(|word| is_code(word)).map(str::to_owned)
}

/// What the functions named `code`, the tables of errors, the server's table of codes and the
/// command line give.
fn codes_of_the_code() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for path in
        ["crates/core/src", "crates/client/src"].iter().flat_map(|it| sources(&root().join(it)))
    {
        let text = fs::read_to_string(path).unwrap();
        for function in text.split("fn code(").skip(1) {
            codes.extend(quoted(function.split("\n    }\n").next().unwrap()));
        }
        for table in text.split("\nerrors! {").skip(1) {
            let rows = table.split("\n}\n").next().unwrap().split("=> ").skip(1);
            codes.extend(rows.filter_map(|row| quoted(row).next()));
        }
    }
    let wire = read("crates/wire/src/error.rs");
    let table = wire.split("\ncodes! {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let code_lines = table.lines().filter(|line| !line.trim_start().starts_with("///"));
    codes.extend(code_lines.flat_map(quoted));
    for path in sources(&root().join("examples/cli/src")) {
        let text = fs::read_to_string(path).unwrap();
        let calls = text.split("::refused(").skip(1).map(str::trim_start);
        codes.extend(
            calls.filter(|call| call.starts_with('"')).filter_map(|call| quoted(call).next()),
        );
    }
    codes.extend(["home_unusable", "no_output"].map(str::to_owned));
    codes
}

#[test]
fn the_page_of_errors_explains_every_code_and_no_other() {
    let page = read("docs/errors.md");
    let first_column = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let explained: BTreeSet<String> = first_column.map(str::to_owned).collect();
    let codes = codes_of_the_code();
    assert!(codes.len() > 100, "the search for codes finds too few: {codes:?}");
    let missing: Vec<_> = codes.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&codes).collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain {missing:?}");
    assert!(stale.is_empty(), "docs/errors.md explains what nothing says: {stale:?}");
}

#[test]
fn the_readmes_lines_are_those_of_the_example() {
    let readme = read("README.md");
    let block = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let example = read("examples/embed/src/main.rs");
    let mut lines = example.lines().map(str::trim);
    let shown: Vec<_> = block.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &shown {
        assert!(lines.any(|other| other == *line), "examples/embed has no {line}, or not here");
    }
    assert!(shown.len() <= 13, "they are to be few");
}

/// A claim in SECURITY.md ends in `(test: name)` or `(tests: name, name)`.
#[test]
fn every_test_that_security_names_exists() {
    let page = read("SECURITY.md").replace('\n', " ");
    let claims = page.split("(test").skip(1).filter_map(|rest| rest.split(')').next());
    let lists = claims.filter_map(|claim| claim.trim_start_matches('s').strip_prefix(": "));
    let names: BTreeSet<_> =
        lists.flat_map(|list| list.split(',')).map(|name| name.trim().trim_matches('`')).collect();
    assert!(names.len() > 10, "too few claims name their test: {names:?}");
    let places = ["crates", "examples", "xtask"].map(|folder| sources(&root().join(folder)));
    let code: String =
        places.concat().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let missing: Vec<_> =
        names.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
}
