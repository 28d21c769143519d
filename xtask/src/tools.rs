//! What the tests need installed. Each function finds it, installs it where that can be done without
//! asking, or says exactly how.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// What plugins are compiled to.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// The oldest Node whose test runner the tests rely on.
const NODE_MAJOR: u32 = 20;

/// The names under which distributions ship Chromium.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Adds the wasm target to the toolchain when it is missing.
///
/// # Errors
///
/// When there is no rustup, or it fails.
pub(crate) fn ensure_wasm_target(workspace: &Workspace) -> Result<()> {
    let mut rustc = process::program("rustc", &workspace.root);
    let folder =
        process::output(rustc.args(["--print", "target-libdir", "--target", WASM_TARGET]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    if on_path("rustup").is_none() {
        bail!(
            "the Rust target {WASM_TARGET} is not installed, and there is no rustup to add it; \
             install it with your toolchain's own means"
        );
    }
    process::run(process::program("rustup", &workspace.root).args(["target", "add", WASM_TARGET]))
}

/// Makes sure that a Node is there which is new enough for the tests, and npm.
///
/// # Errors
///
/// When there is none, or it is too old, and it cannot be installed.
pub(crate) fn ensure_node(workspace: &Workspace) -> Result<()> {
    if on_path("node").is_none() || on_path("npm").is_none() {
        let advice = format!("install Node {NODE_MAJOR} or later with npm (https://nodejs.org)");
        install(workspace, "Node and npm", &["nodejs", "npm"], &advice)?;
    }
    let version = process::output(process::program("node", &workspace.root).arg("--version"))?;
    let Some(major) = major(&version) else {
        bail!(
            "`node --version` printed `{}`, which is no version",
            version.trim()
        );
    };
    if major < NODE_MAJOR {
        bail!(
            "Node {} is too old: the tests need {NODE_MAJOR} or later (https://nodejs.org)",
            version.trim()
        );
    }
    Ok(())
}

/// Makes sure that there is a Redis for the tests to start.
///
/// # Errors
///
/// When there is none, and it cannot be installed.
pub(crate) fn ensure_redis(workspace: &Workspace) -> Result<()> {
    if on_path("redis-server").is_some() {
        return Ok(());
    }
    let advice = "install Redis 7 or later (on Debian: `sudo apt-get install redis-server`)";
    install(workspace, "Redis", &["redis-server"], advice)
}

/// Installs the packages of `folder` as its lock file lists them, unless that has been done already.
///
/// # Errors
///
/// When there is no lock file, or npm fails.
pub(crate) fn ensure_npm_packages(folder: &Path) -> Result<()> {
    let lock_file = folder.join("package-lock.json");
    let lock =
        fs::read(&lock_file).with_context(|| format!("cannot read {}", lock_file.display()))?;
    // The copy of the lock file that the installed packages came from.
    let stamp = folder.join("node_modules").join(".installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    process::run(process::program("npm", folder).args(["ci", "--no-audit", "--no-fund"]))?;
    fs::create_dir_all(folder.join("node_modules"))
        .context("cannot make the folder node_modules")?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Returns a Chromium, which `SWITCHBOARD_CHROMIUM` may name.
///
/// # Errors
///
/// When there is none, and it cannot be installed.
pub(crate) fn ensure_browser(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("SWITCHBOARD_CHROMIUM").map(PathBuf::from) {
        if named.is_file() {
            return Ok(named);
        }
        bail!(
            "SWITCHBOARD_CHROMIUM is `{}`, which is no file",
            named.display()
        );
    }
    if let Some(found) = BROWSERS.iter().find_map(|name| on_path(name)) {
        return Ok(found);
    }
    let advice = "install Chromium or Chrome (on Debian: `sudo apt-get install chromium`), \
                  or name one by SWITCHBOARD_CHROMIUM=/path/to/chrome";
    install(workspace, "Chromium", &["chromium"], advice)?;
    BROWSERS
        .iter()
        .find_map(|name| on_path(name))
        .context("the package chromium brought no browser on PATH")
}

/// Installs packages where nobody has to be asked: by apt, for root.
fn install(workspace: &Workspace, what: &str, packages: &[&str], advice: &str) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!("{what} is needed and was not found; {advice}");
    }
    let user = process::output(process::program("id", &workspace.root).arg("-u"))?;
    if user.trim() != "0" {
        bail!("{what} is needed and was not found, and only root may install it; {advice}");
    }
    let apt = || {
        let mut command = process::program("apt-get", &workspace.root);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let failed = || format!("cannot install {what}; {advice}");
    process::run(apt().arg("update")).with_context(failed)?;
    process::run(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
    .with_context(failed)
}

/// Returns where `PATH` has a program of this name.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path)
        .map(|folder| folder.join(&file))
        .find(|candidate| candidate.is_file())
}

fn major(version: &str) -> Option<u32> {
    version
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        assert_eq!(major("v20.11.1\n"), Some(20));
        assert_eq!(major("v8"), Some(8));
        assert_eq!(major("20.0.0"), None);
    }

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(on_path("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(on_path("no-such-program-here"), None);
    }
}
