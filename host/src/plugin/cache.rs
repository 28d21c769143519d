//! Compiled code on disk.
//!
//! Loading compiled code is trusting it, so only files that this host wrote itself are loaded: from
//! a folder that only its user may write to, under a name made of the component's SHA-256 and of
//! what the engine compiles for, and only when the digest at its head is that of the rest.

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use wasmtime::{Engine, component::Component};

const DIGEST_BYTES: usize = 32;

/// The folder of compiled code.
#[derive(Debug, Clone)]
pub(super) struct CodeCache {
    folder: Option<PathBuf>,
}

impl CodeCache {
    /// Opens a folder, making it where it is missing. A folder that others may write to is not
    /// used: then every load compiles.
    #[must_use]
    pub(super) fn open(folder: Option<PathBuf>) -> Self {
        let folder = folder.or_else(default_folder);
        let folder = folder.and_then(|folder| match prepare(&folder) {
            Ok(()) => Some(folder),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "compiled code is not kept: {error:#}");
                None
            }
        });
        Self { folder }
    }

    /// Returns the component of some bytes, from the folder if it is there, otherwise by compiling
    /// and keeping it; and whether it was there. Blocks.
    ///
    /// # Errors
    /// When the bytes are not a component that the engine takes.
    pub(super) fn component(
        &self,
        engine: &Engine,
        bytes: &[u8],
    ) -> wasmtime::Result<(Component, bool)> {
        let path = self.path(engine, bytes);
        if let Some(component) = path.as_ref().and_then(|path| load(engine, path)) {
            return Ok((component, true));
        }
        let component = Component::from_binary(engine, bytes)?;
        if let Some(path) = path
            && let Err(error) = keep(&component, &path)
        {
            tracing::warn!(path = %path.display(), "compiled code could not be kept: {error:#}");
        }
        Ok((component, false))
    }

    fn path(&self, engine: &Engine, bytes: &[u8]) -> Option<PathBuf> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!(
            "{}-{:016x}.cwasm",
            hex(&Sha256::digest(bytes)),
            hasher.finish()
        );
        self.folder.as_ref().map(|folder| folder.join(name))
    }
}

/// Returns bytes in hexadecimal.
#[must_use]
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("switchboard"))
}

fn prepare(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .context("it could not be made")?;
    let about = fs::metadata(folder).context("it could not be read")?;
    if about.uid() != rustix::process::geteuid().as_raw() {
        bail!("it belongs to another user");
    }
    if about.mode() & 0o022 != 0 {
        bail!("others may write to it; run `chmod go-w` on it");
    }
    Ok(())
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let bytes = fs::read(path).ok()?;
    let (digest, code) = bytes.split_at_checked(DIGEST_BYTES)?;
    if &Sha256::digest(code)[..] != digest {
        tracing::warn!(path = %path.display(), "a damaged file of compiled code is made anew");
        return None;
    }
    // SAFETY: the file is in a folder that only this user may write to, under a name that only this
    // function's counterpart `keep` makes, and has not been damaged since. The engine itself refuses
    // code that was compiled for another configuration or version.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, code) };
    component
        .inspect_err(
            |error| tracing::debug!(path = %path.display(), %error, "compiled code is made anew"),
        )
        .ok()
}

fn keep(component: &Component, path: &Path) -> Result<()> {
    let code = component.serialize().map_err(anyhow::Error::from)?;
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&Sha256::digest(&code))?;
    file.write_all(&code)?;
    drop(file);
    fs::rename(&beside, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_kept_is_loaded_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(Some(folder.path().join("code")));
        let engine = Engine::default();
        let empty = wat::parse_str("(component)").unwrap();
        let component = |expected: bool| {
            let (_, cached) = cache.component(&engine, &empty).unwrap();
            assert_eq!(cached, expected);
        };
        component(false);
        component(true);
        let path = cache.path(&engine, &empty).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        component(false);
        component(true);
        fs::write(&path, &bytes[..10]).unwrap();
        component(false);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            CodeCache::open(Some(folder.path().to_owned()))
                .folder
                .is_none()
        );
    }
}
