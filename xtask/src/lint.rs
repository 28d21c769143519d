//! `cargo xtask lint`: everything about the sources that a machine can judge without running them.

use anyhow::{Result, bail};

use crate::tools::{self, WASM_TARGET};
use crate::workspace::Workspace;
use crate::{layers, process, tidy};

/// Checks everything, the quick things first.
///
/// # Errors
///
/// At the first check that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    rules(workspace)?;
    let cargo = || process::cargo(&workspace.root);
    process::run(cargo().args(["fmt", "--all", "--check"]))?;

    process::run(cargo().args([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;

    let plugins: Vec<_> = workspace.plugins().collect();
    if !plugins.is_empty() {
        tools::ensure_wasm_target(workspace)?;
        let mut clippy = cargo();
        clippy.args(["clippy", "--locked", "--target", WASM_TARGET]);
        for plugin in plugins {
            clippy.args(["-p", &plugin.name]);
        }
        process::run(clippy.args(["--", "-D", "warnings"]))?;
    }

    let mut doc = cargo();
    doc.args([
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ])
    .env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut doc)?;

    if tools::on_path("cargo-deny").is_some() {
        // Advisories come from elsewhere than the registry, which not every machine can reach.
        if process::run(cargo().args(["deny", "fetch", "db"])).is_ok() {
            process::run(cargo().args(["deny", "check"]))?;
        } else {
            process::run(cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
            eprintln!("\nthe database of advisories is out of reach: they were not checked");
        }
    } else {
        eprintln!("\ncargo-deny is not installed: licences and advisories were not checked");
    }
    Ok(())
}

/// Checks the layers and the tidiness of the sources.
fn rules(workspace: &Workspace) -> Result<()> {
    let mut complaints = layers::check(&workspace.root)?;
    complaints.extend(layers::unlisted(&workspace.root)?);
    complaints.extend(tidy::check(workspace)?);
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    bail!(
        "the rules of the source tree are broken {} times",
        complaints.len()
    );
}
