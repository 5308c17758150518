use corncrake_wire::{
    ErrorCode,
    account::{GetVault, ReplaceVault, Vault},
    limits,
    session::Replacement,
};

use crate::support::{Api, problem, sign, sign_up};

#[tokio::test]
async fn a_vault_is_replaced_by_its_next_version_only() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = Some(&bob.session.token);
    let replace = |version, bytes: &[u8]| {
        let vault = Vault { version, bytes: bytes.to_vec() };
        let replacement = Replacement { vault: Some(&vault), ..Replacement::of(&bob.account) };
        ReplaceVault { signature: sign(&bob.account, &replacement), vault }
    };
    let conflict = Err(problem(ErrorCode::VersionConflict));
    for version in [0, 1, 3, u64::MAX] {
        assert_eq!(api.call_as(token, &replace(version, b"other")).await, conflict);
    }
    let huge = replace(2, &vec![0; limits::VAULT + 1]);
    assert_eq!(api.call_as(token, &huge).await, Err(problem(ErrorCode::TooLarge)));
    let (first, second) = (replace(2, b"from one"), replace(2, b"from two"));
    let (one, two) = tokio::join!(api.call_as(token, &first), api.call_as(token, &second));
    assert!(one.is_ok() != two.is_ok(), "of two who race one wins");
    let vault = api.call_as(token, &GetVault).await.unwrap();
    assert_eq!(vault.version, 2);
    assert_eq!(vault.bytes, if one.is_ok() { b"from one" } else { b"from two" });
}
