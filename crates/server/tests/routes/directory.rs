use corncrake_wire::{
    AccountId, ErrorCode, limits,
    open::{By, Claim, LookUp},
};

use crate::support::{Api, claim, found, look_up, problem, random, sign_up};

#[tokio::test]
async fn an_account_is_found_by_name_and_by_id() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    sign_up(&api, "eve", b"correct horse").await;
    assert_eq!(api.call(&look_up(By::Name("bob".to_owned()))).await, Ok(found("bob", 1)));
    assert_eq!(api.call(&look_up(By::Id(bob.account))).await, Ok(found("bob", 1)));
    let unknown = Err(problem(ErrorCode::UnknownAccount));
    assert_eq!(api.call(&look_up(By::Name("eva".to_owned()))).await, unknown);
    assert_eq!(api.call(&look_up(By::Id(AccountId(random())))).await, unknown);
    let nobody = api.call(&claim(AccountId(random()))).await;
    assert_eq!(nobody, Err(problem(ErrorCode::UnknownAccount)));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let invalid = Err(problem(ErrorCode::InvalidName));
    assert_eq!(api.call(&look_up(By::Name("BOB".to_owned()))).await, invalid);
    assert_eq!(api.call(&look_up(By::Name("' OR 1=1".to_owned()))).await, invalid);
    let admission = vec![0; limits::ADMISSION + 1];
    let too_large = LookUp { by: By::Id(bob.account), admission: admission.clone() };
    assert_eq!(api.call(&too_large).await, Err(problem(ErrorCode::TooLarge)));
    let too_large = Claim { admission, ..claim(bob.account) };
    assert_eq!(api.call(&too_large).await, Err(problem(ErrorCode::TooLarge)));
    assert_eq!(api.rows().await, rows, "a refused claim takes nothing");
    let none = Claim { suite: 77, ..claim(bob.account) };
    assert_eq!(api.call(&none).await.unwrap().packages, []);
}
