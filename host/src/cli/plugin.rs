//! `switchboard plugin check` and `plugin new`.

use super::config;
use crate::{
    config::Flags,
    core::names::PluginName,
    metrics::Metrics,
    pipeline::view::{PresenceSeen, RoomsSeen},
    plugin::loader::Loader,
    ports::{Alone, Plugin, Views},
    presence::Presence,
    rooms::Rooms,
    store::memory::MemoryStore,
};
use anyhow::{Context, Result, bail};
use std::{fs, io::Write, path::Path, process::ExitCode, sync::Arc};

/// Takes the same way as a host that loads the file, on a host that serves nobody.
pub(super) fn check(file: &Path, flags: &Flags) -> Result<ExitCode> {
    let config = match config::load(flags)? {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    let rooms = Rooms::new(0, Arc::new(Alone));
    let presence = Presence::new(config.presence, Arc::new(Alone));
    let nobody = Views {
        rooms: Arc::new(RoomsSeen(Arc::new(rooms))),
        presence: Arc::new(PresenceSeen(Arc::new(presence))),
    };
    let loader = Loader::new(
        config.plugins,
        nobody,
        Arc::new(MemoryStore::default()),
        Arc::new(Metrics::default()),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let loaded = runtime.block_on(async {
        let bytes = loader.read(file)?;
        loader.load(bytes, &config.plugin).await
    });
    let mut out = std::io::stdout().lock();
    match loaded {
        Ok(generation) => {
            let info = generation.info();
            let manifest = &info.manifest;
            let list = |names: Vec<String>| match names.as_slice() {
                [] => "-".to_owned(),
                names => names.join(", "),
            };
            writeln!(
                out,
                "ok: {} {} ({})",
                manifest.name, manifest.version, info.digest
            )?;
            for (what, names) in [
                ("capabilities", manifest.capabilities.clone()),
                (
                    "rooms",
                    info.rooms.iter().map(ToString::to_string).collect(),
                ),
                (
                    "messages",
                    manifest
                        .subscriptions
                        .messages
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                ),
                ("notices", manifest.subscriptions.notices.clone()),
                (
                    "server events",
                    manifest
                        .subscriptions
                        .server
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                ),
            ] {
                writeln!(out, "  {what}: {}", list(names))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let code = error.code().trim_start_matches("refused-");
            let mut err = std::io::stderr().lock();
            writeln!(err, "{}: refused ({code}): {error}", file.display())?;
            Ok(ExitCode::FAILURE)
        }
    }
}

const MANIFEST: &str = include_str!("../../../plugin-sdk/template/Cargo.toml.template");
const SOURCE: &str = include_str!("../../../plugin-sdk/template/src/lib.rs.template");
const README: &str = include_str!("../../../plugin-sdk/template/README.md.template");

pub(super) fn new(name: &str, path: Option<&Path>) -> Result<ExitCode> {
    let name = PluginName::new(name)?;
    if let Some(why) = not_a_crate(name.as_str()) {
        bail!(
            "a plugin is a Rust crate, and no crate can be called `{name}`: {why}; take another name"
        );
    }
    let folder = path.map_or_else(|| Path::new(name.as_str()).to_owned(), Path::to_owned);
    if folder.exists() {
        bail!("{} is there already", folder.display());
    }
    let folder_made = folder.join("src");
    fs::create_dir_all(&folder_made)
        .with_context(|| format!("could not make {}", folder_made.display()))?;
    let folder = folder.canonicalize()?;
    let sdk = sdk_dependency(&folder);
    let fill = |template: &str| {
        template
            .replace("{{name}}", name.as_str())
            .replace("{{crate}}", &name.as_str().replace('-', "_"))
            .replace("{{sdk}}", &sdk)
    };
    // Within a workspace the crate is to be one of its members; otherwise it is its own.
    let workspace = folder
        .ancestors()
        .skip(1)
        .find(|folder| is_workspace(folder));
    let alone = if workspace.is_some() { "" } else { STANDALONE };
    for (file, text) in [
        ("Cargo.toml", format!("{}{alone}", fill(MANIFEST))),
        ("src/lib.rs", fill(SOURCE)),
        ("README.md", fill(README)),
    ] {
        fs::write(folder.join(file), text).with_context(|| format!("could not write {file}"))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "made {}", folder.display())?;
    if let Some(workspace) = workspace {
        writeln!(
            out,
            "it lies in the workspace of {}; list it under `members` there if no pattern covers it",
            workspace.display()
        )?;
    }
    writeln!(
        out,
        "\n  cd {}\n  cargo test\n  switchboard dev",
        folder.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// What makes a crate the root of a workspace of its own, with the profile that plugins ship in.
const STANDALONE: &str = r#"
[workspace]

[profile.plugin]
inherits = "release"
lto = true
codegen-units = 1
panic = "abort"
strip = true
"#;

fn is_workspace(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
}

/// Returns how the new crate depends on the SDK: by path where the SDK's source is at hand, in the
/// repository that this binary was built from; otherwise by version.
fn sdk_dependency(folder: &Path) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk");
    match source.canonicalize() {
        Ok(source) => {
            let source = relative(folder, &source).unwrap_or(source);
            format!("{{ path = {:?} }}", source.display().to_string())
        }
        Err(_) => format!("\"{version}\""),
    }
}

/// Returns a path seen from a folder, where both lie below the same one other than the root.
fn relative(from: &Path, to: &Path) -> Option<std::path::PathBuf> {
    let common = from.ancestors().find(|folder| to.starts_with(folder))?;
    common.parent()?;
    let up = from.strip_prefix(common).ok()?.components().map(|_| "..");
    Some(
        up.collect::<std::path::PathBuf>()
            .join(to.strip_prefix(common).ok()?),
    )
}

/// Words of Rust that are no names (its reference, "Keywords"), in lower case.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that every plugin uses.
const USED: [&str; 8] = [
    "std",
    "core",
    "alloc",
    "test",
    "proc-macro",
    "serde",
    "serde-json",
    "switchboard-plugin",
];

/// Returns why a crate cannot have the name of a plugin, if so.
fn not_a_crate(name: &str) -> Option<&'static str> {
    if KEYWORDS.contains(&name) {
        return Some("it is a word of Rust");
    }
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Some("it begins with a digit");
    }
    USED.contains(&name)
        .then_some("every plugin uses a crate of that name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_crate_can_have_are_told() {
        for bad in [
            "self",
            "async",
            "std",
            "serde-json",
            "switchboard-plugin",
            "2fa",
        ] {
            assert!(not_a_crate(bad).is_some(), "{bad}");
        }
        for good in ["chat", "self-test", "rooms", "serde-chat"] {
            assert_eq!(not_a_crate(good), None, "{good}");
        }
    }

    #[test]
    fn paths_are_seen_from_a_folder() {
        let seen = relative(Path::new("/a/plugins/chat"), Path::new("/a/plugin-sdk"));
        assert_eq!(seen.as_deref(), Some(Path::new("../../plugin-sdk")));
        assert_eq!(relative(Path::new("/a/b"), Path::new("/c/d")), None);
    }
}
