use super::*;
use crate::golden::{assert_golden_hex, feed_garbage, rng, spoiled};

fn storage() -> StorageKey {
    StorageKey::from_key(Key32::from_bytes([2; 32]))
}

fn log() -> LogId {
    storage().account_log_seed().log_keys().log
}

fn conversation(seed: u8) -> AccountLogRecord {
    AccountLogRecord::Conversation(ConversationRecord {
        id: ConversationId::from_bytes([1; 32]),
        seed: Seed::from_key(Key32::from_bytes([seed; 32])),
        anchor: Anchor { epoch: 300, interim: [4; 32] },
        read: (9, [6; 32]),
        hidden: false,
        may_yield: false,
        losses: 0,
        begins_with: 0,
        is_alone: false,
        is_out: false,
    })
}

fn contact() -> AccountLogRecord {
    AccountLogRecord::Contact(ContactRecord {
        account: AccountId::from_bytes([5; 32]),
        username: "bob".to_owned(),
        list_version: 2,
        verified_key: Some([6; 32]),
        blocked: false,
    })
}

fn device_name() -> AccountLogRecord {
    let device = DeviceId::from_bytes([7; 32]);
    let joined = Some(ReplacementRecord { version: 2, request: vec![7; 3] });
    let signed_up = sign_up().sign_up().cloned();
    let name = "laptop".to_owned();
    AccountLogRecord::DeviceName(DeviceNameRecord { device, name, joined, signed_up })
}

fn lost_removals() -> AccountLogRecord {
    let accounts = [(AccountId::from_bytes([5; 32]), Some(DeviceId::from_bytes([7; 32])))];
    AccountLogRecord::LostRemovals(LostRemovalsRecord {
        conversation: ConversationId::from_bytes([1; 32]),
        accounts: accounts.into(),
        keys: [[8; 32]].into(),
    })
}

fn replacement(version: u64) -> AccountLogRecord {
    AccountLogRecord::Replacement(ReplacementRecord { version, request: vec![9; 5] })
}

fn sign_up() -> AccountLogRecord {
    let identity = IdentityKey::try_from_seed(&[4; 32]).unwrap();
    AccountLogRecord::SignUp(SignUpRecord::issue(300, vec![9; 5], &identity))
}

fn unknown() -> AccountLogRecord {
    let value = Zeroizing::new(vec![9; 9]);
    AccountLogRecord::Unknown(UnknownRecord { kind: 900, key: vec![8], value })
}

fn map() -> AccountMap {
    let mut map = AccountMap::new();
    let known = [conversation(3), contact(), device_name(), lost_removals(), replacement(11)];
    for record in known.into_iter().chain([sign_up(), unknown()]) {
        map.apply(record);
    }
    map
}

#[test]
fn records_are_golden_and_round_trip() {
    let key = storage().record_key();
    for (name, record) in [
        ("record_conversation.hex", conversation(3)),
        ("record_contact.hex", contact()),
        ("record_device_name.hex", device_name()),
        ("record_lost_removals.hex", lost_removals()),
        ("record_replacement.hex", replacement(11)),
        ("record_sign_up.hex", sign_up()),
        ("record_unknown.hex", unknown()),
    ] {
        let sealed = key.seal_record(log(), &record, &mut rng(1)).unwrap();
        assert_golden_hex(name, &sealed);
        assert_eq!(key.open_record(log(), &sealed), Ok(record));
    }
}

#[test]
fn the_map_is_golden_and_round_trips() {
    let key = storage().record_key();
    let sealed = key.seal_map(log(), &map(), &mut rng(1)).unwrap();
    assert_golden_hex("record_map.hex", &sealed);
    assert_eq!(key.open_map(log(), &sealed), Ok(map()));
    assert_eq!(AccountMap::decode(&AccountMap::new().encode()), Ok(AccountMap::new()));
}

#[test]
fn the_last_writer_wins() {
    let mut map = map();
    assert_eq!(map.records().count(), 7);
    map.apply(conversation(33));
    assert_eq!(map.records().count(), 7);
    let found = map.conversation(ConversationId::from_bytes([1; 32])).unwrap();
    assert_eq!(found.seed.expose(), &[33; 32]);
    assert_eq!(map.contact(AccountId::from_bytes([5; 32])).unwrap().username, "bob");
    assert!(map.conversation(ConversationId::from_bytes([5; 32])).is_none());
    assert!(map.contact(AccountId::from_bytes([1; 32])).is_none());
    assert!(map.lost_removals(ConversationId::from_bytes([1; 32])).is_some());
    assert!(map.lost_removals(ConversationId::from_bytes([5; 32])).is_none());
}

#[test]
fn the_newest_replacements_are_kept() {
    let mut map = AccountMap::new();
    for version in 2..=30 {
        map.apply(replacement(version));
    }
    let mut kept: Vec<u64> = map
        .records()
        .filter_map(|record| match record {
            AccountLogRecord::Replacement(record) => Some(record.version),
            _ => None,
        })
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (23..=30).collect::<Vec<_>>());
}

#[test]
fn a_sign_up_is_the_one_that_the_identity_key_signed() {
    let AccountLogRecord::SignUp(signed) = sign_up() else { panic!() };
    let key = IdentityKey::try_from_seed(&[4; 32]).unwrap().public();
    let other = IdentityKey::try_from_seed(&[5; 32]).unwrap().public();
    assert!(signed.is_signed_by(&key));
    assert!(!signed.is_signed_by(&other));
    assert!(!SignUpRecord { made: 301, ..signed.clone() }.is_signed_by(&key));
    assert!(!SignUpRecord { request: vec![9; 6], ..signed.clone() }.is_signed_by(&key));
    assert!(!SignUpRecord { signature: vec![0; 64], ..signed.clone() }.is_signed_by(&key));
    assert!(!SignUpRecord { signature: Vec::new(), ..signed }.is_signed_by(&key));
    let kept: Vec<u64> = map().sign_ups().map(|kept| kept.made).collect();
    assert_eq!(kept, [300, 300], "from the device that made it, and by itself");
}

#[test]
fn a_known_kind_in_a_later_version_is_kept() {
    let Encoded { kind, key, mut value } = conversation(3).encode();
    value[0] = 2;
    value.push(7);
    let later = AccountLogRecord::decode(Encoded { kind, key, value }).unwrap();
    let AccountLogRecord::Unknown(_) = &later else { panic!("{later:?}") };
    let record_key = storage().record_key();
    let sealed = record_key.seal_record(log(), &later, &mut rng(1)).unwrap();
    assert_eq!(record_key.open_record(log(), &sealed), Ok(later.clone()));
    let mut map = map();
    map.apply(later);
    assert_eq!(map.records().count(), 7, "it replaces what it is about");
}

#[test]
fn a_record_under_a_foreign_key_is_malformed() {
    let encoded = Encoded { key: vec![2; 32], ..conversation(3).encode() };
    let decoded = AccountLogRecord::decode(encoded);
    assert_eq!(decoded, Err(EncodingError::Malformed));
}

#[test]
fn a_map_in_disorder_is_malformed() {
    for order in [[contact(), conversation(3)], [contact(), contact()]] {
        let records = order.map(|record| record.encode());
        let bytes = encoding::encode(VERSION, &records.as_slice());
        assert_eq!(AccountMap::decode(&bytes), Err(EncodingError::Malformed));
    }
}

#[test]
fn what_is_sealed_opens_only_where_it_belongs() {
    let key = storage().record_key();
    let sealed = key.seal_record(log(), &contact(), &mut rng(1)).unwrap();
    let refused = Some(SealError::Refused);
    assert_eq!(key.open_map(log(), &sealed).err(), refused);
    assert_eq!(key.open_record(LogId::from_bytes([0; 32]), &sealed).err(), refused);
    let other = StorageKey::random(&mut rng(2)).record_key();
    assert_eq!(other.open_record(log(), &sealed).err(), refused);
    for bad in spoiled(&sealed) {
        assert!(key.open_record(log(), &bad).is_err());
    }
}

#[test]
fn records_have_a_limit() {
    let device = DeviceId::from_bytes([7; 32]);
    let name = "x".repeat(MAX_RECORD);
    let (joined, signed_up) = (None, None);
    let record = AccountLogRecord::DeviceName(DeviceNameRecord { device, name, joined, signed_up });
    let key = storage().record_key();
    let refused = key.seal_record(log(), &record, &mut rng(1));
    assert_eq!(refused, Err(SealError::TooLarge));
    let opened = key.open_record(log(), &vec![1; MAX_RECORD + 1]);
    assert_eq!(opened, Err(SealError::TooLarge));
}

#[test]
fn garbage_is_an_error_or_the_same_bytes() {
    let valid = map().encode();
    feed_garbage(1_000_000, &valid, |bytes| {
        if let Ok(map) = AccountMap::decode(bytes) {
            assert_eq!(*map.encode(), bytes);
        }
    });
    for record in [conversation(3), contact(), device_name(), sign_up()] {
        let valid = encoding::encode(VERSION, &record.encode());
        feed_garbage(250_000, &valid, |bytes| {
            let encoded = encoding::decode(VERSION, bytes);
            if let Ok(record) = encoded.and_then(AccountLogRecord::decode) {
                assert_eq!(encoding::encode(VERSION, &record.encode()), bytes);
            }
        });
    }
}

#[test]
fn secrets_and_names_are_not_printed() {
    assert_eq!(format!("{:?}", storage()), "StorageKey(Key32(..))");
    assert_eq!(format!("{:?}", storage().record_key()), "RecordKey(Key32(..))");
    let contact = format!("{:?}", contact());
    assert_eq!(contact, "Contact(ContactRecord { account: AccountId(05050505..), .. })");
    let name = format!("{:?}", device_name());
    assert_eq!(name, "DeviceName(DeviceNameRecord { device: DeviceId(07070707..), .. })");
    assert_eq!(format!("{:?}", sign_up()), "SignUp(SignUpRecord { made: 300, .. })");
    assert_eq!(format!("{:?}", unknown()), "Unknown(UnknownRecord { kind: 900, .. })");
}
