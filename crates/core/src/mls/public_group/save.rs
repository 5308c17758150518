use super::super::codec::{pack, unpack};
use super::super::group_info::GroupContext;
use super::super::tree::RatchetTree;
use super::super::{Error, PartId, transcript};
use super::PublicGroup;
use crate::crypto::{Digest, Suite};
use crate::error::ensure;

/// The part that holds context and confirmation tag.
const CONTEXT: PartId = PartId { kind: 0x01, index: 0 };

/// Parts of this kind hold pages of the tree.
const TREE: u8 = 0x02;

const VERSION: u8 = 1;

impl PublicGroup {
    /// The parts that changed since the last call; `None` means that a part is gone.
    pub fn take_changes(&mut self) -> Vec<(PartId, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        if !self.context_is_saved {
            let context = pack(VERSION, &(&self.context, &self.confirmation_tag));
            changes.push((CONTEXT, Some(context)));
            self.context_is_saved = true;
        }
        let pages = self.tree.take_pages().into_iter();
        changes.extend(pages.map(|(index, bytes)| (PartId { kind: TREE, index }, bytes)));
        changes
    }

    /// Forgets that anything was saved: the next [`Self::take_changes`] gives every part.
    pub(in super::super) fn touch(&mut self) {
        self.context_is_saved = false;
        self.tree.touch_pages();
    }

    /// Whether a saved part belongs to a group's public state.
    #[must_use]
    pub fn holds_part(part: PartId) -> bool {
        part == CONTEXT || part.kind == TREE
    }

    /// Puts a group together from all of its saved parts.
    ///
    /// # Errors
    /// [`Error::CorruptState`].
    pub fn load(parts: impl IntoIterator<Item = (PartId, Vec<u8>)>) -> Result<Self, Error> {
        let mut context = None;
        let mut pages = Vec::new();
        for (part, bytes) in parts {
            match part {
                CONTEXT => context = Some(bytes),
                PartId { kind: TREE, index } => pages.push((index, bytes)),
                PartId { .. } => return Err(Error::CorruptState),
            }
        }
        let context = context.ok_or(Error::CorruptState)?;
        Self::from_parts(&context, pages).map_err(|_| Error::CorruptState)
    }

    fn from_parts(context: &[u8], pages: Vec<(u32, Vec<u8>)>) -> Result<Self, Error> {
        let (context, confirmation_tag) = unpack::<(GroupContext, Digest)>(VERSION, context)?;
        let suite = Suite::try_from_id(context.cipher_suite).ok_or(Error::Unsupported)?;
        let tree = RatchetTree::from_pages(pages)?;
        ensure(tree.root_hash() == context.tree_hash, Error::CorruptState)?;
        let confirmed = &context.confirmed_transcript_hash;
        let interim_transcript_hash = transcript::interim(confirmed, &confirmation_tag);
        Ok(Self {
            suite,
            tree,
            context,
            confirmation_tag,
            interim_transcript_hash,
            context_is_saved: true,
        })
    }
}
