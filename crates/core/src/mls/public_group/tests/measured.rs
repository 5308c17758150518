//! Costs that must not grow with the group but with its logarithm.

use super::*;

/// Bytes that a member saves for one commit of another, pages and context together.
fn saved_bytes(members: &mut Members, by: LeafIndex) -> usize {
    let reader = members.list.values().next().unwrap();
    let before = reader.saved.clone();
    members.change(by, &[], 0, Path::With);
    let reader = members.list.values().next().unwrap();
    reader
        .saved
        .iter()
        .filter(|(part, bytes)| before.get(part) != Some(bytes))
        .map(|(_, bytes)| bytes.len())
        .sum()
}

#[test]
fn an_update_touches_and_saves_one_path() {
    for size in [2_u32, 16, 128] {
        let mut members = Members::founded(size as usize, 7);
        for at in [0, size / 2, size - 1] {
            let by = LeafIndex::new(at);
            members.change(by, &[], 0, Path::With);
        }
        let member = members.at(0);
        let (staged, _) = member.commit(Vec::new(), Path::With, &mut members.rng.clone()).unwrap();
        let levels = staged.tree(&member.group).size().levels() as usize;
        assert_eq!(staged.commit().changes.hashed_nodes(), 1 + levels);
        let bytes = saved_bytes(&mut members, LeafIndex::new(size - 1));
        assert!(bytes < 1200 + 600 * levels, "{bytes} bytes for {size} members");
    }
}
