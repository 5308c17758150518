use corncrake_wire::{
    AccountId, DeviceId, ErrorCode, SessionToken,
    account::{GetVault, ListPackages, LogOut, Renew, RenewStart},
    limits,
    session::renewal,
};
use ed25519_dalek::Signer;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{Api, Person, SUITE, problem, random, sign_up};

async fn signed(api: &Api, person: &Person, origin: &str) -> Renew {
    let (account, device) = (person.account, person.device.id);
    let nonce = api.call(&RenewStart { account, device }).await.unwrap().nonce;
    let signature = person.key.sign(&renewal(origin, &account, &device, &nonce));
    Renew { account, device, nonce, signature: signature.to_bytes().to_vec() }
}

#[tokio::test]
async fn a_device_renews_its_session_by_its_key() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let port = api.address().port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let renew = signed(&api, &bob, &format!("http://{host}:{port}")).await;
        let session = api.call(&renew).await.unwrap();
        let count = ListPackages { suite: SUITE };
        assert!(api.call_as(Some(&session.token), &count).await.is_ok());
        let again = api.call(&renew).await;
        assert_eq!(again, Err(problem(ErrorCode::SessionRequired)), "a nonce is used once");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(
            (now + limits::SESSION..=now + limits::SESSION + 7 * 86_400).contains(&session.expires)
        );
    }
}

#[tokio::test]
async fn no_other_key_origin_device_or_nonce_renews() {
    let api =
        Api::start_with(|config| config.origin = vec!["https://chat.example/".to_owned()]).await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    let origin = "https://chat.example";
    let rows = api.rows().await;
    let refused = Err(problem(ErrorCode::SessionRequired));

    let elsewhere = signed(&api, &bob, "https://evil.example").await;
    assert_eq!(api.call(&elsewhere).await, refused);
    let mut wrong_key = signed(&api, &bob, origin).await;
    let bytes = renewal(origin, &bob.account, &bob.device.id, &wrong_key.nonce);
    wrong_key.signature = eve.key.sign(&bytes).to_bytes().to_vec();
    assert_eq!(api.call(&wrong_key).await, refused);
    let mut short = signed(&api, &bob, origin).await;
    short.signature.pop();
    assert_eq!(api.call(&short).await, refused);
    let mut other_nonce = signed(&api, &bob, origin).await;
    other_nonce.nonce = random();
    assert_eq!(api.call(&other_nonce).await, refused);
    // A nonce that was asked for one device doesn't serve another.
    let mut moved = signed(&api, &bob, origin).await;
    (moved.account, moved.device) = (eve.account, eve.device.id);
    let bytes = renewal(origin, &moved.account, &moved.device, &moved.nonce);
    moved.signature = eve.key.sign(&bytes).to_bytes().to_vec();
    assert_eq!(api.call(&moved).await, refused);
    // Unknown devices get a nonce like all others.
    let nobody = (AccountId(random()), ErrorCode::UnknownAccount);
    for (account, code) in [nobody, (bob.account, ErrorCode::UnknownDevice)] {
        let device = DeviceId(random());
        let nonce = api.call(&RenewStart { account, device }).await.unwrap().nonce;
        let unknown = Renew { account, device, nonce, signature: vec![0; 64] };
        assert_eq!(api.call(&unknown).await, Err(problem(code)));
    }
    assert_eq!(api.rows().await, rows);

    assert!(api.call(&signed(&api, &bob, origin).await).await.is_ok());
}

#[tokio::test]
async fn sessions_survive_a_restart_and_end_by_log_out() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let api = api.restart().await;
    let token = Some(&bob.session.token);
    assert!(api.call_as(token, &GetVault).await.is_ok());
    assert_eq!(api.call_as(token, &LogOut).await, Ok(()));
    assert_eq!(api.call_as(token, &GetVault).await, Err(problem(ErrorCode::SessionRequired)));
}

#[tokio::test]
async fn sessions_expire_and_only_their_hash_is_stored() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = &bob.session.token;
    let options = SqliteConnectOptions::new().filename(api.folder.path().join("accounts.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let digest: Vec<u8> =
        sqlx::query_scalar("SELECT digest FROM sessions").fetch_one(&mut database).await.unwrap();
    assert_eq!(digest, token.digest());
    sqlx::query("UPDATE sessions SET expires = 1").execute(&mut database).await.unwrap();
    let expired = api.call_as(Some(token), &GetVault).await;
    assert_eq!(expired, Err(problem(ErrorCode::SessionExpired)));
    let other = SessionToken::new(random());
    let unknown = api.call_as(Some(&other), &GetVault).await;
    assert_eq!(unknown, Err(problem(ErrorCode::SessionRequired)));
}
