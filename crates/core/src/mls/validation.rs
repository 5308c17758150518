//! What makes leaves, key packages and whole trees valid (RFC 9420 §§7.3, 10.1 and 12.2).
//!
//! Only what every holder of the public state can compute is checked: no clock (the lifetime of a
//! key package is the business of whoever adds it) and no opinion on who a credential names.

use super::extension::{ExtensionType, Extensions, ExternalSender, RequiredCapabilities};
use super::key_package::KeyPackage;
use super::leaf_node::{LeafNode, LeafNodeSource};
use super::tree::{Capability, TreeView};
use super::{Error, PROTOCOL_VERSION};
use crate::crypto::Suite;
use crate::error::ensure;

/// Checks a leaf by itself (§§7.2, 7.3), signature and source aside.
///
/// # Errors
/// [`Error::InvalidKey`] or [`Error::InvalidLeafNode`].
pub fn check_leaf(leaf: &LeafNode, suite: Suite) -> Result<(), Error> {
    leaf.encryption_key.check()?;
    leaf.signature_key.check()?;
    let capabilities = &leaf.capabilities;
    let lists_default = capabilities.extensions.iter().any(|kind| kind.is_default())
        || capabilities.proposals.iter().any(|kind| kind.is_default());
    let is_compatible = capabilities.versions.contains(&PROTOCOL_VERSION)
        && capabilities.cipher_suites.contains(&suite.id())
        && capabilities.credentials.contains(&leaf.credential.credential_type())
        && lists_all(leaf, &leaf.extensions);
    ensure(is_compatible && !lists_default, Error::InvalidLeafNode)
}

/// Checks a key package by itself (§10.1), signatures and lifetime aside.
///
/// # Errors
/// [`Error::InvalidKey`], [`Error::InvalidLeafNode`] or [`Error::InvalidKeyPackage`].
pub fn check_key_package(package: &KeyPackage, suite: Suite) -> Result<(), Error> {
    check_leaf(&package.leaf_node, suite)?;
    package.init_key.check()?;
    let is_valid = package.version == PROTOCOL_VERSION
        && package.cipher_suite == suite.id()
        && package.init_key != package.leaf_node.encryption_key
        && matches!(package.leaf_node.source, LeafNodeSource::KeyPackage(_))
        && lists_all(&package.leaf_node, &package.extensions);
    ensure(is_valid, Error::InvalidKeyPackage)
}

/// Checks what leaves must have in common (§§7.3, 11.1, 13.4): no key twice, and support of every
/// credential in use, of every extension of the group context and of all that it requires.
///
/// # Errors
/// [`Error::Malformed`], [`Error::InvalidLeafNode`] or [`Error::MissingCapability`].
pub(super) fn check_members(view: TreeView<'_>, context: &Extensions) -> Result<(), Error> {
    ensure(!view.has_duplicate_key(), Error::InvalidLeafNode)?;
    let required: RequiredCapabilities =
        context.parsed(ExtensionType::REQUIRED_CAPABILITIES)?.unwrap_or_default();
    context.parsed::<Vec<ExternalSender>>(ExtensionType::EXTERNAL_SENDERS)?;
    let extensions = context.iter().map(|extension| &extension.extension_type);
    let extensions = extensions.chain(&required.extensions).filter(|kind| !kind.is_default());
    let proposals = required.proposals.iter().filter(|kind| !kind.is_default());
    let is_supported = view.credentials_are_supported()
        && extensions.map(|kind| Capability::Extension(*kind)).all(|kind| view.all_support(kind))
        && proposals.map(|kind| Capability::Proposal(*kind)).all(|kind| view.all_support(kind))
        && required.credentials.iter().all(|kind| view.all_support(Capability::Credential(*kind)));
    ensure(is_supported, Error::MissingCapability)
}

fn lists_all(leaf: &LeafNode, extensions: &Extensions) -> bool {
    extensions.iter().all(|extension| leaf.capabilities.has_extension(extension.extension_type))
}
