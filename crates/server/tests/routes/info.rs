use corncrake_wire::{INFO_PATH, LOWEST_VERSION, VERSION};

use crate::support::{Api, answer};

#[tokio::test]
async fn the_server_describes_itself_to_anybody() {
    let api = Api::start_with(|config| {
        config.name = "a test".to_owned();
        config.open_url = Some("https://open.example".to_owned());
    })
    .await;
    let url = format!("http://{}{INFO_PATH}", api.address());
    let body = answer(api.http.get(url).send().await.unwrap()).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(info["name"], "a test");
    assert_eq!(info["versions"]["highest"], VERSION);
    assert_eq!(info["versions"]["lowest"], LOWEST_VERSION);
    assert_eq!(info["open_url"], "https://open.example");
    assert_eq!(info["limits"]["batch"], 64);
}
