//! Finds and reads vector files.

use std::path::PathBuf;

use corncrake_core::crypto::{Digest, Secret};
use serde_json::Value;

/// Suite 0x0003.
pub(crate) const OURS: &[u64] = &[3];
/// Suites that share our hash, HPKE's KEM and signatures, but not the AEAD.
pub(crate) const SAME_CURVES: &[u64] = &[1, 3];
/// Suites that share our hash.
pub(crate) const SAME_HASH: &[u64] = &[1, 2, 3];

/// The cases of one file; none where the vectors are not installed.
pub(crate) fn cases(name: &str) -> Vec<Value> {
    let configured = std::env::var_os("CORNCRAKE_VECTORS").map(PathBuf::from);
    let required = configured.is_some();
    let root = configured.unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors")
    });
    let path = root.join("mls").join(format!("{name}.json"));
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("a vector file is JSON"),
        Err(error) => {
            assert!(!required, "{}: {error}", path.display());
            eprintln!(
                "skipped: no {}; get the folder `test-vectors` of \
                 github.com/mlswg/mls-implementations and set CORNCRAKE_VECTORS to the folder \
                 that holds it under the name `mls`",
                path.display()
            );
            Vec::new()
        }
    }
}

/// The cases of one file that belong to one of these cipher suites.
pub(crate) fn cases_of(name: &str, suites: &[u64]) -> Vec<Value> {
    let all = cases(name);
    let installed = !all.is_empty();
    let chosen: Vec<_> =
        all.into_iter().filter(|case| suites.contains(&number(&case["cipher_suite"]))).collect();
    assert!(!installed || !chosen.is_empty(), "{name}: no case of suites {suites:?}");
    chosen
}

/// A field of hex digits.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex digits")
}

/// A field with a number.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// A field with a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// A field of text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// A field of hex digits that is a secret.
pub(crate) fn hidden(value: &Value) -> Secret {
    Secret::from(bytes(value))
}

/// A field of hex digits that is a hash.
pub(crate) fn digest(value: &Value) -> Digest {
    Digest(bytes(value).try_into().expect("32 bytes"))
}
