//! Every decoder of the protocol, fed with what is no message.

use super::*;
use crate::golden::feed_garbage;
use crate::mls::commit::Commit;
use crate::mls::framing::FramedContent;
use crate::mls::group_info::{GroupContext, GroupInfo};
use crate::mls::leaf_node::LeafNode;
use crate::mls::proposal::Proposal;
use crate::mls::tree::RatchetTree;
use crate::mls::welcome::{GroupSecrets, Welcome};

/// Feeds one decoder; what it accepts must be the one encoding of its value.
fn feed<T: Encode + Decode>(count: u32, valid: &T) {
    let valid = valid.to_bytes();
    assert_eq!(T::decode_exact(&valid).map(|value| value.to_bytes()), Ok(valid.clone()));
    feed_garbage(count, &valid, |input| {
        if let Ok(value) = T::decode_exact(input) {
            assert_eq!(value.to_bytes(), input);
        }
    });
}

#[test]
fn decoders_survive_garbage() {
    const COUNT: u32 = 1_000_000;
    let mut rng = ChaCha20Rng::seed_from_u64(15);
    let mut members = party(5, &mut rng);
    let (_, package, keys) = package(7, &mut rng);
    let (signer, ann) = &mut members[0];
    let said = ann.encrypt(b"hello", b"data", signer, &mut rng).unwrap();
    let plan = CommitPlan {
        adds: vec![package.clone()],
        removes: vec![LeafIndex::new(1)],
        extensions: Some(Extensions::default()),
        ..CommitPlan::default()
    };
    let pending = ann.commit(plan, signer, &mut rng).unwrap();
    let info = pending.group_info(Extensions::default(), signer);
    let welcome = pending.welcome(&info, &mut rng).unwrap();
    let content = pending.public().commit().content().clone();
    let Content::Commit(commit) = content.content.content.clone() else { panic!("no commit") };

    feed::<MlsMessage>(COUNT, &MlsMessage::decode_exact(&said).unwrap());
    feed::<MlsMessage>(COUNT, &MlsMessage::decode_exact(pending.message()).unwrap());
    feed::<MlsMessage>(COUNT, &MlsMessage::Welcome(welcome.clone()));
    feed::<MlsMessage>(COUNT, &MlsMessage::GroupInfo(Box::new(info.clone())));
    feed::<MlsMessage>(COUNT, &MlsMessage::KeyPackage(Box::new(package.clone())));
    feed::<AuthenticatedContent>(COUNT, &content);
    feed::<FramedContent>(COUNT, &content.content);
    feed::<Commit>(COUNT, &commit);
    feed::<LeafNode>(COUNT, &package.leaf_node);
    feed::<GroupContext>(COUNT, &info.context);
    feed::<GroupInfo>(COUNT, &info);
    feed::<Welcome>(COUNT, &welcome);
    feed::<Proposal>(COUNT, &Proposal::Add(Box::new(package.clone())));
    feed::<GroupSecrets>(COUNT, &welcome.open_secrets(&package, &keys.init).unwrap());
    feed::<RatchetTree>(COUNT, ann.public.tree());
    saved_formats_survive_garbage(ann, &pending);
}

fn saved_formats_survive_garbage(group: &Group, pending: &PendingCommit) {
    let parts: Vec<_> =
        image(group).into_iter().filter_map(|(id, bytes)| Some((id, bytes?))).collect();
    for at in 0..parts.len() {
        feed_garbage(2000, &parts[at].1, |input| {
            let mut parts = parts.clone();
            parts[at].1 = input.to_vec();
            drop(Group::load(parts));
        });
    }
    feed_garbage(1_000_000, &pending.to_bytes(), |input| {
        drop(PendingCommit::load(&group.public, input));
    });
}
