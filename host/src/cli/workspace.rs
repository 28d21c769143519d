//! The plugins of the cargo workspace that `dev` is run in: which there are, how they are built, and
//! which sources make them.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The target that plugins are built for.
pub(super) const WASM_TARGET: &str = "wasm32-wasip2";

/// The profile of `dev`: quick to build rather than small. Handed to cargo on its command line, so
/// that no workspace has to define it.
const DEV_PROFILE: &str = "switchboard-dev";
const DEV_PROFILE_SETTINGS: [&str; 6] = [
    "inherits=\"release\"",
    "opt-level=1",
    "codegen-units=16",
    "incremental=true",
    "panic=\"abort\"",
    "strip=true",
];

/// A cargo workspace with plugins in it.
#[derive(Debug)]
pub(super) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    /// Name of the package, and the folders of the sources it is made of.
    plugins: BTreeMap<String, BTreeSet<PathBuf>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    #[serde(default)]
    metadata: serde_json::Value,
}

#[derive(Deserialize)]
struct Dependency {
    path: Option<PathBuf>,
}

impl Package {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    fn flag(&self, name: &str) -> bool {
        self.metadata
            .pointer(&format!("/switchboard/{name}"))
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false)
    }
}

impl Workspace {
    /// Returns the workspace around a folder, with the plugins named, or with all of them that are
    /// not for tests.
    ///
    /// # Errors
    /// When cargo cannot read the workspace, or it has no (such) plugin.
    pub(super) fn find(folder: &Path, only: &[String]) -> Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(folder)
            .stderr(Stdio::inherit())
            .output()
            .context("could not run cargo; install Rust by rustup")?;
        if !output.status.success() {
            bail!(
                "there is no cargo workspace in {}; run `dev` in one, or make a plugin by `switchboard plugin new NAME`",
                folder.display()
            );
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .context("cargo metadata answered something unexpected")?;
        let mut plugins = BTreeMap::new();
        for package in &metadata.packages {
            let chosen = match only {
                [] => !package.flag("test"),
                only => only.contains(&package.name),
            };
            if chosen && package.flag("plugin") && metadata.workspace_members.contains(&package.id)
            {
                plugins.insert(package.name.clone(), sources(package, &metadata.packages));
            }
        }
        if let Some(missing) = only.iter().find(|name| !plugins.contains_key(*name)) {
            bail!(
                "the workspace has no plugin `{missing}` (a package with `[package.metadata.switchboard] plugin = true`)"
            );
        }
        if plugins.is_empty() {
            bail!(
                "the workspace in {} has no plugin (a package with `[package.metadata.switchboard] plugin = true`); make one by `switchboard plugin new NAME`",
                metadata.workspace_root.display()
            );
        }
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            plugins,
        })
    }

    /// Returns the names of the plugins' packages.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

    /// Returns the folder that `dev` serves plugins from.
    #[must_use]
    pub(super) fn served(&self) -> PathBuf {
        self.target.join("dev-plugins")
    }

    /// Returns the folders whose files make the plugins.
    #[must_use]
    pub(super) fn sources(&self) -> BTreeSet<&Path> {
        self.plugins
            .values()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }

    /// Tells whether a changed file can change a plugin.
    #[must_use]
    pub(super) fn is_source(&self, path: &Path) -> bool {
        let hidden = |path: &Path| {
            path.components().any(|part| {
                let part = part.as_os_str().to_string_lossy();
                part.starts_with('.') || part.ends_with('~')
            })
        };
        !path.starts_with(&self.target)
            && self.sources().iter().any(|folder| {
                path.strip_prefix(folder)
                    .is_ok_and(|inside| !hidden(inside) && !inside.starts_with("target"))
            })
    }

    /// Builds every plugin and puts those that changed into the served folder, each in one step.
    /// Returns the names of those that changed. Cargo's messages go to standard error.
    ///
    /// # Errors
    /// When one of them does not compile; the others may have been put there.
    pub(super) fn build(&self) -> Result<Vec<String>> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&self.root)
            .args([
                "build",
                "--quiet",
                "--target",
                WASM_TARGET,
                "--profile",
                DEV_PROFILE,
            ])
            .arg("--message-format=json-render-diagnostics");
        for setting in DEV_PROFILE_SETTINGS {
            cargo.args(["--config", &format!("profile.{DEV_PROFILE}.{setting}")]);
        }
        for name in self.plugins.keys() {
            cargo.args(["--package", name]);
        }
        let output = cargo
            .stderr(Stdio::inherit())
            .output()
            .context("could not run cargo")?;
        let changed = self.take_components(&output.stdout)?;
        if !output.status.success() {
            bail!("the plugins do not compile; see cargo's messages above");
        }
        Ok(changed)
    }

    fn take_components(&self, messages: &[u8]) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Message {
            reason: String,
            #[serde(default)]
            package_id: String,
            #[serde(default)]
            filenames: Vec<PathBuf>,
        }
        let served = self.served();
        fs::create_dir_all(&served)
            .with_context(|| format!("could not make {}", served.display()))?;
        let mut changed = Vec::new();
        for line in messages
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let Ok(message) = serde_json::from_slice::<Message>(line) else {
                continue;
            };
            let component = message.filenames.iter().find(|file| {
                file.extension()
                    .is_some_and(|extension| extension == "wasm")
            });
            let (true, Some(component)) = (message.reason == "compiler-artifact", component) else {
                continue;
            };
            let Some(name) = self
                .plugins
                .keys()
                .find(|name| names_package(&message.package_id, name))
            else {
                continue;
            };
            if put(component, &served.join(format!("{name}.wasm")))? {
                changed.push(name.clone());
            }
        }
        Ok(changed)
    }

    /// Takes files out of the served folder that no plugin of the workspace stands behind any more.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub(super) fn remove_strangers(&self) -> Result<()> {
        let served = self.served();
        let Ok(entries) = fs::read_dir(&served) else {
            return Ok(());
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "wasm") {
                continue;
            }
            let known = path
                .file_stem()
                .is_some_and(|stem| self.plugins.contains_key(&*stem.to_string_lossy()));
            if !known {
                fs::remove_file(&path)
                    .with_context(|| format!("could not remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Tells whether an id of cargo's (`path+file:///…/rooms#0.1.0` or `…#rooms@0.1.0`) is a package's.
fn names_package(id: &str, name: &str) -> bool {
    let Some((location, version)) = id.rsplit_once('#') else {
        return false;
    };
    match version.split_once('@') {
        Some((package, _)) => package == name,
        None => location.rsplit('/').next() == Some(name),
    }
}

/// Puts a copy of a file in place of another, in one step; returns whether that changed anything.
fn put(from: &Path, to: &Path) -> Result<bool> {
    let bytes = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let beside = to.with_extension("wasm.new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, to))
        .with_context(|| format!("could not write {}", to.display()))?;
    Ok(true)
}

fn sources(package: &Package, all: &[Package]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut open = vec![package.folder().to_owned()];
    while let Some(folder) = open.pop() {
        if !folders.insert(folder.clone()) {
            continue;
        }
        // The interfaces that a local SDK generates its bindings from lie beside it.
        let interfaces = folder.join("../wit");
        if let Ok(interfaces) = interfaces.canonicalize() {
            folders.insert(interfaces);
        }
        if let Some(package) = all.iter().find(|package| package.folder() == folder) {
            open.extend(
                package
                    .dependencies
                    .iter()
                    .filter_map(|dependency| dependency.path.clone()),
            );
        }
    }
    folders
}

/// Makes sure that plugins can be built at all, installing the target where it is missing.
///
/// # Errors
/// When it is missing and could not be installed; the text says what to do.
pub(super) fn ensure_wasm_target(folder: &Path) -> Result<()> {
    let library = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(folder)
        .output()
        .context("could not run rustc; install Rust by rustup")?;
    let library = PathBuf::from(String::from_utf8_lossy(&library.stdout).trim());
    if library.is_dir() {
        return Ok(());
    }
    tracing::info!("installing the target {WASM_TARGET}");
    let installed = Command::new("rustup")
        .args(["target", "add", WASM_TARGET])
        .current_dir(folder)
        .status()
        .is_ok_and(|status| status.success());
    if !installed {
        bail!(
            "plugins are built for {WASM_TARGET}, which is not installed; run `rustup target add {WASM_TARGET}`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_packages_are_understood() {
        assert!(names_package("path+file:///a/plugins/rooms#0.1.0", "rooms"));
        assert!(names_package(
            "path+file:///a/plugins/x#rooms@0.1.0",
            "rooms"
        ));
        assert!(!names_package(
            "path+file:///a/plugins/classrooms#0.1.0",
            "rooms"
        ));
        assert!(!names_package(
            "path+file:///a/plugins/rooms#lms@0.1.0",
            "rooms"
        ));
    }

    #[test]
    fn only_sources_count_as_sources() {
        let workspace = Workspace {
            root: "/w".into(),
            target: "/w/target".into(),
            plugins: [(
                "a".to_owned(),
                BTreeSet::from([PathBuf::from("/w/plugins/a")]),
            )]
            .into(),
        };
        assert!(workspace.is_source(Path::new("/w/plugins/a/src/lib.rs")));
        for other in [
            "/w/target/x.rs",
            "/w/plugins/b/src/lib.rs",
            "/w/plugins/a/.git/index",
            "/w/plugins/a/src/.lib.rs.swp",
            "/w/plugins/a/src/lib.rs~",
            "/w/plugins/a/target/x",
        ] {
            assert!(!workspace.is_source(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn an_unchanged_file_is_not_put_again() {
        let folder = std::env::temp_dir().join(format!("switchboard-put-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to.wasm"));
        fs::write(&from, "1").unwrap();
        assert!(put(&from, &to).unwrap());
        assert!(!put(&from, &to).unwrap());
        fs::write(&from, "2").unwrap();
        assert!(put(&from, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"2");
        fs::remove_dir_all(&folder).unwrap();
    }
}
