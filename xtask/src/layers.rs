//! The layers of the host: an import points only downwards, and modules of one layer do not import
//! each other. The table here is the one of `ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::source::{self, Token};

/// The top-level modules of `host/src`, from the lowest layer to the highest.
const LAYERS: [&[&str]; 7] = [
    &["core"],
    &["ports", "metrics", "link", "shutdown", "turns"],
    &[
        "connections",
        "rooms",
        "transactions",
        "presence",
        "typing",
        "timers",
        "server_events",
        "limits",
    ],
    &["pipeline"],
    &["socket", "plugin", "cluster", "store", "auth", "api"],
    &["app", "config"],
    &["main", "cli"],
];

/// The pairs within one layer where the first may import the second.
const SIBLINGS: [(&str, &str); 2] = [("app", "config"), ("main", "cli")];

/// Crates that only some modules may name, so that each stays replaceable.
const FOREIGN: [(&str, &[&str]); 7] = [
    ("wasmtime", &["plugin", "app"]),
    ("wasmtime_wasi", &["plugin", "app"]),
    ("socketioxide", &["socket", "cluster", "app"]),
    ("socketioxide_core", &["socket", "cluster", "app"]),
    ("engineioxide", &["socket", "cluster", "app"]),
    ("jsonwebtoken", &["auth", "cli"]),
    ("redis", &["link", "cluster", "store"]),
];

/// What `core` must not name: it does no I/O, and nothing in it waits.
const FOREIGN_TO_CORE: [&str; 7] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "axum",
    "hyper",
    "tower",
    "notify",
];

/// The crate's root only lists the modules, so it may name all of them.
const ROOT: &str = "lib.rs";

/// Checks every file of `host/src`, and returns what is wrong, a line each.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("host").join("src");
    let mut complaints = Vec::new();
    for file in rust_files(&folder)? {
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let inside = file.strip_prefix(&folder).unwrap_or(&file);
        let shown = Path::new("host/src").join(inside);
        for (line, complaint) in check_file(inside, &text) {
            complaints.push(format!("{}:{line}: {complaint}", shown.display()));
        }
    }
    Ok(complaints)
}

/// Returns the top-level modules of `host/src` that the architecture's page does not list.
///
/// # Errors
///
/// When a file or a folder cannot be read.
pub(crate) fn unlisted(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("host").join("src");
    let page = root.join("ARCHITECTURE.md");
    let page =
        fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let mut complaints = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let listed = if entry.path().is_dir() {
            format!("`{name}/`")
        } else {
            format!("`{name}`")
        };
        if name != ROOT && !page.contains(&listed) {
            complaints.push(format!(
                "ARCHITECTURE.md: the table of layers lacks {listed}"
            ));
        }
    }
    complaints.sort();
    Ok(complaints)
}

/// Returns the Rust files under a folder, sorted, without what was built or installed there; none where
/// there is no such folder.
///
/// # Errors
///
/// When a folder cannot be listed.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                let foreign = path
                    .file_name()
                    .is_some_and(|name| name == "target" || name == "node_modules");
                if !foreign {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the complaints about one file, each with its line.
fn check_file(inside: &Path, text: &str) -> Vec<(usize, String)> {
    if inside == Path::new(ROOT) {
        return Vec::new();
    }
    let path = module_path(inside);
    let Some(own) = path.first() else {
        return Vec::new();
    };
    let Some(own_layer) = layer(own) else {
        return vec![(1, unknown(own))];
    };
    let tokens = source::tokens(text);
    let mut complaints = Vec::new();
    for (line, module) in imports(&tokens, path.len()) {
        if module == own || SIBLINGS.contains(&(own.as_str(), module)) {
            continue;
        }
        let complaint = match layer(module) {
            None => unknown(module),
            Some(other) if other > own_layer => {
                format!(
                    "`{own}` (layer {own_layer}) imports `{module}` (layer {other}): imports point downwards"
                )
            }
            Some(other) if other == own_layer => {
                format!(
                    "`{own}` imports `{module}` of its own layer {own_layer}: let the layer above join them"
                )
            }
            Some(_) => continue,
        };
        complaints.push((line, complaint));
    }
    complaints.extend(foreign(own, &tokens));
    complaints.sort();
    complaints.dedup();
    complaints
}

/// Complains about crates that the module `own` must not name.
fn foreign(own: &str, tokens: &[(usize, Token<'_>)]) -> Vec<(usize, String)> {
    let mut complaints = Vec::new();
    let mut before = None;
    let mut list = tokens.iter().peekable();
    while let Some(&(line, token)) = list.next() {
        let follows = list.peek().map(|(_, token)| *token);
        if let Token::Word(word) = token
            && follows == Some(Token::PathSeparator)
            && before != Some(Token::PathSeparator)
        {
            let homes = FOREIGN
                .iter()
                .find(|(name, _)| *name == word)
                .map(|(_, homes)| homes);
            if homes.is_some_and(|homes| !homes.contains(&own)) {
                complaints.push((
                    line,
                    format!("`{own}` names the crate `{word}`, which is not its business"),
                ));
            }
            if own == "core" && FOREIGN_TO_CORE.contains(&word) {
                complaints.push((
                    line,
                    format!("`core` names `{word}`: it does no I/O and never waits"),
                ));
            }
        }
        if own == "core" && token == Token::Word("async") {
            complaints.push((
                line,
                "`core` has async code: it does no I/O and never waits".into(),
            ));
        }
        before = Some(token);
    }
    complaints
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn unknown(module: &str) -> String {
    format!(
        "the module `{module}` is in no layer: add it to LAYERS in xtask/src/layers.rs and to the table in ARCHITECTURE.md"
    )
}

/// Returns the path of a file's module: `pipeline/route.rs` is `[pipeline, route]`.
fn module_path(inside: &Path) -> Vec<String> {
    let mut path: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// Returns the top-level modules that a file names by `crate::…`, or by enough `super::`, with lines.
/// `depth` is the length of the file's own module path.
fn imports<'a>(tokens: &[(usize, Token<'a>)], depth: usize) -> Vec<(usize, &'a str)> {
    let token = |at: usize| tokens.get(at).map(|(_, token)| *token);
    let mut found = Vec::new();
    // For each open brace: whether it opened a module, which `super` has to leave first.
    let mut braces = Vec::new();
    let mut at = 0;
    while let Some(current) = token(at) {
        match current {
            Token::Mark('{') => {
                let is_module = at >= 2 && token(at - 2) == Some(Token::Word("mod"));
                braces.push(is_module);
            }
            Token::Mark('}') => {
                braces.pop();
            }
            Token::Word("crate") if token(at + 1) == Some(Token::PathSeparator) => {
                heads(tokens, at + 2, &mut found);
            }
            Token::Word("super") if token(at + 1) == Some(Token::PathSeparator) => {
                let mut remaining = depth + braces.iter().filter(|is_module| **is_module).count();
                while token(at) == Some(Token::Word("super"))
                    && token(at + 1) == Some(Token::PathSeparator)
                {
                    remaining = remaining.saturating_sub(1);
                    at += 2;
                }
                if remaining == 0 {
                    heads(tokens, at, &mut found);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Collects what follows `crate::`: one word, or the first words of a group.
fn heads<'a>(tokens: &[(usize, Token<'a>)], at: usize, found: &mut Vec<(usize, &'a str)>) {
    let mut depth = 0_usize;
    let mut at_start = true;
    for &(line, token) in tokens.get(at..).unwrap_or_default() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.saturating_sub(1),
            Token::Mark(',') => at_start = depth == 1,
            Token::Word(word) if at_start => {
                found.push((line, word));
                at_start = false;
            }
            Token::Mark('*') if at_start => {
                found.push((line, "*"));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<(usize, String)> {
        check_file(Path::new(file), text)
    }

    #[test]
    fn the_host_keeps_its_layers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut complaints = check(&root).unwrap();
        complaints.extend(unlisted(&root).unwrap());
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }

    #[test]
    fn no_module_is_in_two_layers() {
        let mut all: Vec<_> = LAYERS.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn downwards_and_within_a_module_is_fine() {
        let text = "use crate::core::Event;\nuse crate::{ports::Store, pipeline::{self, route}};\nuse super::frames;";
        assert_eq!(complaints("socket/inbound.rs", text), []);
        assert_eq!(
            complaints("app.rs", "use crate::config::Config; use crate::socket;"),
            []
        );
        assert_eq!(complaints("main.rs", "use crate::cli; mod cli;"), []);
    }

    #[test]
    fn upwards_is_refused_with_its_line() {
        let found = complaints("core/event.rs", "\n\nuse crate::pipeline::Pipeline;");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 3);
        assert!(
            found[0]
                .1
                .contains("`core` (layer 0) imports `pipeline` (layer 3)"),
            "{}",
            found[0].1
        );
    }

    #[test]
    fn siblings_are_refused_wherever_they_are_named() {
        for text in [
            "use crate::connections::Connection;",
            "use crate::{core::Event, connections::{self, Connection}};",
            "fn f() { crate::connections::count(); }",
            "use super::connections;",
            "mod tests { use super::super::connections; }",
            "mod tests { use crate::connections; }",
            "macro_rules! m { () => { $crate::connections::count() } }",
        ] {
            let found = complaints("rooms.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].1.contains("of its own layer 2"), "{}", found[0].1);
        }
        assert_eq!(
            complaints("rooms.rs", "mod tests { use super::connections; }"),
            []
        );
        assert_eq!(complaints("config.rs", "use crate::app;").len(), 1);
    }

    #[test]
    fn comments_strings_and_visibility_are_no_imports() {
        let text = "/// See [`crate::app`].\npub(crate) fn f() { g(\"crate::app\"); }\npub(in crate::core) fn h() {}";
        assert_eq!(complaints("core/names.rs", text), []);
    }

    #[test]
    fn what_is_in_no_layer_is_refused() {
        assert!(
            complaints("helpers.rs", "")[0]
                .1
                .contains("add it to LAYERS")
        );
        assert!(
            complaints("app.rs", "use crate::helpers;")[0]
                .1
                .contains("`helpers` is in no layer")
        );
        assert!(complaints("app.rs", "use crate::*;")[0].1.contains("`*`"));
    }

    #[test]
    fn foreign_crates_stay_where_they_belong() {
        assert_eq!(complaints("plugin/engine.rs", "use wasmtime::Engine;"), []);
        assert_eq!(
            complaints("pipeline/mod.rs", "use wasmtime::Engine;").len(),
            1
        );
        assert_eq!(
            complaints("core/event.rs", "use tokio::sync::mpsc;").len(),
            1
        );
        assert_eq!(complaints("core/event.rs", "async fn f() {}").len(), 1);
    }
}
