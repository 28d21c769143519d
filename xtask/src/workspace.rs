//! What cargo knows about this repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The repository, as `cargo metadata` describes it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds; `CARGO_TARGET_DIR` is already considered.
    pub(crate) target: PathBuf,
    /// The workspace's members.
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The folder of its `Cargo.toml`.
    pub(crate) folder: PathBuf,
    /// Whether it says `[package.metadata.switchboard] plugin = true`.
    pub(crate) plugin: bool,
    /// The name of its `cdylib`, as it is in file names.
    pub(crate) cdylib: Option<String>,
    /// Its bench targets.
    pub(crate) benches: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this program was built from.
    ///
    /// # Errors
    ///
    /// When cargo cannot be run, or its answer lacks what every version of it has.
    pub(crate) fn load() -> Result<Self> {
        let own_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = process::cargo(own_folder);
        command.args(["metadata", "--format-version", "1", "--no-deps"]);
        let metadata = process::output(&mut command)?;
        Self::from_metadata(&metadata).context("cannot read the answer of `cargo metadata`")
    }

    fn from_metadata(text: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(text)?;
        let packages = metadata
            .get("packages")
            .and_then(Value::as_array)
            .context("it has no `packages`")?;
        Ok(Self {
            root: text_of(&metadata, "workspace_root")?.into(),
            target: text_of(&metadata, "target_directory")?.into(),
            packages: packages
                .iter()
                .map(Package::from_metadata)
                .collect::<Result<_>>()?,
        })
    }

    /// The plugins, those of the tests included.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.plugin)
    }

    /// Where a plugin's component is put: the tests' plugins apart, since some are broken on purpose.
    pub(crate) fn component(&self, plugin: &Package) -> PathBuf {
        let tests = plugin.folder.starts_with(self.root.join("tests"));
        let folder = if tests {
            self.test_plugins()
        } else {
            self.built_plugins()
        };
        folder.join(format!("{}.wasm", plugin.name))
    }

    /// The folder of the components that a host is meant to serve.
    pub(crate) fn built_plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// The folder of the components that only tests load.
    pub(crate) fn test_plugins(&self) -> PathBuf {
        self.target.join("test-plugins")
    }

    /// The host's release build.
    pub(crate) fn host(&self) -> PathBuf {
        self.target
            .join("release")
            .join(format!("switchboard{}", std::env::consts::EXE_SUFFIX))
    }

    /// A path as a reader wants it: relative to the repository where that is possible.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

impl Package {
    fn from_metadata(package: &Value) -> Result<Self> {
        let manifest = PathBuf::from(text_of(package, "manifest_path")?);
        let folder = manifest
            .parent()
            .context("a manifest has no folder")?
            .to_path_buf();
        let plugin = package
            .pointer("/metadata/switchboard/plugin")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let targets = package
            .get("targets")
            .and_then(Value::as_array)
            .context("a package has no `targets`")?;
        let mut cdylib = None;
        let mut benches = Vec::new();
        for target in targets {
            let kinds = target
                .get("kind")
                .and_then(Value::as_array)
                .context("a target has no `kind`")?;
            let is = |kind: &str| kinds.iter().any(|found| found.as_str() == Some(kind));
            if is("cdylib") {
                cdylib = Some(text_of(target, "name")?.replace('-', "_"));
            }
            if is("bench") {
                benches.push(text_of(target, "name")?.to_owned());
            }
        }
        Ok(Self {
            name: text_of(package, "name")?.to_owned(),
            folder,
            plugin,
            cdylib,
            benches,
        })
    }
}

fn text_of<'a>(value: &'a Value, member: &str) -> Result<&'a str> {
    value
        .get(member)
        .and_then(Value::as_str)
        .with_context(|| format!("it has no `{member}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "workspace_root": "/repo", "target_directory": "/elsewhere",
        "packages": [
            {"name": "host", "manifest_path": "/repo/host/Cargo.toml", "metadata": null,
             "targets": [{"name": "host", "kind": ["lib"]}, {"name": "pipeline", "kind": ["bench"]}]},
            {"name": "course-chat", "manifest_path": "/repo/plugins/course-chat/Cargo.toml",
             "metadata": {"switchboard": {"plugin": true}},
             "targets": [{"name": "course_chat", "kind": ["cdylib", "rlib"]}]},
            {"name": "faulty", "manifest_path": "/repo/tests/plugins/faulty/Cargo.toml",
             "metadata": {"switchboard": {"plugin": true}},
             "targets": [{"name": "faulty", "kind": ["cdylib"]}]}
        ]
    }"#;

    #[test]
    fn plugins_are_those_that_say_so() {
        let workspace = Workspace::from_metadata(METADATA).unwrap();
        let names: Vec<_> = workspace
            .plugins()
            .map(|plugin| plugin.name.as_str())
            .collect();
        assert_eq!(names, ["course-chat", "faulty"]);
        assert_eq!(workspace.packages[1].cdylib.as_deref(), Some("course_chat"));
        assert_eq!(workspace.packages[0].benches, ["pipeline"]);
    }

    #[test]
    fn components_of_tests_land_apart() {
        let workspace = Workspace::from_metadata(METADATA).unwrap();
        let paths: Vec<_> = workspace
            .plugins()
            .map(|plugin| workspace.component(plugin))
            .collect();
        assert_eq!(paths[0], Path::new("/elsewhere/plugins/course-chat.wasm"));
        assert_eq!(paths[1], Path::new("/elsewhere/test-plugins/faulty.wasm"));
    }

    #[test]
    fn an_answer_without_a_member_is_an_error_that_names_it() {
        let error = Workspace::from_metadata(r#"{"packages": []}"#).unwrap_err();
        assert!(error.to_string().contains("workspace_root"), "{error}");
    }
}
