use std::collections::BTreeMap;

use super::super::codec::{Decode, Malformed, Reader};
use super::super::tree_math::NodeIndex;
use super::RatchetTree;
use super::node::Node;

use crate::error::ensure;

/// Levels of the tree that a page holds: a page is a subtree of this height, so a path of N leaves
/// runs through log N / 3 pages of 7 nodes.
const LEVELS: u32 = 3;

const VERSION: u8 = 1;

/// A page further out than this is no page of ours: a few bytes must not stand for a huge tree.
const MAX_NODES: u32 = 1 << 22;

/// The page that a node lies on, named by its topmost node, which need not be in the tree.
pub(super) fn page_of(index: NodeIndex) -> NodeIndex {
    index.ancestor(index.level() / LEVELS * LEVELS + LEVELS - 1)
}

/// The nodes of a page in order: its top in the middle of seven at equal distances.
fn nodes_of(page: NodeIndex) -> impl Iterator<Item = NodeIndex> {
    let step = 1_u64 << page.level().saturating_sub(LEVELS - 1);
    (0..(1 << LEVELS) - 1).filter_map(move |at| {
        let index = (u64::from(page.get()) + at * step).checked_sub(3 * step)?;
        u32::try_from(index).ok().map(NodeIndex::new)
    })
}

impl RatchetTree {
    /// The pages whose nodes changed since the last call, each with its bytes, or `None` if
    /// nothing is left on it.
    pub(in super::super) fn take_pages(&mut self) -> Vec<(u32, Option<Vec<u8>>)> {
        let dirty = core::mem::take(&mut self.dirty_pages);
        dirty.into_iter().map(|page| (page.get(), self.page(page))).collect()
    }

    /// Marks every page as changed, for a tree that was never saved.
    pub(in super::super) fn touch_pages(&mut self) {
        let leaves = self.leaves().map(|(index, _)| index.node()).map(page_of);
        let parents = (0..self.size.nodes())
            .map(NodeIndex::new)
            .filter(|index| self.parent(*index).is_some())
            .map(page_of);
        let pages: Vec<_> = leaves.chain(parents).collect();
        // Pages that became empty since they were saved stay marked, or they would never go.
        self.dirty_pages.extend(pages);
    }

    /// Puts a tree together from its pages.
    pub(in super::super) fn from_pages(
        pages: impl IntoIterator<Item = (u32, Vec<u8>)>,
    ) -> Result<Self, Malformed> {
        let mut found = BTreeMap::new();
        for (page, bytes) in pages {
            let page = NodeIndex::new(page);
            ensure(page_of(page) == page && page.get() < MAX_NODES, Malformed)?;
            let mut reader = Reader::new(&bytes);
            reader.expect(&VERSION)?;
            for index in nodes_of(page) {
                if let Some(node) = Option::<Node>::decode(&mut reader)? {
                    found.insert(index, node);
                }
            }
            reader.finish()?;
        }
        let last = found.keys().next_back().ok_or(Malformed)?.get();
        Self::from_nodes((0..=last).map(|index| found.remove(&NodeIndex::new(index))).collect())
    }

    fn page(&self, page: NodeIndex) -> Option<Vec<u8>> {
        let mut bytes = vec![VERSION];
        let mut any = false;
        for index in nodes_of(page) {
            any |= self.put_node(index, &mut bytes);
        }
        any.then_some(bytes)
    }
}
