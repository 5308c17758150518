use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;

const CHEAP: Stretch = Stretch::with(|input, output| output.copy_from_slice(input));

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([42; 32])
}

fn registered(
    server: &ServerSecret,
    password: &[u8],
    stretch: Stretch,
    rng: &mut ChaCha20Rng,
) -> (Vec<u8>, ExportKey) {
    let (client, request) = register(password, rng).unwrap();
    let reply = server.registration_reply("bob", &request).unwrap();
    let (upload, export) = client.finish(&reply, stretch, rng).unwrap();
    check_record(&upload).unwrap();
    (upload, export)
}

fn logged_in(
    server: &ServerSecret,
    record: Option<&[u8]>,
    password: &[u8],
    stretch: Stretch,
) -> Result<ExportKey, FinishError> {
    let mut rng = rng();
    let (client, request) = log_in(password, &mut rng)?;
    let (reply, state) = server.log_in_reply("bob", record, &request, &mut rng)?;
    let (proof, export) = client.finish(&reply, stretch, &mut rng)?;
    check_log_in(&state, &proof)?;
    Ok(export)
}

#[test]
fn the_password_alone_gives_the_export_key() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (record, export) = registered(&server, b"correct horse", CHEAP, &mut rng);
    let again = logged_in(&server, Some(&record), b"correct horse", CHEAP).unwrap();
    assert_eq!(again.expose_bytes(), export.expose_bytes());
    assert!(logged_in(&server, Some(&record), b"wrong horse", CHEAP).is_err());
    assert!(logged_in(&server, None, b"correct horse", CHEAP).is_err());
    let other = Stretch::with(|input, output| output.fill(input[0]));
    assert!(logged_in(&server, Some(&record), b"correct horse", other).is_err());
    let other = ServerSecret::new(&mut rng);
    assert!(logged_in(&other, Some(&record), b"correct horse", CHEAP).is_err());
}

#[test]
fn audit_issue_7_qm4_no_memory_is_no_wrong_password() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (record, _) = registered(&server, b"correct horse", CHEAP, &mut rng);
    let none = Stretch::without_memory();
    let refused = logged_in(&server, Some(&record), b"correct horse", none).unwrap_err();
    assert_eq!(refused, FinishError::NoMemory);
    let wrong = logged_in(&server, Some(&record), b"wrong horse", CHEAP).unwrap_err();
    assert_eq!(wrong, FinishError::Failed);
    let (client, request) = register(b"correct horse", &mut rng).unwrap();
    let reply = server.registration_reply("bob", &request).unwrap();
    assert_eq!(client.finish(&reply, none, &mut rng).unwrap_err(), FinishError::NoMemory);
}

#[test]
fn a_server_secret_survives_its_file() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (record, _) = registered(&server, b"correct horse", CHEAP, &mut rng);
    let bytes = server.expose_bytes();
    let server = ServerSecret::from_bytes(&bytes).unwrap();
    assert!(logged_in(&server, Some(&record), b"correct horse", CHEAP).is_ok());
    assert!(ServerSecret::from_bytes(&bytes[1..]).is_err());
    assert!(ServerSecret::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    assert!(ServerSecret::from_bytes(&[]).is_err());
}

#[test]
fn an_unknown_name_is_answered_in_the_same_shape() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (record, _) = registered(&server, b"correct horse", CHEAP, &mut rng);
    let (_, request) = log_in(b"guess", &mut rng).unwrap();
    let (known, _) = server.log_in_reply("bob", Some(&record), &request, &mut rng).unwrap();
    let (unknown, _) = server.log_in_reply("eve", None, &request, &mut rng).unwrap();
    assert_eq!(known.len(), unknown.len());
    // The part that depends on name and request alone repeats for names that nobody has too.
    let (again, _) = server.log_in_reply("eve", None, &request, &mut rng).unwrap();
    assert_eq!(unknown[..32], again[..32]);
}

#[test]
fn the_default_stretch_is_argon2id_and_frozen() {
    let input = GenericArray::from([7u8; 64]);
    let output = Stretch::default().hash(input).unwrap();
    assert_eq!(hex::encode(&output[..16]), "8955177e97585f901ae86debee70e30e");
}

#[test]
fn cut_extended_and_garbled_messages_are_refused() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (client, request) = register(b"correct horse", &mut rng).unwrap();
    let reply = server.registration_reply("bob", &request).unwrap();
    for bad in spoiled(&request) {
        assert!(server.registration_reply("bob", &bad).is_err());
        assert!(server.log_in_reply("bob", None, &bad, &mut rng).is_err());
    }
    let (upload, _) = client.finish(&reply, CHEAP, &mut rng).unwrap();
    for bad in spoiled(&reply) {
        let (client, _) = register(b"correct horse", &mut rng).unwrap();
        assert!(client.finish(&bad, CHEAP, &mut rng).is_err());
    }
    for bad in spoiled(&upload) {
        assert!(check_record(&bad).is_err());
    }
    let (client, request) = log_in(b"correct horse", &mut rng).unwrap();
    let (reply, state) = server.log_in_reply("bob", Some(&upload), &request, &mut rng).unwrap();
    for bad in spoiled(&reply) {
        let (client, _) = log_in(b"correct horse", &mut rng).unwrap();
        assert!(client.finish(&bad, CHEAP, &mut rng).is_err());
    }
    let (proof, _) = client.finish(&reply, CHEAP, &mut rng).unwrap();
    for bad in spoiled(&proof) {
        assert!(check_log_in(&state, &bad).is_err());
    }
    assert!(check_log_in(&state, &proof).is_ok());
}

/// Cut, extended, emptied, and with a first element that is no group element.
fn spoiled(message: &[u8]) -> Vec<Vec<u8>> {
    let mut garbled = message.to_vec();
    garbled[..32].fill(0xff);
    vec![message[1..].to_vec(), [message, &[0]].concat(), Vec::new(), garbled]
}

#[test]
fn debug_shows_nothing() {
    let mut rng = rng();
    let server = ServerSecret::new(&mut rng);
    let (registration, _) = register(b"pw", &mut rng).unwrap();
    let (log_in, request) = log_in(b"pw", &mut rng).unwrap();
    let (_, state) = server.log_in_reply("bob", None, &request, &mut rng).unwrap();
    let (_, export) = registered(&server, b"pw", CHEAP, &mut rng);
    assert_eq!(
        format!("{server:?} {registration:?} {log_in:?} {state:?} {export:?}"),
        "ServerSecret(..) ClientRegistration(..) ClientLogIn(..) LogInState(..) ExportKey(..)",
    );
}
