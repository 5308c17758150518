use super::*;
use crate::derive::Key32;
use crate::golden::{assert_golden, assert_golden_hex, feed_garbage, rng, spoiled};
use crate::mls::codec::Encode as _;

fn identity(seed: u8) -> IdentityKey {
    IdentityKey::try_from_seed(&[seed; 32]).unwrap()
}

fn device_key(seed: u8) -> SignaturePublicKey {
    SignatureKey::try_from_seed(&[seed; 32]).unwrap().public()
}

/// A chain of `length` keys, made from the seeds 1, 2, …
fn chain(length: u8) -> KeyChain {
    let begin = KeyChain::begin(&identity(1));
    (1..length)
        .fold(begin, |chain, seed| chain.extend(&identity(seed), &identity(seed + 1)).unwrap())
}

fn assistant(length: usize) -> DeviceClass {
    DeviceClass::Assistant(AssistantInfo {
        operator: "Example e.V.".to_owned(),
        model_class: "local".to_owned(),
        policy: "p".repeat(length - 17),
    })
}

fn record(version: u64) -> AccountRecord {
    AccountRecord {
        chain: chain(2),
        username: Username::parse("ann").unwrap(),
        contact_key: ContactKey::from_key(&Key32::from_bytes([8; 32])).public(),
        earlier_contact_keys: vec![ContactKey::from_key(&Key32::from_bytes([7; 32])).public()],
        list_version: version,
        devices: [101, 102].map(|seed| DeviceEntry { key: device_key(seed), since: 1 }).to_vec(),
        extensions: Vec::new(),
    }
}

/// Signs `content` as a record, whatever it says.
fn sign_record(content: &[u8], key: &IdentityKey) -> Vec<u8> {
    [content, &key.sign("corncrake account record", content)].concat()
}

#[test]
fn a_chain_keeps_its_account_and_names_its_newest_key() {
    let (short, long) = (chain(1), chain(3));
    assert_eq!(short.account_id(), long.account_id());
    assert_eq!(short.account_id(), account_id(&identity(1).public()));
    assert_eq!(long.current_key(), identity(3).public());
    assert!(long.extends(&short) && long.extends(&long) && !short.extends(&long));
    let bytes = long.to_bytes();
    assert_golden_hex("key_chain.hex", &bytes);
    assert_eq!(KeyChain::verify(&bytes), Ok(long));
}

#[test]
fn two_successors_of_one_key_are_a_break() {
    let fork = chain(1).extend(&identity(1), &identity(9)).unwrap();
    assert!(!fork.extends(&chain(2)) && !chain(2).extends(&fork));
    assert_eq!(fork.account_id(), chain(2).account_id());
}

#[test]
fn a_chain_is_extended_by_its_newest_key_up_to_sixteen() {
    let stale = chain(2).extend(&identity(1), &identity(9));
    assert_eq!(stale, Err(IdentityError::NotCurrentKey));
    let full = chain(16);
    let more = full.extend(&identity(16), &identity(17));
    assert_eq!(more, Err(IdentityError::ChainTooLong));
    let mut bytes = full.to_bytes();
    assert_eq!(KeyChain::verify(&bytes), Ok(full));
    bytes.extend_from_slice(&[7; 96]);
    bytes.splice(32..34, (0x4000 | (16 * 96u16)).to_be_bytes());
    assert_eq!(KeyChain::verify(&bytes), Err(IdentityError::ChainTooLong));
}

#[test]
fn a_link_of_another_account_does_not_fit() {
    let ours = chain(2).to_bytes();
    let theirs = KeyChain::begin(&identity(7)).to_bytes();
    let spliced = [&theirs[..32], &ours[32..]].concat();
    assert_eq!(KeyChain::verify(&spliced), Err(IdentityError::InvalidSignature));
}

#[test]
fn certificates_are_golden() {
    for (name, class) in [
        ("certificate_person.hex", DeviceClass::Person),
        ("certificate_assistant.hex", assistant(60)),
    ] {
        let bytes = Certificate::issue(&identity(2), &chain(2), &device_key(9), 4, &class).unwrap();
        assert_golden_hex(name, &bytes);
        let certificate = Certificate::parse_and_verify(&bytes).unwrap();
        assert_eq!(certificate.account(), chain(1).account_id());
        assert_eq!(certificate.device(), device_id(&device_key(9)));
        assert_eq!(certificate.device_key(), &device_key(9));
        assert_eq!(certificate.identity_key(), identity(2).public());
        assert_eq!(certificate.list_version(), 4);
        assert_eq!(certificate.class(), &class);
    }
}

#[test]
fn a_certificate_is_issued_by_the_newest_key_only() {
    let issued =
        Certificate::issue(&identity(1), &chain(2), &device_key(9), 1, &DeviceClass::Person);
    assert_eq!(issued, Err(IdentityError::NotCurrentKey));
}

#[test]
fn a_changed_or_shortened_certificate_is_refused() {
    let class = assistant(40);
    let bytes = Certificate::issue(&identity(2), &chain(2), &device_key(9), 4, &class).unwrap();
    for bad in spoiled(&bytes) {
        assert!(Certificate::parse_and_verify(&bad).is_err());
    }
}

#[test]
fn a_certificate_under_a_foreign_chain_is_refused() {
    let ours = Certificate::issue(
        &identity(7),
        &KeyChain::begin(&identity(7)),
        &device_key(9),
        4,
        &DeviceClass::Person,
    );
    let mut forged = ours.unwrap();
    forged.splice(1..33, *identity(1).public().as_bytes());
    let refused = Certificate::parse_and_verify(&forged);
    assert_eq!(refused.err(), Some(IdentityError::InvalidSignature));
}

#[test]
fn later_versions_and_classes_have_their_own_code() {
    let person = DeviceClass::Person;
    let bytes = Certificate::issue(&identity(1), &chain(1), &device_key(9), 1, &person).unwrap();
    let mut later = bytes.clone();
    later[0] = 2;
    let error = Certificate::parse_and_verify(&later).unwrap_err();
    assert_eq!(error, IdentityError::UnsupportedVersion);
    let mut other = bytes[..bytes.len() - 64].to_vec();
    *other.last_mut().unwrap() = 3;
    let signature = identity(1).sign("corncrake certificate", &other);
    other.extend_from_slice(&signature);
    let error = Certificate::parse_and_verify(&other).unwrap_err();
    assert_eq!(error, IdentityError::UnsupportedClass);
}

#[test]
fn an_assistant_has_512_bytes() {
    let issue = |class| Certificate::issue(&identity(1), &chain(1), &device_key(9), 1, &class);
    let longest = issue(assistant(512)).unwrap();
    assert!(Certificate::parse_and_verify(&longest).is_ok());
    assert_eq!(issue(assistant(513)), Err(IdentityError::TooLarge));
}

#[test]
fn many_certificates_are_verified_together() {
    let issue = |seed: u8| {
        let class = DeviceClass::Person;
        Certificate::issue(&identity(2), &chain(2), &device_key(seed), 1, &class).unwrap()
    };
    let mut all: Vec<_> = (10..20).map(issue).collect();
    let verified = Certificate::verify_all(all.iter().map(Vec::as_slice)).unwrap();
    let keys: Vec<_> = verified.iter().map(|one| one.device_key().clone()).collect();
    assert_eq!(keys, (10..20).map(device_key).collect::<Vec<_>>());
    *all[7].last_mut().unwrap() ^= 1;
    let refused = Certificate::verify_all(all.iter().map(Vec::as_slice));
    assert_eq!(refused, Err(IdentityError::InvalidSignature));
}

#[test]
fn account_records_are_golden() {
    let bytes = record(3).issue(&identity(2)).unwrap();
    assert_golden_hex("account_record.hex", &bytes);
    let verified = AccountRecord::verify(&bytes).unwrap();
    assert_eq!(verified.record(), &record(3));
    assert_eq!(verified.account(), chain(1).account_id());
}

#[test]
fn a_changed_or_shortened_record_is_refused() {
    let bytes = record(3).issue(&identity(2)).unwrap();
    for bad in spoiled(&bytes) {
        assert!(AccountRecord::verify(&bad).is_err());
    }
    assert_eq!(AccountRecord::verify(&vec![1; MAX_RECORD + 1]), Err(IdentityError::TooLarge));
}

#[test]
fn a_record_that_contradicts_itself_is_refused_though_signed() {
    let bytes = record(3).issue(&identity(2)).unwrap();
    let content = &bytes[..bytes.len() - 64];
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = content.to_vec();
        change(&mut content);
        AccountRecord::verify(&sign_record(&content, &identity(2))).unwrap_err()
    };
    assert_eq!(refused(&|bytes| bytes[1] ^= 1), IdentityError::WrongId);
    // The extensions, which are empty, end the content.
    let device = content.len() - 1 - 72;
    assert_eq!(refused(&|bytes| bytes[device] ^= 1), IdentityError::WrongId);
    let first = content[device - 72..device].to_vec();
    let twice = |bytes: &mut Vec<u8>| drop(bytes.splice(device..device + 72, first.clone()));
    assert_eq!(refused(&twice), IdentityError::DuplicateDevice);
    let name = content.windows(3).position(|window| window == b"ann").unwrap();
    assert_eq!(refused(&|bytes| bytes[name] = b'A'), IdentityError::BadUsername);
    assert_eq!(refused(&|bytes| bytes[name] = 0xFF), IdentityError::BadUsername);
    let unchanged = AccountRecord::verify(&sign_record(content, &identity(1)));
    assert_eq!(unchanged.err(), Some(IdentityError::InvalidSignature));
}

#[test]
fn a_record_names_the_contact_keys_before_its_own() {
    let mut now = record(3);
    let [first, earliest] = [now.contact_key, now.earlier_contact_keys[0]];
    for number in 0..9 {
        now.renew_contact_key(
            ContactKey::from_key(&Key32::from_bytes([100 + number; 32])).public(),
        );
        now.list_version += 1;
        let verified = AccountRecord::verify(&now.issue(&identity(2)).unwrap()).unwrap();
        assert_eq!(verified.record(), &now);
        let earlier = &now.earlier_contact_keys;
        assert_eq!(earlier.contains(&first), number < 8);
        assert_eq!(earlier.contains(&earliest), number < 7);
    }
    now.earlier_contact_keys.push(first);
    assert_eq!(now.issue(&identity(2)), Err(IdentityError::TooLarge));
}

#[test]
fn a_record_holds_ten_different_devices() {
    let with = |seeds: core::ops::Range<u8>| {
        let entry = |seed| DeviceEntry { key: device_key(seed), since: 1 };
        AccountRecord { devices: seeds.map(entry).collect(), ..record(1) }.issue(&identity(2))
    };
    assert!(AccountRecord::verify(&with(100..110).unwrap()).is_ok());
    assert_eq!(with(100..111), Err(IdentityError::TooManyDevices));
    let mut twice = record(1);
    twice.devices.push(twice.devices[0].clone());
    assert_eq!(twice.issue(&identity(2)), Err(IdentityError::DuplicateDevice));
}

#[test]
fn audit_srv_b11_what_a_later_version_says_is_kept_in_the_next_record() {
    let later = AccountRecord { extensions: b"of a later version".to_vec(), ..record(1) };
    let bytes = later.issue(&identity(2)).unwrap();
    let mut next = AccountRecord::verify(&bytes).unwrap().into_record();
    next.list_version += 1;
    next.devices.pop();
    let next = AccountRecord::verify(&next.issue(&identity(2)).unwrap()).unwrap();
    assert_eq!(next.record().extensions, later.extensions);
    let mut changed = bytes.clone();
    let at = bytes.windows(5).position(|window| window == b"later").unwrap();
    changed[at] ^= 1;
    assert_eq!(AccountRecord::verify(&changed).err(), Some(IdentityError::InvalidSignature));
    let large = AccountRecord { extensions: vec![1; MAX_RECORD], ..record(1) };
    assert_eq!(large.issue(&identity(2)), Err(IdentityError::TooLarge));
}

#[test]
fn a_successor_is_newer_and_goes_on_from_the_same_keys() {
    let verify = |record: AccountRecord, key| {
        AccountRecord::verify(&record.issue(&identity(key)).unwrap()).unwrap()
    };
    let now = verify(record(3), 2);
    assert!(verify(record(4), 2).may_replace(&now));
    assert!(verify(AccountRecord { chain: chain(3), ..record(4) }, 3).may_replace(&now));
    assert!(verify(AccountRecord { devices: Vec::new(), ..record(3) }, 2).may_replace(&now));
    let contact_key = ContactKey::from_key(&Key32::from_bytes([9; 32])).public();
    assert!(!verify(AccountRecord { contact_key, ..record(3) }, 2).may_replace(&now));
    assert!(!verify(record(2), 2).may_replace(&now));
    assert!(!verify(AccountRecord { chain: chain(1), ..record(4) }, 1).may_replace(&now));
    let mut renewed = record(3);
    renewed.renew_contact_key(contact_key);
    let renewed = verify(renewed, 2);
    for version in [3, 4] {
        assert!(renewed.may_replace(&verify(record(version), 2)), "it knows of a removal");
        assert!(!verify(record(version), 2).may_replace(&renewed), "the key is an earlier one");
    }
    let other = AccountRecord { chain: KeyChain::begin(&identity(7)), ..record(4) };
    assert!(!verify(other, 7).may_replace(&now));
}

#[test]
fn usernames_are_folded_and_checked() {
    assert_eq!(Username::parse("Ann_B.c-9").unwrap().as_str(), "ann_b.c-9");
    for bad in ["", "ab", &"a".repeat(33), "ann b", "änn", "ann!", "ann\u{212a}", "a\0b"] {
        assert_eq!(Username::parse(bad), Err(IdentityError::BadUsername), "{bad:?}");
    }
    assert!(Username::parse("abc").is_ok() && Username::parse(&"a".repeat(32)).is_ok());
}

#[test]
fn both_sides_agree_on_the_seed_of_their_chat() {
    let (ann, bob) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
    let ours = ContactKey::from_key(&Key32::from_bytes([3; 32]));
    let theirs = ContactKey::from_key(&Key32::from_bytes([4; 32]));
    let seed = contact_agreement(&ours, &theirs.public(), ann, bob, 0).unwrap();
    assert_golden_hex("direct_seed.hex", seed.expose());
    assert_eq!(contact_agreement(&theirs, &ours.public(), bob, ann, 0), Ok(seed.clone()));
    assert_ne!(contact_agreement(&theirs, &ours.public(), bob, ann, 1), Ok(seed.clone()));
    let elsewhere = contact_agreement(&ours, &theirs.public(), ann, ann, 0);
    assert_ne!(elsewhere, Ok(seed));
}

#[test]
fn a_contact_key_of_low_order_is_refused() {
    let (ann, bob) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
    let ours = ContactKey::generate(&mut rng(1));
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one] {
        let agreed = contact_agreement(&ours, &ContactPublicKey(point), ann, bob, 0);
        assert_eq!(agreed, Err(IdentityError::InvalidKey));
    }
}

#[test]
fn safety_numbers_are_golden_and_independent_of_order() {
    let ann = (AccountId::from_bytes([1; 32]), &identity(1).public());
    let bob = (AccountId::from_bytes([2; 32]), &identity(2).public());
    let mal = (bob.0, &identity(3).public());
    let number = SafetyNumber::new(ann, bob);
    assert_golden("safety_number.txt", format!("{number}\n").as_bytes());
    assert_golden_hex("safety_number_qr.hex", &number.qr_bytes());
    assert_eq!(number, SafetyNumber::new(bob, ann));
    let other = SafetyNumber::new(ann, mal);
    assert_ne!(number.qr_bytes(), other.qr_bytes());
    let differing = number.digits().iter().zip(other.digits()).filter(|(a, b)| **a != *b).count();
    assert!(differing > 9, "every group depends on both keys");
    let digits = number.to_string().replace(' ', "");
    assert!(digits.len() == 60 && digits.bytes().all(|digit| digit.is_ascii_digit()));
}

#[test]
fn secrets_print_nothing() {
    assert_eq!(
        format!("{:?}", identity(1)),
        format!("IdentityKey({:?})", SignatureKey::try_from_seed(&[1; 32]).unwrap())
    );
    let contact = ContactKey::from_key(&Key32::from_bytes([3; 32]));
    assert_eq!(format!("{contact:?}"), "ContactKey(..)");
    assert_eq!(format!("{:?}", Username::parse("ann").unwrap()), "Username(..)");
}

#[test]
fn garbage_is_refused() {
    let class = assistant(40);
    let certificate =
        Certificate::issue(&identity(2), &chain(2), &device_key(9), 4, &class).unwrap();
    feed_garbage(1_000_000, &certificate, |bytes| {
        let _ = Certificate::parse(bytes);
    });
    feed_garbage(20_000, &certificate, |bytes| {
        assert!(Certificate::parse_and_verify(bytes).is_err() || bytes == certificate);
    });
    let record = record(3).issue(&identity(2)).unwrap();
    feed_garbage(1_000_000, &record, |bytes| {
        assert!(AccountRecord::verify(bytes).is_err() || bytes == record);
    });
}
