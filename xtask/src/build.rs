//! `cargo xtask build`: the host in release, and every plugin as a component.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::arguments::BuildOptions;
use crate::process;
use crate::tools::{self, WASM_TARGET};
use crate::workspace::Workspace;

/// The cargo profile of components; its output folder has the same name.
const PLUGIN_PROFILE: &str = "plugin";

/// Builds what the options ask for.
///
/// # Errors
///
/// When the target cannot be installed, a build fails, or a component cannot be put in its place.
pub(crate) fn run(workspace: &Workspace, options: &BuildOptions) -> Result<()> {
    if options.host {
        host(workspace)?;
        eprintln!("built {}", workspace.shown(&workspace.host()));
    }
    if options.plugins {
        plugins(workspace)?;
    }
    Ok(())
}

/// Builds the host in release.
///
/// # Errors
///
/// When the build fails.
pub(crate) fn host(workspace: &Workspace) -> Result<()> {
    // Named by `--bin` within the whole workspace, so that cargo chooses the same features of the
    // dependencies as `test` does, and builds them once.
    process::run(process::cargo(&workspace.root).args([
        "build",
        "--release",
        "--workspace",
        "--bin",
        "switchboard",
    ]))
}

/// Builds every plugin with one call of cargo, and puts the components where hosts and tests look.
///
/// # Errors
///
/// When the target cannot be installed, the build fails, or a component cannot be put in its place.
pub(crate) fn plugins(workspace: &Workspace) -> Result<()> {
    let plugins: Vec<_> = workspace.plugins().collect();
    if plugins.is_empty() {
        eprintln!(
            "no crate says `[package.metadata.switchboard] plugin = true`: no plugin to build"
        );
        return Ok(());
    }
    tools::ensure_wasm_target(workspace)?;

    let mut command = process::cargo(&workspace.root);
    command.args([
        "build",
        "--target",
        WASM_TARGET,
        "--profile",
        PLUGIN_PROFILE,
    ]);
    for plugin in &plugins {
        command.args(["-p", &plugin.name]);
    }
    process::run(&mut command)?;

    let built = workspace.target.join(WASM_TARGET).join(PLUGIN_PROFILE);
    for plugin in plugins {
        let Some(cdylib) = &plugin.cdylib else {
            bail!(
                "plugin `{}` makes no component: its [lib] needs `crate-type = [\"cdylib\", \"rlib\"]`",
                plugin.name
            );
        };
        let place = workspace.component(plugin);
        let size = put(&built.join(format!("{cdylib}.wasm")), &place)?;
        eprintln!(
            "built {} ({} kB)",
            workspace.shown(&place),
            size.div_ceil(1000)
        );
    }
    Ok(())
}

/// Copies a component, and returns its size in bytes. A running host may be watching: the file
/// changes in one step, and not at all when its content is the same.
fn put(from: &Path, to: &Path) -> Result<usize> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(bytes.len());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let half = to.with_extension("wasm.partial");
    fs::write(&half, &bytes).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, to).with_context(|| format!("cannot replace {}", to.display()))?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_replaced_only_when_it_differs() {
        let folder = std::env::temp_dir().join(format!("xtask-put-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (
            folder.join("from.wasm"),
            folder.join("plugins").join("to.wasm"),
        );

        fs::write(&from, b"one").unwrap();
        assert_eq!(put(&from, &to).unwrap(), 3);
        let first = fs::metadata(&to).unwrap().modified().unwrap();
        put(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);

        fs::write(&from, b"another").unwrap();
        put(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"another");
        let left: Vec<_> = fs::read_dir(to.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "a partial file was left behind");
        fs::remove_dir_all(folder).unwrap();
    }
}
